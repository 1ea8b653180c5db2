"""What `spikescr simulate GRAPH` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

from spikescr.cli.before import sentence
from spikescr.cli.text import percent, si

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from spikescr.sim.run import Run

_COLUMNS = {"spikes": "events", "ac": "AC", "mac": "MAC", "bias": "bias", "neuron": "neuron"}


def show(console: Console, run: Run, backend: str, out: Path) -> None:
    """Prints the counts of every operation, and what was written."""
    from spikescr.sim.counting import before
    from spikescr.sim.counting.energy import HOROWITZ_45NM as COST
    from spikescr.sim.counting.results import operations
    from spikescr.workflows.simulate_file import named

    samples, totals = run.samples, run.counts.totals()
    many = f"mean of {samples} samples" if samples > 1 else "one sample"
    title = f"Executed ({backend}): {many}, {run.program.steps} steps of {si(run.program.dt, 's')}"
    table = Table(title=title, caption=f"energy: {COST.name}", box=SIMPLE_HEAD)
    table.add_column("operation", no_wrap=True)
    for column in ("type", "rate", *_COLUMNS.values(), "energy"):
        table.add_column(column, justify="left" if column == "type" else "right", no_wrap=True)
    joules = COST.joules(totals["ac"], totals["mac"])
    for row in (*operations(run.audit, COST), {"operation": "total", "type": "", **totals, "events_j": joules}):
        if row["operation"] == "total" and not row["type"]:
            table.add_section()
        table.add_row(
            row["operation"],
            row["type"],
            percent(row.get("firing_rate")),
            *(si(row[kind] / samples) if row[kind] else "" for kind in _COLUMNS),
            si(row["events_j"] / samples, "J") if row["events_j"] else "",
        )
    console.print(table)
    console.print(
        f"{si(joules / samples, 'J')} per sample executed; apart: {si(totals['bias'] / samples)} bias additions, "
        f"{si(totals['neuron'] / samples)} membrane updates"
    )
    if (figures := before.figures(run.audit, COST)) is not None:
        console.print(sentence(figures, "sample"), soft_wrap=True)
    if run.accuracy is not None:
        right = round(run.accuracy * samples)
        console.print(f"accuracy: {percent(run.accuracy, 2)}, {right:,} of {samples:,}")
    if run.program.fixed:
        console.print(f"saturated, in fixed point: {totals['saturated']:,} inputs, currents and membranes")
    if backend == "both":
        compared, differing = named(run.compared), named(run.differing)
        told = (f"{differing[k]:,} of {compared[k]:,} {k}" for k in ("spikes", "counts"))
        console.print(f"fast and Lava: {' and '.join(told)} differ")
    files = ["outputs.npz", *(f"{name}.h5" for name in run.executed), "counts.csv", "summary.json", "audit.npz"]
    if run.audit.labels:
        files.append("predictions.csv")
    console.print(f"wrote {out}/{', '.join(files)}")
