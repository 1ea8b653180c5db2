"""Which channels of what feeds a layer its neurons hear: functions of the neurons on a core."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from spikescr.sim.chip.parts import Box, Part, Range, flat
from spikescr.sim.program import Convolution, IntArray

Channels = Callable[[Part], IntArray]  # neurons -> channels that they hear, sorted, each once


def heard(channel: IntArray, first: int) -> Channels:
    """Channels of neurons [first, first + len(channel)), -1 where a neuron hears none."""

    def channels(part: Part) -> IntArray:
        assert isinstance(part, Range)  # relays form no image
        of_part = channel[max(part.start - first, 0) : max(part.stop - first, 0)]
        return np.unique(of_part[of_part >= 0])

    return channels


def single(part: Part) -> IntArray:
    """The one channel of a clock or a gate."""
    return np.zeros(1, np.int64)


def same(part: Part) -> IntArray:
    """Each its own."""
    return part.numbers


def rounded(part: Part, of: int, each: int | None = None) -> IntArray:
    """The channels of all groups of `of` neurons that a range touches, `each` channels of a group."""
    assert isinstance(part, Range)  # who reads groups forms no image
    each = of if each is None else each
    return np.arange(part.start // of * each, -(-part.stop // of) * each)


def strided(part: Part, width: int, fan: int) -> IntArray:
    """The neurons' channels of each of `fan` operands, one operand after the other."""
    channels: IntArray = (part.numbers + width * np.arange(fan)[:, None]).ravel()
    return channels


def seen_by(operation: Convolution) -> Channels:
    """Inputs that outputs read, flat: of a box those below it, of a range whole rows, hence at most too many."""
    out, inside, *kernel = operation.weight.shape
    _, out_height, out_columns = operation.out_shape
    per_group = out // operation.groups
    whole = tuple((0, size) for size in operation.in_shape[1:])

    def reads(first: int, last: int, axis: int) -> tuple[int, int]:
        """Rows or columns that outputs first to last read."""
        stride, padding, dilation = operation.stride[axis], operation.padding[axis], operation.dilation[axis]
        below = min(last * stride + (kernel[axis] - 1) * dilation - padding + 1, operation.in_shape[axis + 1])
        above = min(max(first * stride - padding, 0), operation.in_shape[axis + 1])
        return above, max(above, below)

    @lru_cache(maxsize=64)  # cores one after the other hear the same
    def seen(channels: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]) -> IntArray:
        groups = (channels[0] // per_group * inside, ((channels[1] - 1) // per_group + 1) * inside)
        return flat(operation.in_shape, groups, rows, columns)

    def channels(part: Part) -> IntArray:
        if isinstance(part, Box):
            (top, bottom), (left, right) = part.rows, part.columns
            return seen(part.channels, reads(top, bottom - 1, 0), reads(left, right - 1, 1))
        first, last = (number // (out_height * out_columns) for number in (part.start, part.stop - 1))
        rows = whole[0]
        if first == last:
            top, bottom = (number // out_columns % out_height for number in (part.start, part.stop - 1))
            rows = reads(top, bottom, 0)
        return seen((first, last + 1), rows, whole[1])

    return channels
