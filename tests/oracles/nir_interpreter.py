"""Step-by-step interpreter of NIR graphs, all primitives and the packed operations: one sample, float64, no cleverness.

It is written from the specification alone and imports nothing of the project, so that it can contradict it. At every
step the nodes are evaluated in topological order; a node's input is the sum over its incoming edges, in edge order.

How a step of each node reads (n: executed step, x: input at n, y: output at n):

    Input      y = inputs[name][n], zeros after its last row
    Output     y = x
    Linear     y = W x, one W for each place of its leading axes
    Affine     y = W x + b
    Conv, Pool y = the sums over windows, read off their definition, output by output
    Flatten    y = x: signals are flat, in C order
    Scale      y = s * x
    Delay      y[c] = x[c] at step n - round(delay[c] / dt), 0 before there was one
    LIF        v = v (1 - dt/tau) + (r dt/tau) x + (dt/tau) v_leak; y = v > v_threshold; where y: v = v_reset, or
               v = v - v_threshold if the metadata (node's, else those of the graph around it) say `reset_mechanism`
               "subtract"
    IF         the same with v = v + (r dt) x
    Threshold  the same with v = x
    LI, I      v as LIF and IF; y = v
    CubaLIF    I = I (1 - dt/tau_syn) + (w_in dt/tau_syn) x, then as LIF with that I for x
    CubaLI     the same; y = v
    NIRGraph   its nodes, called outer.inner; its Input and Output pass on what they get
    rotary, position, attention, causal_attention, token_attention, gate, inverted_gate, maximum, select: see the
        classes below

Axes: T steps of the sample's window, P steps of the run (`period`), N channels, H heads of D = N / H channels each.
"""

import copy
import enum
import functools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import nir
import numpy as np

OP = "spikescr.op"
SIGNAL = "spikescr.signal"
RESET = "reset_mechanism"
DT = "spikescr.dt"

PACKED = (
    "rotary", "position", "attention", "causal_attention", "token_attention", "gate", "inverted_gate", "maximum",
    "select",
)  # fmt: skip
NEURONS = (nir.I, nir.IF, nir.LI, nir.LIF, nir.CubaLI, nir.CubaLIF, nir.Threshold)
WINDOWS = (nir.Conv1d, nir.Conv2d, nir.SumPool2d, nir.AvgPool2d)


@dataclass(frozen=True)
class Trace:
    """Everything that one sample did in one run of P steps.

    Attributes:
        outputs: Top-level node -> (P, width) float64.
        membranes: Neuron -> (P, N) float64, after the update and before the reset.
        counts: Node -> kind -> (P,) int64. Linear, Scale, Affine, convolutions and pools that are not wires have `ac`,
            `mac` and `bias`; rotary has `ac` and `mac`; attention and causal_attention have `ac` and
            `ac_quadratic`, token_attention `mac` too; neurons that fire have `fired`. Nodes that cost nothing (Input,
            Output, Delay, Flatten, wire, select, gate, maximum, position) have no kinds.
    """

    outputs: dict[str, np.ndarray]
    membranes: dict[str, np.ndarray]
    counts: dict[str, dict[str, np.ndarray]]


class Kind(enum.IntFlag):
    """What a channel carries; the bits of all its sources are joined. No bit: nothing ever arrives."""

    NOTHING = 0
    SPIKES = 1
    CLOCK = 2
    VALUES = 4


def interpret(
    graph: nir.NIRGraph,
    inputs: Mapping[str, np.ndarray],
    period: int,
    *,
    dt: float | None = None,
    exponential: bool = False,
    input_signal: str | None = None,
) -> Trace:
    """Run one sample through a graph, step by step.

    Args:
        graph: Graph whose metadata hold `spikescr.dt` in seconds.
        inputs: Input node, the clock among them -> (T, width); after T steps the input is zero.
        period: Number of steps P to run.
        dt: Seconds per step, instead of the metadata's.
        exponential: exp(-dt/tau) for 1 - dt/tau and 1 - exp(-dt/tau) for dt/tau.
        input_signal: What all Inputs but the clock carry, instead of what their metadata say.

    Returns:
        The outputs, membranes and counts of all P steps.

    Raises:
        ValueError: The graph or the inputs are outside the dialect.
    """
    dt = _dt(graph) if dt is None else dt
    graph = _flattened(graph, {})
    if input_signal is not None:
        for node in graph.nodes.values():
            if isinstance(node, nir.Input) and not _is_clock(node):
                node.metadata = {**node.metadata, SIGNAL: input_signal}
    _infer_shapes(graph)
    for name, node in graph.nodes.items():
        _check_supported(name, node)
    _check_edges(graph)
    data = _check_inputs(graph, inputs, period)
    order, incoming = _schedule(graph, dt)
    kinds = _arriving_kinds(graph)
    operations = {
        name: _operation(name, node, kinds[name], dt, exponential)
        for name, node in graph.nodes.items()
        if not isinstance(node, nir.Input | nir.Output | nir.Delay | nir.Flatten)
    }

    outputs = {name: np.zeros((period, _width_out(node))) for name, node in graph.nodes.items()}

    def arriving(name: str, n: int) -> np.ndarray:
        total = np.zeros(_width_in(graph.nodes[name]))
        for source, lag in incoming[name]:
            if n - lag >= 0:
                total = total + outputs[source][n - lag]
        return total

    for n in range(period):
        for name in order:
            node = graph.nodes[name]
            if isinstance(node, nir.Input):
                outputs[name][n] = data[name][n]
            elif isinstance(node, nir.Output | nir.Flatten):
                outputs[name][n] = arriving(name, n)
            elif isinstance(node, nir.Delay):
                steps = _delay_steps(name, node, dt)
                for d in np.unique(steps[steps <= n]):
                    outputs[name][n, steps == d] = arriving(name, n - d)[steps == d]
            else:
                outputs[name][n] = operations[name].step(arriving(name, n))

    return Trace(
        outputs=outputs,
        membranes={
            name: np.array(op.membranes).reshape(period, _width_out(graph.nodes[name]))
            for name, op in operations.items()
            if isinstance(op, _Neuron)
        },
        counts={
            name: {kind: np.array(values, dtype=np.int64) for kind, values in operations[name].counts.items()}
            if name in operations
            else {}
            for name in graph.nodes
        },
    )


# ---------------------------------------------------------------------------------------------------------------------
# Operations: `step` takes the input of one step, returns the output of the same step and appends one to each count.
# ---------------------------------------------------------------------------------------------------------------------


class _Operation(Protocol):
    counts: dict[str, list[int]]

    def step(self, x: np.ndarray) -> np.ndarray: ...


class _Wire:
    """Selection of channels: y = W x, W of zeros and at most a one per row. Routing, so nothing is counted."""

    def __init__(self, name: str, node: nir.Linear) -> None:
        _wire_columns(name, node)
        self.weight = np.asarray(node.weight, dtype=np.float64)
        self.counts: dict[str, list[int]] = {}

    def step(self, x: np.ndarray) -> np.ndarray:
        return self.weight @ x


class _Synapse:
    """Linear, Affine or Scale. An event costs its fan-out: the weights of its channel that are not 0.

    Spikes: `ac` += event count * fan-out. Values: `mac` += non-zero inputs * fan-out. Clock: `bias` += ticks * rows.
    The constant of an Affine is `bias` too, at every step, one for each output; constants that are all 0 are none.
    """

    def __init__(self, name: str, node: nir.Linear | nir.Affine | nir.Scale, kinds: Sequence[Kind]) -> None:
        self.name = name
        self.node = node
        weight = np.asarray(node.scale if isinstance(node, nir.Scale) else node.weight, dtype=np.float64)
        weight = weight.reshape(1, 1, -1) if isinstance(node, nir.Scale) else weight.reshape(-1, *weight.shape[-2:])
        self.fan_out = np.array([sum(w != 0 for w in column) for matrix in weight for column in matrix.T])
        self.rows = weight.shape[1]
        self.spikes, self.values, self.clock = _masks(name, kinds)
        self.counts: dict[str, list[int]] = {"ac": [], "mac": [], "bias": []}

    def step(self, x: np.ndarray) -> np.ndarray:
        _events(self.name, x[self.spikes])
        self.counts["ac"].append(int(x[self.spikes] @ self.fan_out[self.spikes]))
        self.counts["mac"].append(int((x[self.values] != 0) @ self.fan_out[self.values]))
        self.counts["bias"].append(_events(self.name, x[self.clock]) * self.rows)
        if isinstance(self.node, nir.Scale):
            return np.ravel(np.asarray(self.node.scale, dtype=np.float64) * x.reshape(_shape_in(self.node)))
        weight = np.asarray(self.node.weight, dtype=np.float64)
        y = np.ravel(np.einsum("...oi,...i->...o", weight, x.reshape(weight.shape[:-2] + weight.shape[-1:])))
        if isinstance(self.node, nir.Affine) and np.any(self.node.bias):
            self.counts["bias"][-1] += len(y)
            y = y + np.ravel(np.asarray(self.node.bias, dtype=np.float64))
        return y


class _Window:
    """Convolution or pool. An event costs the weights that it meets and that are not 0; none is beyond the edge."""

    def __init__(self, name: str, node: nir.NIRNode, kinds: Sequence[Kind]) -> None:
        self.name, self.node = name, node
        self.C, self.H, self.W = _rows_and_columns(_shape_in(node))
        self.O, self.I, self.J = _rows_and_columns(_shape_out(node))
        self.spikes, self.values, clock = _masks(name, kinds)
        if clock.any():
            raise ValueError(f"node {name!r}: a clock must not be convolved")
        two = isinstance(node, nir.Conv2d | nir.SumPool2d | nir.AvgPool2d)
        self.stride = _numbers(node.stride, two)
        if isinstance(node, nir.Conv1d | nir.Conv2d):
            kernel = np.asarray(node.weight, dtype=np.float64)
            self.weight = kernel if two else kernel[:, :, None, :]
            self.dilation = _numbers(node.dilation, two)
            self.groups = int(node.groups)
            self.bias = np.asarray(node.bias, dtype=np.float64)
        else:
            size = tuple(int(n) for n in np.broadcast_to(node.kernel_size, 2))
            self.weight = np.ones((self.C, 1, *size))
            if isinstance(node, nir.AvgPool2d):
                self.weight /= size[0] * size[1]
            self.dilation, self.groups, self.bias = (1, 1), self.C, np.zeros(self.C)
        self.padding = _padding_before(node, self.weight.shape[2:], self.dilation)
        self.counts: dict[str, list[int]] = {"ac": [], "mac": [], "bias": []}

    def step(self, x: np.ndarray) -> np.ndarray:
        image, spiking = x.reshape(self.C, self.H, self.W), self.spikes.reshape(self.C, self.H, self.W)
        y = np.zeros((self.O, self.I, self.J))
        ac = mac = 0
        inside, each = self.weight.shape[1], self.O // self.groups
        for o, i, j in np.ndindex(y.shape):
            for c, k, m in np.ndindex(inside, *self.weight.shape[2:]):
                channel = o // each * inside + c
                row = i * self.stride[0] + k * self.dilation[0] - self.padding[0]
                column = j * self.stride[1] + m * self.dilation[1] - self.padding[1]
                if not (0 <= row < self.H and 0 <= column < self.W):
                    continue
                arriving = image[channel, row, column]
                y[o, i, j] += self.weight[o, c, k, m] * arriving
                if self.weight[o, c, k, m] == 0:
                    continue  # no synapse
                if spiking[channel, row, column]:
                    ac += _events(self.name, np.array([arriving]))
                else:
                    mac += int(arriving != 0)
        self.counts["ac"].append(ac)
        self.counts["mac"].append(mac)
        self.counts["bias"].append(y.size if self.bias.any() else 0)
        return np.ravel(y + self.bias[:, None, None])


class _Neuron:
    """The neurons of NIR: update, compare (v > v_threshold), reset. They start at v = 0 and I = 0."""

    def __init__(self, node: nir.NIRNode, dt: float, *, exponential: bool) -> None:
        shape = _shape_out(node)

        def number(field: str) -> np.ndarray:
            return np.ravel(np.broadcast_to(np.asarray(getattr(node, field), dtype=np.float64), shape))

        def decay_and_share(field: str) -> tuple[np.ndarray, np.ndarray]:
            ratio = dt / number(field)
            return (np.exp(-ratio), 1 - np.exp(-ratio)) if exponential else (1 - ratio, ratio)

        zero = np.zeros(int(np.prod(shape)))
        self.current: np.ndarray | None = None
        if isinstance(node, nir.CubaLI | nir.CubaLIF):
            self.current = zero
            self.current_decay, share = decay_and_share("tau_syn")
            self.current_gain = number("w_in") * share
        if isinstance(node, nir.Threshold):
            self.decay, self.gain, self.leak = zero, zero + 1, zero
        elif isinstance(node, nir.I | nir.IF):
            self.decay, self.gain, self.leak = zero + 1, number("r") * dt, zero
        else:
            self.decay, share = decay_and_share("tau" if self.current is None else "tau_mem")
            self.gain, self.leak = number("r") * share, number("v_leak") * share
        self.fires = isinstance(node, nir.IF | nir.LIF | nir.CubaLIF | nir.Threshold)
        if self.fires:
            self.threshold = number("threshold" if isinstance(node, nir.Threshold) else "v_threshold")
            self.reset = zero if isinstance(node, nir.Threshold) else number("v_reset")
            self.subtract = node.metadata.get(RESET) == "subtract"
        self.v = zero
        self.membranes: list[np.ndarray] = []
        self.counts: dict[str, list[int]] = {"fired": []} if self.fires else {}

    def step(self, x: np.ndarray) -> np.ndarray:
        if self.current is not None:
            x = self.current = self.current * self.current_decay + self.current_gain * x
        v = self.v * self.decay + self.gain * x + self.leak
        self.membranes.append(v)
        self.v = v
        if not self.fires:
            return v
        fired = v > self.threshold
        self.v = np.where(fired, v - self.threshold if self.subtract else self.reset, v)
        self.counts["fired"].append(int(fired.sum()))
        return fired.astype(np.float64)


class _Rotary:
    """Rotary position: packed input [x (N), clock (1)], output N.

    On a tick, p = number of ticks before this one, and in every head, for every pair i:
        y[2i]   = x[2i] cos[p, i] - x[2i+1] sin[p, i]
        y[2i+1] = x[2i] sin[p, i] + x[2i+1] cos[p, i]
    Without a tick y = 0. `ac`: 2 per arriving event, tick or not; a real-valued x costs 2 `mac` per non-zero instead.
    """

    def __init__(self, name: str, node: nir.NIRGraph, kinds: Sequence[Kind]) -> None:
        self.name = name
        self.N = _width_out(node)
        _expect(name, "input width", _width_in(node), self.N + 1)
        self.heads = int(_parameter(name, node, "heads"))
        self.D = _head_width(name, self.N, self.heads)
        if self.D % 2:
            raise ValueError(f"rotary {name!r}: heads must have an even width. Got {self.D}")
        self.cos = np.asarray(_parameter(name, node, "cos"), dtype=np.float64)
        self.sin = np.asarray(_parameter(name, node, "sin"), dtype=np.float64)
        _expect(name, "pairs in cos", self.cos.shape[1], self.D // 2)
        _expect(name, "shape of sin", self.sin.shape, self.cos.shape)
        self.spikes, self.values, clock = _masks(name, kinds[: self.N])
        if clock.any():
            raise ValueError(f"rotary {name!r}: x must not be a clock")
        self.ticks = 0
        self.counts: dict[str, list[int]] = {"ac": [], "mac": []}

    def step(self, x: np.ndarray) -> np.ndarray:
        x, tick = x[: self.N], _tick(self.name, x[self.N])
        self.counts["ac"].append(2 * _events(self.name, x[self.spikes]))
        self.counts["mac"].append(2 * int(np.count_nonzero(x[self.values])))
        y = np.zeros(self.N)
        if not tick:
            return y
        p = self.ticks
        self.ticks += 1
        if p >= len(self.cos):
            raise ValueError(f"rotary {self.name!r}: tick {p + 1}, but the tables have {len(self.cos)} positions")
        for h in range(self.heads):
            for i in range(self.D // 2):
                even, odd = h * self.D + 2 * i, h * self.D + 2 * i + 1
                y[even] = x[even] * self.cos[p, i] - x[odd] * self.sin[p, i]
                y[odd] = x[even] * self.sin[p, i] + x[odd] * self.cos[p, i]
        return y


class _Attention:
    """Linear attention: packed input [q (N), k (N), v (N), clock (1)], output N.

    On a tick A[h] += k[h] v[h]^T. At step n >= n0 + T, n0 the first tick, y[h] = scale * q[h] at step n - T times A[h].

    `ac`: sum over heads of nnz(k) nnz(v) on a tick, plus sum over heads of nnz(q) D while reading.
    `ac_quadratic`, where a position t (a step that ticked) is read: sum over heads and positions u of q[t] . k[u],
    plus the number of v spikes at all positions.
    """

    def __init__(self, name: str, node: nir.NIRGraph) -> None:
        self.name = name
        self.N = _width_out(node)
        _expect(name, "input width", _width_in(node), 3 * self.N + 1)
        self.heads = int(_parameter(name, node, "heads"))
        self.D = _head_width(name, self.N, self.heads)
        self.scale = float(_parameter(name, node, "scale"))
        self.T = int(_parameter(name, node, "steps"))
        self.n = 0  # executed steps so far
        self.first_tick: int | None = None
        self.q: list[np.ndarray] = []  # of every executed step
        self.ticked: list[bool] = []  # of every executed step
        self.k: list[np.ndarray] = []  # of every position
        self.v: list[np.ndarray] = []  # of every position
        self.A = np.zeros((self.heads, self.D, self.D))
        self.counts: dict[str, list[int]] = {"ac": [], "ac_quadratic": []}

    def step(self, x: np.ndarray) -> np.ndarray:
        n, N, D, T = self.n, self.N, self.D, self.T
        self.n += 1
        q, k, v, tick = x[:N], x[N : 2 * N], x[2 * N : 3 * N], _tick(self.name, x[3 * N])
        for operand in (q, k, v):
            _events(self.name, operand)  # refuses what is not a spike count
        self.q.append(q)
        self.ticked.append(tick)
        if tick and self.first_tick is None:
            self.first_tick = n
        reading = self.first_tick is not None and n >= self.first_tick + T
        if tick and reading:
            raise ValueError(f"attention {self.name!r}: tick at step {n}, after its window of {T} steps")

        ac = ac_quadratic = 0
        y = np.zeros(N)
        if tick:
            self.k.append(k)
            self.v.append(v)
        for h in range(self.heads):
            head = slice(h * D, (h + 1) * D)
            if tick:
                for i in range(D):
                    for j in range(D):
                        self.A[h, i, j] += k[head][i] * v[head][j]
                ac += int(np.count_nonzero(k[head]) * np.count_nonzero(v[head]))
            if reading:
                past = self.q[n - T]
                y[head] = self.scale * (past[head] @ self.A[h])
                ac += int(np.count_nonzero(past[head])) * D
                if self.ticked[n - T]:
                    for u in range(len(self.k)):
                        ac_quadratic += int(past[head] @ self.k[u][head]) + int(self.v[u][head].sum())
        self.counts["ac"].append(ac)
        self.counts["ac_quadratic"].append(ac_quadratic)
        return y


class _CausalAttention:
    """Causal attention: packed input [q (N), k (N), v (N), clock (1)], output N.

    On a tick A[h] += k[h] v[h]^T, then y[h] = scale * q[h] A[h]; y is 0 without a tick.

    `ac`, on a tick: sum over heads of nnz(k) nnz(v) + nnz(q) D. `ac_quadratic`, on a tick: sum over heads and the
    positions u until this one of q . k[u], plus the number of v spikes at them.
    """

    def __init__(self, name: str, node: nir.NIRGraph) -> None:
        self.name = name
        self.N = _width_out(node)
        _expect(name, "input width", _width_in(node), 3 * self.N + 1)
        self.heads = int(_parameter(name, node, "heads"))
        self.D = _head_width(name, self.N, self.heads)
        self.scale = float(_parameter(name, node, "scale"))
        self.k: list[np.ndarray] = []  # of every position so far
        self.v: list[np.ndarray] = []
        self.A = np.zeros((self.heads, self.D, self.D))
        self.counts: dict[str, list[int]] = {"ac": [], "ac_quadratic": []}

    def step(self, x: np.ndarray) -> np.ndarray:
        N, D = self.N, self.D
        q, k, v, tick = x[:N], x[N : 2 * N], x[2 * N : 3 * N], _tick(self.name, x[3 * N])
        for operand in (q, k, v):
            _events(self.name, operand)  # refuses what is not a spike count
        ac = ac_quadratic = 0
        y = np.zeros(N)
        if tick:
            self.k.append(k)
            self.v.append(v)
        for h in range(self.heads if tick else 0):
            head = slice(h * D, (h + 1) * D)
            for i in range(D):
                for j in range(D):
                    self.A[h, i, j] += k[head][i] * v[head][j]
            y[head] = self.scale * (q[head] @ self.A[h])
            ac += int(np.count_nonzero(k[head]) * np.count_nonzero(v[head])) + int(np.count_nonzero(q[head])) * D
            for u in range(len(self.k)):
                ac_quadratic += int(q[head] @ self.k[u][head]) + int(self.v[u][head].sum())
        self.counts["ac"].append(ac)
        self.counts["ac_quadratic"].append(ac_quadratic)
        return y


class _Position:
    """Position encoding: packed input [clock (1)], output table[ticks before this one] (N) on a tick, else 0."""

    def __init__(self, name: str, node: nir.NIRGraph) -> None:
        self.name = name
        _expect(name, "input width", _width_in(node), 1)
        self.table = np.asarray(_parameter(name, node, "table"), dtype=np.float64)
        _expect(name, "columns of table", self.table.shape[1], _width_out(node))
        self.ticks = 0
        self.counts: dict[str, list[int]] = {}

    def step(self, x: np.ndarray) -> np.ndarray:
        if not _tick(self.name, x[0]):
            return np.zeros(self.table.shape[1])
        self.ticks += 1
        if self.ticks > len(self.table):
            raise ValueError(f"position {self.name!r}: tick {self.ticks}, but the table has {len(self.table)} rows")
        return self.table[self.ticks - 1]


class _TokenAttention:
    """Attention over tokens: packed input [q (H n D), k (H n D), v (H n E)], output scale * (q k^T) v of each head.

    `ac`: of the cheaper order were all entries spikes. (Q K^T) V: a spike of q that meets one of k in a channel, for
    every pair of tokens, and a spike of v in every row of scores. Q (K^T V): a spike of k that meets one of v in a
    token, and a spike of q in each of the E columns. `ac_quadratic`: the former. Values in v: that order, its second
    part being `mac`, one for a value that is not 0.
    """

    def __init__(self, name: str, node: nir.NIRGraph, kinds: Sequence[Kind]) -> None:
        self.name = name
        self.H, self.n, self.D = (int(_parameter(name, node, key)) for key in ("heads", "tokens", "depth"))
        self.E = _head_width(name, _width_out(node), self.H * self.n)
        self.scale = float(_parameter(name, node, "scale"))
        self.asking = self.H * self.n * self.D
        _expect(name, "input width", _width_in(node), 2 * self.asking + _width_out(node))
        _, values, clock = _masks(name, kinds)
        _expect(name, "values in q and k", bool((values | clock)[: 2 * self.asking].any()), False)
        self.real = bool(values.any())
        self.counts: dict[str, list[int]] = {"ac": [], "mac": [], "ac_quadratic": []}

    def step(self, x: np.ndarray) -> np.ndarray:
        H, n, D, E = self.H, self.n, self.D, self.E
        q = x[: self.asking].reshape(H, n, D)
        k = x[self.asking : 2 * self.asking].reshape(H, n, D)
        v = x[2 * self.asking :].reshape(H, n, E)
        y = self.scale * np.einsum("htd,hud,hue->hte", q, k, v, optimize=False)
        a, b, c = (m != 0 for m in (q, k, v))
        scores = int(np.einsum("htd,hud->", a.astype(int), b.astype(int)))
        rows = n * int(c.sum())
        columns = int(np.einsum("hud,hue->", b.astype(int), c.astype(int))) + E * int(a.sum())
        quadratic = scores if self.real else scores + rows
        dense = H * n * n * D + H * n * n * E, 2 * H * n * D * E
        self.counts["ac"].append(quadratic if self.real or dense[0] <= dense[1] else columns)
        self.counts["mac"].append(rows if self.real else 0)
        self.counts["ac_quadratic"].append(quadratic)
        return y.ravel()


class _Maximum:
    """Maximum: packed input of `fan` operands of N, output the largest of each place."""

    def __init__(self, name: str, node: nir.NIRGraph) -> None:
        self.shape = (int(_parameter(name, node, "fan")), _width_out(node))
        _expect(name, "input width", _width_in(node), self.shape[0] * self.shape[1])
        self.counts: dict[str, list[int]] = {}

    def step(self, x: np.ndarray) -> np.ndarray:
        return np.array([max(column) for column in x.reshape(self.shape).T])


class _Select:
    """Select: y[i] = x[index[i]], 0 where the index is -1. Routing, so nothing is counted."""

    def __init__(self, name: str, node: nir.NIRGraph) -> None:
        self.columns = _select_columns(name, node)
        self.counts: dict[str, list[int]] = {}

    def step(self, x: np.ndarray) -> np.ndarray:
        return np.array([0.0 if column is None else x[column] for column in self.columns])


class _Gate:
    """Gate: packed input [value (N), spike (1 or N)], output value where spike is 1, else 0; inverted: where 0."""

    def __init__(self, name: str, node: nir.NIRGraph) -> None:
        self.name = name
        self.inverted = node.metadata[OP] == "inverted_gate"
        self.N = int(_parameter(name, node, "width"))
        self.spike_width = int(_parameter(name, node, "spike_width"))
        _expect(name, "output width", _width_out(node), self.N)
        _expect(name, "input width", _width_in(node), self.N + self.spike_width)
        if self.spike_width not in (1, self.N):
            raise ValueError(f"gate {name!r}: spike_width must be 1 or {self.N}. Got {self.spike_width}")
        self.counts: dict[str, list[int]] = {}

    def step(self, x: np.ndarray) -> np.ndarray:
        y = np.zeros(self.N)
        for c in range(self.N):
            if _tick(self.name, x[self.N] if self.spike_width == 1 else x[self.N + c]) != self.inverted:
                y[c] = x[c]
        return y


def _operation(name: str, node: nir.NIRNode, kinds: Sequence[Kind], dt: float, exponential: bool) -> _Operation:
    if isinstance(node, NEURONS):
        return _Neuron(node, dt, exponential=exponential)
    if isinstance(node, WINDOWS):
        return _Window(name, node, kinds)
    if isinstance(node, nir.NIRGraph):
        packed = {
            "position": _Position,
            "attention": _Attention,
            "causal_attention": _CausalAttention,
            "maximum": _Maximum,
            "select": _Select,
        }
        counted = {"rotary": _Rotary, "token_attention": _TokenAttention}
        op = node.metadata[OP]
        return counted[op](name, node, kinds) if op in counted else packed.get(op, _Gate)(name, node)
    return _Wire(name, node) if _is_wire(node) else _Synapse(name, node, kinds)


# ---------------------------------------------------------------------------------------------------------------------
# Order of evaluation
# ---------------------------------------------------------------------------------------------------------------------


def _schedule(graph: nir.NIRGraph, dt: float) -> tuple[list[str], dict[str, list[tuple[str, int]]]]:
    """Order the nodes for evaluation within a step.

    An edge into a Delay whose every channel waits a step or more asks for nothing within the step. Where a cycle is
    left, its neurons break it: an edge that leaves a neuron and leads back to it within the step carries what it put
    out in the step before (to nodes outside the cycle the same neuron's output goes at once).

    Returns:
        The order, and for every node its incoming edges in edge order as (source, lag in steps).
    """

    def waits(name: str) -> bool:
        node = graph.nodes[name]
        return isinstance(node, nir.Delay) and bool((_delay_steps(name, node, dt) >= 1).all())

    instant = [(a, b) for a, b in graph.edges if not waits(b)]
    lags = {
        (a, b): int((a, b) in instant and isinstance(graph.nodes[a], NEURONS) and a in _reachable(b, instant))
        for a, b in graph.edges
    }
    needs = {name: {a for a, b in instant if b == name and not lags[a, b]} for name in graph.nodes}
    order: list[str] = []
    while len(order) < len(graph.nodes):
        ready = [name for name in graph.nodes if name not in order and needs[name] <= set(order)]
        if not ready:
            left = sorted(set(graph.nodes) - set(order))
            raise ValueError(f"cycle without a Delay or a neuron among the nodes {left}")
        order.extend(ready)
    return order, {name: [(a, lags[a, b]) for a, b in graph.edges if b == name] for name in graph.nodes}


def _reachable(start: str, edges: Sequence[tuple[str, str]]) -> set[str]:
    found = {start}
    frontier = [start]
    while frontier:
        name = frontier.pop()
        for a, b in edges:
            if a == name and b not in found:
                found.add(b)
                frontier.append(b)
    return found


def _delay_steps(name: str, node: nir.Delay, dt: float) -> np.ndarray:
    """The delay of every channel in steps, (N,) int."""
    exact = np.ravel(np.broadcast_to(np.asarray(node.delay, dtype=np.float64), _shape_out(node))) / dt
    steps = np.round(exact)
    if (np.abs(exact - steps) > 1e-6).any() or (steps < 0).any():
        raise ValueError(f"Delay {name!r}: must be whole steps of {dt} s, not negative. Got {exact.tolist()} steps")
    return steps.astype(np.int64)


# ---------------------------------------------------------------------------------------------------------------------
# Kinds of signals, per channel
# ---------------------------------------------------------------------------------------------------------------------


def _arriving_kinds(graph: nir.NIRGraph) -> dict[str, list[Kind]]:
    """The kind of every input channel of every node, found by passing kinds along the edges until nothing changes."""
    arriving = {name: [Kind.NOTHING] * _width_in(node) for name, node in graph.nodes.items()}
    leaving = {name: [Kind.NOTHING] * _width_out(node) for name, node in graph.nodes.items()}
    changed = True
    while changed:
        changed = False
        for name, node in graph.nodes.items():
            for a, b in graph.edges:
                if b == name:
                    arriving[name] = [old | new for old, new in zip(arriving[name], leaving[a], strict=True)]
            kinds = _leaving_kinds(name, node, arriving[name])
            changed = changed or kinds != leaving[name]
            leaving[name] = kinds
    return arriving


def _leaving_kinds(name: str, node: nir.NIRNode, arriving: list[Kind]) -> list[Kind]:  # noqa: PLR0911
    if isinstance(node, nir.Input):
        return [_input_kind(name, node)] * _width_out(node)
    if isinstance(node, nir.Output | nir.Delay | nir.Flatten):
        return arriving
    if isinstance(node, nir.SumPool2d):  # sums of spike counts are spike counts
        mixed = Kind.NOTHING
        for kind in arriving:
            mixed |= kind
        return [mixed] * _width_out(node)
    if isinstance(node, nir.IF | nir.LIF | nir.CubaLIF | nir.Threshold):
        return [Kind.SPIKES] * _width_out(node)
    if _is_wire(node):
        return [Kind.NOTHING if column is None else arriving[column] for column in _wire_columns(name, node)]
    if isinstance(node, nir.NIRGraph) and node.metadata[OP] in ("gate", "inverted_gate"):
        return arriving[: _width_out(node)]
    if isinstance(node, nir.NIRGraph) and node.metadata[OP] == "select":
        return [Kind.NOTHING if column is None else arriving[column] for column in _select_columns(name, node)]
    if isinstance(node, nir.NIRGraph) and node.metadata[OP] == "maximum":
        width = _width_out(node)
        return [functools.reduce(operator.or_, arriving[i::width]) for i in range(width)]
    return [Kind.VALUES] * _width_out(node)


def _input_kind(name: str, node: nir.Input) -> Kind:
    if _is_clock(node):
        return Kind.CLOCK
    signal = node.metadata.get(SIGNAL, "values")
    if signal not in ("values", "spikes"):
        raise ValueError(f"Input {name!r}: {SIGNAL} must be 'values' or 'spikes'. Got {signal!r}")
    return Kind.SPIKES if signal == "spikes" else Kind.VALUES


def _masks(name: str, kinds: Sequence[Kind]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which channels carry spikes, values, clock: three (N,) bool. A sum with a value in it is a value."""
    if any(kind == Kind.SPIKES | Kind.CLOCK for kind in kinds):
        raise ValueError(f"node {name!r}: a channel sums spikes and clock, neither `ac` nor `bias`")
    return (
        np.array([kind == Kind.SPIKES for kind in kinds], dtype=bool),
        np.array([Kind.VALUES in kind for kind in kinds], dtype=bool),
        np.array([kind == Kind.CLOCK for kind in kinds], dtype=bool),
    )


# ---------------------------------------------------------------------------------------------------------------------
# Checks
# ---------------------------------------------------------------------------------------------------------------------


def _dt(graph: nir.NIRGraph) -> float:
    if DT not in graph.metadata:
        raise ValueError(f"graph metadata must have {DT!r}. Got {sorted(graph.metadata)}")
    return float(graph.metadata[DT])


def _check_supported(name: str, node: nir.NIRNode) -> None:
    plain = (
        nir.Input, nir.Output, nir.Linear, nir.Affine, nir.Scale, nir.Delay, nir.Flatten, *NEURONS, *WINDOWS,
    )  # fmt: skip
    if isinstance(node, nir.NIRGraph):
        if node.metadata.get(OP) not in PACKED:
            raise ValueError(f"node {name!r} of type NIRGraph: {OP} {node.metadata.get(OP)!r} is not supported")
    elif type(node) not in plain:
        raise ValueError(f"node {name!r} of type {type(node).__name__} is not supported")
    for shape in (node.input_type, node.output_type):
        if len(shape) != 1:
            raise ValueError(f"node {name!r}: must have one input and one output. Got {shape}")


def _check_edges(graph: nir.NIRGraph) -> None:
    for a, b in graph.edges:
        if _width_out(graph.nodes[a]) != _width_in(graph.nodes[b]):
            raise ValueError(
                f"edge {a!r} -> {b!r}: widths {_width_out(graph.nodes[a])} and {_width_in(graph.nodes[b])} differ"
            )


def _check_inputs(graph: nir.NIRGraph, inputs: Mapping[str, np.ndarray], period: int) -> dict[str, np.ndarray]:
    """Check the sample against the Input nodes; return it as (P, width) each, cut or filled with zeros."""
    names = {name for name, node in graph.nodes.items() if isinstance(node, nir.Input)}
    if set(inputs) != names:
        raise ValueError(f"inputs must be {sorted(names)}. Got {sorted(inputs)}")
    padded = {}
    for name, given in inputs.items():
        node = graph.nodes[name]
        values = np.asarray(given, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != _width_out(node):
            raise ValueError(f"input {name!r} must have shape (T, {_width_out(node)}). Got {values.shape}")
        if _is_clock(node) and (values.shape[1] != 1 or not np.isin(values, (0, 1)).all()):
            raise ValueError(f"clock {name!r} must be one channel of 0 and 1")
        if _input_kind(name, node) is Kind.SPIKES:
            _events(name, values)
        padded[name] = np.zeros((period, values.shape[1]))
        padded[name][: len(values)] = values[:period]
    return padded


def _is_clock(node: nir.NIRNode) -> bool:
    return isinstance(node, nir.Input) and node.metadata.get(OP) == "clock"


def _is_wire(node: nir.NIRNode) -> bool:
    return isinstance(node, nir.Linear) and node.metadata.get(OP) == "wire"


def _wire_columns(name: str, node: nir.Linear) -> list[int | None]:
    """The input channel that each output channel of a wire takes, None where it takes none."""
    columns: list[int | None] = []
    for row in np.asarray(node.weight):
        ones = np.flatnonzero(row)
        if len(ones) > 1 or (row[ones] != 1).any():
            raise ValueError(f"wire {name!r}: a row must be zeros and at most a one. Got {row.tolist()}")
        columns.append(int(ones[0]) if len(ones) else None)
    return columns


def _select_columns(name: str, node: nir.NIRGraph) -> list[int | None]:
    """The input channel that each output channel of a select takes, None where it takes none."""
    index = [int(i) for i in _parameter(name, node, "index")]
    _expect(name, "input width", _width_in(node), int(_parameter(name, node, "source_width")))
    _expect(name, "output width", _width_out(node), len(index))
    if min(index) < -1 or max(index) >= _width_in(node):
        raise ValueError(f"select {name!r}: index must be from -1 to {_width_in(node) - 1}. Got {index}")
    return [None if i == -1 else i for i in index]


def _events(name: str, x: np.ndarray) -> int:
    """The sum of spike counts, refusing what is none."""
    if (x < 0).any() or (x != np.round(x)).any():
        raise ValueError(f"node {name!r}: spikes must be whole and not negative. Got {x.tolist()}")
    return int(x.sum())


def _tick(name: str, x: float) -> bool:
    if x not in (0, 1):
        raise ValueError(f"node {name!r}: a clock or gating spike must be 0 or 1. Got {x}")
    return bool(x)


def _parameter(name: str, node: nir.NIRGraph, key: str) -> Any:
    if key not in node.metadata:
        raise ValueError(f"{node.metadata[OP]} {name!r}: metadata must have {key!r}. Got {sorted(node.metadata)}")
    return node.metadata[key]


def _head_width(name: str, N: int, heads: int) -> int:
    if N % heads:
        raise ValueError(f"node {name!r}: {N} channels do not divide into {heads} heads")
    return N // heads


def _expect(name: str, what: str, got: Any, expected: Any) -> None:
    if got != expected:
        raise ValueError(f"node {name!r}: {what} must be {expected}. Got {got}")


def _width_in(node: nir.NIRNode) -> int:
    return int(np.prod(_shape_in(node)))


def _width_out(node: nir.NIRNode) -> int:
    return int(np.prod(_shape_out(node)))


def _shape_in(node: nir.NIRNode) -> tuple[int, ...]:
    return tuple(int(n) for n in next(iter(node.input_type.values())))


def _shape_out(node: nir.NIRNode) -> tuple[int, ...]:
    return tuple(int(n) for n in next(iter(node.output_type.values())))


def _numbers(value: Any, two: bool) -> tuple[int, int]:
    """Of rows and columns; one dimension is a row."""
    if two:
        first, second = np.broadcast_to(value, 2)
        return int(first), int(second)
    return 1, int(np.ravel(value)[0])


def _rows_and_columns(shape: tuple[int, ...]) -> tuple[int, int, int]:
    return shape if len(shape) == 3 else (shape[0], 1, shape[1])


def _padding_before(node: nir.NIRNode, kernel: tuple[int, ...], dilation: tuple[int, int]) -> tuple[int, int]:
    if isinstance(node.padding, str):
        if node.padding == "valid":
            return 0, 0
        return dilation[0] * (kernel[0] - 1) // 2, dilation[1] * (kernel[1] - 1) // 2
    rows, columns = _numbers(node.padding, not isinstance(node, nir.Conv1d))
    return (0, columns) if isinstance(node, nir.Conv1d) else (rows, columns)


def _flattened(graph: nir.NIRGraph, inherited: dict[str, Any]) -> nir.NIRGraph:
    """Copies of all nodes, those of nested graphs called outer.inner; each neuron has the reset that holds for it."""
    if RESET in graph.metadata:
        inherited = {RESET: graph.metadata[RESET]}
    nodes: dict[str, nir.NIRNode] = {}
    edges = list(graph.edges)
    for name, node in graph.nodes.items():
        if not isinstance(node, nir.NIRGraph) or OP in node.metadata:
            nodes[name] = copy.copy(node)
            nodes[name].metadata = {**inherited, **node.metadata}
            continue
        inner = _flattened(node, inherited)
        ends: dict[type, str] = {}
        for inner_name, inner_node in inner.nodes.items():
            full = f"{name}.{inner_name}"
            if isinstance(inner_node, nir.Input | nir.Output):
                ends[type(inner_node)] = full
                nodes[full] = nir.Output(np.array(_shape_out(inner_node)))
            else:
                nodes[full] = inner_node
        edges = [(ends[nir.Output] if a == name else a, ends[nir.Input] if b == name else b) for a, b in edges] + [
            (f"{name}.{a}", f"{name}.{b}") for a, b in inner.edges
        ]
    return nir.NIRGraph(nodes, edges, metadata=graph.metadata, type_check=False)


def _infer_shapes(graph: nir.NIRGraph) -> None:
    """Gives pools, flattening nodes and neurons with one parameter for all the shapes of what arrives."""
    for_all = {name for name, node in graph.nodes.items() if isinstance(node, NEURONS) and _width_out(node) == 1}
    for _ in graph.nodes:
        for a, b in graph.edges:
            before, node = graph.nodes[a], graph.nodes[b]
            if next(iter(before.output_type.values())) is None:
                continue
            shape = _shape_out(before)
            if b in for_all:
                node.input_type, node.output_type = {"input": np.array(shape)}, {"output": np.array(shape)}
            if isinstance(node, nir.SumPool2d | nir.AvgPool2d):
                kernel, stride, pad = (np.broadcast_to(v, 2) for v in (node.kernel_size, node.stride, node.padding))
                size = [(n + 2 * p - k) // s + 1 for n, p, k, s in zip(shape[1:], pad, kernel, stride, strict=True)]
                node.input_type = {"input": np.array(shape)}
                node.output_type = {"output": np.array([shape[0], *size])}
            elif isinstance(node, nir.Output):
                node.input_type, node.output_type = {"input": np.array(shape)}, {"output": np.array(shape)}
            elif isinstance(node, nir.Flatten):
                node.input_type = {"input": np.array(shape)}
                node.output_type = {"output": np.array([np.prod(shape)])}
            elif isinstance(node, nir.Conv1d | nir.Conv2d):
                two = isinstance(node, nir.Conv2d)
                kernel, steps = node.weight.shape[2:], _numbers(node.stride, two)[0 if two else 1 :]
                spread = _numbers(node.dilation, two)[0 if two else 1 :]
                space = tuple(int(n) for n in np.ravel(node.input_shape))
                if isinstance(node.padding, str):
                    twice = [d * (k - 1) if node.padding == "same" else 0 for d, k in zip(spread, kernel, strict=True)]
                else:
                    twice = [2 * p for p in _numbers(node.padding, two)[0 if two else 1 :]]
                size = [
                    (n + t - d * (k - 1) - 1) // s + 1
                    for n, t, d, k, s in zip(space, twice, spread, kernel, steps, strict=True)
                ]
                node.input_type = {"input": np.array([node.weight.shape[1] * int(node.groups), *space])}
                node.output_type = {"output": np.array([node.weight.shape[0], *size])}
