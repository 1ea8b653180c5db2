"""`spikescr simulate`: execute a deployed graph on recordings, or any NIR graph on a file, and count operations."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from spikescr.cli.console import notify, output
from spikescr.cli.graph import Request, parse_record, simulate
from spikescr.cli.text import wide_console
from spikescr.errors import SpikescrError, UsageError
from spikescr.progress import advancing
from spikescr.runs import DEFAULT_RUN, LOIHI2, RunFolder
from spikescr.sim.backends import NAMES
from spikescr.workflows.deployed import choose_recordings, open_deployed
from spikescr.workflows.execution import Execution
from spikescr.workflows.jobs import ChunkStore, Job, run_chunks

if TYPE_CHECKING:
    from spikescr.data import Item
    from spikescr.sim.lowering.neurons import Integration

EPILOG = """\b
Example: run the test recordings, in Lava, then one of them step by step; then a graph of any origin.
  spikescr simulate --steps 40
  spikescr simulate --steps 40 --backend lava
  spikescr simulate --precision loihi2
  spikescr simulate --recording de_acht/belinda-0_nohash_0.wav --per-step
  spikescr simulate network.nir --input spikes.npy --dt 1e-3 --record spikes,v --backend lava
Writes, in the run folder: simulation/counts.csv (operation, step: counts), simulation/predictions.csv (recording),
simulation/summary.json (totals, energy in joules, causes of the difference, seed, versions, hashes).
With GRAPH, in --out: outputs.npz (Output: steps, samples, channels), counts.csv, summary.json, and what is recorded as
spikes.h5 and v.h5 (nir.read_data; v is the membrane before its reset).

\b
FILE of --input: .npy (T, ...) or (T, samples, ...); .npz and .h5 with such an array for each Input by its name; .h5 of
nir.write_data, on a grid or events. `...` is the shape of the Input, or flat.
"""


# Options, by the name of their parameter, that mean nothing to the other kind of run.
ON_RECORDINGS = {
    "folder", "data", "split", "limit", "recording", "chunk_size", "workers", "scheduler", "resume", "per_step",
}  # fmt: skip
ON_GRAPHS = {"data_file", "out", "dt", "integration", "input_signal", "round_delays"}


@click.command(epilog=EPILOG)
@click.argument("graph", required=False, type=click.Path(path_type=Path))
@click.option("--run", "folder", type=click.Path(path_type=Path), default=DEFAULT_RUN, show_default=True)
@click.option(
    "--steps",
    type=click.IntRange(1),
    help="Steps per second, those that the graph was made for. With GRAPH: how many steps to run. Default: all.",
)
@click.option(
    "--backend",
    type=click.Choice(NAMES),
    default="fast",
    show_default=True,
    help="Compiled and fast; Lava, process by process; or both, compared.",
)
@click.option("--data", help="Data set instead of the one trained on, named as for train.")
@click.option("--split", type=click.Choice(["train", "valid", "test"]), default="test", show_default=True)
@click.option("--limit", type=click.IntRange(1), help="Only the first so many recordings.")
@click.option("--recording", help="Only the recording of this name (see predictions.csv).")
@click.option("--batch-size", type=click.IntRange(1), help="Samples at once. Default: 64, fewer beyond 100 steps.")
@click.option("--chunk-size", type=click.IntRange(1), default=256, show_default=True, help="Recordings kept as one.")
@click.option(
    "--precision",
    type=click.Choice(["float64", "float32", LOIHI2]),
    default="float64",
    show_default=True,
    help="Of sums; loihi2: the network in integers (spikescr quantize).",
)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes on this machine.")
@click.option("--scheduler", help="Address of a Dask scheduler; its workers read the same files.")
@click.option("--record", help="Keep every spike, in NIR's data format: spikes. With GRAPH also membranes: spikes,v.")
@click.option("--resume", is_flag=True, help="Continue an interrupted simulation.")
@click.option("--stall-seconds", type=click.FloatRange(1), default=60, show_default=True, help="Watchdog of Lava.")
@click.option("--per-step", is_flag=True, help="Also print a line for each executed step.")
@click.option("--input", "data_file", type=click.Path(path_type=Path), help="With GRAPH: what to feed it with.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="With GRAPH: folder for results. Default: NAME-simulation."
)
@click.option("--dt", type=float, help="With GRAPH: seconds per step. Default: those in its metadata.")
@click.option(
    "--integration",
    type=click.Choice(["euler", "exponential"]),
    default="euler",
    show_default=True,
    help="With GRAPH: forward Euler, or exact decay.",
)
@click.option(
    "--input-signal",
    type=click.Choice(["spikes", "values"]),
    help="With GRAPH: what its inputs carry, which decides between AC and MAC. Default: metadata, else values.",
)
@click.option("--round-delays", is_flag=True, help="With GRAPH: round delays that are no whole steps.")
@click.pass_context
def command(
    ctx: click.Context,
    graph: Path | None,
    folder: Path,
    steps: int | None,
    backend: str,
    data: str | None,
    split: str,
    limit: int | None,
    recording: str | None,
    batch_size: int | None,
    chunk_size: int,
    precision: str,
    workers: int,
    scheduler: str | None,
    record: str | None,
    resume: bool,
    stall_seconds: float,
    per_step: bool,
    data_file: Path | None,
    out: Path | None,
    dt: float | None,
    integration: Integration,
    input_signal: str | None,
    round_delays: bool,
) -> None:
    """Execute a network event by event and count what it does: the exported one on recordings, or GRAPH on --input."""
    _check_options(ctx, graph)
    recorded = parse_record(record)
    if backend == "lava" and precision == "float32":
        raise UsageError(f"--precision {precision}: Lava runs in float64; use --backend fast, or both to compare")
    if graph is not None:
        if precision == LOIHI2:
            raise UsageError(f"--precision {LOIHI2}: {graph} says itself whether it is in fixed point; leave it out")
        if data_file is None:
            raise UsageError(f"{graph}: what it is to be fed with is missing; give --input FILE")
        if dt is not None and not 0 < dt < float("inf"):
            raise UsageError(f"--dt {dt}: must be a number of seconds above 0")
        out = Path(f"{graph.stem}-simulation") if out is None else out
        simulate(
            Request(
                graph, data_file, out, steps, dt, recorded, integration, input_signal, round_delays, backend,
                batch_size, precision, stall_seconds,
            )
        )  # fmt: skip
        return
    if "v" in recorded:
        raise UsageError("--record v: membranes are recorded of a GRAPH with --input; of recordings, spikes")
    run = RunFolder(folder).of_precision(precision)
    deployed = open_deployed(run.require(run.graph))
    if precision == "float32" and deployed.program.fixed:
        raise UsageError(f"--precision float32: {deployed.path} is in fixed point; leave it out")
    if steps is not None and steps != deployed.steps_per_second:
        raise UsageError(
            f"{deployed.path} was made for {deployed.steps_per_second} steps per second, not {steps}; "
            f"train with --steps {steps} and export again, or simulate --steps {deployed.steps_per_second}"
        )
    items = choose_recordings(deployed, data=data, split=split, limit=limit, recording=recording)
    spikes = run.simulation / "spikes" if recorded else None
    job = Job(
        graph=run.graph.resolve(),
        backend=backend,
        batch_size=min(batch_size or _batch_size(backend, deployed.program.steps), len(items)),
        precision=LOIHI2 if deployed.program.fixed else precision,
        stall_seconds=stall_seconds,
        spikes=None if spikes is None else spikes.resolve(),
        client=None if scheduler else os.getpid(),
    )
    chunks = [items[start : start + chunk_size] for start in range(0, len(items), chunk_size)]
    which = {
        "data": data or deployed.data,
        "split": None if recording else split,
        "limit": limit,
        "recording": recording,
        "workers": workers,
        "scheduler": scheduler,
    }
    with run.locked():
        store = ChunkStore(
            run.simulation / "chunks", job, chunks, resume=resume, command=run.make_command(run.simulation)
        )
        if spikes is not None:
            _empty(spikes, keep=resume)
        fresh = sum(len(chunk) for index, chunk in enumerate(chunks) if index not in store)
        seconds = _simulate(job, chunks, store, workers, scheduler)
        execution = Execution(deployed, items, job, store, len(chunks), seconds)
        execution.write(run, which)
        store.clear()
    execution.show(wide_console(), run, per_step)
    if fresh:
        output().print(f"{fresh / seconds:.1f} samples/s, reading and building included")
    if execution.differing.any():
        raise SpikescrError(f"{run.graph}: fast and Lava differ in {execution.differing.tolist()} spikes and counts")


def _check_options(ctx: click.Context, graph: Path | None) -> None:
    """Refuses options of the other kind of run, which would silently do nothing."""
    out_of_place = ON_RECORDINGS if graph is not None else ON_GRAPHS
    for option in ctx.command.params:
        given = ctx.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        if given and option.name in out_of_place:
            told = f"{graph} is run on --input, not on recordings" if graph is not None else "it needs a GRAPH to run"
            raise UsageError(f"{option.opts[0]}: {told}")


def _simulate(
    job: Job, chunks: Sequence[Sequence[Item]], store: ChunkStore, workers: int, scheduler: str | None
) -> float:
    """Fills the store; returns the seconds that it took."""
    begin = time.perf_counter()
    with advancing("Simulating", sum(map(len, chunks))) as advance:
        try:
            for done in run_chunks(job, chunks, store, workers=workers, scheduler=scheduler):
                advance(done)
        except KeyboardInterrupt:
            kept = sum(index in store for index in range(len(chunks)))
            notify(f"{kept} of {len(chunks)} chunks are kept; continue with the same command and --resume")
            raise
    return time.perf_counter() - begin


def _batch_size(backend: str, window: int) -> int:
    """Samples at once: what Lava likes; for the fast backend what stays in the cache."""
    return 64 if backend != "fast" else max(4, min(64, 6400 // window))


def _empty(folder: Path, *, keep: bool) -> None:
    if folder.exists() and not keep:
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
