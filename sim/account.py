"""Adds up the ledgers of a run, batch after batch: per operation and step, per operation and cause, per sample."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from spikescr.sim.energy import EnergyCost
from spikescr.sim.formula import CAUSES, evaluate
from spikescr.sim.program import IntArray, Program
from spikescr.sim.recording import KINDS, Ledger

FORMULA_KINDS = ("formula_ac", "formula_mac")
COLUMNS = (*KINDS, *FORMULA_KINDS)


@dataclass
class Account:
    """Sums over the samples of a run, exact integers.

    table: counts (operations, COLUMNS, steps). causes: executed minus formula by cause (operations, CAUSES, 2), AC and
    MAC. samples: totals of each sample, one row of ac, mac, formula_ac, formula_mac each.
    """

    program: Program
    table: IntArray = field(init=False)
    causes: IntArray = field(init=False)
    samples: list[tuple[int, int, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        count = len(self.program.operations)
        self.table = np.zeros((count, len(COLUMNS), self.program.period), np.int64)
        self.causes = np.zeros((count, len(CAUSES), 2), np.int64)

    def add(self, ledger: Ledger, valid: IntArray) -> None:
        """Adds one batch; valid: valid steps of its samples (B,)."""
        formula = evaluate(self.program, ledger, valid)
        self.table[:, : len(KINDS)] += ledger.table.sum(axis=-1)
        self.table[:, len(KINDS)] += formula.ac.sum(axis=-1)
        self.table[:, len(KINDS) + 1] += formula.mac.sum(axis=-1)
        for column, cause in enumerate(CAUSES):
            self.causes[:, column] += formula.causes[cause].sum(axis=-1)
        executed = (ledger.table[:, KINDS.index(kind)].sum(axis=(0, 1)) for kind in ("ac", "mac"))
        predicted = (counts.sum(axis=(0, 1)) for counts in (formula.ac, formula.mac))
        self.samples += [tuple(map(int, row)) for row in zip(*executed, *predicted, strict=True)]  # type: ignore[misc]

    def total(self, column: str, row: int | None = None, step: int | None = None) -> int:
        """Sum of a column: over everything, or one operation, or one executed step."""
        rows = slice(None) if row is None else row
        steps = slice(None) if step is None else step
        return int(self.table[rows, COLUMNS.index(column), steps].sum())

    def energy(self, cost: EnergyCost, row: int | None = None, step: int | None = None) -> tuple[float, float]:
        """Energy in joules by executed events and by the formula."""

        def of(ac: str, mac: str) -> float:
            return cost.joules(self.total(ac, row, step), self.total(mac, row, step))

        return of("ac", "mac"), of(*FORMULA_KINDS)

    def difference(self, cost: EnergyCost, row: int | None = None) -> dict[str, float]:
        """Energy in joules of executed minus formula, by cause; they add up to the difference."""
        rows = slice(None) if row is None else slice(row, row + 1)
        return {
            cause: cost.joules(*(int(self.causes[rows, column, k].sum()) for k in (0, 1)))
            for column, cause in enumerate(CAUSES)
        }
