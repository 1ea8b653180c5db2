"""What a run reports, as plain data: totals, energy with the causes of its difference, layers, operations."""

from __future__ import annotations

from typing import Any

from spikescr.sim.counting.energy import EnergyCost
from spikescr.sim.counting.facts import FORMULA_KINDS
from spikescr.sim.counting.formula import CAUSES
from spikescr.sim.counting.saved import Audit
from spikescr.sim.program import Role, operation_types
from spikescr.sim.recording import KINDS


def energy(audit: Audit, cost: EnergyCost) -> dict[str, Any]:
    """Energy in joules of all samples by executed events and by the paper's formula, and why the two differ.

    `causes` add up to `difference_j`, and their operations to executed minus formula, exactly; where the formula cannot
    be evaluated `formula` says why instead. Bias additions and membrane updates are in neither figure; `apart` counts
    them.
    """
    totals = audit.counts.totals()
    events, formula = cost.joules(totals["ac"], totals["mac"]), cost.joules(*(totals[kind] for kind in FORMULA_KINDS))
    figures: dict[str, Any] = {
        "cost": {"name": cost.name, "ac_pj": cost.ac_pj, "mac_pj": cost.mac_pj, "source": cost.source},
        "events_j": events,
    }
    if audit.refused_formula is None:
        sums = audit.formula_causes().sum(axis=0).tolist()
        figures |= {
            "formula_j": formula,
            "difference_j": events - formula,
            "causes": {
                cause: {"ac": ac, "mac": mac, "joules": cost.joules(ac, mac)}
                for cause, (ac, mac) in zip(CAUSES, sums, strict=True)
            },
        }
    else:
        figures["formula"] = f"cannot be evaluated: {audit.refused_formula}"
    return figures | {"apart": {"bias": totals["bias"], "neuron": totals["neuron"]}}


def layers(audit: Audit, cost: EnergyCost) -> list[dict[str, Any]]:
    """Counts and energy of every layer: operations whose names share all but the last word.

    Fields: layer, every column of the counts, `firing_rate` (spikes per neuron update; None without neurons),
    `events_j`, `formula_j`, and `causes`: executed minus formula, AC and MAC, by those causes that are not 0.
    """
    rows, table, by_cause = [], audit.table.sum(axis=2), audit.formula_causes()
    for layer in audit.layers:
        members = audit.rows(layer)
        counts = dict(zip(audit.columns, table[members].sum(axis=0).tolist(), strict=True))
        rate = counts["fired"] / counts["neuron"] if counts["neuron"] else None
        events, formula = cost.joules(counts["ac"], counts["mac"]), cost.joules(*(counts[k] for k in FORMULA_KINDS))
        sums = zip(CAUSES, by_cause[members].sum(axis=0).tolist(), strict=True)
        causes = {cause: {"ac": ac, "mac": mac} for cause, (ac, mac) in sums if ac or mac}
        rows.append(
            {"layer": layer, **counts, "firing_rate": rate, "events_j": events, "formula_j": formula, "causes": causes}
        )
    return rows


def operations(audit: Audit, cost: EnergyCost) -> list[dict[str, Any]]:
    """Counts and energy of every operation that counted something.

    Fields: operation, type, every column of the counts, `firing_rate` (spikes per neuron and step; None where nothing
    fires), `events_j`.
    """
    rows, table = [], audit.table.sum(axis=2)
    for row, (name, kind) in enumerate(zip(audit.operations, audit.types, strict=True)):
        counts = dict(zip(audit.columns, table[row].tolist(), strict=True))
        if any(counts[kind] for kind in KINDS):
            fires = operation_types()[kind].role is Role.NEURON and counts["neuron"]
            rate = counts["fired"] / counts["neuron"] if fires else None
            joules = cost.joules(counts["ac"], counts["mac"])
            rows.append({"operation": name, "type": kind, **counts, "firing_rate": rate, "events_j": joules})
    return rows
