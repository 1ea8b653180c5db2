"""Cuts an image of neurons into boxes, one for a core: a patch of it with all or some of its channels.

A convolution's neurons read the patch below them and a rim; its kernel is stored once on a core. Boxes are of one size.
A size costs the cores that it takes, and the cores' worth of output axons that its inputs ask of those who send them:
without the second, layers that split their channels would ask more and more of the layers before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from spikescr.sim.chip.parts import Box, tiles

Size = tuple[int, int, int]


class Needs(Protocol):
    """What a box uses of a core."""

    @property
    def input_axons(self) -> int:
        """Source neurons."""


Used = TypeVar("Used", bound=Needs)


def tiled(
    image: Size, most: int, axons: int, needs: Callable[[Box], Used], fits: Callable[[Used], bool]
) -> Iterator[Box]:
    """Boxes that cover an image, of the cheapest size of which all fit; of one neuron where none fits.

    Args:
        image: (channels, rows, columns).
        most: neurons of a core.
        axons: output axons of a core.
        needs: what a box uses of a core.
        fits: whether that is within the limits.
    """
    best, price = (1, 1, 1), float("inf")
    for cores, size in _sizes(image, most):
        if cores >= price:
            break
        used = needs(middle(image, size))
        if fits(used) and (cost := cores * (1 + used.input_axons / axons)) < price:  # noqa: SIM102
            if all(fits(needs(box)) for box in tiles(image, size)):
                best, price = size, cost
    return tiles(image, best)


def _sizes(image: Size, most: int) -> list[tuple[int, Size]]:
    """Sizes of boxes that differ in how many cover the image, of at most so many neurons: (how many, size), sorted."""
    channels, rows, columns = (sorted({-(-n // parts) for parts in range(1, n + 1)}) for n in image)
    found = []
    for c in channels:
        for h in rows:
            for w in columns:
                if c * h * w > most:
                    break
                count = -(-image[0] // c) * -(-image[1] // h) * -(-image[2] // w)
                found.append((count, (c, h, w)))
    return sorted(found, key=lambda each: (each[0], [-n for n in each[1]]))


def middle(image: Size, size: Size) -> Box:
    """The box in the middle: no other reads more."""
    spans = [((n - 1) // (2 * each) * each, each, n) for n, each in zip(image, size, strict=True)]
    channels, rows, columns = ((at, min(at + each, n)) for at, each, n in spans)
    return Box(image, channels, rows, columns)
