"""Charges of a run by every convention, added up batch after batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from spikescr.sim.counting.conventions import CAUSES, CONVENTIONS
from spikescr.sim.counting.facts import Facts
from spikescr.sim.counting.rules import RULES, Charge
from spikescr.sim.program import FloatArray, Operation

NAMES = tuple(CONVENTIONS)
_CAUSE = {cause: column for column, cause in enumerate(CAUSES)}


@dataclass
class Tally:
    """Sums over the samples of a run.

    All are whole numbers, which float64 holds exactly; but for the rule `rate` of biases, which shares out fractions.

    charges: AC and MAC (operations, conventions, 2). causes: convention minus executed (operations, conventions,
    CAUSES, 2). samples: charges of each sample, arrays (conventions, 2).
    """

    operations: int
    charges: FloatArray = field(init=False)
    causes: FloatArray = field(init=False)
    samples: list[FloatArray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.charges = np.zeros((self.operations, len(NAMES), 2))
        self.causes = np.zeros((self.operations, len(NAMES), len(CAUSES), 2))

    def add(self, facts: Mapping[type[Operation], Facts]) -> None:
        """Adds one batch."""
        samples = np.zeros((next(iter(facts.values())).valid.size, len(NAMES), 2))
        for kind, found in facts.items():
            shape = (len(found.rows), found.valid.size)
            for part in (*kind.parts, "residual"):  # a sum of sources belongs to the source that is added
                charges: dict[str, Charge] = {}
                for column, convention in enumerate(CONVENTIONS.values()):
                    name = convention.rules[part]
                    rule = RULES[part][name]
                    if rule is None:
                        continue
                    charge = charges[name] = charges.get(name) or rule(found)
                    for way, amount in enumerate((charge.ac, charge.mac)):
                        whole = np.broadcast_to(amount, shape)
                        samples[:, column, way] += whole.sum(axis=0)
                        self.charges[found.rows, column, way] += whole.sum(axis=1)
                    for cause, pair in charge.causes.items():
                        for way, amount in enumerate(pair):
                            total = np.broadcast_to(amount, shape).sum(axis=1)
                            self.causes[found.rows, column, _CAUSE[cause], way] += total
        self.samples += list(samples)
