"""Adds up the ledgers of a run, batch after batch: per operation and step, by convention and cause, per sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikescr.sim.counting.decisions import final_steps
from spikescr.sim.counting.energy import EnergyCost
from spikescr.sim.counting.facts import gather
from spikescr.sim.counting.formula import CAUSES, evaluate
from spikescr.sim.counting.tally import Tally
from spikescr.sim.program import FloatArray, IntArray, Program, Sink
from spikescr.sim.recording import KINDS, Ledger

FORMULA_KINDS = ("formula_ac", "formula_mac")
COLUMNS = (*KINDS, *FORMULA_KINDS)
MOMENTS = ("ac", "mac", "ac_ac", "mac_mac", "ac_mac")
_WAYS = [KINDS.index("ac"), KINDS.index("mac")]


def layer_of(operation: str) -> str:
    """The layer to which an operation belongs: its name but for the last word."""
    return operation.rpartition(".")[0] or operation


@dataclass
class Account:
    """Sums over the samples of a run, exact.

    table: counts (operations, COLUMNS, steps). causes: executed minus formula by cause (operations, CAUSES, 2), AC and
    MAC. tally: what every convention charges. moments: sums over samples of what each layer executed at each step
    (layers, MOMENTS, steps): AC, MAC, their squares and product, for the spread. samples: totals of each sample, one
    row of ac, mac, formula_ac, formula_mac each. decisions: a row for each sample: the step at which its prediction
    was final, AC and MAC executed until that step's output; filled where outputs are given.
    """

    program: Program
    table: IntArray = field(init=False)
    causes: IntArray = field(init=False)
    tally: Tally = field(init=False)
    moments: IntArray = field(init=False)
    samples: list[tuple[int, int, int, int]] = field(default_factory=list)
    decisions: list[tuple[int, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        count, period = len(self.program.operations), self.program.period
        self.layers = tuple(dict.fromkeys(layer_of(o.name) for o in self.program.operations))
        self._layer = np.array([self.layers.index(layer_of(o.name)) for o in self.program.operations])
        self.table = np.zeros((count, len(COLUMNS), period), np.int64)
        self.causes = np.zeros((count, len(CAUSES), 2), np.int64)
        self.tally = Tally(count)
        self.moments = np.zeros((len(self.layers), len(MOMENTS), period), np.int64)

    def add(self, ledger: Ledger, valid: IntArray, outputs: FloatArray | None = None) -> None:
        """Adds one batch.

        Args:
            ledger: its counts.
            valid: valid steps of its samples (B,).
            outputs: (T, B, K) of the samples' own steps, where a class is chosen from them by `softmax_sum`.
        """
        formula = evaluate(self.program, ledger, valid)
        self.table[:, : len(KINDS)] += ledger.table.sum(axis=-1)
        self.table[:, len(KINDS)] += formula.ac.sum(axis=-1)
        self.table[:, len(KINDS) + 1] += formula.mac.sum(axis=-1)
        for column, cause in enumerate(CAUSES):
            self.causes[:, column] += formula.causes[cause].sum(axis=-1)
        self.tally.add(gather(self.program, ledger, formula, valid))
        executed = self._moments(ledger)
        predicted = (counts.sum(axis=(0, 1)) for counts in (formula.ac, formula.mac))
        self.samples += [tuple(map(int, row)) for row in zip(*executed.sum(axis=1), *predicted, strict=True)]  # type: ignore[misc]
        if outputs is not None:
            self._decide(executed, outputs, valid)

    def _moments(self, ledger: Ledger) -> IntArray:
        """Adds the moments of one batch; returns AC and MAC of all layers, (2, steps, samples)."""
        layers: IntArray = np.zeros((len(self.layers), 2, *ledger.table.shape[2:]), np.int64)
        np.add.at(layers, self._layer, ledger.table[:, _WAYS])
        ac, mac = layers[:, 0], layers[:, 1]
        for column, product in enumerate((ac, mac, ac * ac, mac * mac, ac * mac)):
            self.moments[:, column] += product.sum(axis=-1)
        total: IntArray = layers.sum(axis=0)
        return total

    def _decide(self, executed: IntArray, outputs: FloatArray, valid: IntArray) -> None:
        late = self.program.of_type(Sink)[0].latency or 0
        steps = final_steps(outputs, valid)
        until = np.cumsum(executed, axis=1)[:, steps + late, np.arange(len(steps))]
        self.decisions += [tuple(map(int, row)) for row in zip(steps, *until, strict=True)]  # type: ignore[misc]

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

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that was added up, by name; `merge` takes it."""
        return {
            "table": self.table,
            "causes": self.causes,
            "moments": self.moments,
            "charges": self.tally.charges,
            "charge_causes": self.tally.causes,
            "samples": np.array(self.samples, np.int64).reshape(-1, 4),
            "decisions": np.array(self.decisions, np.int64).reshape(-1, 3),
            "sample_charges": np.array(self.tally.samples).reshape(-1, *self.tally.charges.shape[1:]),
        }

    def merge(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Adds what `arrays` gave of another account of the same program."""
        self.table += arrays["table"]
        self.causes += arrays["causes"]
        self.moments += arrays["moments"]
        self.tally.charges += arrays["charges"]
        self.tally.causes += arrays["charge_causes"]
        self.tally.samples += list(arrays["sample_charges"])
        self.samples += [tuple(row) for row in arrays["samples"].tolist()]
        self.decisions += [tuple(row) for row in arrays["decisions"].tolist()]
