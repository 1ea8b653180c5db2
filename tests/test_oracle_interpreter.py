"""The interpreter that judges the simulator, itself judged by values worked out by hand."""

from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.nir_interpreter import interpret

DT = 1 / 8  # a power of two: delays of k dt and the coefficients of a LIF are exact
THRESHOLD = np.nextafter(1.0, 0.0)


def graph_of(nodes: dict[str, nir.NIRNode], edges: list[tuple[str, str]], steps: int = 8) -> nir.NIRGraph:
    return nir.NIRGraph(nodes=nodes, edges=edges, metadata={"spikescr.dt": DT, "spikescr.steps": steps})


class Unknown(nir.ir.NIRNode):
    """A primitive that some later NIR may have."""

    def __init__(self) -> None:
        self.input_type = {"input": np.array([1])}
        self.output_type = {"output": np.array([1])}
        self.metadata: dict[str, object] = {}


def source(width: int, signal: str = "values") -> nir.Input:
    return nir.Input(np.array([width]), metadata={"spikescr.signal": signal})


def clock() -> nir.Input:
    return nir.Input(np.array([1]), metadata={"spikescr.op": "clock"})


def sink(width: int) -> nir.Output:
    return nir.Output(np.array([width]))


def delay(steps: list[float]) -> nir.Delay:
    return nir.Delay(np.array(steps) * DT)


def lif(width: int, threshold: float = THRESHOLD) -> nir.LIF:
    one = np.ones(width)
    return nir.LIF(tau=2 * DT * one, r=2 * one, v_leak=0 * one, v_threshold=threshold * one, v_reset=0 * one)


def operation(op: str, width_in: int, width_out: int, **parameters: Any) -> nir.NIRGraph:
    return nir.NIRGraph(
        nodes={
            "in": nir.Input(np.array([width_in])),
            "body": nir.Linear(np.full((width_out, width_in), np.nan)),
            "out": nir.Output(np.array([width_out])),
        },
        edges=[("in", "body"), ("body", "out")],
        metadata={"spikescr.op": op, **parameters},
    )


def packed(op: str, width_out: int, sources: dict[str, nir.NIRNode], **parameters: Any) -> nir.NIRGraph:
    """A graph of the sources, packed by wires in the order given, into one operation."""
    widths = [int(node.output_type["output"][0]) for node in sources.values()]
    nodes: dict[str, nir.NIRNode] = dict(sources)
    edges: list[tuple[str, str]] = []
    place = 0
    for name, width in zip(sources, widths, strict=True):
        rows = np.zeros((sum(widths), width))
        rows[place : place + width] = np.eye(width)
        place += width
        nodes[f"wire_{name}"] = nir.Linear(rows, metadata={"spikescr.op": "wire"})
        edges += [(name, f"wire_{name}"), (f"wire_{name}", "op")]
    nodes["op"] = operation(op, sum(widths), width_out, **parameters)
    nodes["out"] = sink(width_out)
    return graph_of(nodes, [*edges, ("op", "out")])


def attention_graph(N: int, heads: int, scale: float, steps: int) -> nir.NIRGraph:
    sources = {"q": source(N, "spikes"), "k": source(N, "spikes"), "v": source(N, "spikes"), "clock": clock()}
    return packed("attention", N, sources, heads=heads, scale=scale, steps=steps)


def dense_attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """(scale (Q K^T) V, the accumulations that it costs per position), from (L, N) spikes, multiplying matrices."""
    L, N = q.shape
    D = N // heads
    y = np.zeros((L, N))
    cost = np.zeros(L)
    for h in range(heads):
        head = slice(h * D, (h + 1) * D)
        scores = q[:, head] @ k[:, head].T  # (L, L)
        y[:, head] = scale * (scores @ v[:, head])
        cost += scores.sum(axis=1) + v[:, head].sum()
    return y, cost


# --- neurons, synapses, delays --------------------------------------------------------------------------------------


def test_lif_of_the_dialect_by_hand() -> None:
    graph = graph_of({"in": source(2), "lif": lif(2), "out": sink(2)}, [("in", "lif"), ("lif", "out")])
    current = np.array([[0.5, 1.0], [0.5, 0.25], [0.75, 0.5], [0.0, 0.625]])
    trace = interpret(graph, {"in": current}, 5)
    # Channel 0: .5; .25 + .5 = .75; .375 + .75 = 1.125 fires; reset to 0; 0.
    # Channel 1: 1 is above nextafter(1, 0), fires; 0 + .25; .125 + .5 = .625; .3125 + .625 = .9375; half of it.
    assert trace.membranes["lif"].tolist() == [[0.5, 1.0], [0.75, 0.25], [1.125, 0.625], [0.0, 0.9375], [0.0, 0.46875]]
    assert trace.outputs["lif"].tolist() == [[0, 1], [0, 0], [1, 0], [0, 0], [0, 0]]
    assert trace.counts["lif"]["fired"].tolist() == [1, 0, 1, 0, 0]


def test_lif_fires_above_its_threshold_only() -> None:
    graph = graph_of({"in": source(1), "lif": lif(1, threshold=1.0), "out": sink(1)}, [("in", "lif"), ("lif", "out")])
    trace = interpret(graph, {"in": np.array([[1.0], [0.75]])}, 2)
    # 1 is not above 1, so nothing is reset: .5 + .75 = 1.25 fires.
    assert trace.membranes["lif"].tolist() == [[1.0], [1.25]]
    assert trace.outputs["lif"].tolist() == [[0.0], [1.0]]


def test_lif_with_any_parameters_against_five_lines_of_numpy() -> None:
    rng = np.random.default_rng(1)
    tau, r, leak = rng.uniform(0.2, 1, 6), rng.uniform(1, 4, 6), rng.uniform(-0.5, 0.5, 6)
    threshold, reset = rng.uniform(0.4, 0.8, 6), rng.uniform(-0.3, 0.3, 6)
    current = rng.uniform(0, 1, (30, 6))
    node = nir.LIF(tau=tau, r=r, v_leak=leak, v_threshold=threshold, v_reset=reset)
    graph = graph_of({"in": source(6), "lif": node, "out": sink(6)}, [("in", "lif"), ("lif", "out")])
    trace = interpret(graph, {"in": current}, 30)
    v = np.zeros(6)
    for n in range(30):
        v = v + DT / tau * (leak - v + r * current[n])  # the differential equation, one Euler step
        np.testing.assert_allclose(trace.membranes["lif"][n], v, rtol=0, atol=1e-12)
        assert trace.outputs["lif"][n].tolist() == (v > threshold).astype(float).tolist()
        v = np.where(v > threshold, reset, v)
    assert 0 < trace.outputs["lif"].mean() < 1


def test_taps_are_a_convolution() -> None:
    rng = np.random.default_rng(2)
    K, T = 4, 9
    kernel = rng.standard_normal((K, 3, 2))  # tap, out, in
    x = rng.standard_normal((T, 2))
    nodes: dict[str, nir.NIRNode] = {"in": source(2), "out": sink(3)}
    edges = []
    for k in range(K):
        nodes |= {f"delay{k}": delay([k, k]), f"tap{k}": nir.Linear(kernel[k])}
        edges += [("in", f"delay{k}"), (f"delay{k}", f"tap{k}"), (f"tap{k}", "out")]
    trace = interpret(graph_of(nodes, edges), {"in": x}, T + K - 1)
    for o in range(3):
        expected = sum(np.convolve(x[:, i], kernel[:, o, i]) for i in range(2))  # (T + K - 1,)
        np.testing.assert_allclose(trace.outputs["out"][:, o], expected, rtol=0, atol=1e-12)


def test_depthwise_taps_and_delays_per_channel() -> None:
    x = np.array([[1.0, 10.0], [2.0, 20.0]])
    nodes = {"in": source(2), "delay": delay([0, 2]), "scale": nir.Scale(np.array([3.0, -1.0])), "out": sink(2)}
    trace = interpret(graph_of(nodes, [("in", "delay"), ("delay", "scale"), ("scale", "out")]), {"in": x}, 5)
    # Channel 0 passes at once, times 3; channel 1 two steps later, times -1.
    assert trace.outputs["out"].tolist() == [[3, 0], [6, 0], [0, -10], [0, -20], [0, 0]]


def test_residual_is_aligned_by_a_delay() -> None:
    nodes = {
        "in": source(1),
        "branch_delay": delay([2]),
        "branch": nir.Linear(np.array([[10.0]])),
        "align": delay([2]),
        "out": sink(1),
    }
    edges = [("in", "branch_delay"), ("branch_delay", "branch"), ("branch", "out"), ("in", "align"), ("align", "out")]
    trace = interpret(graph_of(nodes, edges), {"in": np.array([[1.0], [2.0], [4.0]])}, 6)
    # y[n] = 10 x[n-2] + x[n-2]
    assert trace.outputs["out"][:, 0].tolist() == [0, 0, 11, 22, 44, 0]


def test_affine_adds_its_constant_at_every_step() -> None:
    nodes = {"in": source(2), "affine": nir.Affine(np.array([[1.0, 2.0]]), np.array([0.5])), "out": sink(1)}
    trace = interpret(graph_of(nodes, [("in", "affine"), ("affine", "out")]), {"in": np.array([[1.0, 1.0]])}, 2)
    assert trace.outputs["out"][:, 0].tolist() == [3.5, 0.5]


def test_a_delay_breaks_a_cycle() -> None:
    nodes = {"in": source(1), "half": nir.Scale(np.array([0.5])), "delay": delay([1]), "out": sink(1)}
    edges = [("in", "half"), ("half", "delay"), ("delay", "half"), ("half", "out")]
    trace = interpret(graph_of(nodes, edges), {"in": np.array([[8.0]])}, 4)
    assert trace.outputs["out"][:, 0].tolist() == [4, 2, 1, 0.5]  # y[n] = (x[n] + y[n-1]) / 2


def test_a_neuron_breaks_a_cycle_with_its_spikes_of_the_step_before() -> None:
    nodes = {"in": source(1), "lif": lif(1), "loop": nir.Linear(np.array([[-2.0]])), "out": sink(1)}
    edges = [("in", "lif"), ("lif", "loop"), ("loop", "lif"), ("lif", "out")]
    trace = interpret(graph_of(nodes, edges), {"in": np.array([[1.5], [1.5], [1.5]])}, 3)
    # 1.5 fires; 0 + 1.5 - 2 = -.5; -.25 + 1.5 - 0 = 1.25 fires. The output sees a spike in the step of the spike.
    assert trace.membranes["lif"][:, 0].tolist() == [1.5, -0.5, 1.25]
    assert trace.outputs["out"][:, 0].tolist() == [1, 0, 1]


def test_the_order_of_nodes_and_of_steps_beyond_the_input_does_not_matter() -> None:
    nodes = {"out": sink(1), "b": nir.Linear(np.array([[2.0]])), "a": nir.Linear(np.array([[3.0]])), "in": source(1)}
    trace = interpret(graph_of(nodes, [("b", "out"), ("a", "b"), ("in", "a")]), {"in": np.array([[1.0], [5.0]])}, 3)
    assert trace.outputs["out"][:, 0].tolist() == [6, 30, 0]


def test_a_run_shorter_than_the_input_is_its_beginning() -> None:
    graph = graph_of({"in": source(1), "late": delay([1]), "out": sink(1)}, [("in", "late"), ("late", "out")])
    trace = interpret(graph, {"in": np.array([[1.0], [2.0], [3.0]])}, 2)
    assert trace.outputs["out"].tolist() == [[0], [1]]


# --- the three operations beyond NIR --------------------------------------------------------------------------------


def test_rotary_is_a_rotation_of_pairs_by_the_angle_of_the_position() -> None:
    angles = np.array([[0.3, 0.7], [1.1, -0.4]])  # (position, pair in the head)
    x = np.random.default_rng(3).integers(0, 3, (2, 8)).astype(float)  # two heads of 4
    sources = {"x": source(8, "spikes"), "clock": clock()}
    graph = packed("rotary", 8, sources, heads=2, cos=np.cos(angles), sin=np.sin(angles))
    silent = np.zeros((1, 8))
    # Steps: no tick (an event arrives all the same), tick (position 0), no tick, tick (position 1).
    stream = np.concatenate([np.eye(1, 8), x[:1], silent, x[1:]])
    trace = interpret(graph, {"x": stream, "clock": np.array([[0], [1], [0], [1]])}, 5)
    expected = np.zeros((5, 8))
    for p, n in ((0, 1), (1, 3)):
        for pair in range(4):  # pairs 0, 1 are of head 0, pairs 2, 3 of head 1
            a = angles[p, pair % 2]
            rotation = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
            expected[n, 2 * pair : 2 * pair + 2] = rotation @ x[p, 2 * pair : 2 * pair + 2]
    np.testing.assert_allclose(trace.outputs["out"], expected, rtol=0, atol=1e-15)
    # 2 per event: one event, then those of x.
    assert trace.counts["op"]["ac"].tolist() == [2, 2 * x[0].sum(), 0, 2 * x[1].sum(), 0]
    assert trace.counts["op"]["mac"].tolist() == [0] * 5


def test_rotary_by_a_quarter_turn_by_hand() -> None:
    sources = {"x": source(2, "spikes"), "clock": clock()}
    graph = packed("rotary", 2, sources, heads=1, cos=np.array([[1.0], [0.0]]), sin=np.array([[0.0], [1.0]]))
    x = np.array([[1.0, 2.0], [1.0, 2.0]])
    trace = interpret(graph, {"x": x, "clock": np.ones((2, 1))}, 2)
    assert trace.outputs["out"].tolist() == [[1, 2], [-2, 1]]  # position 0 as it is, position 1 turned by 90 degrees
    assert trace.counts["op"]["ac"].tolist() == [6, 6]  # 3 events x 2


def test_attention_is_dense_attention_over_the_valid_positions() -> None:
    rng = np.random.default_rng(4)
    N, heads, T, L, start = 6, 2, 5, 4, 2  # window 5, of which 4 valid, first tick at step 2
    q, k, v = rng.integers(0, 2, (3, start + L, N)).astype(float)
    ticks = np.array([[0], [0], [1], [1], [1], [1]])
    trace = interpret(attention_graph(N, heads, 0.25, T), {"q": q, "k": k, "v": v, "clock": ticks}, 13)
    y, cost = dense_attention(q[start:], k[start:], v[start:], heads, 0.25)
    expected = np.zeros((13, N))
    expected[start + T : start + T + L] = y  # position t is read T steps after it came: steps 7 to 10
    np.testing.assert_array_equal(trace.outputs["out"], expected)
    assert (y != 0).any()
    assert trace.counts["op"]["ac_quadratic"].tolist() == [0] * 7 + cost.tolist() + [0] * 2
    D = 3
    ac = np.zeros(13)
    for n in range(start, start + L):
        for h in range(heads):
            ac[n] += k[n, h * D : (h + 1) * D].sum() * v[n, h * D : (h + 1) * D].sum()
        ac[n + T] += q[n].sum() * D
    assert trace.counts["op"]["ac"].tolist() == ac.tolist()


def test_attention_by_hand() -> None:
    # One head, N = 2, T = 2. A = k0 v0^T + k1 v1^T = [1 1; 1 1] + [0 0; 1 0] = [1 1; 2 1].
    q, k, v = np.array([[[1, 0], [1, 1]], [[1, 1], [0, 1]], [[1, 1], [1, 0]]])
    trace = interpret(attention_graph(2, 1, 0.5, 2), {"q": q, "k": k, "v": v, "clock": np.ones((2, 1))}, 5)
    assert trace.outputs["out"].tolist() == [[0, 0], [0, 0], [0.5, 0.5], [1.5, 1], [0, 0]]  # q0 A / 2, q1 A / 2
    # Writing 2 x 2, then 1 x 1; reading 1 q spike x D = 2, then 2 x 2.
    assert trace.counts["op"]["ac"].tolist() == [4, 1, 2, 4, 0]
    # q0 k0 + q0 k1 = 1 + 0, and 3 v spikes; q1 k0 + q1 k1 = 2 + 1, and 3.
    assert trace.counts["op"]["ac_quadratic"].tolist() == [0, 0, 4, 6, 0]


def test_attention_of_padded_steps_neither_writes_nor_is_a_position() -> None:
    # Window 3, one valid step. Spikes after it write nothing; a q after it reads A, and is no position.
    q, k, v = np.ones((3, 2, 1))
    trace = interpret(attention_graph(1, 1, 1.0, 3), {"q": q, "k": k, "v": v, "clock": np.ones((1, 1))}, 6)
    assert trace.outputs["out"][:, 0].tolist() == [0, 0, 0, 1, 1, 0]
    assert trace.counts["op"]["ac"].tolist() == [1, 0, 0, 1, 1, 0]
    assert trace.counts["op"]["ac_quadratic"].tolist() == [0, 0, 0, 2, 0, 0]  # q0 k0 + 1 v spike


@st.composite
def spike_trains(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, int, int]:
    """(q, k, v of (L, N), heads, window T >= L, step of the first tick)."""
    heads, D, L = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 6))
    bits = draw(st.lists(st.integers(0, 1), min_size=3 * L * heads * D, max_size=3 * L * heads * D))
    q, k, v = np.array(bits, dtype=float).reshape(3, L, heads * D)
    return q, k, v, heads, L + draw(st.integers(0, 3)), draw(st.integers(0, 2))


@settings(max_examples=50)
@given(spike_trains())
def test_the_order_of_products_in_attention_does_not_matter(
    trains: tuple[np.ndarray, np.ndarray, np.ndarray, int, int, int],
) -> None:
    q, k, v, heads, T, start = trains
    L, N = q.shape
    late = [np.concatenate([np.zeros((start, N)), operand]) for operand in (q, k, v)]
    ticks = np.concatenate([np.zeros((start, 1)), np.ones((L, 1))])
    graph = attention_graph(N, heads, 0.125, T)
    trace = interpret(graph, dict(zip(("q", "k", "v", "clock"), [*late, ticks], strict=True)), start + T + L)
    y, cost = dense_attention(q, k, v, heads, 0.125)
    np.testing.assert_array_equal(trace.outputs["out"][start + T :], y)
    assert not trace.outputs["out"][: start + T].any()
    assert trace.counts["op"]["ac_quadratic"][start + T :].tolist() == cost.tolist()


@pytest.mark.parametrize(
    ("spikes", "expected"),
    [
        (np.array([[1, 0], [0, 1]]), [[2, 0], [0, 7]]),  # channel by channel
        (np.array([[1], [0]]), [[2, -3], [0, 0]]),  # one for all
    ],
)
def test_gate(spikes: np.ndarray, expected: list[list[float]]) -> None:
    width = spikes.shape[1]
    sources = {"value": source(2), "spike": source(width, "spikes")}
    graph = packed("gate", 2, sources, width=2, spike_width=width)
    trace = interpret(graph, {"value": np.array([[2.0, -3.0], [5.0, 7.0]]), "spike": spikes}, 2)
    assert trace.outputs["out"].tolist() == expected
    assert trace.counts["op"] == {}


def test_the_nan_body_is_never_evaluated() -> None:
    graph = packed("gate", 1, {"value": source(1), "clock": clock()}, width=1, spike_width=1)
    body = graph.nodes["op"].nodes["body"].weight
    assert np.isnan(body).all()
    trace = interpret(graph, {"value": np.array([[4.0], [5.0]]), "clock": np.array([[1.0]])}, 2)
    assert trace.outputs["out"][:, 0].tolist() == [4, 0]


# --- counting -------------------------------------------------------------------------------------------------------


def test_counts_of_a_small_network_by_hand() -> None:
    nodes = {
        "in": source(3, "spikes"),
        "clock": clock(),
        "fc": nir.Linear(np.array([[1.0, 0.0, 0.25], [0.0, 1.0, 0.25]])),
        "bias": nir.Linear(np.array([[0.5], [0.0]])),
        "lif": lif(2),
        "later": delay([1, 1]),
        "skip": nir.Linear(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), metadata={"spikescr.op": "wire"}),
        "head": nir.Scale(np.array([2.0, 3.0])),
        "readout": nir.Linear(np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]])),
        "out": sink(3),
    }
    edges = [
        ("in", "fc"),
        ("clock", "bias"),
        ("fc", "lif"),
        ("bias", "lif"),
        ("lif", "later"),
        ("later", "head"),
        ("in", "skip"),
        ("skip", "head"),
        ("head", "readout"),
        ("readout", "out"),
    ]
    x = np.array([[2, 0, 0], [0, 1, 1], [0, 0, 0]])
    trace = interpret(graph_of(nodes, edges), {"in": x, "clock": np.array([[1], [1]])}, 4)
    # Current [2.5, 0], [.75, 1.25], then none: [1, 0], [0, 1], [0, 0] fire ([.75 and 1.25], then .375).
    assert trace.membranes["lif"].tolist() == [[2.5, 0], [0.75, 1.25], [0.375, 0], [0.1875, 0]]
    assert trace.counts["lif"]["fired"].tolist() == [1, 1, 0, 0]
    # 2 events x 1 synapse; an event x 1 and one x 2: a weight of zero is no synapse, an integer of 2 is 2 events.
    assert trace.counts["fc"]["ac"].tolist() == [2, 3, 0, 0]
    assert trace.counts["fc"]["mac"].tolist() == [0, 0, 0, 0]
    assert trace.counts["bias"]["bias"].tolist() == [2, 2, 0, 0]  # 1 tick x 2 rows, the zero row included
    assert trace.counts["bias"]["ac"].tolist() == [0, 0, 0, 0]
    # Into the Scale: skip [2, 0], skip [0, 1] + late [1, 0], late [0, 1]: 2, 2, 1 events. Sums of spikes are spikes.
    assert trace.outputs["head"].tolist() == [[4, 0], [2, 3], [0, 3], [0, 0]]
    assert trace.counts["head"]["ac"].tolist() == [2, 2, 1, 0]
    # The Scale puts out values: 1, 2, 1 non-zero inputs x the 2 weights of their columns that are not 0.
    assert trace.counts["readout"]["mac"].tolist() == [2, 4, 2, 0]
    assert trace.counts["readout"]["ac"].tolist() == [0, 0, 0, 0]
    for free in ("in", "clock", "later", "skip", "out"):
        assert trace.counts[free] == {}


def test_kinds_pass_through_delays_wires_and_gates_channel_by_channel() -> None:
    graph = packed("gate", 1, {"value": source(1, "spikes"), "clock": clock()}, width=1, spike_width=1)
    graph.nodes |= {
        "after_gate": nir.Linear(np.ones((4, 1))),
        "clock_delay": delay([1]),
        "bias": nir.Affine(np.ones((5, 1)), np.zeros(5)),
        "real": source(1),
        "real_fc": nir.Linear(np.ones((6, 1))),
        "out4": sink(4),
        "out5": sink(5),
        "out6": sink(6),
    }
    graph.edges += [
        ("op", "after_gate"),
        ("after_gate", "out4"),
        ("clock", "clock_delay"),
        ("clock_delay", "bias"),
        ("bias", "out5"),
        ("real", "real_fc"),
        ("op", "real_fc"),
        ("real_fc", "out6"),
    ]
    inputs = {"value": np.array([[3], [3]]), "clock": np.array([[1]]), "real": np.array([[0.0], [2.0]])}
    trace = interpret(graph, inputs, 3)
    assert trace.counts["after_gate"]["ac"].tolist() == [12, 0, 0]  # 3 events x 4 rows, then the gate is closed
    assert trace.counts["bias"]["bias"].tolist() == [0, 5, 0]  # one tick x 5 rows, a step late
    # A spike count plus a value is a value: 3 + 0, 0 + 2, 0: one non-zero input x 6 rows each.
    assert trace.counts["real_fc"]["mac"].tolist() == [6, 6, 0]
    assert trace.counts["real_fc"]["ac"].tolist() == [0, 0, 0]


def test_an_input_without_a_signal_kind_is_values() -> None:
    nodes = {"in": nir.Input(np.array([2])), "fc": nir.Linear(np.ones((3, 2))), "out": sink(3)}
    trace = interpret(graph_of(nodes, [("in", "fc"), ("fc", "out")]), {"in": np.array([[5, 0]])}, 1)
    assert trace.counts["fc"]["mac"].tolist() == [3]  # one non-zero input x 3 rows, whatever its value
    assert trace.counts["fc"]["ac"].tolist() == [0]


# --- files and refusals ---------------------------------------------------------------------------------------------


def test_a_graph_read_from_a_file_means_the_same(tmp_path: Path) -> None:
    graph = attention_graph(4, 2, 0.5, 3)
    q, k, v = np.random.default_rng(5).integers(0, 2, (3, 3, 4))
    inputs = {"q": q, "k": k, "v": v, "clock": np.ones((3, 1))}
    nir.write(tmp_path / "graph.nir", graph)
    ours, read = interpret(graph, inputs, 7), interpret(nir.read(tmp_path / "graph.nir"), inputs, 7)
    assert ours.outputs["out"].any()
    for name in graph.nodes:
        np.testing.assert_array_equal(read.outputs[name], ours.outputs[name])
    assert read.counts["op"]["ac"].tolist() == ours.counts["op"]["ac"].tolist()


def test_a_delay_of_parts_of_a_step_is_refused() -> None:
    graph = graph_of({"in": source(1), "late": delay([1.5]), "out": sink(1)}, [("in", "late"), ("late", "out")])
    with pytest.raises(ValueError, match=r"Delay 'late': must be whole steps of 0\.125 s"):
        interpret(graph, {"in": np.ones((1, 1))}, 2)


def test_a_cycle_that_nothing_breaks_is_refused() -> None:
    nodes = {"in": source(1), "a": nir.Scale(np.ones(1)), "b": delay([0]), "out": sink(1)}
    graph = graph_of(nodes, [("in", "a"), ("a", "b"), ("b", "a"), ("a", "out")])
    with pytest.raises(ValueError, match=r"cycle without a Delay or a neuron among the nodes \['a', 'b', 'out'\]"):
        interpret(graph, {"in": np.ones((1, 1))}, 2)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (Unknown(), "node 'bad' of type Unknown is not supported"),
        (operation("softmax", 1, 1), "node 'bad' of type NIRGraph: spikescr.op 'softmax' is not supported"),
        (nir.Linear(np.array([[0.5]]), metadata={"spikescr.op": "wire"}), "wire 'bad': a row must be zeros and at"),
    ],
)
def test_what_is_outside_the_dialect_is_refused_by_name(node: nir.NIRNode, message: str) -> None:
    graph = graph_of({"in": source(1), "bad": node, "out": sink(1)}, [("in", "bad"), ("bad", "out")])
    with pytest.raises(ValueError, match=message):
        interpret(graph, {"in": np.ones((1, 1))}, 1)


@pytest.mark.parametrize("spikes", [0.5, -1.0])
def test_spikes_that_are_no_counts_are_refused(spikes: float) -> None:
    graph = graph_of({"in": source(1, "spikes"), "out": sink(1)}, [("in", "out")])
    with pytest.raises(ValueError, match="node 'in': spikes must be whole and not negative"):
        interpret(graph, {"in": np.array([[spikes]])}, 1)


def test_a_sum_of_spikes_and_clock_has_no_count() -> None:
    nodes = {"in": source(1, "spikes"), "clock": clock(), "fc": nir.Linear(np.ones((1, 1))), "out": sink(1)}
    graph = graph_of(nodes, [("in", "fc"), ("clock", "fc"), ("fc", "out")])
    with pytest.raises(ValueError, match="node 'fc': a channel sums spikes and clock"):
        interpret(graph, {"in": np.ones((1, 1)), "clock": np.ones((1, 1))}, 1)


def test_a_tick_after_the_window_of_attention_is_refused() -> None:
    one = np.ones((3, 1))
    with pytest.raises(ValueError, match="attention 'op': tick at step 2, after its window of 2 steps"):
        interpret(attention_graph(1, 1, 1.0, 2), {"q": one, "k": one, "v": one, "clock": one}, 3)


def test_a_tick_beyond_the_tables_of_rotary_is_refused() -> None:
    sources = {"x": source(2, "spikes"), "clock": clock()}
    graph = packed("rotary", 2, sources, heads=1, cos=np.ones((1, 1)), sin=np.zeros((1, 1)))
    with pytest.raises(ValueError, match="rotary 'op': tick 2, but the tables have 1 positions"):
        interpret(graph, {"x": np.ones((2, 2)), "clock": np.ones((2, 1))}, 2)


def test_inputs_must_be_those_of_the_graph() -> None:
    graph = graph_of({"in": source(1), "out": sink(1)}, [("in", "out")])
    with pytest.raises(ValueError, match=r"inputs must be \['in'\]\. Got \['x'\]"):
        interpret(graph, {"x": np.ones((1, 1))}, 1)
