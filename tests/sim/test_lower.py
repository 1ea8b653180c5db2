"""Lowering: fusing, resolving and refusing, each by a small graph; the whole of a SpikeSCR by its list."""

from __future__ import annotations

import copy
import itertools

import nir
import numpy as np
import pytest
from from_torch import calibrated_model, fold, to_nir

from spikescr.dialect import Operand, wire
from spikescr.errors import GraphError
from spikescr.export.builder import GraphBuilder
from spikescr.sim.lowering.lower import lower
from spikescr.sim.program import Attention, DelayLine, Gate, Neuron, Rotary, Select, Signal, Sink, Source, Synapse

DT = 0.01
GRAPH = {"spikescr.dt": DT, "spikescr.steps": 8}


class Unknown(nir.ir.NIRNode):
    """A primitive that some later NIR may have."""

    def __init__(self) -> None:
        self.input_type = {"input": np.array([3])}
        self.output_type = {"output": np.array([3])}
        self.metadata: dict[str, object] = {}


def lif(width: int) -> nir.LIF:
    one = np.ones(width)
    return nir.LIF(tau=2 * DT * one, r=2 * one, v_leak=0 * one, v_threshold=one, v_reset=0 * one)


def chain(*nodes: nir.NIRNode, width: int = 3, **metadata: object) -> nir.NIRGraph:
    """Input -> node0 -> node1 ... -> Output."""
    named = {"input": nir.Input(np.array([width]))} | {f"node{i}": node for i, node in enumerate(nodes)}
    out = next(iter(nodes[-1].output_type.values()))
    named["output"] = nir.Output(np.array(out))
    names = list(named)
    return nir.NIRGraph(named, list(itertools.pairwise(names)), metadata={**GRAPH, **metadata})


def test_spikescr_lowers_to_one_operation_per_layer() -> None:
    model, _, _ = calibrated_model()
    program = lower(to_nir(fold(model), steps=24, dt=DT))
    kinds = [type(o).__name__ for o in program.operations]
    assert {kind: kinds.count(kind) for kind in sorted(set(kinds))} == {
        "Attention": 1,
        "DelayLine": 5,  # residuals before attention and convolution; clock after 1, 25 and 28 steps
        "Gate": 3,
        "Neuron": 17,
        "Rotary": 2,
        "Sink": 1,
        "Source": 2,
        "Synapse": 15,
    }
    assert program.steps == 24
    # taps of the embedding 2, attention 24, taps of the depthwise convolution 6
    assert program.period == 24 + 2 + 24 + 6


def test_every_operation_reads_only_what_came_before() -> None:
    model, _, _ = calibrated_model()
    seen: set[str] = set()
    for operation in lower(to_nir(fold(model), steps=24, dt=DT)).operations:
        for port in operation.ports.values():
            assert set(port.sources) <= seen
        seen.add(operation.name)


def test_taps_that_share_source_and_target_become_one_synapse_with_its_bias_and_clock() -> None:
    build = GraphBuilder(DT)
    x = build.input("input", 3, "spikes")
    kernel = np.arange(2 * 3 * 3, dtype=float).reshape(2, 3, 3)
    build.output("output", build.convolution("conv", x, kernel, np.array([5.0, 6.0])))
    program = lower(build.graph(GRAPH))

    synapse = program["conv.synapse"]
    assert isinstance(synapse, Synapse)
    assert [tap.delay for tap in synapse.taps] == [0, 1, 2]
    for tap in synapse.taps:  # a centred kernel made causal: the latest bin meets the last tap
        np.testing.assert_array_equal(tap.weight, kernel[:, :, 2 - tap.delay])
    assert synapse.bias is not None
    np.testing.assert_array_equal(synapse.bias, [5.0, 6.0])
    assert synapse.clock is not None
    assert synapse.clock.sources == ("clock.delay1",)
    assert synapse.gated
    assert synapse.x.signal is Signal.SPIKES
    assert program.period == 8 + 2


def test_depthwise_taps_are_vectors() -> None:
    build = GraphBuilder(DT)
    x = build.input("input", 3, "spikes")
    build.output("output", build.convolution("conv", x, np.ones((3, 1, 5)), None))
    synapse = lower(build.graph(GRAPH))["conv.synapse"]
    assert isinstance(synapse, Synapse)
    assert [tap.weight.shape for tap in synapse.taps] == [(3,)] * 5
    assert synapse.bias is None
    assert synapse.gated, "without a bias the gate's own clock tells what is discarded"


def test_synapse_that_also_leads_elsewhere_is_not_called_gated() -> None:
    build = GraphBuilder(DT)
    x = build.input("input", 3, "spikes")
    current = build.linear("fc", x, np.ones((2, 3)), np.ones(2))
    build.output("gated", build.gate("gate", current, build.clock(0)))
    build.output("direct", current)
    synapse = lower(build.graph(GRAPH))["fc.synapse"]
    assert isinstance(synapse, Synapse)
    assert not synapse.gated


def test_neuron_coefficients_of_the_training_neuron_are_exact() -> None:
    build = GraphBuilder(1 / 40)
    build.output("output", build.lif("lif", build.input("input", 2, "values")))
    neuron = lower(build.graph({"spikescr.dt": 1 / 40, "spikescr.steps": 40}))["lif"]
    assert isinstance(neuron, Neuron)
    np.testing.assert_array_equal(neuron.decay, [0.5, 0.5])
    np.testing.assert_array_equal(neuron.gain, [1.0, 1.0])
    np.testing.assert_array_equal(neuron.drive, [0.0, 0.0])


def test_general_lif_is_forward_euler() -> None:
    one = np.ones(2)
    node = nir.LIF(tau=0.05 * one, r=3 * one, v_leak=0.5 * one, v_threshold=2 * one, v_reset=-1 * one)
    neuron = lower(chain(node, width=2))["node0"]
    assert isinstance(neuron, Neuron)
    np.testing.assert_allclose(neuron.decay, 0.8)  # 1 - 0.01 / 0.05
    np.testing.assert_allclose(neuron.gain, 0.6)  # 3 * 0.01 / 0.05
    np.testing.assert_allclose(neuron.drive, 0.1)  # 0.5 * 0.01 / 0.05
    np.testing.assert_array_equal(neuron.v_reset, [-1, -1])


def test_signals_follow_the_graph_not_the_data() -> None:
    model, _, _ = calibrated_model()
    program = lower(to_nir(fold(model), steps=24, dt=DT))
    by_type = {
        kind: {o.signal for o in program.of_type(kind)}
        for kind in (Neuron, Synapse, Rotary, Attention, Gate, DelayLine, Sink)
    }
    assert by_type[Neuron] == {Signal.SPIKES}
    assert by_type[Synapse] == by_type[Rotary] == by_type[Attention] == by_type[Gate] == {Signal.VALUES}
    assert by_type[DelayLine] == {Signal.SPIKES, Signal.CLOCK}
    assert {o.name: o.signal for o in program.of_type(Source)} == {"input": Signal.VALUES, "clock": Signal.CLOCK}
    synapses = {o.name: o.x.signal for o in program.of_type(Synapse) if isinstance(o, Synapse)}
    assert synapses.pop("sem.synapse") is Signal.VALUES
    assert set(synapses.values()) == {Signal.SPIKES}


def test_wire_that_reorders_becomes_a_select() -> None:
    build = GraphBuilder(DT)
    x = build.input("input", 3, "values")
    build.output("output", build.gate("gate", x, build.clock(0)))
    graph = build.graph(GRAPH)
    swapped = graph.nodes["gate.wire_value"].weight
    swapped[[0, 1, 2]] = swapped[[2, 0, 1]]
    swapped[1] = 0
    program = lower(graph)
    select = program["gate.wire_value.value"]
    assert isinstance(select, Select)
    np.testing.assert_array_equal(select.index, [2, -1, 1])
    gate = program["gate"]
    assert isinstance(gate, Gate)
    assert gate.value.sources == ("gate.wire_value.value",)


def _with_tau(tau: float) -> nir.LIF:
    node = lif(3)
    node.tau = np.full(3, tau)
    return node


def _without(key: str) -> nir.NIRGraph:
    graph = chain(lif(3))
    del graph.metadata[key]
    return graph


def _with_steps(steps: float) -> nir.NIRGraph:
    return chain(lif(3), **{"spikescr.steps": steps})


def _nested(metadata: dict[str, object]) -> nir.NIRGraph:
    nodes = {
        "input": nir.Input(np.array([3])),
        "body": nir.Linear(np.full((2, 3), np.nan)),
        "output": nir.Output(np.array([2])),
    }
    return nir.NIRGraph(nodes, [("input", "body"), ("body", "output")], metadata=metadata)


def _weighing_wire() -> nir.NIRGraph:
    build = GraphBuilder(DT)
    build.output("output", build.gate("gate", build.input("input", 3, "values"), build.clock(0)))
    graph = build.graph(GRAPH)
    graph.nodes["gate.wire_value"].weight[0, 0] = 0.5
    return graph


def _unbroken_cycle() -> nir.NIRGraph:
    graph = chain(nir.Linear(np.eye(3)))
    nodes = {**graph.nodes, "back": nir.Linear(np.eye(3))}
    edges = [*graph.edges, ("node0", "back"), ("back", "node0")]
    return nir.NIRGraph(nodes, edges, metadata=GRAPH)


def _odd_signal() -> nir.NIRGraph:
    graph = chain(lif(3))
    graph.nodes["input"].metadata["spikescr.signal"] = "x"
    return graph


REFUSED = {
    "unsupported type": (
        lambda: chain(Unknown()),
        r"node0 \(Unknown\): cannot be run, only Input, .*CubaLIF, Threshold",
    ),
    "fraction of a step": (lambda: chain(nir.Delay(np.full(3, 0.015))), r"node0: delay must be whole steps of 0\.01 s"),
    "negative delay": (lambda: chain(nir.Delay(np.full(3, -0.01))), r"node0: delay must be 0 or more, found -0\.01 s"),
    "no tau": (lambda: chain(_with_tau(0.0)), r"node0: tau must be above 0, found 0\.0"),
    "tau not a number": (lambda: chain(_with_tau(float("nan"))), r"node0: tau must be above 0, found nan"),
    "half a step of window": (
        lambda: _with_steps(8.5),
        r"metadata spikescr\.steps must be a whole number from 1 to .*, is 8\.5",
    ),
    "endless window": (
        lambda: _with_steps(float("inf")),
        r"metadata spikescr\.steps must be a whole number from 1 to .*, is inf",
    ),
    "parameter of another type": (
        lambda: chain(_nested({"spikescr.op": "gate", "width": 2, "spike_width": "one"})),
        r"node0: metadata spike_width of gate must be a whole number, 1 or more, is 'one'",
    ),
    "no dt": (lambda: _without("spikescr.dt"), r"metadata must have spikescr\.dt, seconds per step"),
    "no steps": (lambda: _without("spikescr.steps"), r"metadata must have spikescr\.steps, the window"),
    "newer format": (lambda: chain(lif(3), **{"spikescr.format": 99}), r"spikescr\.format is 99, this version reads 1"),
    "unknown packed operation": (
        lambda: chain(_nested({"spikescr.op": "softmax"})),
        r"node0: a nested NIRGraph with spikescr\.op 'softmax' cannot be run",
    ),
    "packed operation that lost its metadata": (
        lambda: chain(_nested({})),
        r"node0\.body: weight must be numbers, found nan at \[0, 0\]",
    ),
    "parameters missing": (
        lambda: chain(_nested({"spikescr.op": "rotary", "heads": 1})),
        r"node0: metadata of rotary lacks cos, sin",
    ),
    "operand without a wire": (
        lambda: chain(_nested({"spikescr.op": "gate", "width": 2, "spike_width": 1})),
        r"input -> node0: operands of a packed operation must come through wires",
    ),
    "wire that weighs": (_weighing_wire, r"gate\.wire_value: a wire selects: entries 0 or 1"),
    "wire to a neuron": (
        lambda: chain(wire(Operand("x", 0, 3), 3, 0), lif(3)),
        r"node0: a wire must lead into one packed operation",
    ),
    "unbroken cycle": (
        _unbroken_cycle,
        r"the nodes (back -> node0 -> back|node0 -> back -> node0) form a cycle that neither a Delay nor a neuron",
    ),
    "odd input signal": (_odd_signal, r"input: metadata spikescr\.signal must be values or spikes, is 'x'"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_run_is_named(make: object, message: str) -> None:
    assert callable(make)
    graph = make()
    with pytest.raises(GraphError, match=message):
        lower(graph)


def test_lowering_leaves_the_graph_as_it_was() -> None:
    model, _, _ = calibrated_model()
    graph = to_nir(fold(model), steps=24, dt=DT)
    before = copy.deepcopy(graph)
    lower(graph)
    assert graph.edges == before.edges
    assert graph.nodes.keys() == before.nodes.keys()
    for name, node in graph.nodes.items():
        for key, value in vars(before.nodes[name]).items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(getattr(node, key), value)


def test_two_kernels_into_one_neuron_keep_names_of_their_own() -> None:
    """Taps fc.w0, fc.w1 from one input and fc.w2, fc.w3 from another share the word fc, and a neuron has it already."""
    nodes: dict[str, nir.NIRNode] = {"a": nir.Input(np.array([2])), "b": nir.Input(np.array([2])), "fc": lif(2)}
    nodes["output"] = nir.Output(np.array([2]))
    edges = [("fc", "output")]
    for tap, source in enumerate("aabb"):
        nodes[f"d{tap}"] = nir.Delay(np.full(2, tap % 2 * DT))
        nodes[f"fc.w{tap}"] = nir.Linear((tap + 1.0) * np.eye(2))
        edges += [(source, f"d{tap}"), (f"d{tap}", f"fc.w{tap}"), (f"fc.w{tap}", "fc")]
    program = lower(nir.NIRGraph(nodes, edges, metadata=GRAPH))
    synapses = {o.name: [tap.weight[0, 0] for tap in o.taps] for o in program.of_type(Synapse)}
    assert synapses == {"fc.w0": [1.0, 2.0], "fc.w2": [3.0, 4.0]}
    neuron = program["fc"]
    assert isinstance(neuron, Neuron)
    assert set(neuron.x.sources) == {"fc.w0", "fc.w2"}


def test_two_biases_of_one_neuron_are_one_synapse_of_the_clock() -> None:
    build = GraphBuilder(DT)
    x = build.input("input", 3, "spikes")
    a, b = (build.linear(name, x, np.ones((2, 3)), np.ones(2)) for name in "ab")
    build.output("output", build.lif("lif", build.joined(a, b)))
    program = lower(build.graph(GRAPH))
    (biases,) = (o for o in program.of_type(Synapse) if o.x.signal is Signal.CLOCK)
    assert [tap.delay for tap in biases.taps] == [0, 0]
    assert len(program.of_type(Synapse)) == 2
