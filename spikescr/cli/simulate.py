"""`spikescr simulate`: execute a deployed graph on recordings, count every operation, check the energy figure."""

from __future__ import annotations

import csv
import io
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from spikescr.cli.deployed import Deployed, load_recordings, open_deployed, predictions
from spikescr.cli.text import percent, si, wide_console
from spikescr.errors import UsageError
from spikescr.runs import DEFAULT_RUN, RunFolder

if TYPE_CHECKING:
    from spikescr.data import Features
    from spikescr.sim.account import Account
    from spikescr.sim.energy import EnergyCost

EPILOG = """\b
Example: run the test recordings in Lava, then one of them step by step.
  spikescr simulate --steps 40
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


@click.command(epilog=EPILOG)
@click.option("--run", "folder", type=click.Path(path_type=Path), default=DEFAULT_RUN, show_default=True)
@click.option("--steps", type=click.IntRange(1), help="Steps per second; must be those that the graph was made for.")
@click.option("--data", help="Data set instead of the one trained on: digits or folder:PATH.")
@click.option("--split", type=click.Choice(["train", "valid", "test"]), default="test", show_default=True)
@click.option("--limit", type=click.IntRange(1), help="Only the first so many recordings.")
@click.option("--recording", help="Only the recording of this name (see predictions.csv).")
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True)
@click.option("--stall-seconds", type=click.FloatRange(1), default=60, show_default=True, help="Watchdog.")
@click.option("--per-step", is_flag=True, help="Also print a line for each executed step.")
def command(
    folder: Path,
    steps: int | None,
    data: str | None,
    split: str,
    limit: int | None,
    recording: str | None,
    batch_size: int,
    stall_seconds: float,
    per_step: bool,
) -> None:
    """Execute the exported network event by event in Lava and count what it does."""
    run = RunFolder(folder)
    deployed = open_deployed(run.require(run.graph))
    if steps is not None and steps != deployed.steps_per_second:
        raise UsageError(
            f"{deployed.path} was made for {deployed.steps_per_second} steps per second, not {steps}; "
            f"train with --steps {steps} and export again, or simulate --steps {deployed.steps_per_second}"
        )
    features = load_recordings(deployed, data=data, split=split, limit=limit, recording=recording)
    execution = _Execution(deployed, features, batch_size, stall_seconds)
    which = {"data": data or deployed.data, "split": split if recording is None else None, "recording": recording}
    execution.write(run, which)
    execution.show(wide_console(), run, per_step)


class _Execution:
    """One run of a graph in Lava over some recordings, and what it gave."""

    def __init__(self, deployed: Deployed, features: Features, batch_size: int, stall_seconds: float) -> None:
        from spikescr.data.progress import track
        from spikescr.sim.account import Account
        from spikescr.sim.energy import HOROWITZ_45NM
        from spikescr.sim.lava.backend import LavaBackend
        from spikescr.sim.run import run_batches

        self.deployed, self.features = deployed, features
        self.cost: EnergyCost = HOROWITZ_45NM
        self.account: Account = Account(deployed.program)
        self.predicted: list[int] = []
        self.batch_size = min(batch_size, len(features))
        with LavaBackend(deployed.program, self.batch_size, stall_seconds=stall_seconds) as backend:
            self.build_seconds = backend.build_seconds
            begin = time.perf_counter()
            batches = run_batches(deployed.program, backend, features.values, features.steps)
            for batch in track(batches, "Simulating in Lava", -(-len(features) // self.batch_size)):
                self.account.add(batch.recording.counts, batch.valid)
                self.predicted += predictions(batch.outputs, batch.valid).tolist()
            self.seconds = time.perf_counter() - begin

    @property
    def accuracy(self) -> float:
        """Share of recordings whose class was predicted."""
        right = sum(int(p == label) for p, label in zip(self.predicted, self.features.labels, strict=True))
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
            "valid_steps": int(self.features.steps.sum()),
            "executed_steps": program.period,
            "accuracy": self.accuracy,
            "totals": totals(self.account),
            "energy": energy(self.account, self.cost),
            "layers": layers(self.account, self.cost),
            "seed": self.deployed.seed,
            **which,
            "backend": "lava",
            "batch_size": self.batch_size,
            "build_seconds": self.build_seconds,
            "seconds": self.seconds,
            "samples_per_second": len(self.predicted) / self.seconds,
            "versions": versions("spikescr", "lava-nc", "nir", "numpy", "librosa"),
            "files": hashes,
        }

    def write(self, run: RunFolder, which: dict[str, Any]) -> None:
        """Writes counts.csv, predictions.csv and summary.json."""
        from spikescr.files import write_text
        from spikescr.sim.results import COUNT_FIELDS, count_rows

        run.simulation.mkdir(exist_ok=True)
        write_text(run.simulation / "counts.csv", _csv(COUNT_FIELDS, count_rows(self.account)))
        write_text(run.simulation / "predictions.csv", _csv(*self._prediction_rows()))
        write_text(run.simulation / "summary.json", json.dumps(self.summary(run, which), indent=1) + "\n")

    def _prediction_rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        classes, features = self.deployed.classes, self.features
        fields = ("recording", "label", "predicted", "steps", "ac", "mac", "formula_ac", "formula_mac", "events_j")
        rows = [
            (name, classes[label], classes[predicted], steps, *counts, self.cost.joules(counts[0], counts[1]))
            for name, label, predicted, steps, counts in zip(
                features.names, features.labels, self.predicted, features.steps, self.account.samples, strict=True
            )
        ]
        return fields, rows

    def show(self, console: Console, run: RunFolder, per_step: bool) -> None:
        """Prints the tables; figures are means over the samples."""
        samples = len(self.predicted)
        console.print(self._layer_table(samples))
        console.print(self._cause_table(samples))
        if per_step:
            console.print(self._step_table(samples))
        events, _ = self.account.energy(self.cost)
        console.print(
            f"{samples} recordings, accuracy {percent(self.accuracy, 2)}, {si(events / samples, 'J')} per recording "
            f"executed; {samples / self.seconds:.1f} samples/s after {self.build_seconds:.1f} s of building"
        )
        console.print(f"wrote {run.simulation}/counts.csv, predictions.csv, summary.json")

    def _layer_table(self, samples: int) -> Table:
        from spikescr.sim.results import layers, totals

        table = Table(
            title=f"Executed in Lava: mean of {samples} recordings",
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
        apart = found["apart"]
        table.caption = (
            f"apart, in neither figure: {si(apart['bias'] / samples)} bias additions, "
            f"{si(apart['neuron'] / samples)} membrane updates"
        )
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
