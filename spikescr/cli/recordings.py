"""What `spikescr simulate` prints of recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from spikescr.cli.before import sentence
from spikescr.cli.text import percent, si

if TYPE_CHECKING:
    from rich.console import Console

    from spikescr.runs import RunFolder
    from spikescr.sim.counting.saved import Audit
    from spikescr.workflows.execution import Execution

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


def show(console: Console, execution: Execution, run: RunFolder, *, per_step: bool) -> None:
    """Prints the tables; figures are means over the recordings."""
    from spikescr.sim.counting import before
    from spikescr.sim.counting.energy import HOROWITZ_45NM as COST

    audit, backend, samples = execution.audit, execution.job.backend, execution.audit.samples
    totals = audit.counts.totals()
    console.print(_layer_table(audit, backend))
    console.print(_cause_table(audit))
    apart = (f"{si(totals[kind] / samples)} {what}" for kind, what in _APART.items())
    console.print(f"apart, in neither figure: {', '.join(apart)}")
    if execution.deployed.program.fixed:
        console.print(_saturation(audit))
    if per_step:
        console.print(_step_table(audit))
    accuracy = "" if audit.accuracy is None else f", accuracy {percent(audit.accuracy, 2)}"
    events = COST.joules(totals["ac"], totals["mac"])
    console.print(f"{samples} recordings{accuracy}, {si(events / samples, 'J')} per recording executed ({backend})")
    console.print(sentence(before.figures(audit, COST), "recording"), soft_wrap=True)
    if execution.exits is not None:
        _show_exits(console, execution)
    if backend == "both":
        compared, differing = execution.compared, execution.differing
        console.print(
            f"fast and Lava: {differing[0]:,} of {compared[0]:,} spikes and {differing[1]:,} of {compared[1]:,} counts "
            "differ"
        )
    console.print(f"wrote {run.simulation}/counts.csv, predictions.csv, summary.json, audit.npz")


def _show_exits(console: Console, execution: Execution) -> None:
    from spikescr.workflows.early_exit import exit_summary

    told = exit_summary(execution)
    assert told is not None
    right = "" if told["accuracy"] is None else f"accuracy {percent(told['accuracy'], 2)}, "
    console.print(
        f"until sure (a lead of {told['rule']['lead']:.3g} in {told['rule']['hold']} steps): {right}"
        f"{percent(told['agreement'], 2)} answered as at the end, {percent(told['settled'])} settled before it, "
        f"after {told['step']:.1f} of {told['steps']:.1f} steps; {si(told['joules'], 'J')} per recording executed, "
        f"{percent(told['joules'] / told['whole_joules'])} of the whole",
        soft_wrap=True,
    )


def _saturation(audit: Audit) -> str:
    saturated = dict(zip(audit.operations, audit.counts["saturated"].sum(axis=1).tolist(), strict=True))
    told = ", ".join(f"{name} {count:,}" for name, count in saturated.items() if count)
    return f"saturated, in fixed point: {sum(saturated.values()):,} inputs, currents and membranes" + (
        f" ({told})" if told else ""
    )


def _layer_table(audit: Audit, backend: str) -> Table:
    from spikescr.sim.counting.energy import HOROWITZ_45NM as COST
    from spikescr.sim.counting.results import energy, layers

    samples, whole = audit.samples, energy(audit, COST)
    table = Table(
        title=f"Executed ({backend}): mean of {samples} recordings", caption=f"energy: {COST.name}", box=SIMPLE_HEAD
    )
    table.add_column("layer", no_wrap=True)
    for column in ("rate", *_COLUMNS.values(), "executed", "formula"):
        table.add_column(column, justify="right", no_wrap=True)
    total = {"layer": "total", "firing_rate": None, **{key: whole[key] for key in ("events_j", "formula_j")}}
    for row in (*layers(audit, COST), total | audit.counts.totals()):
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


def _cause_table(audit: Audit) -> Table:
    from spikescr.sim.counting.energy import HOROWITZ_45NM as COST
    from spikescr.sim.counting.results import energy

    figures, totals, samples = energy(audit, COST), audit.counts.totals(), audit.samples
    table = Table(title="From the paper's formula to what was executed: mean per recording", **_STYLE)
    for column in ("", "AC", "MAC", "energy"):
        table.add_column(column, justify="right" if column else "left")
    rows = [("formula", totals["formula_ac"], totals["formula_mac"], figures["formula_j"])]
    rows += [(name.replace("_", " "), c["ac"], c["mac"], c["joules"]) for name, c in figures["causes"].items()]
    rows.append(("executed", totals["ac"], totals["mac"], figures["events_j"]))
    for name, ac, mac, joules in rows:
        if name == "executed":
            table.add_section()
        table.add_row(name, si(ac / samples), si(mac / samples), si(joules / samples, "J"))
    return table


def _step_table(audit: Audit) -> Table:
    from spikescr.sim.counting.energy import HOROWITZ_45NM as COST

    table = Table(title="Per executed step: mean per recording", **_STYLE)
    for column in ("step", *_COLUMNS.values(), "executed", "formula"):
        table.add_column(column, justify="right")
    counts, samples = audit.counts, audit.samples
    for step in range(audit.period):
        energies = (
            COST.joules(*(counts.total(kind, step=step) for kind in pair))
            for pair in (("ac", "mac"), ("formula_ac", "formula_mac"))
        )
        table.add_row(
            str(step),
            *(si(counts.total(kind, step=step) / samples) for kind in _COLUMNS),
            *(si(joules / samples, "J") for joules in energies),
        )
    return table
