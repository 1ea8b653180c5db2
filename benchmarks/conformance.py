"""Graphs of other frameworks run by us, ours run by them, and the NIR paper's traces: spike for spike.

    python benchmarks/conformance.py [--recorded FOLDER] [--quick] [--json FILE]

Every graph runs in Lava and on the compiled backend, float64, and is compared with what the framework itself fired on
the same input. Where spikes are expected to differ, the graph in which the reason is put right is run too; differences
that are gone there are explained, all others are not, and the command fails. --recorded: folder with the traces of the
NIR paper (lif_norse.nir and a CSV for each platform).
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import click
import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from spikescr.files import write_text
from spikescr.provenance import versions
from spikescr.quantities import si

sys.path.append(str(Path(__file__).parents[1] / "tests/peers"))

from frameworks import recorded
from frameworks.catalogue import MODULES, cases, missing
from frameworks.comparison import BACKENDS, Row, compare

STEPS, SAMPLES = 200, 8
QUICK_STEPS, QUICK_SAMPLES = 40, 2


def measured(traces: Path | None, steps: int, samples: int, console: Console) -> list[Row]:
    """All comparisons, on both backends."""
    rows: list[Row] = []
    if traces is not None:
        rows += [row for backend in BACKENDS for row in recorded.rows(traces, backend)]
    for peer in MODULES:
        if missing(peer):
            console.print(f"{peer}: left out, not installed: {', '.join(missing(peer))}")
            continue
        for make in cases(peer).values():
            case = make(steps, samples)
            rows += [compare(case, backend) for backend in BACKENDS]
    return rows


def table_of(rows: list[Row]) -> Table:
    """A line for each comparison."""
    table = Table(box=SIMPLE_HEAD)
    for column in ("graph", "framework", "backend"):
        table.add_column(column)
    for column in ("neurons", "steps", "samples", "firing rates", "AC", "MAC", "margin", "differing"):
        table.add_column(column, justify="right")
    table.add_column("reason, and what shows it", overflow="fold")
    for row in rows:
        rates = [100 * rate for rate in row.rates.values()]
        membrane = "" if row.membrane is None else f" (membrane within {row.membrane:.1g})"
        unexplained = row.differing - row.explained
        table.add_row(
            row.graph,
            f"{row.peer} {row.version}",
            row.backend,
            str(row.neurons),
            str(row.steps),
            str(row.samples),
            f"{min(rates):.1f}-{max(rates):.1f} %" if len(rates) > 1 else f"{rates[0]:.1f} %",
            si(row.ac),
            si(row.mac) if row.mac else "",
            f"{row.margin:.0e}",
            f"{row.differing}{f', {unexplained} unexplained' if unexplained else ''}",
            f"{row.reason}{membrane}",
        )
    return table


@click.command(help=__doc__)
@click.option("--recorded", "traces", type=click.Path(path_type=Path, exists=True), help="Folder of recorded traces.")
@click.option("--quick", is_flag=True, help=f"{QUICK_SAMPLES} samples of {QUICK_STEPS} steps.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the rows to this file.")
def main(traces: Path | None, quick: bool, file: Path | None) -> None:
    """Compare and print."""
    torch.set_num_threads(1)
    console = Console(width=None if os.isatty(1) else 200)
    steps, samples = (QUICK_STEPS, QUICK_SAMPLES) if quick else (STEPS, SAMPLES)
    rows = measured(traces, steps, samples, console)
    console.print(table_of(rows))
    totals = {
        "graphs": len({(row.graph, row.peer) for row in rows}),
        "neuron_steps": sum(row.neuron_steps for row in rows),
        "differing_spikes": sum(row.differing for row in rows),
        "explained": sum(row.explained for row in rows),
    }
    console.print(
        f"{totals['graphs']} graphs, {totals['neuron_steps']:,} neuron-steps on {len(BACKENDS)} backends, "
        f"{totals['differing_spikes']:,} differing spikes, {totals['explained']:,} of them explained"
    )
    if file is not None:
        packages = ("spikescr", "numpy", "torch", "nir", "lava-nc")
        content = {**totals, "rows": [asdict(row) for row in rows], "versions": versions(*packages)}
        write_text(file, json.dumps(content, indent=1) + "\n")
    if totals["explained"] < totals["differing_spikes"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
