"""The forms that signals have between operations of the fast backend: packed rows, event lists, values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikescr.sim.program import IntArray

NO_INTS: IntArray = np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class Rows:
    """Where packed rows stand: sample b has steps lo[b] to hi[b], step n in row base[b] + n - lo[b].

    base has one entry more than there are samples, the number of rows. cut: rows of steps after the period are there
    but do not count, so that the rows of two samples do not follow each other.
    """

    lo: IntArray
    hi: IntArray
    base: IntArray
    cut: bool = False

    @staticmethod
    def between(lo: IntArray, hi: IntArray) -> Rows:
        """Rows for the steps lo[b] to hi[b]."""
        base = np.zeros(len(lo) + 1, np.int64)
        np.cumsum(hi - lo, out=base[1:])
        return Rows(lo, hi, base)

    @property
    def count(self) -> int:
        """Number of rows."""
        return int(self.base[-1])

    @cached_property
    def span(self) -> tuple[int, int]:
        """First step that a sample has a row of, and one past the last; (0, 0) where there are no rows."""
        some = self.hi > self.lo
        return (int(self.lo[some].min()), int(self.hi[some].max())) if some.any() else (0, 0)

    @property
    def arrays(self) -> tuple[IntArray, IntArray, IntArray]:
        """What kernels take."""
        return self.lo, self.hi, self.base


@dataclass(frozen=True, eq=False)
class Events:
    """Event lists of packed rows, as `kernels` describes them.

    Attributes:
        rows: where the packed rows stand.
        ptr: (rows + 1,), where each row's entries begin.
        idx: channels of the entries.
        cum: (rows + 1,), events up to each row; `ptr` where every entry is one.
        mult: events that each entry stands for, of size 0 where every entry is one.
        unique: no channel stands twice in a row, and they are in ascending order.
    """

    rows: Rows
    ptr: IntArray
    idx: NDArray[np.int32]
    cum: IntArray
    mult: IntArray
    unique: bool

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """What kernels take."""
        return (*self.rows.arrays, self.ptr, self.idx, self.mult)

    @property
    def clock(self) -> tuple[IntArray, ...]:
        """What kernels take of a clock."""
        return (*self.rows.arrays, self.cum)


@dataclass(frozen=True, eq=False)
class Entries:
    """What is not 0 in packed rows, in ascending order: events or real numbers.

    Attributes:
        rows: where the packed rows stand.
        ptr: (rows + 1,), where each row's entries begin.
        idx: channels of the entries.
        amounts: of the entries, in the precision of the run; of size 0 where every one is 1.
    """

    rows: Rows
    ptr: IntArray
    idx: NDArray[np.int32]
    amounts: NDArray[Any]

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """What kernels take."""
        return (*self.rows.arrays, self.ptr, self.idx, self.amounts)


@dataclass(frozen=True, eq=False)
class Values:
    """Real numbers of packed rows, (rows, N)."""

    rows: Rows
    packed: NDArray[Any]


class Geometry:
    """Makes rows, each combination once per batch: most operations of a layer share theirs."""

    def __init__(self, samples: int, period: int) -> None:
        self.samples = samples
        self.period = period
        self.all = Rows.between(np.zeros(samples, np.int64), np.full(samples, period, np.int64))
        self.none = Rows.between(np.zeros(samples, np.int64), np.zeros(samples, np.int64))
        self._known: dict[tuple[Any, ...], Rows] = {}

    def late(self, rows: Rows, delay: int) -> Rows:
        """The same rows, `delay` steps later; steps after the period are cut off."""
        if delay == 0:
            return rows
        key = (rows, delay)
        if key not in self._known:
            hi = np.minimum(rows.hi + delay, self.period)
            cut = rows.cut or bool((hi < rows.hi + delay).any())
            self._known[key] = Rows(rows.lo + delay, hi, rows.base, cut)
        return self._known[key]

    def spanning(self, parts: Sequence[tuple[Rows, int, int]]) -> Rows:
        """Rows for all steps at which a part is not quiet, never cut; a part: rows, shortest and longest delay."""
        if len(parts) == 1 and parts[0][1] == parts[0][2] == 0 and not parts[0][0].cut:
            return parts[0][0]
        key = tuple(parts)
        if key not in self._known:
            lo, hi = np.full(self.samples, self.period), np.zeros(self.samples, np.int64)
            for rows, shortest, longest in parts:
                some = rows.hi > rows.lo
                lo = np.where(some, np.minimum(lo, rows.lo + shortest), lo)
                hi = np.where(some, np.maximum(hi, rows.hi + longest), hi)
            hi = np.minimum(hi, self.period)
            lo = np.minimum(lo, hi)
            known = [rows for rows, _, _ in parts if not rows.cut]
            same = (rows for rows in known if np.array_equal(rows.hi, hi) and np.array_equal(rows.lo, lo))
            self._known[key] = next(same, None) or Rows.between(lo, hi)
        return self._known[key]
