"""The section of a report that places the network on a neuromorphic chip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spikescr.quantities import si
from spikescr.sim.chip.mapper import Placement
from spikescr.sim.chip.rules import Violation
from spikescr.sim.chip.traffic import Estimate
from spikescr.sim.report.document import Cell, Section, Table, count, number, share, words


def placement(
    placed: Placement,
    rows: Sequence[Mapping[str, Any]],
    total: Mapping[str, Any],
    violations: Sequence[Violation],
    estimate: Estimate | None,
) -> Section:
    """Cores, memory and spikes of every layer, limits exceeded, the estimate of a recording.

    Args:
        placed: the placement.
        rows: of its layers, as `spikescr fit --json` has them.
        total: of all layers, likewise.
        violations: of its limits.
        estimate: None where the simulation is of another graph.
    """
    table = Table(
        f"The layers on cores of {placed.chip.title}",
        ("layer", "neurons", "bits", "cores", "memory", "of these cores", "spikes to other cores per step"),
        tuple(
            (
                words(row["layer"]), count(row["neurons"]), count(row["bits"]), count(row["cores"]),
                number(row["memory_bytes"], "B"), share(row["memory_used"]), number(row["spikes_between_cores"]),
            )
            for row in rows
        ),
        (
            words("total"), count(total["neurons"]), Cell(""), count(total["cores"]),
            number(total["memory_bytes"], "B"), share(total["memory_used"]), number(total["spikes_between_cores"]),
        ),
    )  # fmt: skip
    over = [violation for violation in violations if not violation.mended]
    verdict = f"limits exceeded: {len(over)}" if over else "no limit is exceeded"
    text = [f"{placed.cores} of {placed.chip.whole('cores')} cores of {placed.chip.title}; {verdict}."]
    text += [violation.line + "." for violation in violations]
    if estimate is not None:
        low, high = (si(joules, "J", zeros=True) for joules in estimate.joules)
        seconds = si(estimate.seconds, "s", zeros=True)
        text.append(
            f"An estimate and no measurement, never to be added to the figures above: {low} to {high} per recording by "
            f"Loihi's published energies, {seconds} by {placed.chip.title}'s published times."
        )
    return Section("chip", "On a neuromorphic chip", tuple(text), tables=(table,))
