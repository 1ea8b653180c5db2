"""The section of a report that places the network on a neuromorphic chip, and what others measured."""

from __future__ import annotations

from spikescr.quantities import si
from spikescr.sim.chip.costs import chip_costs
from spikescr.sim.chip.fit import Fit
from spikescr.sim.chip.fitted import FittedEstimate
from spikescr.sim.chip.measured import measured
from spikescr.sim.counting.energy import HOROWITZ_45NM
from spikescr.sim.report.document import Cell, Section, Table, count, number, plain, share, words

_KEY, _TITLE = "chip", "On a neuromorphic chip"


def placement(fit: Fit, arithmetic: float, each: str) -> Section:
    """Cores, memory and spikes of every layer, limits exceeded, the estimates of a recording, and what others measured.

    Args:
        fit: the network on the chip.
        arithmetic: energy of a recording's executed operations by the report's constants, J.
        each: what one of the audit's recordings is called.
    """
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
    tables = [table]
    if fit.estimate is not None:
        low, high = (si(joules, "J", zeros=True) for joules in fit.estimate.joules)
        seconds = si(fit.estimate.seconds, "s", zeros=True)
        text.append(
            f"An estimate and no measurement, never to be added to the figures above: {low} to {high} per {each} by "
            f"Loihi's published energies, {seconds} by {placed.chip.title}'s published times."
        )
    if fit.fitted is not None:
        text += _fitted_text(fit.fitted, arithmetic, each)
        tables += [_terms(fit.fitted, each), _measured()]
    return Section(_KEY, _TITLE, tuple(text), tables=tuple(tables))


def not_placed(reason: str) -> Section:
    """The section where a graph that was simulated cannot be placed."""
    return Section(_KEY, _TITLE, (f"Not placed: {reason}.",))


def _fitted_text(fitted: FittedEstimate, arithmetic: float, each: str) -> list[str]:
    cost = chip_costs()[fitted.constants]
    low, high = (si(joules, "J", zeros=True) for joules in fitted.joules)
    seconds = si(fitted.seconds, "s", zeros=True)
    times = ", ".join(f"{name} {si(time, 's', zeros=True)}" for name, time in fitted.times.items() if time)
    text = [
        f"A second estimate, by costs that were fitted on a Loihi ({fitted.constants}; its authors state "
        f"{cost.states}): {low} to {high} and {seconds} per {each} of {fitted.steps} steps "
        "of the chip. A step takes as long as what takes longest, and a barrier; decided by the "
        f"{fitted.deciding} ({times}). The busiest core has {fitted.imbalance:.1f} times the mean work. "
        "Of Loihi 2 no energies of single operations are published."
    ]
    if arithmetic > 0:
        text.append(
            "Arithmetic alone leaves out memory, the way of the spikes, neurons that are updated without a spike, the "
            f"barrier, leakage, input and output: by these fitted costs a {each} takes "
            f"{fitted.joules[1] / arithmetic:,.1f} times the energy of its executed operations above. That is one "
            f"estimate over another. {_of_silicon()}"
        )
    return text


def _of_silicon() -> str:
    """What was measured over the arithmetic of the same layers, where a text gives both."""
    told = []
    for row in measured():
        if row.macs is not None:
            alone = HOROWITZ_45NM.joules(0.0, float(row.macs))
            told.append(
                f"On {row.system} keyword spotting took {si(row.joules, 'J')} an inference, "
                f"{row.joules / alone:,.0f} times what the {row.macs:,} multiplications of its layers without spikes "
                f"are at 45 nm, {si(alone, 'J')}"
            )
    return f"{'; '.join(told)}. Of Loihi 2 no text with a measurement of a like task in joules could be read."


def _terms(fitted: FittedEstimate, each: str) -> Table:
    cost = chip_costs()[fitted.constants]
    rows = [
        (words(name.replace("_", " ")), words(cost.terms[name].of), number(amount.count), plain(cost.terms[name].pj, 1),
         number(amount.joules, "J"))
        for name, amount in fitted.terms.items()
        if amount.count
    ]  # fmt: skip
    total = (words("total"), Cell(""), Cell(""), Cell(""), number(fitted.joules[1], "J"))
    caption = f"The second estimate's energy, a {each}; the least is without neuron update"
    return Table(caption, ("term", "of", "count", "pJ each", "energy"), tuple(rows), total)


def _measured() -> Table:
    rows = [
        (
            words(row.system),
            words(row.task),
            number(row.joules, "J"),
            words(row.of),
            words(row.source),
        )
        for row in measured()
    ]
    return Table(
        "Measured elsewhere, keyword spotting, an inference: other networks, other words, other borders of the "
        "measurement; beside the estimates and in none of them",
        ("system", "task", "energy", "taken in", "read in"),
        tuple(rows),
    )
