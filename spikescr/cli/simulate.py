"""`spikescr simulate`: execute a deployed graph on recordings, count every operation, check the energy figure."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from spikescr.cli.console import notify, output, progress
from spikescr.cli.deployed import Deployed, choose_recordings, open_deployed
from spikescr.cli.jobs import BACKENDS, ChunkStore, Job, run_chunks
from spikescr.cli.text import percent, si, wide_console
from spikescr.errors import SpikescrError, UsageError
from spikescr.runs import DEFAULT_RUN, RunFolder

if TYPE_CHECKING:
    from spikescr.data import Item
    from spikescr.sim.account import Account
    from spikescr.sim.energy import EnergyCost

EPILOG = """\b
Example: run the test recordings, in Lava, then one of them step by step.
  spikescr simulate --steps 40
  spikescr simulate --steps 40 --backend lava
  spikescr simulate --recording de_acht/belinda-0_nohash_0.wav --per-step
Writes, in the run folder: simulation/counts.csv (operation, step: counts), simulation/predictions.csv (recording),
simulation/summary.json (totals, energy in joules, causes of the difference, seed, versions, hashes).
"""

_STYLE: dict[str, Any] = {"box": SIMPLE_HEAD, "pad_edge": False}
# What the tables show of the counts, and how they call it.
_COLUMNS = {
    "spikes": "events",
    "ac": "AC",
    "ac_quadratic": "AC quadr.",
    "discarded": "discarded",
    "mac": "MAC",
    "bias": "bias",
    "neuron": "neuron",
}

_APART = {"bias": "bias additions", "neuron": "membrane updates"}


@click.command(epilog=EPILOG)
@click.option("--run", "folder", type=click.Path(path_type=Path), default=DEFAULT_RUN, show_default=True)
@click.option("--steps", type=click.IntRange(1), help="Steps per second; must be those that the graph was made for.")
@click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    default="fast",
    show_default=True,
    help="Compiled and fast; Lava, process by process; or both, compared.",
)
@click.option("--data", help="Data set instead of the one trained on: digits or folder:PATH.")
@click.option("--split", type=click.Choice(["train", "valid", "test"]), default="test", show_default=True)
@click.option("--limit", type=click.IntRange(1), help="Only the first so many recordings.")
@click.option("--recording", help="Only the recording of this name (see predictions.csv).")
@click.option("--batch-size", type=click.IntRange(1), help="Samples at once. Default: 64, fewer beyond 100 steps.")
@click.option("--chunk-size", type=click.IntRange(1), default=256, show_default=True, help="Recordings kept as one.")
@click.option("--precision", type=click.Choice(["float64", "float32"]), default="float64", show_default=True)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes on this machine.")
@click.option("--scheduler", help="Address of a Dask scheduler; its workers read the same files.")
@click.option("--record", type=click.Choice(["spikes"]), help="Keep every spike, in NIR's data format.")
@click.option("--resume", is_flag=True, help="Continue an interrupted simulation.")
@click.option("--stall-seconds", type=click.FloatRange(1), default=60, show_default=True, help="Watchdog of Lava.")
@click.option("--per-step", is_flag=True, help="Also print a line for each executed step.")
def command(
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
) -> None:
    """Execute the exported network event by event and count what it does."""
    run = RunFolder(folder)
    deployed = open_deployed(run.require(run.graph))
    if steps is not None and steps != deployed.steps_per_second:
        raise UsageError(
            f"{deployed.path} was made for {deployed.steps_per_second} steps per second, not {steps}; "
            f"train with --steps {steps} and export again, or simulate --steps {deployed.steps_per_second}"
        )
    if backend == "lava" and precision != "float64":
        raise UsageError(f"--precision {precision}: Lava runs in float64; use --backend fast, or both to compare")
    items = choose_recordings(deployed, data=data, split=split, limit=limit, recording=recording)
    spikes = run.simulation / "spikes" if record else None
    job = Job(
        graph=run.graph.resolve(),
        backend=backend,
        batch_size=min(batch_size or _batch_size(backend, deployed.program.steps), len(items)),
        precision=precision,
        stall_seconds=stall_seconds,
        spikes=None if spikes is None else spikes.resolve(),
        client=None if scheduler else os.getpid(),
    )
    chunks = [items[start : start + chunk_size] for start in range(0, len(items), chunk_size)]
    store = ChunkStore(run.simulation / "chunks", job, chunks, resume=resume, command=run.make_command(run.simulation))
    if spikes is not None:
        _empty(spikes, keep=resume)
    fresh = sum(len(chunk) for index, chunk in enumerate(chunks) if index not in store)
    begin = time.perf_counter()
    with progress("Simulating", len(items)) as advance:
        try:
            for done in run_chunks(job, chunks, store, workers=workers, scheduler=scheduler):
                advance(done)
        except KeyboardInterrupt:
            kept = sum(index in store for index in range(len(chunks)))
            notify(f"{kept} of {len(chunks)} chunks are kept; continue with the same command and --resume")
            raise
    execution = _Execution(deployed, items, job, store, len(chunks), time.perf_counter() - begin)
    which = {"data": data or deployed.data, "split": split if recording is None else None, "recording": recording}
    execution.write(run, which | {"workers": workers, "scheduler": scheduler})
    store.clear()
    execution.show(wide_console(), run, per_step)
    if fresh:
        output().print(f"{fresh / execution.elapsed:.1f} samples/s, reading and building included")
    if execution.differing.any():
        raise SpikescrError(f"{run.graph}: fast and Lava differ in {execution.differing.tolist()} spikes and counts")


def _batch_size(backend: str, window: int) -> int:
    """Samples at once: what Lava likes; for the fast backend what stays in the cache."""
    return 64 if backend != "fast" else max(4, min(64, 6400 // window))


def _empty(folder: Path, *, keep: bool) -> None:
    if folder.exists() and not keep:
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)


class _Execution:
    """One run of a graph over some recordings, and what it gave."""

    def __init__(
        self, deployed: Deployed, items: Sequence[Item], job: Job, store: ChunkStore, chunks: int, seconds: float
    ) -> None:
        import numpy as np

        from spikescr.sim.account import Account
        from spikescr.sim.energy import HOROWITZ_45NM

        self.deployed, self.items, self.job, self.elapsed = deployed, items, job, seconds
        self.cost: EnergyCost = HOROWITZ_45NM
        self.account: Account = Account(deployed.program)
        self.predicted: list[int] = []
        self.valid: list[int] = []
        self.seconds = self.build_seconds = 0.0
        self.compared, self.differing = np.zeros(2, np.int64), np.zeros(2, np.int64)
        for index in range(chunks):
            result = store.get(index)
            result.add_to(self.account)
            self.predicted += result.answers.argmax(axis=1).tolist()
            self.valid += result.valid.tolist()
            self.seconds += result.seconds
            self.build_seconds = max(self.build_seconds, result.build_seconds)
            self.compared += result.compared
            self.differing += result.differing

    @property
    def accuracy(self) -> float:
        """Share of recordings whose class was predicted."""
        right = sum(predicted == item.label for predicted, item in zip(self.predicted, self.items, strict=True))
        return right / len(self.predicted)

    def summary(self, run: RunFolder, which: dict[str, Any]) -> dict[str, Any]:
        """What summary.json holds."""
        from spikescr.files import sha256
        from spikescr.provenance import versions
        from spikescr.sim.results import energy, layers, totals

        program = self.deployed.program
        hashes = {path.name: sha256(path) for path in (run.graph, run.checkpoint) if path.exists()}
        return {
            "samples": len(self.predicted),
            "steps": self.deployed.steps_per_second,
            "window": program.steps,
            "valid_steps": sum(self.valid),
            "executed_steps": program.period,
            "accuracy": self.accuracy,
            "totals": totals(self.account),
            "energy": energy(self.account, self.cost),
            "layers": layers(self.account, self.cost),
            "seed": self.deployed.seed,
            **which,
            "backend": self.job.backend,
            "precision": self.job.precision,
            "batch_size": self.job.batch_size,
            "compared": dict(zip(("spikes", "counts"), self.compared.tolist(), strict=True)),
            "differing": dict(zip(("spikes", "counts"), self.differing.tolist(), strict=True)),
            "build_seconds": self.build_seconds,
            "backend_seconds": self.seconds,
            "elapsed_seconds": self.elapsed,
            "versions": versions("spikescr", "lava-nc", "nir", "numpy", "librosa"),
            "files": hashes,
        }

    def write(self, run: RunFolder, which: dict[str, Any]) -> None:
        """Writes counts.csv, predictions.csv and summary.json."""
        from spikescr.files import write_text
        from spikescr.sim.results import COUNT_FIELDS, count_rows

        write_text(run.simulation / "counts.csv", _csv(COUNT_FIELDS, count_rows(self.account)))
        write_text(run.simulation / "predictions.csv", _csv(*self._prediction_rows()))
        write_text(run.simulation / "summary.json", json.dumps(self.summary(run, which), indent=1) + "\n")

    def _prediction_rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        classes = self.deployed.classes
        fields = ("recording", "label", "predicted", "steps", "ac", "mac", "formula_ac", "formula_mac", "events_j")
        rows = [
            (item.name, classes[item.label], classes[predicted], steps, *counts, self.cost.joules(*counts[:2]))
            for item, predicted, steps, counts in zip(
                self.items, self.predicted, self.valid, self.account.samples, strict=True
            )
        ]
        return fields, rows

    def show(self, console: Console, run: RunFolder, per_step: bool) -> None:
        """Prints the tables; figures are means over the samples."""
        samples = len(self.predicted)
        console.print(self._layer_table(samples))
        console.print(self._cause_table(samples))
        apart = (f"{si(self.account.total(kind) / samples)} {what}" for kind, what in _APART.items())
        console.print(f"apart, in neither figure: {', '.join(apart)}")
        if per_step:
            console.print(self._step_table(samples))
        events, _ = self.account.energy(self.cost)
        console.print(
            f"{samples} recordings, accuracy {percent(self.accuracy, 2)}, {si(events / samples, 'J')} per recording "
            f"executed ({self.job.backend})"
        )
        if self.job.backend == "both":
            console.print(
                f"fast and Lava: {self.differing[0]:,} of {self.compared[0]:,} spikes and {self.differing[1]:,} of "
                f"{self.compared[1]:,} counts differ"
            )
        console.print(f"wrote {run.simulation}/counts.csv, predictions.csv, summary.json")

    def _layer_table(self, samples: int) -> Table:
        from spikescr.sim.results import layers, totals

        table = Table(
            title=f"Executed ({self.job.backend}): mean of {samples} recordings",
            caption=f"energy: {self.cost.name}",
            box=SIMPLE_HEAD,
        )
        table.add_column("layer", no_wrap=True)
        for column in ("rate", *_COLUMNS.values(), "executed", "formula"):
            table.add_column(column, justify="right", no_wrap=True)
        events, formula = self.account.energy(self.cost)
        total = {"layer": "total", "firing_rate": None, "events_j": events, "formula_j": formula}
        for row in (*layers(self.account, self.cost), total | totals(self.account)):
            counts = [row[kind] for kind in _COLUMNS]
            if not any(counts):
                continue
            if row["layer"] == "total":
                table.add_section()
            table.add_row(
                row["layer"],
                percent(row["firing_rate"]),
                *(si(count / samples) if count else "" for count in counts),
                *(si(row[key] / samples, "J") if row[key] else "" for key in ("events_j", "formula_j")),
            )
        return table

    def _cause_table(self, samples: int) -> Table:
        from spikescr.sim.results import energy

        found = energy(self.account, self.cost)
        table = Table(title="From the paper's formula to what was executed: mean per recording", **_STYLE)
        for column in ("", "AC", "MAC", "energy"):
            table.add_column(column, justify="right" if column else "left")
        totals = {kind: self.account.total(kind) for kind in ("formula_ac", "formula_mac", "ac", "mac")}
        rows = [("formula", totals["formula_ac"], totals["formula_mac"], found["formula_j"])]
        rows += [(name.replace("_", " "), c["ac"], c["mac"], c["joules"]) for name, c in found["causes"].items()]
        rows.append(("executed", totals["ac"], totals["mac"], found["events_j"]))
        for name, ac, mac, joules in rows:
            if name == "executed":
                table.add_section()
            table.add_row(name, si(ac / samples), si(mac / samples), si(joules / samples, "J"))
        return table

    def _step_table(self, samples: int) -> Table:
        table = Table(title="Per executed step: mean per recording", **_STYLE)
        for column in ("step", *_COLUMNS.values(), "executed", "formula"):
            table.add_column(column, justify="right")
        for step in range(self.deployed.program.period):
            counts = [self.account.total(kind, step=step) for kind in _COLUMNS]
            energies = self.account.energy(self.cost, step=step)
            table.add_row(
                str(step), *(si(c / samples) for c in counts), *(si(joules / samples, "J") for joules in energies)
            )
        return table


def _csv(fields: tuple[str, ...], rows: Any) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(fields)
    writer.writerows(rows)
    return text.getvalue()
