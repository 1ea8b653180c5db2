"""Weighted connections: over time where they have several taps, and shared over space."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from spikescr.sim.operations.base import FloatArray, IntArray, Operation, Port, Role, Signal

ENTRIES = ("entries", "graded", "synops", "synops_graded")


@dataclass(frozen=True)
class Tap:
    """One tap of a kernel over time: `delay` steps, then weights (out, in), or (n,) where channels do not mix."""

    delay: int
    weight: FloatArray


@dataclass(frozen=True, kw_only=True)
class Synapse(Operation):
    """Weighted connection, over time where it has several taps: y[t] = sum_k W_k x[t - delay_k] + bias * clock[t].

    A weight of 0 is no synapse (a tap holds the synapses of one delay, and zeros where others have theirs): nothing is
    accumulated there and nothing counted.

    Counts: spikes, sum of x[t] (events arriving; non-zero entries for VALUES). x SPIKES: ac[t] = sum over taps k and
    channels i of fan_out_ki * x_i[t - delay_k]; x VALUES: the same with non-zero entries, as mac. A CLOCK input is bias
    additions. bias: the width for every tick, or every step
    without a clock. discarded: the ac of the steps without a tick, where gated. entries,
    graded: of x[t], SPIKES or VALUES; synops and synops_graded from them as ac from events; synops_discarded as
    discarded.

    Attributes:
        x: what arrives.
        taps: kernel over time, one of each delay.
        bias: (width,); without a clock it is added at every step.
        clock: there where the bias has one or `gated` is true.
        gated: all of the output goes through gates that this same clock opens: what is accumulated while it does not
            tick is discarded.
        origin: what the bias was in the trained network, of "bias" and "batch_norm".
    """

    counts = ("spikes", "ac", "mac", "discarded", "bias", *ENTRIES, "synops_discarded")
    role = Role.CURRENT
    parts = ("synapse", "bias", "normalisation")
    by_channel = ()

    x: Port
    taps: tuple[Tap, ...]
    bias: FloatArray | None = None
    clock: Port | None = None
    gated: bool = False
    origin: tuple[str, ...] = ()

    def longest_delay(self, port: str) -> int:
        """That of the last tap; the clock meets no taps."""
        return max(tap.delay for tap in self.taps) if port == "x" else 0

    @cached_property
    def fan_outs(self) -> IntArray:
        """Synapses that one event of each channel reaches by each tap, (taps, in); of a clock, all additions."""
        weights = [np.atleast_2d(tap.weight) for tap in self.taps]
        live = [np.full(w.shape, self.x.signal is Signal.CLOCK) | (w != 0) for w in weights]
        return np.stack([reached.sum(axis=0) for reached in live]).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Convolution(Operation):
    """Weights shared over space, without a matrix: channels x rows x columns, flat in this order (C order).

        y[o, i, j] = sum over c, k, l of W[o, c, k, l] x[g(o) + c, i s0 + k d0 - p0, j s1 + l d1 - p1] + bias[o]

    g(o) is the first input channel of o's group; what is read beyond the edge is 0. One dimension is one row. A pool is
    a convolution with one channel in each group: its weights are 1, or 1 over the size of the window for an average.

    Each sum is taken in the order of the inputs' flat indices, zeros left out or not, so that any two backends give
    the same float64 numbers. Counts: spikes, sum of x (non-zero entries for VALUES); ac, or mac for VALUES, every event
    times the weights that it meets: padding is no synapse, an event at the edge has fewer, and a
    weight of 0 is none. entries, graded, synops and
    synops_graded likewise. bias: the width at each step.

    Attributes:
        x: what arrives.
        weight: (out channels, in channels of a group, rows, columns).
        in_shape: (channels, rows, columns).
        out_shape: (channels, rows, columns).
        stride: s, rows and columns.
        padding: p, before the first row and column.
        dilation: d, rows and columns.
        groups: of channels, which do not mix.
        bias: (out channels,), added at every step.
    """

    counts = ("spikes", "ac", "mac", "bias", *ENTRIES)
    role = Role.CURRENT
    parts = ("synapse", "bias")
    by_channel = ()

    x: Port
    weight: FloatArray
    in_shape: tuple[int, int, int]
    out_shape: tuple[int, int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    bias: FloatArray | None = None

    @cached_property
    def fan_out(self) -> IntArray:
        """Synapses that an event of each input reaches, (in width,): weights other than 0 at places that read it."""
        out, inside, *kernel = self.weight.shape
        live = (self.weight != 0).reshape(self.groups, out // self.groups, inside, *kernel).sum(axis=1)
        covering: list[IntArray] = []  # (place in the kernel, input): how often the one reads the other
        for axis in (0, 1):
            places, taps = np.arange(self.out_shape[axis + 1]), np.arange(kernel[axis])
            read = places[:, None] * self.stride[axis] + taps * self.dilation[axis] - self.padding[axis]
            covering.append((read[..., None] == np.arange(self.in_shape[axis + 1])).sum(axis=0))
        reached: IntArray = np.einsum("gckm,ky,mx->gcyx", live, *covering)
        return reached.ravel()
