"""The Program: what both backends execute, a list of operations in topological order.

Every operation has one output of shape (B, width) per step and reads the outputs of earlier operations of the
same step (delays and neurons keep state between steps). Cycles: only a DelayLine or a ChannelDelay whose delays are all
at least one step may read operations that come after it in the list, since it puts out a step before it takes one in.
A *port* is the sum of the outputs of its sources, as edges that join in NIR are. Nothing here computes; `sim.lower`
makes Programs, the backends run them.

Steps are counted from 0, the step in which the sources put out the first bin of a sample. An operation with latency
d shows the sample's step t at executed step t + d. Before a sample all state is zero (membranes, delay lines,
attention states, clock counts).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
AnyOperation = TypeVar("AnyOperation", bound="Operation")


WRAP = 2**23
"""In fixed point currents wrap around beyond it and membranes end one below it."""
INT32 = 2**31
"""Before that, currents wrap around from here on, for Lava has them in int32."""


class Signal(Enum):
    """What an output carries; it decides whether a synapse accumulates or multiplies."""

    CLOCK = "clock"  # 1 on the valid steps of a sample, else 0
    SPIKES = "spikes"  # non-negative integers: n is n events
    VALUES = "values"  # real numbers


@dataclass(frozen=True)
class Port:
    """The sum of the outputs of operations `sources` (names); width and signal are those of the sum."""

    sources: tuple[str, ...]
    width: int
    signal: Signal


@dataclass(frozen=True, kw_only=True)
class Operation:
    """Common to all: name (NIR node, or common prefix of fused nodes), output width and signal.

    `latency` is the delay of the output against the graph's inputs in steps, None where the graph does not tell.
    """

    name: str
    width: int
    signal: Signal
    latency: int | None = None

    @property
    def ports(self) -> dict[str, Port]:
        """The input ports by name, in the order in which they are declared."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: port for name, port in found.items() if isinstance(port, Port)}


@dataclass(frozen=True, kw_only=True)
class Source(Operation):
    """A graph input: puts out what the host gives it for this step.

    `unit`: in fixed point, the real value that one unit of a message stands for: y = x / unit, rounded, from -128 to
    127. Counts: saturated, entries that were beyond.
    """

    unit: float | None = None


@dataclass(frozen=True, kw_only=True)
class Sink(Operation):
    """A graph output: hands its input to the host, times `scale`, which is 1 but in fixed point. y = x."""

    x: Port
    scale: float = 1.0


@dataclass(frozen=True)
class Tap:
    """One tap of a kernel over time: `delay` steps, then weights (out, in), or (n,) where channels do not mix."""

    delay: int
    weight: FloatArray


@dataclass(frozen=True, kw_only=True)
class Synapse(Operation):
    """Weighted connection, over time where it has several taps: y[t] = sum_k W_k x[t - delay_k] + bias * clock[t].

    A bias without a clock is added at every step. `clock` is there where the bias has one or `gated` is true. `gated`
    says that all of the output goes through gates that this same clock opens: what is accumulated while it does not
    tick is discarded. `origin`: what the bias was in the trained network, of "bias" and "batch_norm".

    A weight of 0 is no synapse (a tap holds the synapses of one delay, and zeros where others have theirs): nothing is
    accumulated there and nothing counted.

    Counts: spikes, sum of x[t] (events arriving; non-zero entries for VALUES). x SPIKES: ac[t] = sum over taps k and
    channels i of fan_out_ki * x_i[t - delay_k]; x VALUES: the same with non-zero entries, as mac. A CLOCK input is bias
    additions. bias: the width for every tick, or every step
    without a clock. discarded: the ac of the steps without a tick, where gated. entries,
    graded: of x[t], SPIKES or VALUES; synops and synops_graded from them as ac from events; synops_discarded as
    discarded.
    """

    x: Port
    taps: tuple[Tap, ...]
    bias: FloatArray | None = None
    clock: Port | None = None
    gated: bool = False
    origin: tuple[str, ...] = ()

    @cached_property
    def fan_outs(self) -> IntArray:
        """Synapses that one event of each channel reaches by each tap, (taps, in); of a clock, all additions."""
        weights = [np.atleast_2d(tap.weight) for tap in self.taps]
        live = [np.full(w.shape, self.x.signal is Signal.CLOCK) | (w != 0) for w in weights]
        return np.stack([reached.sum(axis=0) for reached in live]).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class DelayLine(Operation):
    """y[t] = x[t - delay]; zero while t < delay."""

    x: Port
    delay: int


@dataclass(frozen=True, kw_only=True)
class ChannelDelay(Operation):
    """y[i][t] = x[i][t - delay[i]], channels with delays of their own, (width,); zero while t < delay[i]."""

    x: Port
    delay: IntArray


@dataclass(frozen=True, kw_only=True)
class Convolution(Operation):
    """Weights shared over space, without a matrix: channels x rows x columns, flat in this order (C order).

        y[o, i, j] = sum over c, k, l of W[o, c, k, l] x[g(o) + c, i s0 + k d0 - p0, j s1 + l d1 - p1] + bias[o]

    s stride, d dilation, p padding before the first row and column; g(o) the first input channel of o's group; what is
    read beyond the edge is 0. The bias is added at every step. One dimension is one row. A pool is a convolution with
    one channel in each group: its weights are 1, or 1 over the size of the window for an average.

    weight: (out channels, in channels of a group, rows, columns). in_shape, out_shape: (channels, rows, columns).

    Each sum is taken in the order of the inputs' flat indices, zeros left out or not, so that any two backends give
    the same float64 numbers. Counts: spikes, sum of x (non-zero entries for VALUES); ac, or mac for VALUES, every event
    times the weights that it meets: padding is no synapse, an event at the edge has fewer, and a
    weight of 0 is none. entries, graded, synops and
    synops_graded likewise. bias: the width at each step.
    """

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


@dataclass(frozen=True, kw_only=True)
class Select(Operation):
    """Routing: y[i] = x[index[i]], 0 where index[i] is -1. Costs nothing."""

    x: Port
    index: IntArray


@dataclass(frozen=True, kw_only=True)
class Neuron(Operation):
    """LIF by forward Euler, NIR's order: update, compare, reset. All parameters have shape (width,).

        v = v * decay + gain * x + drive;  s = v > threshold;  v = v_reset where s

    decay = 1 - dt/tau, gain = r dt/tau, drive = v_leak dt/tau, or as `sim.neurons` tells for other neurons. With a
    `soft` reset v = v - threshold where s, and v_reset is not used. Counts: fired, spikes put out; neuron, the width
    for every step of the sample's window at this latency (every step where the latency is None). A membrane that is not
    finite is an error: NaN would pass for a quiet neuron.
    """

    x: Port
    decay: FloatArray
    gain: FloatArray
    drive: FloatArray
    threshold: FloatArray
    v_reset: FloatArray
    soft: bool = False


@dataclass(frozen=True, kw_only=True)
class FixedNeuron(Neuron):
    """A LIF in integers, as Lava's `PyLifModelBitAcc` computes it; the input x in units.

        u = trunc(u * current_decay) + 64 x, wrapped into 24 bits: beyond 2^23 less 2^24, from -2^23 down more 2^24
        v = trunc(v * decay) + u + drive, cut to +-(2^23 - 1);  s = v > threshold;  v = 0 where s

    current_decay, decay: multiples of 1 / 4096. gain: 64. drive: the bias, shifted. threshold: 64 times the register.
    Counts: as of a Neuron; saturated, currents that wrapped and membranes that were cut.
    """

    current_decay: FloatArray


@dataclass(frozen=True, kw_only=True)
class Integrator(Operation):
    """A leaky sum that does not fire: v = v * decay + gain * x + drive; y = v. All parameters have shape (width,).

    `current`: it is the synaptic current of the neuron that reads it. Counts: neuron, the width for every step of the
    sample's window as for a Neuron, nothing for a current, whose update is part of its neuron's. A sum that is not
    finite is an error.
    """

    x: Port
    decay: FloatArray
    gain: FloatArray
    drive: FloatArray
    current: bool = False


@dataclass(frozen=True, kw_only=True)
class Rotary(Operation):
    """Rotates interleaved pairs of each head by the position, the number of clock ticks before this one.

        y[2i]   = x[2i] cos[p, i] - x[2i+1] sin[p, i]
        y[2i+1] = x[2i] sin[p, i] + x[2i+1] cos[p, i]

    per head of 2 * cos.shape[1] channels; tables (steps, D/2). Without a tick the output is 0. Counts: spikes, sum
    of x; ac, 2 for each event (x VALUES: mac, 2 for each non-zero entry); entries, graded; synops and synops_graded, 2
    for each of them.
    """

    x: Port
    clock: Port
    heads: int
    cos: FloatArray
    sin: FloatArray


@dataclass(frozen=True, kw_only=True)
class Position(Operation):
    """y = table[p], p being the number of clock ticks before this one; without a tick 0. Latency that of the clock.

    table: (steps, width). Real values that join others' spikes: what reads the sum multiplies. Nothing is counted: the
    sum is made where edges join, as a residual's.
    """

    clock: Port
    table: FloatArray


@dataclass(frozen=True, kw_only=True)
class Attention(Operation):
    """Spiking attention without softmax, in the order Q (K^T V); latency `steps`, T.

    At executed step n, while the clock ticks: A[h] += k[h] v[h]^T, and q[n] is stored. Output at step n: scale *
    q[n - T][h] A[h], for n >= T after the first tick; 0 before.

    Counts: spikes, sum of q, k, v; ac, while writing nnz(k) nnz(v) per head and step, while reading nnz(q) D per head;
    ac_quadratic, at the step in which position t is read, what (Q K^T) V costs for it by the same rules: the
    coincidences of q[t] with the k of all positions, and one accumulation of an entry of Q K^T for every spike of v.
    """

    q: Port
    k: Port
    v: Port
    clock: Port
    heads: int
    scale: float
    steps: int


@dataclass(frozen=True, kw_only=True)
class Gate(Operation):
    """y = value where spike is 1, 0 where it is 0; a one-wide spike gates all channels.

    A `spike` other than 0 or 1 is an error. Counts: spikes, the sum of `spike` unless it is a clock.
    """

    value: Port
    spike: Port


@dataclass(frozen=True)
class Program:
    """Operations in topological order, the window and the step.

    steps: T, the window of a sample in steps. dt: seconds. period: steps until all is quiet again after a sample's
    first step, the longest path through delays included; or steps where these were given instead of a window. At most
    one Source is a clock. metadata: the graph's own, as read. notes: what lowering decided and the graph does not say,
    one line each.
    """

    operations: tuple[Operation, ...]
    steps: int
    dt: float
    period: int
    metadata: dict[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Operation:
        for operation in self.operations:
            if operation.name == name:
                return operation
        raise KeyError(name)

    @property
    def fixed(self) -> bool:
        """Whether its numbers are integers, in fixed point."""
        return bool(self.of_type(FixedNeuron))

    @property
    def cyclic(self) -> bool:
        """Whether an operation reads one that comes after it."""
        seen: set[str] = set()
        for operation in self.operations:
            seen.add(operation.name)
            if any(source not in seen for port in operation.ports.values() for source in port.sources):
                return True
        return False

    def of_type(self, kind: type[AnyOperation]) -> tuple[AnyOperation, ...]:
        """The operations of one type, in order."""
        return tuple(o for o in self.operations if isinstance(o, kind))
