"""What the report says: its headline and, from `sections`, all the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spikescr.quantities import percent, si
from spikescr.sim.counting import summary
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
    found = summary.conventions(audit, cost)
    way = summary.reconciliation(audit, cost, START, END)
    parts = [
        sections.layers(audit, cost),
        sections.steps(audit, cost),
        sections.conventions(audit, cost, found, way),
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
        sentence=_sentence(audit, found, way),
        facts=_facts(audit, found, way),
        sections=tuple(section for section in parts if section is not None),
        data={"conventions": sections.script_data(audit, cost, found)},
    )


def real_share(found: dict[str, Any], way: dict[str, Any]) -> float | None:
    """Share of the paper's figure that was executed: what is left of it without all that it charges too much."""
    paper = found[START]["joules"]
    excess = -sum(min(0.0, cause["joules"]) for cause in way["causes"].values())
    return (paper - excess) / paper if paper else None


def _sentence(audit: Audit, found: dict[str, Any], way: dict[str, Any]) -> str:
    executed, paper = found[END]["joules"], found[START]["joules"]
    begin = (
        f"Of {audit.samples:,} recordings the network named {percent(audit.accuracy, 2)} correctly; each took "
        f"{si(executed, 'J', zeros=True)} of executed operations, where the paper's formula says "
        f"{si(paper, 'J', zeros=True)}"
    )
    real = real_share(found, way)
    excess = {cause: -row["joules"] for cause, row in way["causes"].items() if row["joules"] < 0}
    if real is None or not excess:
        return begin + "."
    largest = max(excess, key=lambda cause: excess[cause])
    return (
        f"{begin}: {percent(real)} of that figure is real traffic, {percent(1 - real)} is the formula, most of it "
        f"{sections.named(largest)} ({percent(excess[largest] / paper)})."
    )


def _facts(audit: Audit, found: dict[str, Any], way: dict[str, Any]) -> tuple[tuple[str, str, str], ...]:
    executed, paper = found[END], found[START]
    real = real_share(found, way)
    spread = f"per recording, ± {si(executed['spread_j'], 'J', zeros=True)} between them"
    return (
        ("Accuracy", percent(audit.accuracy, 2), f"{audit.samples:,} recordings"),
        ("Executed", si(executed["joules"], "J", zeros=True), spread),
        ("The paper's formula", si(paper["joules"], "J", zeros=True), "on the same run's firing rates"),
        ("Real traffic", percent(real), "of the formula's figure"),
        ("Unexplained", f"{audit.unexplained():g}", "operations between all conventions"),
    )
