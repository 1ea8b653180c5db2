"""Selects and packed operations of images and tokens: files that plain nir reads, routing, counts, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
from oracles.nir_interpreter import interpret

from spikescr.dialect import PACKED_OPERATIONS, SIGNAL, into_slots, packed_node, select_node
from spikescr.errors import GraphError
from spikescr.sim.counting.account import Account
from spikescr.sim.counting.facts import SampleFacts
from spikescr.sim.fast.backend import FastBackend
from spikescr.sim.inspection.inspection import inspect
from spikescr.sim.lowering.graph_file import read_graph
from spikescr.sim.lowering.lower import lower
from spikescr.sim.program import Gate, Maximum, Program, Select, Signal, Synapse, TokenAttention
from spikescr.sim.recording import Recording

STEPS = 3


def graph(nodes: dict[str, nir.NIRNode], edges: list[tuple[str, str]], **options: Any) -> nir.NIRGraph:
    return nir.NIRGraph(nodes, edges, metadata={"spikescr.dt": 1.0, "spikescr.steps": STEPS}, **options)


def spikes_in(*shape: int) -> nir.Input:
    return nir.Input(np.array(shape), metadata={SIGNAL: "spikes"})


def fire(*shape: int, above: float = 0.5) -> nir.Threshold:
    return nir.Threshold(np.full(shape, above))


def run(program: Program, x: np.ndarray) -> Recording:
    """x: (T, B, ...) of the only input."""
    return FastBackend(program, x.shape[1]).run({"input": x.reshape(*x.shape[:2], -1)})


def as_interpreted(net: nir.NIRGraph, x: np.ndarray, **counted: str) -> Recording:
    """The same outputs and counts from the interpreter of the document; counted: node -> kinds."""
    recording = run(lower(net), x)
    for b in range(x.shape[1]):
        trace = interpret(net, {"input": x[:, b].reshape(len(x), -1)}, STEPS)
        np.testing.assert_array_equal(recording.outputs["output"][:, b], trace.outputs["output"])
        for node, kinds in counted.items():
            for kind in kinds.split():
                np.testing.assert_array_equal(recording.counts.per_step(node, kind)[:, b], trace.counts[node][kind])
    return recording


def facts(program: Program, recording: Recording) -> SampleFacts:
    account = Account(program)
    account.add(recording.counts, np.full(recording.counts.table.shape[-1], STEPS))
    assert account.refused is None
    return account.facts


SHAPES = ((1,), (6,), (2, 3), (2, 3, 4), (600,))


@pytest.mark.parametrize("reads", SHAPES)
@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (2, 4, 3), (3, 10, 30)])
def test_plain_nir_reads_a_packed_node_of_any_shapes_and_its_body_is_nan(
    reads: tuple[int, ...], shape: tuple[int, ...], tmp_path: Path
) -> None:
    index = np.arange(np.prod(shape)) % np.prod(reads)
    nodes = {"input": spikes_in(*reads), "s": select_node(index, reads, shape), "output": nir.Output(np.array(shape))}
    nir.write(tmp_path / "a.nir", graph(nodes, [("input", "s"), ("s", "output")]))
    read = nir.read(tmp_path / "a.nir").nodes["s"]
    assert tuple(read.input_type["input"]) == reads
    assert tuple(read.output_type["output"]) == shape
    assert np.isnan(read.nodes["body"].weight).all()
    assert sum(getattr(node, "weight", np.zeros(0)).size for node in read.nodes.values()) <= 2**18
    np.testing.assert_array_equal(read.metadata["index"], index)


def test_a_select_of_a_hundred_thousand_channels_is_a_small_file_and_a_cheap_run(tmp_path: Path) -> None:
    count = 100_000
    index = np.random.default_rng(0).permutation(count)
    nodes = {
        "input": spikes_in(10, 100, 100), "fire": fire(10, 100, 100),
        "s": select_node(index, (10, 100, 100), (count,)), "output": nir.Output(np.array([count])),
    }  # fmt: skip
    nir.write(tmp_path / "a.nir", graph(nodes, [("input", "fire"), ("fire", "s"), ("s", "output")]))
    assert (tmp_path / "a.nir").stat().st_size < 600_000
    program = lower(read_graph(tmp_path / "a.nir"))
    x = (np.random.default_rng(1).random((STEPS, 1, count)) < 0.1).astype(float)
    np.testing.assert_array_equal(run(program, x).outputs["output"], x[..., index])


def test_selects_side_by_side_are_a_concatenation_and_no_addition() -> None:
    """Two halves of an image, the second doubled in front of the first; one tensor of a framework."""
    front, back = np.r_[np.arange(6), np.full(12, -1)], np.r_[np.full(6, -1), np.arange(6), np.arange(6)]
    nodes = {
        "input": spikes_in(2, 3), "fire": fire(2, 3), "swapped": select_node(np.arange(6)[::-1], (2, 3), (6,)),
        "a": select_node(front, (6,)), "b": select_node(back, (2, 3), (18,)),
        "weight": nir.Linear(np.arange(36.0).reshape(2, 18)), "output": nir.Output(np.array([2])),
    }  # fmt: skip
    edges = [("input", "fire"), ("fire", "swapped"), ("swapped", "a"), ("fire", "b"), ("a", "weight"), ("b", "weight")]
    net = graph(nodes, [*edges, ("weight", "output")])
    x = (np.random.default_rng(2).random((STEPS, 4, 6)) < 0.5).astype(float)
    recording = as_interpreted(net, x, weight="ac mac")
    np.testing.assert_array_equal(recording.counts.per_step("weight", "spikes"), 3 * x.sum(axis=-1))
    assert not facts(lower(net), recording).total("sums").any()


def test_a_select_that_leads_elsewhere_too_is_routed_once_for_each() -> None:
    """Into both operands of a gate, and to a synapse."""
    value, spike = PACKED_OPERATIONS["gate"].operands({"width": 2, "spike_width": 2}, 2)
    assert (value.stop, spike.stop) == (2, 4)
    nodes = {
        "input": spikes_in(3), "fire": fire(3), "s": select_node(np.array([2, 1, 0, 2]), (3,)),
        "gate": packed_node("gate", 2, 0, {"width": 2, "spike_width": 2}),
        "weight": nir.Linear(np.ones((2, 4))), "output": nir.Output(np.array([2])),
    }  # fmt: skip
    edges = [("input", "fire"), ("fire", "s"), ("s", "gate"), ("s", "weight"), ("gate", "output"), ("weight", "output")]
    program = lower(graph(nodes, edges))
    assert {o.name for o in program.of_type(Select)} == {"s", "s.gate.value", "s.gate.spike"}
    x = (np.random.default_rng(3).random((STEPS, 5, 3)) < 0.6).astype(float)
    out = run(program, x).outputs["output"]
    np.testing.assert_array_equal(out, x[..., [2, 1]] * x[..., [0, 2]] + (x.sum(axis=-1) + x[..., 2])[..., None])


def tokens(heads: int, count: int, depth: int, values: int, *, real: bool) -> nir.NIRGraph:
    """q, k and v of one input, through selects, into the attention; v real numbers or spikes."""
    parameters = {"heads": heads, "tokens": count, "depth": depth, "scale": 0.125}
    width, asking = heads * count * values, heads * count * depth
    q, k, v = PACKED_OPERATIONS["token_attention"].operands(parameters, width)
    parts = (np.arange(asking), np.arange(asking, 2 * asking), np.arange(2 * asking, 2 * asking + width))
    nodes: dict[str, nir.NIRNode] = {
        "input": nir.Input(np.array([2 * asking + width]), metadata={SIGNAL: "spikes"}),
        "attn": packed_node("token_attention", width, 0, parameters, shape=(heads, count, values)),
        "output": nir.Output(np.array([heads, count, values])),
    }
    edges = [("attn", "output")]
    for operand, part in zip((q, k, v), parts, strict=True):
        name = operand.name
        nodes[name] = select_node(part, (2 * asking + width,))
        nodes[f"{name}.fire"] = fire(len(part))
        edges += [("input", name), (name, f"{name}.fire")]
        last = f"{name}.fire"
        if name == "v" and real:
            nodes["v.weight"] = nir.Scale(np.linspace(-1.0, 1.0, width))
            edges.append((last, "v.weight"))
            last = "v.weight"
        nodes[f"{name}.into"] = into_slots(operand, v.stop, (len(part),))
        edges += [(last, f"{name}.into"), (f"{name}.into", "attn")]
    return graph(nodes, edges)


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize(("count", "depth", "values"), [(2, 6, 6), (9, 2, 2), (4, 3, 5), (1, 1, 1)])
def test_attention_over_tokens_is_that_of_the_document_in_either_order(
    count: int, depth: int, values: int, real: bool
) -> None:
    net = tokens(2, count, depth, values, real=real)
    attention = lower(net)["attn"]
    assert isinstance(attention, TokenAttention)
    assert attention.by_scores == (real or 2 * depth * values >= count * (depth + values))
    rng = np.random.default_rng(count)
    x = (rng.random((STEPS, 3, net.nodes["input"].input_type["input"][0])) < 0.5).astype(float)
    recording = run(lower(net), x)
    for b in range(3):
        trace = interpret(net, {"input": x[:, b]}, STEPS)
        for kind in ("ac", "mac", "ac_quadratic"):
            np.testing.assert_array_equal(recording.counts.per_step("attn", kind)[:, b], trace.counts["attn"][kind])
        np.testing.assert_allclose(recording.outputs["output"][:, b], trace.outputs["output"], rtol=0, atol=1e-12)
    if not real:
        assert (8 * recording.outputs["output"] % 1 == 0).all()


def test_one_attention_over_tokens_counted_by_hand() -> None:
    """One head, two tokens of one channel: q = (1, 1), k = (1, 0), v of one channel = (1, 1)."""
    net = tokens(1, 2, 1, 1, real=False)
    x = np.zeros((STEPS, 1, 6))
    x[0, 0] = [1, 1, 1, 0, 1, 1]
    recording = run(lower(net), x)
    counts = recording.counts
    assert not lower(net)["attn"].by_scores  # 2 x (1 + 1) products of scores, 2 of the matrix for each token
    # K^T V: the first token has a spike in k and in v, 1; each of two spikes of q reads one number, 2
    assert counts.per_step("attn", "ac")[:, 0].tolist() == [3, 0, 0]
    # Q K^T: both spikes of q meet the one of k, 2; each of two spikes of v is weighed for two tokens, 4
    assert counts.per_step("attn", "ac_quadratic")[:, 0].tolist() == [6, 0, 0]
    # the formula: each spike of q meets two keys, each of v two rows of scores
    assert facts(lower(net), recording).total("formula_ac").tolist() == [8]


def test_windows_and_a_maximum_are_a_pool_of_real_values() -> None:
    windows = np.array([[0, 1, 3, 4], [1, 2, 4, 5]]).T.ravel()  # 2 x 2 windows of 2 x 3, stride 1
    nodes = {
        "input": nir.Input(np.array([1, 2, 3])), "windows": select_node(windows, (1, 2, 3)),
        "max": packed_node("maximum", 2, 0, {"fan": 4}, shape=(1, 1, 2)), "output": nir.Output(np.array([1, 1, 2])),
    }  # fmt: skip
    net = graph(nodes, [("input", "windows"), ("windows", "max"), ("max", "output")])
    x = np.random.default_rng(4).normal(size=(STEPS, 3, 1, 2, 3))
    assert lower(net)["max"].signal is Signal.VALUES
    out = as_interpreted(net, x).outputs["output"]
    np.testing.assert_array_equal(out[..., 0], x[..., :2].max(axis=(2, 3, 4)))
    np.testing.assert_array_equal(out[..., 1], x[..., 1:].max(axis=(2, 3, 4)))


def test_an_operation_of_one_operand_is_fed_as_it_stands() -> None:
    """Real numbers of two nodes that join lead into a maximum without a select."""
    nodes = {
        "input": nir.Input(np.array([4])), "a": nir.Scale(np.full(4, 2.0)), "b": nir.Scale(np.full(4, -0.5)),
        "max": packed_node("maximum", 2, 0, {"fan": 2}), "output": nir.Output(np.array([2])),
    }  # fmt: skip
    net = graph(nodes, [("input", "a"), ("input", "b"), ("a", "max"), ("b", "max"), ("max", "output")])
    x = np.random.default_rng(5).normal(size=(STEPS, 3, 4))
    assert isinstance(lower(net)["max"], Maximum)
    assert not lower(net).of_type(Select)
    np.testing.assert_array_equal(run(lower(net), x).outputs["output"], 1.5 * np.maximum(x[..., :2], x[..., 2:]))
    as_interpreted(net, x)


@pytest.mark.parametrize("spike_width", [1, 4])
def test_an_inverted_gate_lets_through_where_no_spike_is(spike_width: int) -> None:
    parameters = {"width": 4, "spike_width": spike_width}
    value, spike = PACKED_OPERATIONS["inverted_gate"].operands(parameters, 4)
    nodes = {
        "input": nir.Input(np.array([4])), "value": nir.Scale(np.arange(1.0, 5.0)),
        "first": select_node(np.arange(spike_width), (4,)), "spike": fire(spike_width, above=0.0),
        "v": into_slots(value, spike.stop, (4,)), "s": into_slots(spike, spike.stop, (spike_width,)),
        "gate": packed_node("inverted_gate", 4, 0, parameters), "output": nir.Output(np.array([4])),
    }  # fmt: skip
    edges = [
        ("input", "value"),
        ("input", "first"),
        ("first", "spike"),
        ("value", "v"),
        ("spike", "s"),
        ("v", "gate"),
        ("s", "gate"),
    ]
    net = graph(nodes, [*edges, ("gate", "output")])
    gate = lower(net)["gate"]
    assert isinstance(gate, Gate)
    assert gate.inverted
    x = np.random.default_rng(6).normal(size=(STEPS, 6, 4))
    x[1] = 0.0
    out = as_interpreted(net, x).outputs["output"]
    np.testing.assert_array_equal(out, np.where(x[..., :spike_width] > 0, 0.0, x * np.arange(1.0, 5.0)))
    assert out[0].any()


def test_inspection_tells_routing_from_operations_and_bounds_the_attention() -> None:
    report = inspect(tokens(2, 3, 4, 5, real=False))
    assert report.warnings == ()
    assert {node.type for node in report.groups["wires"]} == {"select"}
    assert [node.type for node in report.groups["packed"]] == ["token_attention"]
    attention = report.groups["packed"][0]
    assert attention.operations.ac == 2 * min(9 * (4 + 5), 2 * 3 * 4 * 5)
    assert attention.output_shape == (2, 3, 5)
    real = inspect(tokens(2, 3, 4, 5, real=True)).groups["packed"][0]
    assert (real.operations.ac, real.operations.mac) == (2 * 9 * 4, 2 * 9 * 5)


def test_a_concatenation_does_not_multiply_the_bound_on_events() -> None:
    halves = [np.r_[np.arange(2), [-1, -1]], np.r_[[-1, -1], np.arange(2)]]
    nodes = {
        "input": spikes_in(2), "a": select_node(halves[0], (2,)), "b": select_node(halves[1], (2,)),
        "weight": nir.Linear(np.ones((3, 4))), "output": nir.Output(np.array([3])),
    }  # fmt: skip
    net = graph(nodes, [("input", "a"), ("input", "b"), ("a", "weight"), ("b", "weight"), ("weight", "output")])
    assert next(n for n in inspect(net).nodes if n.name == "weight").operations.ac == 12
    assert isinstance(lower(net)["weight"], Synapse)


def damaged(change: dict[str, Any]) -> nir.NIRGraph:
    node = select_node(np.array([1, 0, -1]), (2,))
    node.metadata = {key: value for key, value in {**node.metadata, **change}.items() if value is not None}
    nodes = {"input": spikes_in(2), "s": node, "output": nir.Output(np.array([3]))}
    return graph(nodes, [("input", "s"), ("s", "output")])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"index": np.array([0, 2, 1])}, "s: metadata index of select must be from -1 to 1, it holds 2"),
        ({"index": np.array([0, -2, 1])}, "s: metadata index of select must be from -1 to 1, it holds -2"),
        ({"index": np.array([0.0, 1.0, 1.0])}, "s: metadata index of select must be an array (n,) of whole numbers"),
        ({"index": np.array([0, 1])}, "s: metadata index of select has 2 entries for 3 outputs"),
        ({"index": None}, "s: metadata of select lacks index"),
        ({"source_width": 3}, "s: metadata of select ask for 3 slots, its Input has 2"),
    ],
)
def test_a_select_that_contradicts_itself_is_refused_by_name(change: dict[str, Any], words: str) -> None:
    with pytest.raises(GraphError) as told:
        lower(damaged(change))
    assert str(told.value).startswith(words)


@pytest.mark.parametrize(
    ("signal", "words"),
    [
        ("values", "attn: operand q must carry spikes, not values"),
        ("clock", "attn: operand q must carry spikes, not clock"),
    ],
)
def test_attention_over_tokens_wants_spikes_in_q_and_k(signal: str, words: str) -> None:
    metadata = {"spikescr.op": "clock"} if signal == "clock" else {SIGNAL: signal}
    parameters = {"heads": 1, "tokens": 1, "depth": 1, "scale": 1.0}
    q, k, v = PACKED_OPERATIONS["token_attention"].operands(parameters, 1)
    nodes = {
        "input": nir.Input(np.array([1]), metadata=metadata), "other": spikes_in(1), "q": into_slots(q, 3, (1,)),
        "k": into_slots(k, 3, (1,)), "v": into_slots(v, 3, (1,)),
        "attn": packed_node("token_attention", 1, 0, parameters), "output": nir.Output(np.array([1])),
    }  # fmt: skip
    edges = [("input", "q"), ("other", "k"), ("other", "v"), *((name, "attn") for name in "qkv"), ("attn", "output")]
    with pytest.raises(GraphError, match=words):
        lower(graph(nodes, edges))


def test_an_operand_without_a_wire_is_refused_where_there_are_several() -> None:
    nodes = {
        "input": spikes_in(4), "gate": packed_node("gate", 2, 0, {"width": 2, "spike_width": 2}),
        "output": nir.Output(np.array([2])),
    }  # fmt: skip
    with pytest.raises(
        GraphError, match="input -> gate: operands of a packed operation must come through wires or selects"
    ):
        lower(graph(nodes, [("input", "gate"), ("gate", "output")]))


def test_outputs_that_state_their_latency_end_a_run_without_a_clock() -> None:
    """A loop with a delay would run on for as long as its delay, though all of the window is out."""
    one = np.ones(2)
    lif = nir.LIF(tau=one, r=one, v_leak=0 * one, v_threshold=one, v_reset=0 * one)
    nodes = {
        "input": spikes_in(2), "lif": lif, "back": nir.Delay(one), "weight": nir.Linear(np.eye(2)),
        "output": nir.Output(np.array([2])),
    }  # fmt: skip
    edges = [("input", "lif"), ("lif", "back"), ("back", "weight"), ("weight", "lif"), ("lif", "output")]
    assert lower(graph(nodes, edges)).period == STEPS + 1
    nodes["output"] = nir.Output(np.array([2]), metadata={"spikescr.latency": 0})
    assert lower(graph(nodes, edges)).period == STEPS


def test_selects_one_after_the_other_are_one_and_a_change_of_shape_is_none() -> None:
    """Twice turned round is as it was; what leads elsewhere too stays."""
    turned = np.arange(6)[::-1]
    nodes = {
        "input": spikes_in(2, 3), "fire": fire(2, 3), "flat": select_node(np.arange(6), (2, 3), (3, 2)),
        "one": select_node(turned, (3, 2), (6,)), "two": select_node(turned[:4], (6,)), "a": nir.Linear(np.eye(4)),
        "b": nir.Linear(np.eye(6)), "output": nir.Output(np.array([4])), "other": nir.Output(np.array([6])),
    }  # fmt: skip
    edges = [("input", "fire"), ("fire", "flat"), ("flat", "one"), ("one", "two"), ("two", "a"), ("one", "b")]
    program = lower(graph(nodes, [*edges, ("a", "output"), ("b", "other")]))
    assert {o.name: (o.x.sources, o.index.tolist()) for o in program.of_type(Select)} == {
        "one": (("fire",), [5, 4, 3, 2, 1, 0]),
        "two": (("fire",), [0, 1, 2, 3]),
    }
    x = (np.random.default_rng(7).random((STEPS, 4, 6)) < 0.5).astype(float)
    outputs = run(program, x).outputs
    np.testing.assert_array_equal(outputs["output"], x[..., :4])
    np.testing.assert_array_equal(outputs["other"], x[..., ::-1])


@pytest.mark.parametrize("ways", [1, 2, 3])
def test_what_arrives_by_a_change_of_shape_and_on_its_own_is_added(ways: int) -> None:
    """A source, and itself again through selects that change nothing: that many times its spikes."""
    same = select_node(np.arange(6), (6,))
    nodes = {"input": spikes_in(6), "fire": fire(6), "a": same, "b": same, "sum": nir.Linear(np.eye(6)),
             "output": nir.Output(np.array([6]))}  # fmt: skip
    edges = [("input", "fire"), ("fire", "sum"), ("fire", "a"), ("a", "b"), ("sum", "output")]
    edges += [("a", "sum"), ("b", "sum")][: ways - 1]
    x = (np.random.default_rng(7).random((STEPS, 4, 6)) < 0.5).astype(float)
    np.testing.assert_array_equal(run(lower(graph(nodes, edges)), x).outputs["output"], ways * x)
