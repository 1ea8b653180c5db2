"""The operations that NIR has no primitive for: positions, attention, gates."""

from __future__ import annotations

from dataclasses import dataclass

from spikescr.sim.operations.base import FloatArray, Operation, Port, Role
from spikescr.sim.operations.synapses import ENTRIES


@dataclass(frozen=True, kw_only=True)
class Rotary(Operation):
    """Rotates interleaved pairs of each head by the position, the number of clock ticks before this one.

        y[2i]   = x[2i] cos[p, i] - x[2i+1] sin[p, i]
        y[2i+1] = x[2i] sin[p, i] + x[2i+1] cos[p, i]

    per head of 2 * cos.shape[1] channels; tables (steps, D/2). Without a tick the output is 0. Counts: spikes, sum
    of x; ac, 2 for each event (x VALUES: mac, 2 for each non-zero entry); entries, graded; synops and synops_graded, 2
    for each of them.
    """

    counts = ("spikes", "ac", "mac", *ENTRIES)
    role = Role.CURRENT
    parts = ("rotary",)
    by_channel = ()

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

    counts = ()
    role = Role.CURRENT
    parts = ()
    by_channel = ()

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

    Attributes:
        q: queries, spikes.
        k: keys, spikes.
        v: values, spikes.
        clock: ticks on the positions of the sample.
        heads: equal parts of the channels, each with a matrix of its own.
        scale: of the output.
        steps: T, of the window.
    """

    counts = ("spikes", "ac", "ac_quadratic")
    role = Role.CURRENT
    parts = ("attention",)
    by_channel = ()
    waits_for_window = True
    in_state = True

    q: Port
    k: Port
    v: Port
    clock: Port
    heads: int
    scale: float
    steps: int

    def longest_delay(self, port: str) -> int:
        """The window."""
        return self.steps


@dataclass(frozen=True, kw_only=True)
class Gate(Operation):
    """y = value where spike is 1, 0 where it is 0; a one-wide spike gates all channels.

    A `spike` other than 0 or 1 is an error. Counts: spikes, the sum of `spike` unless it is a clock.
    """

    counts = ("spikes",)
    role = Role.CURRENT
    parts = ()
    by_channel = ("value",)

    value: Port
    spike: Port
