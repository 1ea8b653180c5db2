"""Operations that move signals and compute nothing: the ends of a graph, delays, routing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from spikescr.sim.operations.base import IntArray, Operation, Port, Role


@dataclass(frozen=True, kw_only=True)
class Source(Operation):
    """A graph input: puts out what the host gives it for this step.

    `unit`: in fixed point, the real value that one unit of a message stands for: y = x / unit, rounded, from -128 to
    127. Counts: saturated, entries that were beyond.
    """

    counts = ("saturated",)
    role = Role.HOST
    parts = ()
    by_channel = ()

    unit: float | None = None


@dataclass(frozen=True, kw_only=True)
class Sink(Operation):
    """A graph output: hands its input to the host, times `scale`, which is 1 but in fixed point. y = x."""

    counts = ()
    role = Role.HOST
    parts = ()
    by_channel = ("x",)

    x: Port
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class DelayLine(Operation):
    """y[t] = x[t - delay]; zero while t < delay."""

    counts = ()
    role = Role.DELAY
    parts = ()
    by_channel = ("x",)

    x: Port
    delay: int

    @property
    def sends_first(self) -> bool:
        """Where it delays at all."""
        return self.delay >= 1

    def longest_delay(self, port: str) -> int:
        """Its delay."""
        return self.delay


@dataclass(frozen=True, kw_only=True)
class ChannelDelay(Operation):
    """y[i][t] = x[i][t - delay[i]], channels with delays of their own, (width,); zero while t < delay[i]."""

    counts = ()
    role = Role.DELAY
    parts = ()
    by_channel = ("x",)

    x: Port
    delay: IntArray

    @property
    def sends_first(self) -> bool:
        """Where every channel is delayed."""
        return bool(np.min(self.delay) >= 1)

    def longest_delay(self, port: str) -> int:
        """That of the channel that waits longest."""
        return int(np.max(self.delay))


@dataclass(frozen=True, kw_only=True)
class Select(Operation):
    """Routing: y[i] = x[index[i]], 0 where index[i] is -1. Costs nothing.

    Where Selects join, each with zeros where the others have their channels, nothing is added: it is a concatenation.
    """

    counts = ()
    role = Role.ROUTING
    parts = ()
    by_channel = ()

    x: Port
    index: IntArray

    @cached_property
    def rearranges(self) -> bool:
        """Whether every channel of x is there once, so that as many events leave as arrive."""
        counts = np.bincount(self.index[self.index >= 0], minlength=self.x.width)
        return bool((counts == 1).all())
