"""What rules of counting may ask of operations: sums over the steps of each sample, and shapes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikescr.sim.counting.formula import Formula
from spikescr.sim.program import (
    Convolution,
    DelayLine,
    IntArray,
    Neuron,
    Operation,
    Program,
    Rotary,
    Signal,
    Synapse,
)
from spikescr.sim.recording import KINDS, Ledger


@dataclass(frozen=True)
class Facts:
    """The operations of one type in one batch, a row each: arrays of shape (rows, samples) or, of shapes, (rows, 1).

    rows: which operations of the Program. valid: steps of each sample (1, samples). sums: additions that join the
    sources of ports. formula_ac, formula_mac, formula_causes (AC, MAC): of `formula.evaluate`, all steps.
    values: whether the input carries real values. width_in, width_out: channels. dense: products of a step if every
    entry of the input were a real number other than 0, zero padding and weights of 0 included. real: those of dense
    whose weight is not 0. reach: weights, also those of 0, that an entry meets; 0 where that is not the same for all
    entries. over_time: whether it is a convolution. own_bias, batch_norm: what the trained network had here.
    """

    rows: IntArray
    counts: IntArray  # (rows, kinds, samples)
    valid: IntArray
    sums: IntArray
    formula_ac: IntArray
    formula_mac: IntArray
    formula_causes: dict[str, tuple[IntArray, IntArray]]
    values: NDArray[np.bool_]
    width_in: IntArray
    width_out: IntArray
    dense: IntArray
    real: IntArray
    reach: IntArray
    over_time: NDArray[np.bool_]
    own_bias: NDArray[np.bool_]
    batch_norm: NDArray[np.bool_]

    def __getitem__(self, kind: str) -> IntArray:
        return self.counts[:, KINDS.index(kind)]

    @property
    def zeros(self) -> IntArray:
        """Operations that weights of 0 would take for the entries that arrived; 0 where that cannot be told."""
        found: IntArray = np.where(self.reach > 0, self["entries"] * self.reach - self["synops"], 0)
        return found

    @property
    def binary(self) -> NDArray[np.bool_]:
        """Whether every entry that arrived was 0 or 1."""
        found: NDArray[np.bool_] = self["graded"] == 0
        return found


def gather(program: Program, ledger: Ledger, formula: Formula, valid: IntArray) -> dict[type[Operation], Facts]:
    """The facts of one batch by type of operation; valid: valid steps of its samples (B,)."""
    found: dict[type[Operation], list[int]] = {}
    for row, operation in enumerate(program.operations):
        found.setdefault(type(operation), []).append(row)
    counts: IntArray = np.zeros((*ledger.table.shape[:2], len(valid)), np.int64)
    for row, operation in enumerate(program.operations):
        if operation.parts:
            ledger.table[row].sum(axis=1, out=counts[row])
    sums = _Sums(program, counts, valid).table()
    facts: dict[type[Operation], Facts] = {}
    for kind, members in found.items():
        rows = np.array(members)
        operations = [program.operations[row] for row in members]
        facts[kind] = Facts(
            rows=rows,
            counts=counts[rows],
            valid=valid[None, :],
            sums=sums[rows],
            formula_ac=formula.ac[rows].sum(axis=1),
            formula_mac=formula.mac[rows].sum(axis=1),
            formula_causes={cause: (pairs[rows, 0], pairs[rows, 1]) for cause, pairs in formula.causes.items()},
            values=_flags(("x" in o.ports and o.ports["x"].signal is Signal.VALUES) for o in operations),
            width_in=_numbers(o.ports["x"].width if "x" in o.ports else o.width for o in operations),
            width_out=_numbers(o.width for o in operations),
            dense=_numbers(_products(o, every=True) for o in operations),
            real=_numbers(_products(o, every=False) for o in operations),
            reach=_numbers(_reach(o) for o in operations),
            over_time=_flags(
                isinstance(o, Convolution) or (isinstance(o, Synapse) and len(o.taps) > 1) for o in operations
            ),
            own_bias=_flags(_has_own_bias(o) for o in operations),
            batch_norm=_flags(isinstance(o, Synapse) and "batch_norm" in o.origin for o in operations),
        )
    return facts


def _products(operation: Operation, *, every: bool) -> int:
    """Weights that a step multiplies by, of `every` value or those that are not 0."""
    match operation:
        case Synapse():
            return sum(tap.weight.size if every else int(np.count_nonzero(tap.weight)) for tap in operation.taps)
        case Convolution():
            weight = operation.weight
            return math.prod(operation.out_shape[1:]) * (weight.size if every else int(np.count_nonzero(weight)))
    return 0


def _reach(operation: Operation) -> int:
    if not isinstance(operation, Synapse) or len(operation.taps) > 1:
        return 0
    weight = operation.taps[0].weight
    return 1 if weight.ndim == 1 else len(weight)


def _has_own_bias(operation: Operation) -> bool:
    if isinstance(operation, Synapse):
        return "bias" in operation.origin or (operation.bias is not None and not operation.origin)
    return isinstance(operation, Convolution) and operation.bias is not None


def _numbers(values: Iterable[int]) -> IntArray:
    return np.array(list(values), np.int64)[:, None]


def _flags(values: Iterable[bool]) -> NDArray[np.bool_]:
    return np.array(list(values), np.bool_)[:, None]


class _Sums:
    """Additions that join the sources of ports, as a framework makes them: one after the other, each once.

    Some of a port's sources may be a sum that exists already (a residual stream that grows); then only the rest is
    added. Where both operands are 0 or 1 throughout, only spikes are added, else every entry. A partial sum of which
    nothing tells whether it is 0 or 1 is taken for not.
    """

    def __init__(self, program: Program, counts: IntArray, valid: IntArray) -> None:
        self.program, self.counts, self.valid = program, counts, valid
        self.rows = {operation.name: row for row, operation in enumerate(program.operations)}
        reading = (o for o in program.operations if isinstance(o, Synapse | Convolution | Rotary))
        self.readers = {frozenset(o.x.sources): o.name for o in reading}
        ports = (port for operation in program.operations for port in operation.ports.values())
        self.joined = {p.sources: p for p in ports if len(p.sources) > 1 and p.signal is not Signal.CLOCK}

    def table(self) -> IntArray:
        """Additions, charged to the source that is added (operations, samples)."""
        found: IntArray = np.zeros((len(self.counts), len(self.valid)), np.int64)
        for sources, port in self.joined.items():
            done = max((other for other in self.joined if set(other) < set(sources)), key=len, default=())
            rest = sorted(set(sources) - set(done), key=self.rows.__getitem__)
            if not done:
                done, rest = (rest[0],), rest[1:]
            for source in rest:
                left, right = self._known(done), self._known((source,))
                found[self.rows[source]] += np.where(left[0] & right[0], left[1] + right[1], port.width * self.valid)
                done = (*done, source)
        return found

    def _known(self, sources: tuple[str, ...]) -> tuple[NDArray[np.bool_], IntArray]:
        """Whether all that these sources bring is 0 or 1, and if so how many are 1, for each sample."""
        if len(sources) == 1:
            source = self.program[sources[0]]
            if isinstance(source, Neuron):
                return np.ones(len(self.valid), np.bool_), self._count(source.name, "fired")
            if isinstance(source, DelayLine):
                return self._known(source.x.sources)
        reader = self.readers.get(frozenset(sources))
        if reader is not None:
            return self._count(reader, "graded") == 0, self._count(reader, "entries")
        return np.zeros(len(self.valid), np.bool_), np.zeros(len(self.valid), np.int64)

    def _count(self, name: str, kind: str) -> IntArray:
        return self.counts[self.rows[name], KINDS.index(kind)]
