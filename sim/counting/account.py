"""Adds up the ledgers of a run, batch after batch: per operation and step, and the facts of every sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikescr.readouts import SOFTMAX_SUM
from spikescr.sim.counting.decisions import final_steps
from spikescr.sim.counting.facts import FORMULA_KINDS, SampleFacts, gather
from spikescr.sim.counting.formula import evaluate
from spikescr.sim.program import FloatArray, IntArray, Program, Sink
from spikescr.sim.recording import KINDS, Ledger

COLUMNS = (*KINDS, *FORMULA_KINDS)
MOMENTS = ("ac", "mac", "ac_ac", "mac_mac", "ac_mac")
_WAYS = [KINDS.index("ac"), KINDS.index("mac")]


def layer_of(operation: str) -> str:
    """The layer that an operation belongs to: its name but for the last word, unless that is a number of a sequence."""
    layer, _, own = operation.rpartition(".")
    return operation if not layer or own.isdigit() else layer


@dataclass
class Account:
    """Sums over the samples of a run, exact.

    Attributes:
        program: what was run.
        table: counts (operations, COLUMNS, steps).
        moments: sums over samples of what each layer executed at each step (layers, MOMENTS, steps): AC, MAC, their
            squares and product, for the spread.
        facts: of every operation and sample; conventions are evaluated on them.
        valid: valid steps of each sample.
        decisions: a row for each sample: the step at which its prediction was final, AC and MAC executed until that
            step's output; filled where outputs are given.
        refused: why the formula cannot be evaluated, None where it can.
    """

    program: Program
    table: IntArray = field(init=False)
    moments: IntArray = field(init=False)
    facts: SampleFacts = field(default_factory=SampleFacts)
    valid: list[int] = field(default_factory=list)
    decisions: list[tuple[int, int, int]] = field(default_factory=list)
    refused: str | None = None

    def __post_init__(self) -> None:
        count, period = len(self.program.operations), self.program.period
        self.layers = tuple(dict.fromkeys(layer_of(o.name) for o in self.program.operations))
        self._layer = np.array([self.layers.index(layer_of(o.name)) for o in self.program.operations])
        self.table = np.zeros((count, len(COLUMNS), period), np.int64)
        self.moments = np.zeros((len(self.layers), len(MOMENTS), period), np.int64)

    def add(
        self, ledger: Ledger, valid: IntArray, outputs: FloatArray | None = None, readout: str = SOFTMAX_SUM
    ) -> None:
        """Adds one batch.

        Args:
            ledger: its counts.
            valid: valid steps of its samples (B,).
            outputs: (T, B, K) of the samples' own steps, where a class is chosen from them.
            readout: how, of `spikescr.readouts`.
        """
        formula = evaluate(self.program, ledger, valid)
        self.refused = formula.refused
        self.table[:, : len(KINDS)] += ledger.table.sum(axis=-1)
        self.table[:, len(KINDS)] += formula.ac.sum(axis=-1)
        self.table[:, len(KINDS) + 1] += formula.mac.sum(axis=-1)
        self.facts.add(gather(self.program, ledger, formula, valid))
        self.valid += np.asarray(valid).tolist()
        executed = self._moments(ledger)
        if outputs is not None:
            self._decide(executed, outputs, valid, readout)

    def _moments(self, ledger: Ledger) -> IntArray:
        """Adds the moments of one batch; returns AC and MAC of all layers, (2, steps, samples)."""
        layers: IntArray = np.zeros((len(self.layers), 2, *ledger.table.shape[2:]), np.int64)
        np.add.at(layers, self._layer, ledger.table[:, _WAYS])
        ac, mac = layers[:, 0], layers[:, 1]
        for column, product in enumerate((ac, mac, ac * ac, mac * mac, ac * mac)):
            self.moments[:, column] += product.sum(axis=-1)
        total: IntArray = layers.sum(axis=0)
        return total

    def _decide(self, executed: IntArray, outputs: FloatArray, valid: IntArray, readout: str) -> None:
        late = self.program.of_type(Sink)[0].latency or 0
        steps = final_steps(outputs, valid, readout)
        until = np.cumsum(executed, axis=1)[:, steps + late, np.arange(len(steps))]
        self.decisions += [tuple(map(int, row)) for row in zip(steps, *until, strict=True)]  # type: ignore[misc]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that was added up, by name; `merge` takes it."""
        return {
            "table": self.table,
            "moments": self.moments,
            **self.facts.arrays(),
            "valid": np.array(self.valid, np.int64),
            "decisions": np.array(self.decisions, np.int64).reshape(-1, 3),
            "refused": np.array(self.refused or ""),
        }

    def merge(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Adds what `arrays` gave of another account of the same program."""
        self.table += arrays["table"]
        self.moments += arrays["moments"]
        self.facts.merge(arrays)
        self.valid += arrays["valid"].tolist()
        self.decisions += [tuple(row) for row in arrays["decisions"].tolist()]
        self.refused = str(arrays["refused"]) or self.refused
