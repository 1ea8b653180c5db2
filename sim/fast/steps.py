"""What an evaluation step by step holds; convolutions, delays by channel and neurons that do not fire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikescr.errors import BackendError
from spikescr.sim.fast.kernels.convolution import convolve_values
from spikescr.sim.fast.plan import KIND, Plan
from spikescr.sim.fast.signals import Rows
from spikescr.sim.program import (
    ChannelDelay,
    Convolution,
    DelayLine,
    IntArray,
    Integrator,
    Neuron,
    Operation,
    Port,
    Program,
    Signal,
    Sink,
)
from spikescr.sim.recording import KINDS, Ledger

Array = NDArray[Any]
Step = Callable[[int], Array]


class Steps:
    """One batch in evaluation; `now` holds what every operation put out in the step that runs, (B, N)."""

    def __init__(self, plan: Plan, samples: int, *, spikes: bool, membranes: bool) -> None:
        self.plan = plan
        self.program: Program = plan.program
        self.dtype = plan.dtype
        self.samples = samples
        names = tuple(o.name for o in self.program.operations)
        self.ledger = Ledger(names, np.zeros((len(names), len(KINDS), self.program.period, samples), np.int64))
        self.counts = dict(zip(names, self.ledger.table, strict=True))
        self.now: dict[str, Array] = {}
        self.valid: IntArray = np.full(samples, self.program.steps)
        self.spikes = {o.name: self._record(o, np.bool_) for o in self.program.of_type(Neuron)} if spikes else {}
        kept = [o for o in self.program.operations if o.has_membrane]
        self.membranes = {o.name: self._record(o, np.float64) for o in kept} if membranes else {}
        self.sinks = {o.name: self._record(o, np.float64) for o in self.program.of_type(Sink)}

    def _standard(self, operation: ChannelDelay | Convolution | Integrator) -> Step:
        match operation:
            case ChannelDelay():
                return self._channel_delay(operation)
            case Convolution():
                return self._convolution(operation)
            case Integrator():
                return self._integrator(operation)

    def _record(self, operation: Operation, dtype: Any) -> Array:
        return np.zeros((self.program.period, self.samples, operation.width), dtype)

    def _zeros(self, *shape: int, depth: int | None = None) -> Array:
        return np.zeros((self.samples, *shape) if depth is None else (depth, self.samples, *shape), self.dtype)

    def _port(self, port: Port) -> Array:
        first, *others = port.sources
        total = self.now[first]
        for name in others:
            total = total + self.now[name]
        return total

    def _count_updates(self, operation: Neuron | Integrator, n: int) -> None:
        first = operation.latency
        inside = True if first is None else (first <= n) & (n < first + self.valid)
        self.counts[operation.name][KIND["neuron"], n] = np.where(inside, operation.width, 0)

    def _integrator(self, operation: Integrator) -> Step:
        name, v = operation.name, self._zeros(operation.width)
        decay, gain, drive = self.plan.sums[name]

        def step(n: int) -> Array:
            v[:] = v * decay + gain * self._port(operation.x) + drive
            check_finite(v, name, n)
            if name in self.membranes:
                self.membranes[name][n] = v
            if not operation.current:
                self._count_updates(operation, n)
            return v.copy()

        return step

    def _channel_delay(self, line: ChannelDelay) -> Step:
        past = self._zeros(line.width, depth=int(line.delay.max()) + 1)

        def step(n: int) -> Array:
            past[n % len(past)] = self._port(line.x)
            return read(past, n, line)

        return step

    def _convolution(self, operation: Convolution) -> Step:
        """One step as the window that the kernels take: a row of each sample, at step 0."""
        kernel, spikes = self.plan.kernels[operation.name], operation.x.signal is not Signal.VALUES
        rows = Rows.between(np.zeros(self.samples, np.int64), np.ones(self.samples, np.int64)).arrays
        numbers = (kernel.weight, kernel.bias, kernel.shapes, kernel.walk, kernel.fan_out)

        def step(n: int) -> Array:
            x, y = np.ascontiguousarray(self._port(operation.x)), self._zeros(operation.width)
            counts = np.zeros((len(KINDS), 1, self.samples), np.int64)
            convolve_values(y, rows, x, rows, *numbers, counts, KIND["mac"])
            self.counts[operation.name][:, n] = counts[:, 0]
            if spikes:  # the kernel has counted entries
                self.counts[operation.name][KIND["spikes"], n] = events(x, operation.x.signal)
                self.counts[operation.name][KIND["ac"], n] = x.astype(np.int64) @ kernel.fan_out
                self.counts[operation.name][KIND["mac"], n] = 0
            if operation.bias is not None:
                self.counts[operation.name][KIND["bias"], n] = operation.width
            return y

        return step


def tally(x: Array) -> tuple[IntArray, IntArray]:
    """Non-zero entries of each sample of x (B, N), and those of them that are not 1."""
    live = x != 0
    return np.count_nonzero(live, axis=1), np.count_nonzero(live & (x != 1), axis=1)


def read(line: Array, n: int, delay: DelayLine | ChannelDelay) -> Array:
    """What a line of past steps, step n in row n % depth, gives at step n."""
    depth = len(line)
    if isinstance(delay, DelayLine):
        return line[(n - delay.delay) % depth].copy()
    return np.ascontiguousarray(line[(n - delay.delay) % depth, :, np.arange(delay.width)].T)


def check_finite(v: Array, name: str, n: int) -> None:
    """Raises BackendError for a membrane (B, N) that is not finite."""
    if not np.isfinite(v).all():
        sample, channel = np.argwhere(~np.isfinite(v))[0]
        raise BackendError(
            f"fast: {name} at step {n}: membrane of channel {channel}, sample {sample} is {v[sample, channel]}"
        )


def events(x: Array, signal: Signal) -> IntArray:
    """Events of each sample: the sum of x (B, N), an integer n being n events; non-zero entries of VALUES."""
    if signal is Signal.VALUES:
        return np.count_nonzero(x, axis=1)
    return x.sum(axis=1).astype(np.int64)
