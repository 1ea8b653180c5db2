"""Pools over one or two axes as windows of (C, H, W)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikescr.export.record.step import Node

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """A pool over (height, width), both of height 1 where it has one axis.

    Attributes:
        reads: shape of what it reads, (C, H, W).
        size, stride, padding, dilation: of the window.
        out: height and width of what it puts out.
        after: zeros needed below and to the right of what it reads beyond `padding`, where it was rounded up.
    """

    reads: tuple[int, int, int]
    size: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    out: Pair
    after: Pair

    @property
    def plain(self) -> bool:
        """Whether it is a pool of NIR as it stands."""
        return self.dilation == (1, 1) and not any(self.after)

    def places(self, axis: int) -> NDArray[np.int64]:
        """Rows (0) or columns (1) that each window reads, (out, size); beyond the edge where it reads no input."""
        starts = np.arange(self.out[axis]) * self.stride[axis] - self.padding[axis]
        return starts[:, None] + np.arange(self.size[axis]) * self.dilation[axis]


def plane(node: Node) -> Window | None:
    """The window of a pool; None where it has three axes."""
    channels, *space = node.operands[0].shape
    if len(space) > 2:
        return None
    one = (1,) * (2 - len(space))

    def pair(name: str, default: int) -> Pair:
        given = node.options.get(name, default)
        values = tuple(given) if isinstance(given, (tuple, list)) else (given,) * len(space)
        first, second = (*((default,) * len(one)), *(int(v) for v in values))
        return first, second

    height, width = (*one, *space)
    size, stride, padding, dilation = pair("window", 1), pair("stride", 1), pair("padding", 0), pair("dilation", 1)
    out, after = [], []
    for n, k, s, p, d in zip((height, width), size, stride, padding, dilation, strict=True):
        room = n + 2 * p - d * (k - 1) - 1
        count = room // s + 1
        if node.options.get("ceil") and room % s and count * s < n + p:  # a window must start within the input
            count += 1
        out.append(count)
        after.append(max(0, (count - 1) * s + d * (k - 1) + 1 - (n + 2 * p)))
    return Window((channels, height, width), size, stride, padding, dilation, (out[0], out[1]), (after[0], after[1]))


def counted(node: Node, window: Window) -> NDArray[np.float64]:
    """What each window of an average divides by, (height, width) of the output."""
    if node.options.get("divisor"):
        return np.full(window.out, float(node.options["divisor"]))
    counts = []
    for axis in (0, 1):
        places = window.places(axis)
        length = window.reads[1 + axis]
        padding = window.padding[axis] if node.options["count_padding"] else 0
        counts.append(((places >= -padding) & (places < length + padding)).sum(axis=1))
    by_place: NDArray[np.float64] = np.outer(*counts).astype(np.float64)
    return by_place
