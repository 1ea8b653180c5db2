"""The section of a report that places the network on a neuromorphic chip."""

from __future__ import annotations

from spikescr.quantities import si
from spikescr.sim.chip.fit import Fit
from spikescr.sim.report.document import Cell, Section, Table, count, number, share, words


def placement(fit: Fit) -> Section:
    """Cores, memory and spikes of every layer, limits exceeded, the estimate of a recording."""
    placed, total = fit.placement, fit.totals()
    table = Table(
        f"The layers on cores of {placed.chip.title}",
        ("layer", "neurons", "bits", "cores", "memory", "of these cores", "spikes to other cores per step"),
        tuple(
            (
                words(row["layer"]), count(row["neurons"]), count(row["bits"]), count(row["cores"]),
                number(row["memory_bytes"], "B"), share(row["memory_used"]), number(row["spikes_between_cores"]),
            )
            for row in fit.rows()
        ),
        (
            words("total"), count(total["neurons"]), Cell(""), count(total["cores"]),
            number(total["memory_bytes"], "B"), share(total["memory_used"]), number(total["spikes_between_cores"]),
        ),
    )  # fmt: skip
    over = [violation for violation in fit.violations if not violation.mended]
    verdict = f"limits exceeded: {len(over)}" if over else "no limit is exceeded"
    text = [f"{placed.cores} of {placed.chip.whole('cores')} cores of {placed.chip.title}; {verdict}."]
    text += [violation.line + "." for violation in fit.violations]
    if fit.estimate is not None:
        low, high = (si(joules, "J", zeros=True) for joules in fit.estimate.joules)
        seconds = si(fit.estimate.seconds, "s", zeros=True)
        text.append(
            f"An estimate and no measurement, never to be added to the figures above: {low} to {high} per recording by "
            f"Loihi's published energies, {seconds} by {placed.chip.title}'s published times."
        )
    return Section("chip", "On a neuromorphic chip", tuple(text), tables=(table,))
