"""The operations that NIR has no primitive for: positions, attention, gates, maxima."""

from __future__ import annotations

from dataclasses import dataclass

from spikescr.sim.operations.base import FloatArray, Operation, Port, Role, Signal
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
class CausalAttention(Operation):
    """Spiking attention without softmax to what came until now, in the order Q (K^T V); nothing waits.

    While the clock ticks, for each head h: A[h] += k[h] v[h]^T, then y[h] = scale * q[h] A[h], A of this step's key
    and value too: y[t] = scale * sum over u <= t of (q[t] k[u]) v[u]. Without a tick the output is 0.

    Counts: spikes, sum of q, k, v; ac, at a step that ticks nnz(k) nnz(v) per head for writing, nnz(q) D per head for
    reading; ac_quadratic, what row t of (Q K^T) V costs by the same rules if only its first t + 1 entries are taken:
    the coincidences of q[t] with the k of the positions up to t, and one accumulation of an entry of Q K^T for every
    spike of v there.

    Attributes:
        q: queries, spikes.
        k: keys, spikes.
        v: values, spikes.
        clock: ticks on the positions of the sample.
        heads: equal parts of the channels, each with a matrix of its own.
        scale: of the output.
    """

    counts = ("spikes", "ac", "ac_quadratic")
    role = Role.CURRENT
    parts = ("attention",)
    by_channel = ()
    in_state = True

    q: Port
    k: Port
    v: Port
    clock: Port
    heads: int
    scale: float


@dataclass(frozen=True, kw_only=True)
class TokenAttention(Operation):
    """Spiking attention without softmax over the tokens of one step, for each head: y = scale * (Q K^T) V.

    q and k are (heads, tokens, depth) in C order and carry events, v is (heads, tokens, depth of v). Events are whole
    numbers and their products exact, so that Q (K^T V) is the same: `by_scores` tells which of the two is executed.

    Counts, n tokens, D the depth of v: spikes, sum of q, k, v (non-zero entries of a v of VALUES). In the order
    Q (K^T V) ac: nnz(k) nnz(v) for each token, nnz(q) D. In the order (Q K^T) V ac: the coincidences of q and k, and
    n nnz(v), which is mac where v carries VALUES. ac_quadratic: the ac of the order (Q K^T) V, whichever was executed.
    entries: nnz(q), and nnz(v) where v carries SPIKES; synops, n for each of them.

    Attributes:
        q: queries, spikes.
        k: keys, spikes.
        v: values, spikes or real numbers.
        heads: which do not mix.
        tokens: of each head.
        scale: of the output.
    """

    counts = ("spikes", "ac", "mac", "ac_quadratic", "entries", "synops")
    role = Role.CURRENT
    parts = ("attention",)
    by_channel = ()
    in_state = True

    q: Port
    k: Port
    v: Port
    heads: int
    tokens: int
    scale: float

    @property
    def depth(self) -> int:
        """Channels of a token of q and k in a head."""
        return self.q.width // (self.heads * self.tokens)

    @property
    def value_depth(self) -> int:
        """Channels of a token of v and of the output in a head."""
        return self.width // (self.heads * self.tokens)

    @property
    def by_scores(self) -> bool:
        """Whether Q K^T, tokens x tokens, is executed first: where that is less work if every entry were 1.

        Where v carries real numbers it always is, so that no matrix of real numbers is kept.
        """
        n, depth, values = self.tokens, self.depth, self.value_depth
        return self.v.signal is Signal.VALUES or n * (depth + values) <= 2 * depth * values


@dataclass(frozen=True, kw_only=True)
class Maximum(Operation):
    """y[i] = the largest of x[i], x[N + i], .. x[(fan - 1) N + i], N the width. Comparisons are not counted."""

    counts = ()
    role = Role.CURRENT
    parts = ()
    by_channel = ()

    x: Port
    fan: int


@dataclass(frozen=True, kw_only=True)
class Gate(Operation):
    """y = value where spike is 1, 0 where it is 0; a one-wide spike gates all channels.

    `inverted`: 0 and 1 change places. A `spike` other than 0 or 1 is an error. Counts: spikes, the sum of `spike`
    unless it is a clock.
    """

    counts = ("spikes",)
    role = Role.CURRENT
    parts = ()
    by_channel = ("value",)

    value: Port
    spike: Port
    inverted: bool = False
