"""Fixed point: agreement with Lava's own models, and what accuracy a network in integers keeps.

    python benchmarks/fixed_point.py [--run DIR] [--epochs N] [--quick] [--json FILE]

Random layers of every kind that Lava's `Dense` and `LIF` can be: their spikes and membranes in `fixed_pt` against our
Lava models and the fast backend, overflow and ties included. With --run a trained network: accuracy of the test split
in real numbers, in 8 bits after calibration and after fine-tuning, in 6 and 4 bits; executed by the fast backend, the
float network's graph as the one that was exported. Writes its networks to DIR/fixed_point.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from spikescr.files import write_text
from spikescr.runs import LOIHI2, RunFolder
from spikescr.workflows.execution import Request, simulate_recordings
from spikescr.workflows.quantize import quantize_run

sys.path.append(str(Path(__file__).parents[1] / "tests/peers"))

from fixed.agreement import Agreement, agreement
from fixed.cases import KINDS, draw

WIDTHS = ((8, False), (8, True), (6, False), (6, True), (4, False), (4, True))
"""Bits, and whether fine-tuned."""


def compare_layers(graphs: int) -> dict[str, Agreement]:
    """So many random layers of each kind."""
    found = dict.fromkeys(KINDS, Agreement(0, 0, 0, 0, 0, 0))
    for kind in KINDS:
        for seed in range(graphs):
            found[kind] += agreement(draw(kind, seed, steps=60, inputs=40, neurons=32, samples=4))
    return found


def accuracies(run: RunFolder, epochs: int) -> list[dict[str, Any]]:
    """Accuracy and energy of the test split for every width."""
    rows = [{"bits": "float", "finetuned": False, **_simulated(run, "float64")}]
    for bits, tuned in WIDTHS:
        quantize_run(run, bits=bits, epochs=epochs if tuned else 0)
        rows.append({"bits": bits, "finetuned": tuned, **_simulated(run, LOIHI2)})
        kept = run.path / "fixed_point" / f"{bits}-{'tuned' if tuned else 'calibrated'}.json"
        kept.parent.mkdir(exist_ok=True)
        kept.write_bytes(run.in_integers.quantization.read_bytes())
    return rows


def _simulated(run: RunFolder, precision: str) -> dict[str, Any]:
    audit = simulate_recordings(run.of_precision(precision), Request(precision=precision)).audit
    return {
        "accuracy": audit.accuracy,
        "joules": float(audit.energy("executed").mean()),
        "saturated": audit.counts.total("saturated"),
        "recordings": audit.samples,
    }


@click.command()
@click.option("--run", "folder", type=click.Path(path_type=Path, exists=True), help="Of a trained network.")
@click.option("--epochs", type=click.IntRange(1), default=10, show_default=True, help="Of fine-tuning.")
@click.option("--quick", is_flag=True, help="Fewer graphs.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the figures there.")
def main(folder: Path | None, epochs: int, quick: bool, json_file: Path | None) -> None:
    """Fixed point against Lava's own, and the accuracy that it keeps."""
    console = Console(width=120)
    graphs = 2 if quick else 12
    found = compare_layers(graphs)
    table = Table(title="Stock Lava (fixed_pt), our Lava models and fast")
    table.add_column("layer")
    headings = ("graphs", "neuron-steps", "spikes", "saturated", "differing spikes", "membranes", "counts")
    for heading in headings:
        table.add_column(heading, justify="right")
    for kind, a in found.items():
        numbers = (graphs, a.neuron_steps, a.fired, a.saturated, a.spikes, a.membranes, a.counts)
        table.add_row(kind, *(f"{number:,}" for number in numbers))
    console.print(table)
    total = sum(found.values(), start=Agreement(0, 0, 0, 0, 0, 0))
    graphs *= len(found)
    console.print(f"{graphs} graphs, {total.neuron_steps:,} neuron-steps, {total.disagreements} disagreements")
    results: dict[str, Any] = {
        "graphs": graphs,
        "neuron_steps": total.neuron_steps,
        "disagreements": total.disagreements,
    }
    if folder is not None:
        rows = accuracies(RunFolder(folder), epochs)
        table = Table(title=f"{folder}: test split, {rows[0]['recordings']} recordings")
        for heading in ("bits", "fine-tuned", "accuracy", "executed (FP32 constants)", "saturated"):
            table.add_column(heading, justify="right")
        for row in rows:
            tuned = f"{epochs} epochs" if row["finetuned"] else ""
            accuracy, energy = f"{100 * row['accuracy']:.2f} %", f"{1e6 * row['joules']:.2f} uJ"
            table.add_row(str(row["bits"]), tuned, accuracy, energy, f"{row['saturated']:,}")
        console.print(table)
        results |= {"accuracy_float": rows[0]["accuracy"], "accuracy_int8": rows[2]["accuracy"], "widths": rows}
    if json_file is not None:
        write_text(json_file, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
