"""Steps that move signals: delays, routing, gates, maxima."""

from __future__ import annotations

import numpy as np

from spikescr.sim.program import ChannelDelay, DelayLine, Gate, Maximum, Select, Signal
from spikescr.sim.steps.base import Array, Step


class DelayLineStep(Step):
    """y[t] = x[t - delay]; `line` holds the last `delay` + 1 inputs, step n in row n % depth."""

    operation: DelayLine

    def reset(self) -> None:
        """A row that is not written yet is zero."""
        self.line = self.zeros(self.operation.delay + 1, self.samples, self.operation.width)

    def put_out(self, n: int) -> Array:
        """What arrived `delay` steps ago."""
        out: Array = self.line[(n - self.operation.delay) % len(self.line)]
        return out

    def __call__(self, n: int, *arriving: Array) -> Array:
        """Keeps what arrives."""
        self.line[n % len(self.line)] = arriving[0]
        return self.put_out(n)


class ChannelDelayStep(Step):
    """y[i][t] = x[i][t - delay[i]]; `line` as of a DelayLine, of the channel that waits longest."""

    operation: ChannelDelay

    def prepare(self) -> None:
        """Numbers the channels."""
        self.channels = np.arange(self.operation.width)

    def reset(self) -> None:
        """A row that is not written yet is zero."""
        self.line = self.zeros(int(self.operation.delay.max()) + 1, self.samples, self.operation.width)

    def put_out(self, n: int) -> Array:
        """What arrived at each channel its delay ago."""
        return np.ascontiguousarray(self.line[(n - self.operation.delay) % len(self.line), :, self.channels].T)

    def __call__(self, n: int, *arriving: Array) -> Array:
        """Keeps what arrives."""
        self.line[n % len(self.line)] = arriving[0]
        return self.put_out(n)


class SelectStep(Step):
    """y[i] = x[index[i]], 0 where index[i] is -1."""

    operation: Select

    def prepare(self) -> None:
        """Which channels have a source, and where it is."""
        self.wired = np.flatnonzero(self.operation.index >= 0)
        self.origin = self.operation.index[self.wired]
        self.out = self.zeros(self.samples, self.operation.width)

    def __call__(self, n: int, *arriving: Array) -> Array:
        """Hands on."""
        self.out[:, self.wired] = arriving[0][:, self.origin]
        return self.out


class MaximumStep(Step):
    """y[i] = the largest of x[i], x[N + i], .. x[(fan - 1) N + i]."""

    operation: Maximum

    def __call__(self, n: int, *arriving: Array) -> Array:
        """Compares."""
        y: Array = arriving[0].reshape(self.samples, self.operation.fan, self.operation.width).max(axis=1)
        return y


class GateStep(Step):
    """y = value where spike is 1, 0 where it is 0, or the other way about."""

    operation: Gate

    def __call__(self, n: int, *arriving: Array) -> Array:
        """Refuses a spike that is neither."""
        value, spike = arriving
        on = spike == 1
        strange = spike[~(on | (spike == 0))]
        if strange.size:
            raise ValueError(f"a gate opens on 1 and closes on 0, got {strange[0]:g}")
        if self.operation.spike.signal is not Signal.CLOCK:
            self.counts = {"spikes": on.sum(axis=1)}
        return np.where(on != self.operation.inverted, value, self.dtype.type(0))
