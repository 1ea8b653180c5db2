"""What a convention charges a run, evaluated on its facts: per operation, per sample, by cause."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from spikescr.sim.counting.conventions import CAUSES, Convention
from spikescr.sim.counting.facts import Facts, MissingFactError
from spikescr.sim.counting.rules import LINEAR, RULES
from spikescr.sim.program import FloatArray, operation_types

_CAUSE = {cause: column for column, cause in enumerate(CAUSES)}


@dataclass(frozen=True)
class Charged:
    """AC and MAC by one convention.

    All are whole numbers, which float64 holds exactly; but for the rule `rate` of biases, which shares out fractions.

    Attributes:
        charges: sums over the samples (operations, 2).
        causes: convention minus executed, sums over the samples (operations, CAUSES, 2).
        samples: of each sample (samples, 2); no rows where only sums were kept.
        sample_causes: convention minus executed of each sample (samples, CAUSES, 2); no rows likewise.
    """

    charges: FloatArray
    causes: FloatArray
    samples: FloatArray
    sample_causes: FloatArray


def evaluate(
    convention: Convention,
    types: Sequence[str],
    facts: Callable[[Sequence[int]], Facts],
    *,
    each: bool = True,
) -> Charged:
    """Evaluates a convention.

    Args:
        convention: which.
        types: name of the type of each operation.
        facts: gives those of some operations, by their numbers.
        each: whether the facts are of each sample, not sums over all.

    Raises:
        MissingFactError: a rule asks for what is not known; the message says what, and where.
    """
    members: dict[str, list[int]] = {}
    for row, kind in enumerate(types):
        members.setdefault(kind, []).append(row)
    charges, causes = np.zeros((len(types), 2)), np.zeros((len(types), len(CAUSES), 2))
    samples = sample_causes = np.zeros(0)
    for kind, rows in members.items():
        kind_facts = facts(rows)
        if not samples.size:
            samples = np.zeros((kind_facts.valid.size, 2))
            sample_causes = np.zeros((kind_facts.valid.size, len(CAUSES), 2))
        shape = (len(rows), kind_facts.valid.size)
        for part in _parts(kind):
            name = convention.rules[part]
            rule = RULES[part][name]
            if rule is None:
                continue
            if not each and rule not in LINEAR:
                raise MissingFactError(
                    f"{part} by the rule {name!r} takes the counts of each sample, of which sums were kept"
                )
            try:
                charge = rule(kind_facts)
            except MissingFactError as error:
                raise MissingFactError(f"{part} by the rule {name!r}: {error}") from error
            for way, amount in enumerate((charge.ac, charge.mac)):
                whole = np.broadcast_to(amount, shape)
                samples[:, way] += whole.sum(axis=0)
                charges[rows, way] += whole.sum(axis=1)
            for cause, pair in charge.causes.items():
                for way, amount in enumerate(pair):
                    whole = np.broadcast_to(amount, shape)
                    causes[rows, _CAUSE[cause], way] += whole.sum(axis=1)
                    sample_causes[:, _CAUSE[cause], way] += whole.sum(axis=0)
    many = len(samples) if each else 0
    return Charged(charges, causes, samples[:many], sample_causes[:many])


def _parts(kind: str) -> tuple[str, ...]:
    known = operation_types()
    if kind not in known:
        raise MissingFactError(f"nothing is known of operations of type {kind}")
    return (*known[kind].parts, "residual")  # a sum of sources belongs to the source that is added
