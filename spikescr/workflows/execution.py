"""Simulating recordings with the graph of a run folder: in chunks, summed up, written to the folder."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spikescr.errors import UsageError
from spikescr.files import link_folder, replacing, replacing_together, sha256, write_csv, write_text
from spikescr.progress import Notify, advancing, silent
from spikescr.runs import LOIHI2, RunFolder
from spikescr.workflows.deployed import Deployed, choose_recordings, open_deployed, require_current
from spikescr.workflows.early_exit import exit_summary, exit_table, read_rule
from spikescr.workflows.jobs import ChunkStore, Job, run_chunks

if TYPE_CHECKING:
    import numpy as np

    from spikescr.data import Item
    from spikescr.sim.counting.early_exit import Exits
    from spikescr.sim.counting.saved import Audit


@dataclass(frozen=True)
class Request:
    """What is asked of a simulation of recordings.

    Attributes:
        backend: of `sim.backends.NAMES`.
        precision: float64, float32, or loihi2: the run's network in integers.
        steps: steps per second that the graph must have been made for; None for whatever it was.
        data: data set instead of the one trained on.
        split: train, valid, test or all.
        limit: the first so many recordings only.
        recording: the one of this name only.
        batch_size: samples at once; None for what suits the backend.
        chunk_size: recordings kept as one.
        workers: processes on this machine.
        scheduler: address of a Dask scheduler whose workers are used instead.
        spikes: whether to keep every spike.
        resume: go on with the chunks that are there.
        stall_seconds: watchdog of Lava.
        until_sure: end a recording when its answer is settled, by the rule that the folder keeps.
    """

    backend: str = "fast"
    precision: str = "float64"
    steps: int | None = None
    data: str | None = None
    split: str = "test"
    limit: int | None = None
    recording: str | None = None
    batch_size: int | None = None
    chunk_size: int = 256
    workers: int = 1
    scheduler: str | None = None
    spikes: bool = False
    resume: bool = False
    stall_seconds: float = 60.0
    until_sure: bool = False


@dataclass(frozen=True)
class Execution:
    """One run of a graph over some recordings, and what it gave.

    Attributes:
        deployed: the graph.
        job: how it was run.
        audit: all counts, with the recordings, their classes and the answers.
        compared: spikes and counts (2,) that two backends were compared in; zeros where one ran.
        differing: those that differ.
        backend_seconds: time in the backend, all workers together.
        build_seconds: time that building the backend took, of the worker that took longest.
        elapsed: seconds from the first chunk to the last.
        fresh: recordings that were simulated now and not before an interruption.
        exits: how recordings ended where their answer was to be settled first; None where they all ran to the end.
    """

    deployed: Deployed
    job: Job
    audit: Audit
    compared: np.ndarray
    differing: np.ndarray
    backend_seconds: float
    build_seconds: float
    elapsed: float
    fresh: int
    exits: Exits | None = None


def simulate_recordings(run: RunFolder, request: Request, notify: Notify = silent) -> Execution:
    """Runs a run folder's graph on recordings and writes what it gave to the folder.

    Chunks are kept while it runs, so that an interrupted simulation can be resumed.

    Args:
        run: the folder; its network in integers where the request's precision says so.
        request: what to run, and how.
        notify: told what a user should know and is no fault.

    Raises:
        UsageError: the request does not fit the graph.
        SpikescrError: the folder has no graph, or the simulation fails.
    """
    run.require(run.graph)
    with run.locked():
        deployed = open_deployed(run.graph)
        require_current(run, deployed.program.metadata)
        if request.precision == "float32" and deployed.program.fixed:
            raise UsageError(f"precision float32 (--precision): {deployed.path} is in fixed point; leave it out")
        if request.steps not in (None, deployed.steps_per_second):
            raise UsageError(
                f"{deployed.path} was made for {deployed.steps_per_second} steps per second, not {request.steps}; "
                f"train with steps={request.steps} and export again, or give steps (--steps) "
                f"{deployed.steps_per_second}"
            )
        items = choose_recordings(
            deployed, data=request.data, split=request.split, limit=request.limit, recording=request.recording
        )
        folder = run.simulation / "chunks"
        spikes = folder / "spikes" if request.spikes else None
        default = _batch_size(request.backend, deployed.program.steps)
        job = Job(
            graph=run.graph.resolve(),
            backend=request.backend,
            batch_size=min(request.batch_size or default, len(items)),
            precision=LOIHI2 if deployed.program.fixed else request.precision,
            stall_seconds=request.stall_seconds,
            spikes=None if spikes is None else spikes.resolve(),
            client=None if request.scheduler else os.getpid(),
            until_sure=read_rule(run) if request.until_sure else None,
        )
        chunks = [items[start : start + request.chunk_size] for start in range(0, len(items), request.chunk_size)]
        store = ChunkStore(
            folder,
            job,
            chunks,
            resume=request.resume,
            command=run.make_command(run.simulation),
            notify=notify,
        )
        if spikes is not None:
            spikes.mkdir(exist_ok=True)
        fresh = sum(len(chunk) for index, chunk in enumerate(chunks) if index not in store)
        elapsed = _fill(store, job, chunks, request, notify)
        execution = _sum_up(run, request, deployed, items, job, store, len(chunks), elapsed, fresh)
        _write(run, execution)
        store.clear()
    return execution


def _fill(store: ChunkStore, job: Job, chunks: Sequence[Sequence[Item]], request: Request, notify: Notify) -> float:
    """Simulates what the store lacks; returns the seconds that it took."""
    begin = time.perf_counter()
    with advancing("Simulating", sum(map(len, chunks))) as advance:
        try:
            for done in run_chunks(job, chunks, store, workers=request.workers, scheduler=request.scheduler):
                advance(done)
        except KeyboardInterrupt:
            kept = sum(index in store for index in range(len(chunks)))
            notify(f"{kept} of {len(chunks)} chunks are kept; continue with the same command and resume (--resume)")
            raise
    return time.perf_counter() - begin


def _batch_size(backend: str, window: int) -> int:
    """Samples at once: what Lava likes; for the fast backend what stays in the cache."""
    return 64 if backend != "fast" else max(4, min(64, 6400 // window))


def _sum_up(
    run: RunFolder,
    request: Request,
    deployed: Deployed,
    items: Sequence[Item],
    job: Job,
    store: ChunkStore,
    chunks: int,
    elapsed: float,
    fresh: int,
) -> Execution:
    import numpy as np

    from spikescr.data.dataset import NO_LABEL
    from spikescr.data.left_out import require_enough
    from spikescr.sim.counting.account import Account
    from spikescr.sim.counting.early_exit import Exits
    from spikescr.sim.counting.saved import Audit

    account, predicted = Account(deployed.program), list[int]()
    empty = Account(deployed.program).arrays()
    seconds = build_seconds = 0.0
    compared, differing = np.zeros(2, np.int64), np.zeros(2, np.int64)
    left_out, exits = dict[str, str](), list[np.ndarray]()
    for index in range(chunks):
        result = store.get(index, empty)
        account.merge(result.account)
        predicted += result.answers.argmax(axis=1).tolist()
        seconds += result.seconds
        build_seconds = max(build_seconds, result.build_seconds)
        compared += result.compared
        differing += result.differing
        left_out |= dict(result.left_out.tolist())
        exits.append(result.exits)
    require_enough(left_out, len(items))
    items = [item for item in items if item.name not in left_out]
    audit = Audit.from_account(
        account,
        [item.name for item in items],
        ["" if item.label == NO_LABEL else deployed.classes[item.label] for item in items],
        [deployed.classes[answer] for answer in predicted],
        _about(run, request, deployed, job, left_out),
    )
    ended = None if job.until_sure is None else Exits.from_table(np.concatenate(exits))
    return Execution(deployed, job, audit, compared, differing, seconds, build_seconds, elapsed, fresh, ended)


def _about(run: RunFolder, request: Request, deployed: Deployed, job: Job, left_out: dict[str, str]) -> dict[str, Any]:
    """What the audit and the summary say of a run."""
    from spikescr import dialect
    from spikescr.provenance import versions
    from spikescr.sim.counting import before

    hashes = {run.graph.name: sha256(run.graph)}
    hashes[run.checkpoint.name] = str(deployed.program.metadata[dialect.CHECKPOINT])  # the one that the graph came from
    return {
        "steps": deployed.steps_per_second,
        "seed": deployed.seed,
        "data": request.data or deployed.data,
        "split": None if request.recording else request.split,
        "limit": request.limit,
        "recording": request.recording,
        "left_out": left_out or None,
        "workers": request.workers,
        "scheduler": request.scheduler,
        "backend": job.backend,
        "precision": job.precision,
        "versions": versions("spikescr", "lava-nc", "nir", "numpy", "librosa"),
        "files": hashes,
        **before.told(deployed.program.metadata),
    }


def _write(run: RunFolder, execution: Execution) -> None:
    """Writes counts.csv, predictions.csv, summary.json, audit.npz and the spikes, as one; an earlier report goes."""
    audit, spikes = execution.audit, execution.job.spikes
    files = ("counts.csv", "predictions.csv", "early-exit.csv", "summary.json", "audit.npz", "spikes")
    names = (*(f"{run.simulation.name}/{name}" for name in files), run.report.name, run.report_text.name)
    with replacing_together(run.path, names) as stage:
        folder = RunFolder(stage).simulation
        folder.mkdir()
        write_csv(folder / "counts.csv", *count_table(audit))
        write_csv(folder / "predictions.csv", *prediction_table(audit))
        if execution.exits is not None:
            write_csv(folder / "early-exit.csv", *exit_table(execution, execution.exits))
        write_text(folder / "summary.json", json.dumps(_summary(execution), indent=1) + "\n")
        with replacing(folder / "audit.npz") as temporary:
            audit.save(temporary)
        if spikes is not None:
            link_folder(spikes, folder / "spikes")


def count_table(audit: Audit) -> tuple[tuple[str, ...], list[tuple[str | int, ...]]]:
    """Fields and rows of counts.csv."""
    from spikescr.sim.counting.counts import COUNT_FIELDS

    return (*COUNT_FIELDS, *audit.columns), list(audit.counts.rows())


def prediction_table(audit: Audit) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Fields and rows of predictions.csv."""
    columns = ("ac", "mac", "formula_ac", "formula_mac")
    counts = (audit.sample_counts(column).tolist() for column in columns)
    names = (audit.recordings, audit.labels, audit.predicted, audit.valid.tolist())
    return (
        ("recording", "label", "predicted", "steps", *columns, "events_j"),
        list(zip(*names, *counts, audit.energy("executed").tolist(), strict=True)),
    )


def _summary(execution: Execution) -> dict[str, Any]:
    """What summary.json holds."""
    from spikescr.sim.counting import before
    from spikescr.sim.counting.energy import HOROWITZ_45NM
    from spikescr.sim.counting.results import energy, layers

    audit, about, program = execution.audit, execution.audit.about, execution.deployed.program
    which = ("seed", "data", "split", "limit", "recording", "left_out", "workers", "scheduler", "backend", "precision")
    return {
        "samples": audit.samples,
        "steps": about["steps"],
        "window": program.steps,
        "valid_steps": int(audit.valid.sum()),
        "executed_steps": program.period,
        "accuracy": audit.accuracy,
        "totals": audit.counts.totals(),
        "energy": energy(audit, HOROWITZ_45NM),
        "before_network": before.figures(audit, HOROWITZ_45NM),
        "layers": layers(audit, HOROWITZ_45NM),
        **{key: about[key] for key in which},
        "batch_size": execution.job.batch_size,
        "compared": dict(zip(("spikes", "counts"), execution.compared.tolist(), strict=True)),
        "differing": dict(zip(("spikes", "counts"), execution.differing.tolist(), strict=True)),
        "until_sure": exit_summary(execution),
        "build_seconds": execution.build_seconds,
        "backend_seconds": execution.backend_seconds,
        "elapsed_seconds": execution.elapsed,
        "versions": about["versions"],
        "files": about["files"],
    }
