"""What a simulation gave: summed up from its chunks, written to the run folder, printed as tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from spikescr.cli.text import percent, si
from spikescr.runs import RunFolder
from spikescr.workflows.deployed import Deployed
from spikescr.workflows.jobs import ChunkStore, Job

if TYPE_CHECKING:
    from spikescr.data import Item
    from spikescr.sim.counting.account import Account
    from spikescr.sim.counting.energy import EnergyCost

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


class Execution:
    """One run of a graph over some recordings, and what it gave."""

    def __init__(
        self, deployed: Deployed, items: Sequence[Item], job: Job, store: ChunkStore, chunks: int, seconds: float
    ) -> None:
        import numpy as np

        from spikescr.sim.counting.account import Account
        from spikescr.sim.counting.energy import HOROWITZ_45NM

        self.deployed, self.items, self.job, self.elapsed = deployed, items, job, seconds
        self.cost: EnergyCost = HOROWITZ_45NM
        self.account: Account = Account(deployed.program)
        self.predicted: list[int] = []
        self.valid: list[int] = []
        self.seconds = self.build_seconds = 0.0
        self.compared, self.differing = np.zeros(2, np.int64), np.zeros(2, np.int64)
        for index in range(chunks):
            result = store.get(index)
            self.account.merge(result.account)
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
        from spikescr import dialect
        from spikescr.files import sha256
        from spikescr.provenance import versions
        from spikescr.sim.counting.results import energy, layers, totals

        program = self.deployed.program
        hashes = {run.graph.name: sha256(run.graph)}
        hashes[run.checkpoint.name] = str(program.metadata[dialect.CHECKPOINT])  # the one that the graph came from
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
        """Writes counts.csv, predictions.csv, summary.json and audit.npz; a report of an earlier simulation goes."""
        import numpy as np

        from spikescr.files import replacing, write_csv, write_text
        from spikescr.sim.counting.results import COUNT_FIELDS, count_rows
        from spikescr.sim.counting.saved import Audit

        run.discard_report()
        write_csv(run.simulation / "counts.csv", COUNT_FIELDS, count_rows(self.account))
        write_csv(run.simulation / "predictions.csv", *self._prediction_rows())
        summary = self.summary(run, which)
        write_text(run.simulation / "summary.json", json.dumps(summary, indent=1) + "\n")
        classes = self.deployed.classes
        about = ("steps", "seed", *which, "backend", "precision", "versions", "files")
        audit = Audit.of(
            self.account,
            [item.name for item in self.items],
            [classes[item.label] for item in self.items],
            [classes[predicted] for predicted in self.predicted],
            np.array(self.valid),
            {key: summary[key] for key in about},
        )
        with replacing(run.audit) as temporary:
            audit.save(temporary)

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
        if self.deployed.program.fixed:
            console.print(self._saturation())
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
        console.print(f"wrote {run.simulation}/counts.csv, predictions.csv, summary.json, audit.npz")

    def _saturation(self) -> str:
        names = [operation.name for operation in self.deployed.program.operations]
        found = {name: self.account.total("saturated", row) for row, name in enumerate(names)}
        told = ", ".join(f"{name} {count:,}" for name, count in found.items() if count)
        return f"saturated, in fixed point: {sum(found.values()):,} inputs, currents and membranes" + (
            f" ({told})" if told else ""
        )

    def _layer_table(self, samples: int) -> Table:
        from spikescr.sim.counting.results import layers, totals

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
        from spikescr.sim.counting.results import energy

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
