"""What a run reports, as plain data: rows of counts, totals, energy with the causes of its difference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from spikescr.sim.counting.account import COLUMNS, FORMULA_KINDS, Account
from spikescr.sim.counting.energy import EnergyCost
from spikescr.sim.counting.formula import CAUSES

COUNT_FIELDS = ("operation", "type", "latency", "step", *COLUMNS)


def count_rows(account: Account) -> Iterator[tuple[str | int, ...]]:
    """One row for every operation and executed step, sums over all samples; fields COUNT_FIELDS.

    The sample's own step is step - latency.
    """
    for row, operation in enumerate(account.program.operations):
        latency = "" if operation.latency is None else operation.latency
        for step, counts in enumerate(account.table[row].T):
            yield operation.name, type(operation).__name__, latency, step, *map(int, counts)


def totals(account: Account) -> dict[str, int]:
    """Sum of every column of the counts."""
    return {column: account.total(column) for column in COLUMNS}


def energy(account: Account, cost: EnergyCost) -> dict[str, Any]:
    """Energy in joules of all samples by executed events and by the paper's formula, and why the two differ.

    `causes` add up to `difference_j`, and their operations to executed minus formula, exactly. Bias additions and
    membrane updates are in neither figure; `apart` counts them.
    """
    events, formula = account.energy(cost)
    by_cause = account.difference(cost)
    return {
        "cost": {"name": cost.name, "ac_pj": cost.ac_pj, "mac_pj": cost.mac_pj, "source": cost.source},
        "events_j": events,
        "formula_j": formula,
        "difference_j": events - formula,
        "causes": {
            cause: {
                "ac": int(account.causes[:, column, 0].sum()),
                "mac": int(account.causes[:, column, 1].sum()),
                "joules": by_cause[cause],
            }
            for column, cause in enumerate(CAUSES)
        },
        "apart": {"bias": account.total("bias"), "neuron": account.total("neuron")},
    }


def layers(account: Account, cost: EnergyCost) -> list[dict[str, Any]]:
    """Counts and energy of every layer: operations whose names share all but the last word.

    Fields: layer, every column of the counts, `firing_rate` (spikes per neuron update; None without neurons),
    `events_j`, `formula_j`, and `causes`: executed minus formula, AC and MAC, by those causes that are not 0.
    """
    rows: dict[str, list[int]] = {}
    for row, operation in enumerate(account.program.operations):
        rows.setdefault(operation.name.rpartition(".")[0] or operation.name, []).append(row)
    found = []
    for layer, members in rows.items():
        counts = {column: sum(account.total(column, row) for row in members) for column in COLUMNS}
        rate = counts["fired"] / counts["neuron"] if counts["neuron"] else None
        events, formula = cost.joules(counts["ac"], counts["mac"]), cost.joules(*(counts[k] for k in FORMULA_KINDS))
        sums = zip(CAUSES, account.causes[members].sum(axis=0).tolist(), strict=True)
        causes = {cause: {"ac": ac, "mac": mac} for cause, (ac, mac) in sums if ac or mac}
        found.append(
            {"layer": layer, **counts, "firing_rate": rate, "events_j": events, "formula_j": formula, "causes": causes}
        )
    return found
