"""What the report says: its headline and, from `sections`, all the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spikescr.quantities import percent, si
from spikescr.sim.counting import before, summary
from spikescr.sim.counting.energy import Constants, EnergyCost
from spikescr.sim.counting.saved import Audit
from spikescr.sim.report import sections
from spikescr.sim.report.document import Document, Section
from spikescr.sim.report.subject import END, START, Example, Provenance, Run


def document(
    runs: Sequence[Run],
    cost: EnergyCost,
    known: Constants,
    example: Example | None,
    provenance: Provenance,
    chip: Section | None = None,
) -> Document:
    """The report of the first of some runs, beside the others.

    Args:
        runs: with their audits.
        cost: constants of all energy figures.
        known: constants for the tables of other constants and of memory.
        example: a recording of the first run, to be drawn.
        provenance: of the first run.
        chip: the first run's network on a chip, by `report.chip`.
    """
    audit = runs[0].audit
    conventions = summary.conventions(audit, cost)
    way = summary.reconciliation(audit, cost, END if START in audit.refused else START, END)
    first = before.figures(audit, cost)
    parts = [
        sections.layers(audit, cost),
        sections.steps(audit, cost),
        sections.conventions(audit, cost, conventions, way, first),
        sections.before_network(audit, cost, first),
        sections.formula(audit, cost),
        sections.decisions(audit, cost),
        sections.comparison(runs, cost),
        sections.recording(example, audit),
        sections.constants(audit, cost, known),
        chip,
        sections.provenance(provenance),
    ]
    return Document(
        title=f"Energy report: {runs[0].name}",
        sentence=_sentence(audit, conventions, way),
        facts=_facts(audit, conventions, way, first),
        sections=tuple(section for section in parts if section is not None),
        data={"conventions": sections.script_data(audit, cost, conventions), "each": audit.noun[:-1]},
    )


def real_share(conventions: dict[str, Any], way: dict[str, Any]) -> float | None:
    """Share of the paper's figure that was executed: what is left of it without all that it charges too much.

    None where the formula cannot be evaluated, or charges nothing.
    """
    if START not in conventions:
        return None
    paper = conventions[START]["joules"]
    excess = -sum(min(0.0, cause["joules"]) for cause in way["causes"].values())
    return (paper - excess) / paper if paper else None


def _sentence(audit: Audit, conventions: dict[str, Any], way: dict[str, Any]) -> str:
    executed = conventions[END]["joules"]
    begin = f"Each of {audit.samples:,} {audit.noun} took "
    if audit.accuracy is not None:
        begin = (
            f"Of {audit.samples:,} {audit.noun} the network named {percent(audit.accuracy, 2)} correctly; each took "
        )
    if audit.samples == 1:
        begin = "The one sample took "
    begin += f"{si(executed, 'J', zeros=True)} of executed operations"
    if START not in conventions:
        return f"{begin}; the paper's formula cannot be evaluated on this network."
    paper = conventions[START]["joules"]
    begin += f", where the paper's formula says {si(paper, 'J', zeros=True)}"
    real = real_share(conventions, way)
    excess = {cause: -row["joules"] for cause, row in way["causes"].items() if row["joules"] < 0}
    if real is None or not excess:
        return begin + "."
    largest = max(excess, key=lambda cause: excess[cause])
    return (
        f"{begin}: {percent(real)} of that figure is real traffic, {percent(1 - real)} is the formula, most of it "
        f"{sections.named(largest)} ({percent(excess[largest] / paper)})."
    )


def _facts(
    audit: Audit, conventions: dict[str, Any], way: dict[str, Any], before: dict[str, Any] | None
) -> tuple[tuple[str, str, str], ...]:
    executed, real = conventions[END], real_share(conventions, way)
    spread = executed["spread_j"]
    between = "" if spread is None else f", ± {si(spread, 'J', zeros=True)} between them"
    facts = [("Executed", si(executed["joules"], "J", zeros=True), f"per {audit.noun[:-1]}{between}")]
    if before is not None and before["joules"]:
        facts.append(("Before the network", si(before["joules"], "J", zeros=True), f"{before['title']}, apart"))
    if audit.accuracy is not None:
        facts.insert(0, ("Accuracy", percent(audit.accuracy, 2), f"{audit.samples:,} {audit.noun}"))
    else:
        steps = f"{audit.steps:,} steps of {si(audit.dt, 's')}"
        facts.insert(0, (audit.noun.capitalize(), f"{audit.samples:,}", steps))
    if START in conventions:
        paper = si(conventions[START]["joules"], "J", zeros=True)
        facts += [
            ("The paper's formula", paper, "on the same run's firing rates"),
            ("Real traffic", percent(real), "of the formula's figure"),
        ]
    return (*facts, ("Unexplained", f"{audit.unexplained():g}", "operations between all conventions"))
