"""Step-by-step interpreter of Programs, one sample, float64: the readable meaning of `sim.program`.

Written from the docstrings of `spikescr.sim.program` alone, with none of the backends' code. Every operation keeps all
that it ever received, so that its output at step n can be read off the definition; nothing is updated in place but
membranes and attention's matrix. Operations are evaluated in the order of the Program; a DelayLine with a delay reads
only earlier steps and may stand before what it reads.

Axes: P executed steps, B samples, N channels.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from spikescr.sim.program import (
    Attention,
    CausalAttention,
    ChannelDelay,
    Convolution,
    DelayLine,
    FixedNeuron,
    Gate,
    Integrator,
    Maximum,
    Neuron,
    Operation,
    Port,
    Position,
    Program,
    Rotary,
    Select,
    Signal,
    Sink,
    Source,
    Synapse,
    TokenAttention,
)
from spikescr.sim.recording import KINDS, Ledger, Recording


class InterpreterBackend:
    """The interpreter behind the protocol of the backends."""

    def __init__(self, program: Program, batch: int, *, record_membranes: bool = False) -> None:
        self.program = program
        self.batch = batch

    def run(self, inputs: Mapping[str, np.ndarray]) -> Recording:
        """One sample after the other; inputs: source -> (T, B, width)."""
        samples = next(iter(inputs.values())).shape[1]
        parts = [_Sample(self.program, {k: x[:, b] for k, x in inputs.items()}) for b in range(samples)]

        def stacked(of: Callable[["_Sample"], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
            return {name: np.stack([of(part)[name] for part in parts], axis=1) for name in of(parts[0])}

        table = np.stack([part.counts for part in parts], axis=-1)
        return Recording(
            spikes=stacked(lambda p: {o.name: p.y[o.name] == 1 for o in self.program.of_type(Neuron)}),
            membranes=stacked(lambda p: p.membranes),
            outputs=stacked(lambda p: {o.name: p.y[o.name] for o in self.program.of_type(Sink)}),
            counts=Ledger(tuple(o.name for o in self.program.operations), table),
        )

    def close(self) -> None:
        """Nothing to end."""

    def __enter__(self) -> "InterpreterBackend":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Sample:
    """y: operation -> (P, N). counts: (operations, kinds, P)."""

    def __init__(self, program: Program, inputs: Mapping[str, np.ndarray]) -> None:
        self.program = program
        self.inputs = inputs
        P = program.period
        clocks = [inputs[o.name] for o in program.of_type(Source) if o.signal is Signal.CLOCK]
        self.valid = int(clocks[-1].sum()) if clocks else program.steps
        self.y = {o.name: np.zeros((P, o.width)) for o in program.operations}
        leaky = [*program.of_type(Neuron), *(o for o in program.of_type(Integrator) if not o.current)]
        self.currents: dict[str, tuple[list[int], list[int]]] = {}  # of neurons in fixed point: u, and v after reset
        self.membranes = {o.name: np.zeros((P, o.width)) for o in leaky}
        self.counts = np.zeros((len(program.operations), len(KINDS), P), np.int64)
        for n in range(P):
            for row, operation in enumerate(program.operations):
                rule: Any = RULES[type(operation)]
                self.y[operation.name][n], counted = rule(self, operation, n)
                for kind, amount in counted.items():
                    assert amount == int(amount)
                    self.counts[row, KINDS.index(kind), n] = amount

    def x(self, port: Port, n: int) -> np.ndarray:
        """What arrived at a port at step n; nothing did before step 0."""
        if n < 0:
            return np.zeros(port.width)
        return sum((self.y[source][n] for source in port.sources), start=np.zeros(port.width))

    def ticks(self, port: Port, n: int) -> int:
        return int(self.x(port, n)[0])


def events(x: np.ndarray, signal: Signal) -> int:
    """An integer n is n events; a real number is one unless it is 0."""
    return int((x != 0).sum()) if signal is Signal.VALUES else int(x.sum())


def tally(x: np.ndarray) -> tuple[int, int]:
    """Entries that are not 0, and those that are neither 0 nor 1."""
    return sum(value != 0 for value in x), sum(value not in (0, 1) for value in x)


def source(s: _Sample, o: Source, n: int) -> tuple[np.ndarray, dict]:
    return (s.inputs[o.name][n] if n < s.program.steps else np.zeros(o.width)), {}


def sink(s: _Sample, o: Sink, n: int) -> tuple[np.ndarray, dict]:
    return s.x(o.x, n), {}


def delay_line(s: _Sample, o: DelayLine, n: int) -> tuple[np.ndarray, dict]:
    return s.x(o.x, n - o.delay), {}


def select(s: _Sample, o: Select, n: int) -> tuple[np.ndarray, dict]:
    x = s.x(o.x, n)
    return np.array([0.0 if i == -1 else x[i] for i in o.index]), {}


def synapse(s: _Sample, o: Synapse, n: int) -> tuple[np.ndarray, dict]:
    y, cost, synops, graded = np.zeros(o.width), 0, 0, 0
    for tap in o.taps:
        x = s.x(o.x, n - tap.delay)
        y = y + (tap.weight * x if tap.weight.ndim == 1 else tap.weight @ x)
        for i, value in enumerate(x):
            column = np.atleast_1d(tap.weight[i] if tap.weight.ndim == 1 else tap.weight[:, i])
            reached = len(column) if o.x.signal is Signal.CLOCK else sum(w != 0 for w in column)
            cost += events(value[None], o.x.signal) * reached
            synops, graded = (
                total + a * reached for total, a in zip((synops, graded), tally(value[None]), strict=True)
            )
    kind = {Signal.SPIKES: "ac", Signal.VALUES: "mac", Signal.CLOCK: "bias"}[o.x.signal]
    counted = {"spikes": events(s.x(o.x, n), o.x.signal), kind: cost}
    if kind != "bias":
        counted |= dict(zip(("entries", "graded"), tally(s.x(o.x, n)), strict=True))
        counted |= {"synops": synops, "synops_graded": graded}
    if o.clock is not None:
        ticks = s.ticks(o.clock, n)
        if o.bias is not None:
            y = y + o.bias * ticks
            counted["bias"] = counted.get("bias", 0) + o.width * ticks
        if o.gated and kind != "bias" and not ticks:
            counted["synops_discarded"] = synops
        if o.gated and kind == "ac" and not ticks:
            counted["discarded"] = cost
    elif o.bias is not None:
        y = y + o.bias
        counted["bias"] = counted.get("bias", 0) + o.width
    return y, counted


def neuron(s: _Sample, o: Neuron, n: int) -> tuple[np.ndarray, dict]:
    before = s.membranes[o.name][n - 1] if n else np.zeros(o.width)
    fired_before = s.y[o.name][n - 1] == 1 if n else np.zeros(o.width, bool)
    after = before - o.threshold if o.soft else o.v_reset
    v = np.where(fired_before, after, before) * o.decay + o.gain * s.x(o.x, n) + o.drive
    s.membranes[o.name][n] = v
    fired = v > o.threshold
    inside = o.latency is None or o.latency <= n < o.latency + s.valid
    return fired.astype(float), {"fired": fired.sum(), "neuron": o.width if inside else 0}


def fixed_neuron(s: _Sample, o: FixedNeuron, n: int) -> tuple[np.ndarray, dict]:
    """In Python's own integers; a right shift of a negative number would round down, hence sign and magnitude."""

    def left(state: int, kept: int) -> int:
        return (abs(state) * kept >> 12) * (1 if state >= 0 else -1)

    u_before, v_before = s.currents.get(o.name, ([0] * o.width, [0] * o.width))
    u, v, fired, saturated = [], [], [], 0
    for i, x in enumerate(s.x(o.x, n)):
        assert x == int(x)
        current = left(u_before[i], round(4096 * o.current_decay[i])) + (int(x) << 6)
        narrow = (current + 2**31) % 2**32 - 2**31  # an int32 of Lava's
        wrapped = narrow - 2**24 if narrow > 2**23 else narrow + 2**24 if narrow <= -(2**23) else narrow
        membrane = left(v_before[i], round(4096 * o.decay[i])) + wrapped + int(o.drive[i])
        cut = min(max(membrane, 1 - 2**23), 2**23 - 1)
        saturated += (wrapped != current) + (cut != membrane)
        u.append(wrapped)
        s.membranes[o.name][n, i] = cut
        fired.append(cut > int(o.threshold[i]))
        v.append(0 if fired[-1] else cut)
    s.currents[o.name] = u, v
    inside = o.latency is None or o.latency <= n < o.latency + s.valid
    counts = {"fired": sum(fired), "neuron": o.width if inside else 0, "saturated": saturated}
    return np.array(fired, float), counts


def integrator(s: _Sample, o: Integrator, n: int) -> tuple[np.ndarray, dict]:
    before = s.y[o.name][n - 1] if n else np.zeros(o.width)
    v = before * o.decay + o.gain * s.x(o.x, n) + o.drive
    inside = o.latency is None or o.latency <= n < o.latency + s.valid
    if o.current:
        return v, {}
    s.membranes[o.name][n] = v
    return v, {"neuron": o.width if inside else 0}


def channel_delay(s: _Sample, o: ChannelDelay, n: int) -> tuple[np.ndarray, dict]:
    return np.array([s.x(o.x, n - d)[i] for i, d in enumerate(o.delay.tolist())]), {}


def convolution(s: _Sample, o: Convolution, n: int) -> tuple[np.ndarray, dict]:
    """Output by output, and for each every weight of its group; what is read beyond the edge is no synapse."""
    x = s.x(o.x, n).reshape(o.in_shape)
    y, met = np.zeros(o.out_shape), []
    for place in np.ndindex(o.out_shape):
        for tap in np.ndindex(o.weight.shape[1:]):
            channel = place[0] // (o.out_shape[0] // o.groups) * o.weight.shape[1] + tap[0]
            at = [place[a] * o.stride[a - 1] + tap[a] * o.dilation[a - 1] - o.padding[a - 1] for a in (1, 2)]
            if 0 <= at[0] < o.in_shape[1] and 0 <= at[1] < o.in_shape[2]:
                arriving, weight = x[channel, at[0], at[1]], o.weight[place[0], *tap]
                y[place] += weight * arriving
                if weight != 0:
                    met.append(arriving)
    if o.bias is not None:
        y += o.bias[:, None, None]
    arrived = np.array(met)
    counted = {"spikes": events(x.ravel(), o.x.signal), "bias": 0 if o.bias is None else o.width}
    counted["mac" if o.x.signal is Signal.VALUES else "ac"] = events(arrived, o.x.signal)
    counted |= {"entries": (x != 0).sum(), "graded": ((x != 0) & (x != 1)).sum()}
    counted |= {"synops": (arrived != 0).sum(), "synops_graded": ((arrived != 0) & (arrived != 1)).sum()}
    return y.ravel(), counted


def rotary(s: _Sample, o: Rotary, n: int) -> tuple[np.ndarray, dict]:
    x, y = s.x(o.x, n), np.zeros(o.width)
    if s.ticks(o.clock, n):
        p = sum(s.ticks(o.clock, m) for m in range(n))
        D = o.width // o.heads
        for h in range(o.heads):
            for i in range(D // 2):
                even, odd = h * D + 2 * i, h * D + 2 * i + 1
                y[even] = x[even] * o.cos[p, i] - x[odd] * o.sin[p, i]
                y[odd] = x[even] * o.sin[p, i] + x[odd] * o.cos[p, i]
    arrived, (entries, graded) = events(x, o.x.signal), tally(x)
    counted = {"spikes": arrived, "mac" if o.x.signal is Signal.VALUES else "ac": 2 * arrived}
    return y, counted | {"entries": entries, "graded": graded, "synops": 2 * entries, "synops_graded": 2 * graded}


def position(s: _Sample, o: Position, n: int) -> tuple[np.ndarray, dict]:
    before = sum(s.ticks(o.clock, m) for m in range(n))
    return (o.table[before] if s.ticks(o.clock, n) else np.zeros(o.width)), {}


def attention(s: _Sample, o: Attention, n: int) -> tuple[np.ndarray, dict]:
    """Anew at every step from all that was written until then."""
    D = o.width // o.heads
    written = [m for m in range(n + 1) if s.ticks(o.clock, m)]
    reading = n - o.steps if n >= o.steps and s.ticks(o.clock, n - o.steps) else None
    y, ac, quadratic = np.zeros(o.width), 0, 0
    for h in range(o.heads):
        head = slice(h * D, (h + 1) * D)
        if n in written:
            ac += np.count_nonzero(s.x(o.k, n)[head]) * np.count_nonzero(s.x(o.v, n)[head])
        if reading is not None:
            q = s.x(o.q, reading)[head]
            A = np.zeros((D, D))
            for m in written:
                k, v = s.x(o.k, m)[head], s.x(o.v, m)[head]
                A += np.outer(k, v)
                quadratic += np.count_nonzero(q * k) + np.count_nonzero(v)
            y[head] = o.scale * (q @ A)
            ac += np.count_nonzero(q) * D
    arrived = sum(int(s.x(port, n).sum()) for port in (o.q, o.k, o.v))
    return y, {"spikes": arrived, "ac": ac, "ac_quadratic": quadratic}


def causal_attention(s: _Sample, o: CausalAttention, n: int) -> tuple[np.ndarray, dict]:
    """y = scale * sum over u <= n of (q[n] k[u]) v[u] of each head, of steps that ticked; the order that is executed
    by what it adds: k v^T of this step, and a row of the matrix for every spike of q."""
    D = o.width // o.heads
    y, ac, quadratic = np.zeros(o.width), 0, 0
    q, ticked = s.x(o.q, n), [u for u in range(n + 1) if s.ticks(o.clock, u)]
    for h in range(o.heads if n in ticked else 0):
        head = slice(h * D, (h + 1) * D)
        for u in ticked:
            k, v = s.x(o.k, u)[head], s.x(o.v, u)[head]
            y[head] += (q[head] @ k) * v
            quadratic += np.count_nonzero(q[head] * k) + np.count_nonzero(v)
        ac += np.count_nonzero(k) * np.count_nonzero(v) + np.count_nonzero(q[head]) * D
    arrived = sum(int(s.x(port, n).sum()) for port in (o.q, o.k, o.v))
    return o.scale * y, {"spikes": arrived, "ac": ac, "ac_quadratic": quadratic}


def token_attention(s: _Sample, o: TokenAttention, n: int) -> tuple[np.ndarray, dict]:
    """Token by token, head by head, as (Q K^T) V says; both orders are counted by what they would add."""
    q, k, v = (s.x(port, n).reshape(o.heads, o.tokens, -1) for port in (o.q, o.k, o.v))
    depth, each = q.shape[2], v.shape[2]
    y = np.zeros(v.shape)
    scores = weighed = matrix = 0
    for h in range(o.heads):
        for t in range(o.tokens):
            for u in range(o.tokens):
                score = sum(q[h, t, d] * k[h, u, d] for d in range(depth))
                scores += sum(1 for d in range(depth) if q[h, t, d] and k[h, u, d])
                weighed += np.count_nonzero(v[h, u])
                y[h, t] += score * v[h, u]
            matrix += np.count_nonzero(k[h, t]) * np.count_nonzero(v[h, t]) + np.count_nonzero(q[h, t]) * each
    real = o.v.signal is Signal.VALUES
    quadratic = scores if real else scores + weighed
    # the order that multiplies less if nothing were 0; never one that keeps a matrix of real numbers
    tokens_first = real or o.tokens * o.tokens * (depth + each) <= 2 * o.tokens * depth * each
    entries = np.count_nonzero(q) + (0 if real else np.count_nonzero(v))
    counted = {"spikes": int(q.sum()) + int(k.sum()) + events(v.ravel(), o.v.signal), "ac_quadratic": quadratic}
    counted |= {"ac": quadratic if tokens_first else matrix, "mac": weighed if real else 0}
    return o.scale * y.ravel(), counted | {"entries": entries, "synops": o.tokens * entries}


def maximum(s: _Sample, o: Maximum, n: int) -> tuple[np.ndarray, dict]:
    x = s.x(o.x, n)
    return np.array([max(x[i + f * o.width] for f in range(o.fan)) for i in range(o.width)]), {}


def gate(s: _Sample, o: Gate, n: int) -> tuple[np.ndarray, dict]:
    value, spike = s.x(o.value, n), s.x(o.spike, n)
    assert np.isin(spike, (0, 1)).all()
    counted = {} if o.spike.signal is Signal.CLOCK else {"spikes": int(spike.sum())}
    return np.where(spike == (0 if o.inverted else 1), value, 0.0), counted


RULES: dict[type[Operation], object] = {
    Source: source,
    Sink: sink,
    DelayLine: delay_line,
    Select: select,
    Synapse: synapse,
    Neuron: neuron,
    FixedNeuron: fixed_neuron,
    Integrator: integrator,
    ChannelDelay: channel_delay,
    Convolution: convolution,
    Rotary: rotary,
    Position: position,
    Attention: attention,
    CausalAttention: causal_attention,
    Gate: gate,
    TokenAttention: token_attention,
    Maximum: maximum,
}
