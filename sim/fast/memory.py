"""Memory that is used again, within a batch and by the next; asking for it anew cost a tenth of a batch's time."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from spikescr.sim.program import IntArray

_KEPT = 3
"""Tables: one in the hands of who reads the counts, one that is filled, and one of the shorter batch at the end."""
LINE = 64
"""Bytes of a cache line: vectors of a whole one that begin elsewhere take two to load or to store."""
_UNUSED = 3
"""References to an array that nobody else holds: the list or tuple, the loop variable, the argument of getrefcount."""


Spans: TypeAlias = dict[int, tuple[int, int]]
"""Operation -> first step, and one past the last, at which it may have set counts."""


def aligned(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array with any contents that begins with a cache line."""
    size = np.dtype(dtype).itemsize * math.prod(shape)
    return _first_line(np.empty(size + LINE, np.uint8), size).view(dtype).reshape(shape)


def _first_line(piece: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    first = -piece.ctypes.data % LINE
    return piece[first : first + size]


class Buffers:
    """Memory for arrays that no result refers to, taken again for another array once nothing refers to the one in it.

    Pieces have sizes of powers of two; the system gives memory to what of them is written to.
    """

    def __init__(self) -> None:
        self._held: dict[int, list[NDArray[np.uint8]]] = {}

    def __call__(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array with any contents."""
        dtype = np.dtype(dtype)
        size = dtype.itemsize * math.prod(shape)
        room = 1 << max(size - 1, LINE - 1).bit_length()
        pieces = self._held.setdefault(room, [])
        for piece in pieces:
            if sys.getrefcount(piece) == _UNUSED:
                break
        else:
            piece = np.empty(room + LINE, np.uint8)  # views refer to it, whatever they are views of
            pieces.append(piece)
        return _first_line(piece, size).view(dtype).reshape(shape)

    @property
    def bytes(self) -> int:
        """Of all pieces."""
        return sum(room * len(pieces) for room, pieces in self._held.items())


class Tables:
    """Tables of counts; one is used again once nothing refers to the ledger it was in, nor to a part of it.

    counted: operation -> kinds that are ever set. Only these are set to zero, at the steps at which they may have been
    set: most of a table stays zero.
    """

    def __init__(self, counted: Mapping[int, Sequence[int]]) -> None:
        self._counted = counted
        self._held: list[tuple[IntArray, Spans]] = []

    def __call__(self, shape: tuple[int, ...]) -> tuple[IntArray, Spans]:
        """A table of zeros (operations, kinds, steps, samples), and the steps at which each operation may set counts.

        Who fills the table may narrow these from all steps to fewer.
        """
        whole = dict.fromkeys(self._counted, (0, shape[2]))
        for table, spans in self._held:
            if table.shape == shape and sys.getrefcount(table) == _UNUSED:
                for row, (first, stop) in spans.items():
                    for kind in self._counted[row]:
                        table[row, kind, first:stop] = 0
                spans.update(whole)
                return table[:], spans
        table, spans = np.zeros(shape, np.int64), whole
        self._held = [*self._held[1 - _KEPT :], (table, spans)]
        return table[:], spans
