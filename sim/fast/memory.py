"""Memory that is used again from batch to batch; asking the system for it anew cost a tenth of a batch's time."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from spikescr.sim.program import IntArray

_KEPT = 2
_UNUSED = 3  # references to an array that nobody else holds: the list, the loop variable, the argument of getrefcount


class Buffers:
    """Arrays that no result refers to, by name; they grow where a batch needs more."""

    def __init__(self) -> None:
        self._held: dict[str, NDArray[Any]] = {}

    def __call__(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array with any contents; the one of the same name is overwritten."""
        size = 1
        for count in shape:
            size *= count
        held = self._held.get(name)
        if held is None or len(held) < size or held.dtype != dtype:
            held = self._held[name] = np.empty(size, dtype)
        return held[:size].reshape(shape)


class Tables:
    """Tables of counts; one is used again once nothing refers to the ledger it was in, nor to a part of it.

    counted: the (operation, kind) that are ever set. Only these are set to zero: most of a table stays zero.
    """

    def __init__(self, counted: Sequence[tuple[int, int]]) -> None:
        self._counted = counted
        self._held: list[IntArray] = []

    def __call__(self, shape: tuple[int, ...]) -> IntArray:
        """A table of zeros (operations, kinds, steps, samples)."""
        for table in self._held:
            if table.shape == shape and sys.getrefcount(table) == _UNUSED:
                for row, kind in self._counted:
                    table[row, kind] = 0
                return table[:]
        table = np.zeros(shape, np.int64)
        self._held = [*self._held[1 - _KEPT :], table]
        return table[:]
