"""What rules of counting may ask of a run: sums over the steps of each sample, and shapes. An audit keeps all of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikescr.archive import LARGEST
from spikescr.sim.counting.formula import CAUSES, Formula
from spikescr.sim.program import (
    Convolution,
    DelayLine,
    IntArray,
    Neuron,
    Operation,
    Program,
    Rotary,
    Select,
    Signal,
    Synapse,
)
from spikescr.sim.recording import KINDS, Ledger

FORMULA_KINDS = ("formula_ac", "formula_mac")
FACTS = (*KINDS, "sums", *FORMULA_KINDS, *(f"{cause}_{way}" for cause in CAUSES for way in ("ac", "mac")))
"""Of every operation and sample, sums over the steps.

The KINDS of the ledger; sums: additions that join the sources of ports; formula_ac, formula_mac, and executed minus
formula by cause, `formula.evaluate`.
"""

SHAPES = ("values", "width_in", "width_out", "dense", "real", "reach", "over_time", "own_bias", "batch_norm")
"""Of every operation.

values: whether the input carries real values. width_in, width_out: channels. dense: products of a step if every entry
of the input were a real number other than 0, zero padding and weights of 0 included. real: those of dense whose weight
is not 0. reach: weights, also those of 0, that an entry meets; 0 where that is not the same for all entries. over_time:
whether it is a convolution. own_bias, batch_norm: what the trained network had here.
"""


class MissingFactError(LookupError):
    """A rule asked for what is not known of a run; the message says what and why."""


@dataclass(frozen=True)
class Facts:
    """Facts of some operations, a row each, by name: f[FACTS] (rows, samples), f[SHAPES] (rows, 1).

    valid: steps of each sample (1, samples). look_up: gives a fact, or raises MissingFactError.
    """

    valid: IntArray
    look_up: Callable[[str], IntArray]

    def __getitem__(self, name: str) -> IntArray:
        return self.look_up(name)

    @property
    def zeros(self) -> IntArray:
        """Operations that weights of 0 would take for the entries that arrived; 0 where that cannot be told."""
        zeros: IntArray = np.where(self["reach"] > 0, self["entries"] * self["reach"] - self["synops"], 0)
        return zeros

    @property
    def binary(self) -> NDArray[np.bool_]:
        """Whether every entry that arrived was 0 or 1."""
        binary: NDArray[np.bool_] = self["graded"] == 0
        return binary


class SampleFacts:
    """Facts of every operation and sample: (operation, fact) -> (samples,), what is all 0 left out.

    names: of the facts; those of a file that another version wrote may be fewer than FACTS, or others.
    """

    def __init__(self, names: Sequence[str] = FACTS) -> None:
        self.names = tuple(names)
        self.samples = 0
        self._parts: dict[tuple[int, int], list[tuple[int, IntArray]]] = {}

    def add(self, table: IntArray) -> None:
        """Adds the facts of more samples, (operations, FACTS, samples)."""
        for operation, fact in np.argwhere(table.any(axis=-1)).tolist():
            self._put(operation, fact, table[operation, fact].copy())
        self.samples += table.shape[-1]

    def _put(self, operation: int, fact: int, values: IntArray) -> None:
        self._parts.setdefault((operation, fact), []).append((self.samples, values))

    def __getitem__(self, place: tuple[int, int]) -> IntArray:
        row: IntArray = np.zeros(self.samples, np.int64)
        for start, values in self._parts.get(place, ()):
            row[start : start + len(values)] = values
        return row

    def table(self, operations: Sequence[int], name: str) -> IntArray:
        """One fact of some operations, (operations, samples).

        Raises:
            MissingFactError: it is none of `names`.
        """
        fact = self._number(name)
        facts: IntArray = np.zeros((len(operations), self.samples), np.int64)
        for row, operation in enumerate(operations):
            if (operation, fact) in self._parts:
                facts[row] = self[operation, fact]
        return facts

    def total(self, name: str) -> IntArray:
        """One fact, sum over all operations, (samples,)."""
        fact = self._number(name)
        rows = [self[place] for place in self._parts if place[1] == fact]
        total: IntArray = np.sum(rows, axis=0) if rows else np.zeros(self.samples, np.int64)
        return total

    def _number(self, name: str) -> int:
        if name not in self.names:
            raise MissingFactError(f"this audit does not keep {name}; simulate again")
        return self.names.index(name)

    def arrays(self) -> dict[str, IntArray]:
        """`facts` (rows, samples), every row once and without its greatest common divisor; `fact_of` (facts, 4).

        fact_of: operation, fact, row, factor. Many facts are others times a fan-out or a width, so that this is a
        fraction of the whole.
        """
        rows: dict[bytes, int] = {}
        kept: list[IntArray] = []
        places = []
        for operation, fact in sorted(self._parts):
            whole = self[operation, fact]
            factor = int(np.gcd.reduce(whole))
            values = whole // factor
            key = values.tobytes()
            if key not in rows:
                rows[key] = len(kept)
                kept.append(values)
            places.append((operation, fact, rows[key], factor))
        table: IntArray = np.array(kept, np.int64).reshape(len(kept), self.samples)
        return {"facts": table, "fact_of": np.array(places, np.int64).reshape(-1, 4)}

    @staticmethod
    def fault(arrays: Mapping[str, NDArray[Any]]) -> str | None:
        """What is wrong with `arrays` of another, beside the `table` of its operations; None where nothing is."""
        rows = len(arrays["table"]), None, len(arrays["facts"]), None
        for column, (name, count) in enumerate(zip(("operation", "fact", "row", "factor"), rows, strict=True)):
            numbers = arrays["fact_of"][:, column]
            if numbers.size and (numbers.min() < 0 or (count is not None and numbers.max() >= count)):
                return (
                    f"fact_of names {name} {numbers.min() if numbers.min() < 0 else numbers.max()}, which is not there"
                )
        largest, factor = (
            max(abs(int(array.min())), abs(int(array.max()))) if array.size else 0
            for array in (arrays["facts"], arrays["fact_of"][:, 3])
        )
        if largest * factor > LARGEST:
            return f"facts hold {largest} times {factor}, which is no count"
        return None

    def merge(self, arrays: Mapping[str, NDArray[np.integer]]) -> None:
        """Adds the samples of which another's `arrays` are."""
        for operation, fact, row, factor in arrays["fact_of"].tolist():
            self._put(operation, fact, arrays["facts"][row].astype(np.int64) * factor)
        self.samples += arrays["facts"].shape[1]


def gather(program: Program, ledger: Ledger, formula: Formula, valid: IntArray) -> IntArray:
    """The FACTS of one batch, (operations, FACTS, samples); valid: valid steps of its samples (B,)."""
    counts = ledger.table.sum(axis=2)
    causes = [pairs[:, way] for pairs in formula.causes.values() for way in (0, 1)]
    more = [_Sums(program, counts, valid).table(), formula.ac.sum(axis=1), formula.mac.sum(axis=1), *causes]
    return np.concatenate([counts, np.stack(more, axis=1)], axis=1)


def shapes(program: Program) -> dict[str, IntArray]:
    """The SHAPES of every operation, (operations,) each."""
    operations = program.operations
    columns: Mapping[str, Iterable[int]] = {
        "values": ("x" in o.ports and o.ports["x"].signal is Signal.VALUES for o in operations),
        "width_in": (o.ports["x"].width if "x" in o.ports else o.width for o in operations),
        "width_out": (o.width for o in operations),
        "dense": (_products(o, every=True) for o in operations),
        "real": (_products(o, every=False) for o in operations),
        "reach": (_reach(o) for o in operations),
        "over_time": (isinstance(o, Convolution) or (isinstance(o, Synapse) and len(o.taps) > 1) for o in operations),
        "own_bias": (_has_own_bias(o) for o in operations),
        "batch_norm": (isinstance(o, Synapse) and "batch_norm" in o.origin for o in operations),
    }
    return {name: np.array(list(map(int, column)), np.int64) for name, column in columns.items()}


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


class _Sums:
    """Additions that join the sources of ports, as a framework makes them: one after the other, each once.

    Some of a port's sources may be a sum that exists already (a residual stream that grows); then only the rest is
    added. What Selects place where nothing else is, is not. Where both operands are 0 or 1 throughout, only spikes are
    added, else every entry. A partial sum of which nothing tells whether it is 0 or 1 is taken for not.
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
        additions: IntArray = np.zeros((len(self.counts), len(self.valid)), np.int64)
        for sources, port in self.joined.items():
            done = max((other for other in self.joined if set(other) < set(sources)), key=len, default=())
            rest = sorted(set(sources) - set(done), key=self.rows.__getitem__)
            if not done:
                done, rest = (rest[0],), rest[1:]
            for source in rest:
                left, right = self._known(done), self._known((source,))
                shared = self._shared(done, source, port.width)
                added = np.where(left[0] & right[0], left[1] + right[1], shared * self.valid)
                additions[self.rows[source]] += added if shared else 0
                done = (*done, source)
        return additions

    def _shared(self, sources: tuple[str, ...], other: str, width: int) -> int:
        """Channels into which both one of some sources and another one put something."""
        placed: IntArray = np.zeros(width, np.int64)
        for name in (*sources, other):
            source, times = self.program[name], len(sources) if name == other else 1
            placed += times * (source.index >= 0 if isinstance(source, Select) else np.ones(width, np.int64))
        return int((placed > len(sources)).sum())

    def _known(self, sources: tuple[str, ...]) -> tuple[NDArray[np.bool_], IntArray]:
        """Whether all that these sources bring is 0 or 1, and if so how many are 1, for each sample."""
        if len(sources) == 1:
            source = self.program[sources[0]]
            if isinstance(source, Neuron):
                return np.ones(len(self.valid), np.bool_), self._count(source.name, "fired")
            if isinstance(source, DelayLine) or (isinstance(source, Select) and source.rearranges):
                return self._known(source.x.sources)
        reader = self.readers.get(frozenset(sources))
        if reader is not None:
            return self._count(reader, "graded") == 0, self._count(reader, "entries")
        return np.zeros(len(self.valid), np.bool_), np.zeros(len(self.valid), np.int64)

    def _count(self, name: str, kind: str) -> IntArray:
        return self.counts[self.rows[name], KINDS.index(kind)]
