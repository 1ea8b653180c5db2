"""Neurons of a layer on one core: a range of their numbers, or where they form an image a box of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

from spikescr.sim.program import IntArray


@dataclass(frozen=True)
class Range:
    """Neurons [start, stop)."""

    start: int
    stop: int

    @property
    def count(self) -> int:
        """How many."""
        return self.stop - self.start

    @property
    def index(self) -> slice:
        """What takes them out of an array over all neurons."""
        return slice(self.start, self.stop)

    @property
    def numbers(self) -> IntArray:
        """Their numbers, sorted."""
        return np.arange(self.start, self.stop)


@dataclass(frozen=True)
class Box:
    """Neurons of channels, rows and columns [start, stop) each of an image; numbers are flat, in C order.

    shape: of the image, (channels, rows, columns).
    """

    shape: tuple[int, int, int]
    channels: tuple[int, int]
    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def count(self) -> int:
        """How many."""
        return int(np.prod([stop - start for start, stop in (self.channels, self.rows, self.columns)]))

    @property
    def index(self) -> IntArray:
        """What takes them out of an array over all neurons."""
        return self.numbers

    @cached_property
    def numbers(self) -> IntArray:
        """Their numbers, sorted."""
        return flat(self.shape, self.channels, self.rows, self.columns)


Part: TypeAlias = Range | Box


def flat(
    shape: tuple[int, int, int], channels: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]
) -> IntArray:
    """Flat numbers of a box of an image (channels, rows, columns), sorted."""
    planes = np.arange(*channels)[:, None, None] * shape[1]
    numbers: IntArray = ((planes + np.arange(*rows)[:, None]) * shape[2] + np.arange(*columns)).ravel()
    return numbers


def tiles(shape: tuple[int, int, int], size: tuple[int, int, int]) -> Iterator[Box]:
    """Boxes of at most `size` that cover an image, those of all channels of a patch one after the other."""

    def cut(axis: int) -> list[tuple[int, int]]:
        return [(at, min(at + size[axis], shape[axis])) for at in range(0, shape[axis], size[axis])]

    for rows in cut(1):
        for columns in cut(2):
            for channels in cut(0):
                yield Box(shape, channels, rows, columns)
