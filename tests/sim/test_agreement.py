"""inspect, fit and simulate agree on neurons, synapses and delays: of random graphs, and where they once did not."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import RandomGraph

from spikescr.dialect import select_node
from spikescr.export.chain import read_chain
from spikescr.sim.chip.bits import layer_bits
from spikescr.sim.chip.layers import Signals
from spikescr.sim.chip.limits import chip_named
from spikescr.sim.chip.mapper import place
from spikescr.sim.chip.parts import Range
from spikescr.sim.fast.backend import FastBackend
from spikescr.sim.inspection.inspection import GraphReport, NodeReport, inspect, total
from spikescr.sim.lowering.flat import opened
from spikescr.sim.lowering.graph_file import read_graph
from spikescr.sim.lowering.lower import lower
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
    Select,
    Signal,
    Synapse,
)

DT = 1e-3


def placed(program: Program, **bits: int) -> Any:
    return place(program, "loihi2", chip_named("loihi2"), bits)


def node(report: GraphReport, name: str) -> NodeReport:
    return next(n for n in report.nodes if n.name == name)


def chain(shape: tuple[int, ...], *nodes: nir.NIRNode, out: tuple[int, ...], **metadata: object) -> nir.NIRGraph:
    named = {"input": nir.Input(np.array(shape)), **{f"n{i}": n for i, n in enumerate(nodes)}}
    named["output"] = nir.Output(np.array(out))
    return nir.NIRGraph(
        named, list(itertools.pairwise(named)), metadata={"spikescr.dt": DT, **metadata}, type_check=False
    )


def lif(*shape: int) -> nir.LIF:
    one = np.ones(shape)
    return nir.LIF(2 * DT * one, 2 * one, 0 * one, one, 0 * one)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**31))
def test_random_graphs(seed: int) -> None:
    graph = RandomGraph(seed, steps=4, samples=1, layers=6, cycles=True).case.graph
    program, report = lower(graph), inspect(graph)
    sums = total(report.nodes)

    neurons = {o.name for o in program.operations if isinstance(o, Neuron)}
    neurons |= {o.name for o in program.of_type(Integrator) if not o.current}
    assert sums.neurons == sum(program[name].width for name in neurons)
    layers = placed(program).layers
    # A layer is one neuron operation with what feeds it.
    bodies = [layer for layer in layers if neurons & set(layer.demand.operations)]
    assert sum(layer.demand.neurons for layer in bodies) == sums.neurons

    pools = {n.name for n in report.nodes if n.type in ("SumPool2d", "AvgPool2d")}
    synapses = [o for o in program.of_type(Synapse) if o.x.signal is not Signal.CLOCK]
    executed = sum(np.count_nonzero(tap.weight) for o in synapses for tap in o.taps)
    executed += sum(int(o.fan_out.sum()) for o in program.of_type(Convolution) if o.name not in pools)
    assert sums.synapses == executed

    stated = sum(n.state_bytes or 0 for n in report.nodes if n.type == "Delay")
    lines = [o for o in program.operations if isinstance(o, (DelayLine, ChannelDelay)) and "step_before" not in o.name]
    held = sum(int(np.sum(np.broadcast_to(o.delay, o.width))) for o in lines)
    held += sum(tap.delay * o.x.width for o in program.of_type(Synapse) for tap in o.taps)
    assert stated == 8 * held

    # Relays hold a delay only where something else than synapses that get nothing else reads it.
    for layer in layers:
        for name in layer.demand.operations:
            line = program[name]
            if isinstance(line, (DelayLine, ChannelDelay)) and line.signal is not Signal.CLOCK:
                readers = [o for o in program.operations if any(name in port.sources for port in o.ports.values())]
                assert not readers or any(not isinstance(o, Synapse) or o.x.sources != (name,) for o in readers)


@settings(max_examples=40)
@given(data=st.data())
def test_netx_has_the_neurons_and_synapses_of_random_chains(data: st.DataObject) -> None:
    """Of dense layers and, before them, convolutions; inputs and outputs as many as there are."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    shape: tuple[int, ...] = data.draw(st.sampled_from([(3,), (2, 4, 5)]))
    graph_input, nodes = shape, list[nir.NIRNode]()
    for _ in range(data.draw(st.integers(1, 4))):
        outputs = data.draw(st.integers(1, 5))
        if len(shape) == 3 and data.draw(st.booleans()):
            weight = rng.integers(-2, 3, (outputs, shape[0], 3, 3)).astype(float)
            nodes.append(nir.Conv2d(shape[1:], weight, 1, 1, 1, 1, np.zeros(outputs)))
            shape = (outputs, *shape[1:])
        else:
            if len(shape) == 3:
                nodes.append(nir.Flatten({"input": np.array(shape)}, 0, -1))
            weight = rng.integers(-2, 3, (outputs, int(np.prod(shape)))).astype(float)
            nodes.append(nir.Affine(weight, np.zeros(outputs)))
            shape = (outputs,)
        weight.flat[0] = 1.0  # a layer of zeros is none
        nodes.append(lif(*shape))
    graph = chain(graph_input, *nodes, out=shape)
    sums = total(inspect(graph).nodes)
    layers = read_chain(opened(graph), DT).layers
    assert sum(int(np.prod(layer.shape)) for layer in layers) == sums.neurons
    assert layers[-1].shape == shape
    program = lower(graph, steps=1)
    executed = sum(np.count_nonzero(tap.weight) for o in program.of_type(Synapse) for tap in o.taps)
    executed += sum(int(o.fan_out.sum()) for o in program.of_type(Convolution))
    dense = sum(np.count_nonzero(layer.weight) for layer in layers if not layer.convolution)
    spread = sum(int(o.fan_out.sum()) for o in program.of_type(Convolution))
    assert dense + spread == sums.synapses == executed
    assert sum(layer.demand.neurons for layer in placed(program).layers) == sums.neurons


def delays(operation: Operation) -> bool:
    return isinstance(operation, (DelayLine, ChannelDelay))


def pairs(synapse: Synapse, channel: IntArray) -> set[tuple[int, int]]:
    """Neurons, and the channels of a sender that a synapse with weights for them adds; `channel` of each input."""
    connected = set[tuple[int, int]]()
    for tap in synapse.taps:
        neurons, *inputs = np.nonzero(tap.weight)
        sent = channel[inputs[0] if inputs else neurons]
        connected |= {(int(i), int(c)) for i, c in zip(neurons, sent, strict=True) if c >= 0}
    return connected


def agreed(seed: int) -> Counter[str]:
    """Compares what a chip's layers hear and hold with what inspect tells node by node; how often each was compared."""
    graph = RandomGraph(seed, steps=4, samples=1, layers=6, cycles=True).case.graph
    program, told = lower(graph), {n.name: n for n in inspect(graph).nodes}
    demands = [layer.demand for layer in placed(program).layers]
    on_chip = {name for demand in demands for name in demand.operations}
    compared: Counter[str] = Counter()

    def senders(port: Port) -> Iterator[tuple[str, IntArray]]:
        """Who sends what a port carries, and which of its channels: through selects, and delays that synapses hold."""
        for name in port.sources:
            through = program[name]
            if isinstance(through, Select):
                for sender, channel in senders(through.x):
                    yield sender, np.where(through.index < 0, -1, channel[through.index])
            elif delays(through) and name not in on_chip:
                yield from senders(through.ports["x"])
            else:
                yield name, np.arange(port.width)

    for demand in demands:
        members = [program[name] for name in demand.operations]
        heard: dict[str, list[tuple[Operation, IntArray]]] = {}
        for operation in members:
            for port in (p for p in operation.ports.values() if p.signal is not Signal.CLOCK):
                for sender, channel in senders(port):
                    heard.setdefault(sender, []).append((operation, channel))
        for sender, ways in heard.items():
            synapses = [(o, channel) for o, channel in ways if isinstance(o, Synapse)]
            if len(synapses) < len(ways) or sender in demand.operations:
                continue
            expected = set().union(*(pairs(operation, channel) for operation, channel in synapses))
            inputs = [demand.inputs(Range(i, i + 1)).get(sender, ()) for i in range(demand.neurons)]
            assert {(i, int(c)) for i, channels in enumerate(inputs) for c in channels} == expected, (seed, sender)
            compared["senders"] += 1
            compared["senders heard in several ways"] += len(ways) > 1
            selected = any(not np.array_equal(channel, np.arange(program[sender].width)) for _, channel in synapses)
            compared["selected senders"] += selected
            operation = synapses[0][0]
            # Channels that come twice, or not at all, make fewer pairs than synapses.
            if len(ways) == len(operation.taps) == 1 and operation.name in told and not selected:
                assert sum(map(len, inputs)) == told[operation.name].synapses, (seed, operation.name)
                compared["synapses"] += 1
        if members and all(map(delays, members)):
            held_bits = 0
            for line in members:
                stated = told[line.name].state_bytes if line.name in told else None
                steps = int(np.sum(np.broadcast_to(line.delay, line.width))) if stated is None else stated // 8
                held_bits += steps * (Signals(program).port_bits(line.x) or 24)
                compared["delays of relays"] += stated is not None
            assert int(demand.state_bits.sum()) == held_bits, (seed, demand.name)
    for name, seen in told.items():
        if seen.type == "Delay" and seen.state_bytes and name not in on_chip and seen.carries != "clock":
            width = int(np.prod(seen.output_shape or (1,)))
            assert max(d.longest for d in demands) * width * 8 >= seen.state_bytes, (seed, name)
            compared["delays of synapses"] += 1
    return compared


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_a_chip_hears_the_synapses_and_holds_the_delays_that_inspect_tells(seed: int) -> None:
    agreed(seed)


def test_what_is_compared_is_there() -> None:
    compared = sum(map(agreed, range(30)), Counter())
    assert compared["synapses"] > 30
    assert compared["senders"] > 60
    assert compared["selected senders"] > 5
    assert compared["senders heard in several ways"] > 2
    assert compared["delays of relays"] > 5
    assert compared["delays of synapses"] > 5


@pytest.mark.parametrize(
    ("weight", "heard"),
    # By hand: y = w0 x0 + w1 x1 of the signal itself, and w0 x1 + w1 x0 of the same swapped.
    [([[1.0, 0.0]], [0, 1]), ([[0.0, 1.0]], [0, 1]), ([[1.0, 1.0]], [0, 1]), ([[0.0, 0.0]], [])],
)
def test_a_signal_and_the_same_swapped_are_heard_by_one_synapse(weight: list[list[float]], heard: list[int]) -> None:
    """inspect tells the weights, a chip the pairs of neurons that they connect: two of one weight."""
    graph = chain((2,), select_node(np.array([1, 0]), (2,)), nir.Linear(np.array(weight)), lif(1), out=(1,))
    graph.edges.append(("input", "n1"))
    (layer,) = placed(lower(graph, steps=1)).layers
    assert node(inspect(graph), "n1").synapses == np.count_nonzero(weight)
    assert layer.demand.inputs(Range(0, 1))["input"].tolist() == heard


@pytest.mark.parametrize("shape", [(), (1,)])
def test_one_constant_for_all_neurons_of_a_layer(shape: tuple[int, ...], tmp_path: Path) -> None:
    one = np.ones(shape)
    neurons = nir.LIF(0.02 * one, one, 0 * one, 0.5 * one)
    nir.write(tmp_path / "a.nir", chain((4,), nir.Linear(np.ones((100, 4))), neurons, out=(100,)), compression=None)
    graph = read_graph(tmp_path / "a.nir", type_check=False)
    seen = node(inspect(graph), "n1")
    assert (seen.neurons, seen.operations.neuron, seen.state_bytes) == (100, 100, 800)
    assert (seen.input_shape, seen.output_shape, seen.parameter_count) == ((100,), (100,), 5)
    program = lower(graph, steps=2)
    assert program["n1"].width == placed(program).neurons == 100


@pytest.mark.parametrize(
    ("make", "width"), [(lambda: nir.Delay(np.array(3 * DT)), 4), (lambda: nir.Scale(np.array(2.0)), 4)]
)
def test_one_delay_or_scale_for_all_channels(make: Any, width: int) -> None:
    graph = chain((width,), make(), out=(width,))
    seen = node(inspect(graph), "n0")
    assert seen.output_shape == (width,)
    assert seen.synapses == (width if seen.type == "Scale" else 0)
    assert seen.state_bytes == (8 * 3 * width if seen.type == "Delay" else 0)


def test_kernel_that_is_not_square() -> None:
    kernel = np.full((3, 2, 2, 5), 0.1)
    graph = chain((2, 4, 9), nir.Conv2d((4, 9), kernel, 1, 0, 1, 1, np.full(3, 0.01)), lif(3, 3, 5), out=(3, 3, 5))
    seen = node(inspect(graph), "n0")
    assert (seen.input_shape, seen.output_shape) == ((2, 4, 9), (3, 3, 5))
    assert (seen.operations.bias, seen.synapses) == (45, 45 * 2 * 2 * 5)
    counts = FastBackend(lower(graph, steps=1), 1).run({"input": np.ones((1, 1, 72))}).counts
    assert counts.per_step("n0", "bias").sum() == 45
    assert counts.per_step("n0", "mac").sum() == seen.synapses


WEIGHT = np.tile([0.0, 1, -1, 2], 12)
NO_SQUARE = (1, 2), (2, 0), (2, 1)  # stride, padding, dilation


@pytest.mark.parametrize("signal", ["spikes", "values"])
@pytest.mark.parametrize("bias", [0.0, 0.5])
@pytest.mark.parametrize(
    ("shape", "make"),
    [
        ((4,), lambda b: nir.Affine(WEIGHT[:20].reshape(5, 4), b * np.arange(5))),
        ((2, 4), lambda b: nir.Affine(WEIGHT[:40].reshape(2, 5, 4), b * np.ones((2, 5)))),
        ((2, 4), lambda b: nir.Linear(WEIGHT[:40].reshape(2, 5, 4))),
        ((4,), lambda b: nir.Linear(WEIGHT[:20].reshape(5, 4))),
        ((4,), lambda b: nir.Scale(WEIGHT[:4])),
        ((4,), lambda b: nir.Scale(np.array(b))),
        ((2, 9), lambda b: nir.Conv1d(9, WEIGHT[:24].reshape(4, 2, 3), 2, 1, 2, 1, b * np.ones(4))),
        ((2, 6, 9), lambda b: nir.Conv2d((6, 9), WEIGHT[:48].reshape(4, 2, 2, 3), *NO_SQUARE, 1, b * np.arange(4))),
        ((2, 6, 9), lambda b: nir.Conv2d(None, WEIGHT[:24].reshape(4, 1, 2, 3), *NO_SQUARE, 2, b * np.ones(4))),
        ((2, 6, 9), lambda b: nir.SumPool2d(np.array([2, 3]), np.array([1, 2]), np.array([1, 0]))),
        ((2, 6, 9), lambda b: nir.AvgPool2d(np.array([2, 3]), np.array([1, 2]), np.array([1, 0]))),
    ],
)
def test_a_step_of_ones_executes_what_inspect_tells(
    signal: str, bias: float, shape: tuple[int, ...], make: Any
) -> None:
    """To the last operation: a weight of 0 is no synapse, a bias of zeros is none."""
    graph = chain(shape, make(bias), lif(), out=(1,))
    graph.nodes["input"].metadata["spikescr.signal"] = signal
    program, report = lower(graph, steps=1), inspect(graph)
    ones = np.ones((1, 1, *shape)).reshape(1, 1, -1)
    counts = FastBackend(program, 1).run({"input": ones}).counts
    for name in ("n0", "n1"):
        told = node(report, name)
        assert told.output_shape is not None
        assert int(np.prod(told.output_shape)) == program[name].width
        executed = {kind: int(counts.per_step(name, kind).sum()) for kind in ("ac", "mac", "bias", "neuron")}
        assert executed == {kind: getattr(told.operations, kind) for kind in executed}, name


def test_bits_of_a_nested_graph(tmp_path: Path) -> None:
    """Stated by a node of it, or by it for all its nodes."""
    for named in ("node", "graph"):
        nested = chain((3,), nir.Linear(np.ones((5, 3))), lif(5), out=(5,))
        nested.metadata = {"spikescr.bits": 4} if named == "graph" else {}
        if named == "node":
            nested.nodes["n0"].metadata["spikescr.bits"] = 4
        nir.write(tmp_path / "a.nir", chain((3,), nested, out=(5,)))
        graph = read_graph(tmp_path / "a.nir")
        program = lower(graph, steps=1)
        told = layer_bits(graph, program)
        assert {layer.name: layer.demand.weight_bits for layer in placed(program, **told).layers} == {"n0": 4}
        assert {n.name: n.bits for n in inspect(graph).nodes if n.bits is not None} == {"n0.n0": 4}


def recurrent(synapse: nir.NIRNode, *, delay: bool) -> nir.NIRGraph:
    nodes = {
        "input": nir.Input(np.array([3])), "fc": nir.Linear(np.ones((5, 3))), "lif": lif(5), "rec": synapse,
        "output": nir.Output(np.array([5])), "delay": nir.Delay(np.full(5, DT)),
    }  # fmt: skip
    edges = [("input", "fc"), ("fc", "lif"), ("lif", "output"), ("rec", "lif")]
    if not delay:
        del nodes["delay"]
    edges += [("lif", "delay"), ("delay", "rec")] if delay else [("lif", "rec")]
    return nir.NIRGraph(nodes, edges, metadata={"spikescr.dt": DT})


@pytest.mark.parametrize("delay", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_a_recurrent_step_is_a_delay_of_its_synapses(affine: bool, delay: bool) -> None:
    weight = np.ones((5, 5))
    graph = recurrent(nir.Affine(weight, np.ones(5)) if affine else nir.Linear(weight), delay=delay)
    (layer,) = placed(lower(graph, steps=2)).layers
    assert (layer.name, layer.demand.neurons, layer.demand.longest) == ("lif", 5, 1)
    # membrane and two input sums of 24 bits, an affine's bias
    assert layer.demand.state_bits.tolist() == [24 * (3 + affine)] * 5
    # itself and the three inputs
    assert layer.cores[0].input_axons == 8


def test_a_delay_beyond_the_range_or_for_others_too_has_relays() -> None:
    affine = nir.Affine(np.ones((4, 4)), np.ones(4))
    for steps, more, relays in ((63, False, 0), (64, False, 2 * 4), (63, True, 4)):
        graph = chain((4,), nir.Delay(np.full(4, steps * DT)), affine, lif(4), out=(4,))
        graph.nodes["late"] = nir.Output(np.array([4]))
        graph.edges.append(("n0", "late") if more else ("n2", "late"))
        assert placed(lower(graph, steps=2)).neurons == 4 + relays
