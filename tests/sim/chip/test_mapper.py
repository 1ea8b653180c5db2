"""Placement: exact bytes and axons of small layers, relays, and what holds of any network."""

from __future__ import annotations

import itertools
from typing import Any

import nir
import numpy as np
import pytest
from from_torch import SMALL, VARIANTS, calibrated_model, fold, to_nir
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import RandomGraph

from spikescr.export.builder import GraphBuilder
from spikescr.sim.chip.bits import layer_bits
from spikescr.sim.chip.layers import held_delays
from spikescr.sim.chip.limits import Chip, Limit, chip_named
from spikescr.sim.chip.mapper import Placed, Placement, place
from spikescr.sim.chip.parts import Range
from spikescr.sim.chip.rules import Violation, check, fits
from spikescr.sim.lowering.lower import lower
from spikescr.sim.program import Neuron, Port, Program, Select, Signal, Source, Synapse, Tap

DT = 0.01
GRAPH = {"spikescr.dt": DT, "spikescr.steps": 8}
AXON, PARAMETERS = 4, 8  # bytes, as limits.toml assumes


def lif(width: int) -> nir.LIF:
    one = np.ones(width)
    return nir.LIF(tau=2 * DT * one, r=2 * one, v_leak=0 * one, v_threshold=one, v_reset=0 * one)


def chain(*nodes: nir.NIRNode, width: int, signal: str = "spikes") -> nir.NIRGraph:
    named = {"input": nir.Input(np.array([width]), metadata={"spikescr.signal": signal})}
    named |= {f"node{i}": node for i, node in enumerate(nodes)}
    named["output"] = nir.Output(np.array(next(iter(nodes[-1].output_type.values()))))
    return nir.NIRGraph(named, list(itertools.pairwise(named)), metadata=dict(GRAPH))


def placed(graph: nir.NIRGraph, chip: Chip | None = None, **bits: int) -> Placement:
    return place(lower(graph), "loihi2", chip or chip_named("loihi2"), bits)


def layer(placement: Placement, name: str) -> Placed:
    return next(found for found in placement.layers if found.name == name)


def smaller(**limits: int) -> Chip:
    changed: dict[str, Any] = {n: Limit(value=value, unit="of a test", assumed="test") for n, value in limits.items()}
    return chip_named("loihi2").model_copy(update=changed)


def test_dense_layer_to_the_byte() -> None:
    (only,) = placed(chain(nir.Linear(np.ones((128, 128))), lif(128), width=128)).layers
    # 128 x 128 weights of a byte = 16 KiB; membrane and input sum of 24 bits each; an entry for each input neuron;
    # one set of parameters, all neurons being equal; nobody on the chip hears it
    assert only.memory == 16 * 1024 + 128 * 6 + 128 * AXON + PARAMETERS
    assert [(c.part.start, c.part.stop, c.input_axons, c.output_axons) for c in only.cores] == [(0, 128, 128, 0)]
    assert only.demand.operations == ("node0", "node1")


def test_weights_take_the_bits_they_are_given_and_few_of_them_are_a_list() -> None:
    graph = chain(nir.Linear(np.ones((128, 128))), lif(128), width=128)
    (half,) = placed(graph, node1=4).layers
    assert half.memory == 8 * 1024 + 128 * 6 + 128 * AXON + PARAMETERS
    (listed,) = placed(chain(nir.Linear(np.eye(128)), lif(128), width=128)).layers
    # a synapse each: 8 bits and 7 to say which of 128 neurons; 128 x 15 bits = 240 bytes
    assert listed.memory == 240 + 128 * 6 + 128 * AXON + PARAMETERS


def test_neurons_that_differ_have_parameters_of_their_own() -> None:
    neurons = lif(4)
    neurons.v_threshold = np.array([1.0, 1.0, 2.0, 3.0])
    (only,) = placed(chain(nir.Linear(np.ones((4, 4))), neurons, width=4)).layers
    assert only.memory == 16 + 4 * 6 + 4 * AXON + 3 * PARAMETERS


def test_a_core_that_is_full_is_followed_by_another_and_costs_the_senders_axons() -> None:
    graph = chain(nir.Linear(np.ones((10, 4))), lif(10), nir.Linear(np.ones((7, 10))), lif(7), width=4)
    placement = placed(graph, smaller(neurons=3))
    first, second = placement.layers
    assert [(c.part.start, c.part.stop) for c in first.cores] == [(0, 3), (3, 6), (6, 9), (9, 10)]
    assert [(c.part.start, c.part.stop) for c in second.cores] == [(0, 3), (3, 6), (6, 7)]
    assert [c.output_axons for c in first.cores] == [9, 9, 9, 3]  # neurons x 3 cores of the second
    assert [c.input_axons for c in second.cores] == [10, 10, 10]
    # 10 x 4 weights, sums and membranes, 4 cores that hear 4 inputs, 30 output axons, a set of parameters on each core
    assert first.memory == 10 * 4 + 10 * 6 + 4 * 4 * AXON + 30 * AXON + 4 * PARAMETERS
    assert second.memory == 7 * 10 + 7 * 6 + 3 * 10 * AXON + 3 * PARAMETERS


def test_output_axons_split_a_layer_that_memory_would_not() -> None:
    graph = chain(nir.Linear(np.ones((6, 1))), lif(6), nir.Linear(np.ones((4, 6))), lif(4), width=1)
    placement = placed(graph, smaller(neurons=6, output_axons=6))
    # the second layer takes one core: a neuron of the first has one axon, six fit
    assert [len(found.cores) for found in placement.layers] == [1, 1]
    placement = placed(graph, smaller(neurons=6, output_axons=5))
    assert [len(found.cores) for found in placement.layers] == [2, 1]


def depthwise(taps: int) -> nir.NIRGraph:
    build = GraphBuilder(DT)
    x = build.input("input", 3, "spikes")
    build.output("output", build.lif("conv", build.convolution("conv", x, np.ones((3, 1, taps)), None)))
    return build.graph(GRAPH)


def test_taps_are_delays_of_synapses_and_a_sum_for_each_step() -> None:
    conv = layer(placed(depthwise(31)), "conv")
    # 31 synapses: 8 bits, 5 of delay (0 to 30), 2 to say which of 3 neurons; the gate: a connection from the clock of
    # 8 bits. Membrane, 31 sums of 24 bits, a bit of the gate.
    bits = 31 * (8 + 5 + 2) + 8 + 24 + 31 * 24 + 1
    assert conv.demand.state_bits.tolist() == [24 + 31 * 24 + 1] * 3
    # 3 inputs and the clock
    assert conv.memory == -(-(3 * bits) // 8) + 4 * AXON + PARAMETERS


def test_taps_further_back_than_the_chip_delays_have_relays() -> None:
    placement = placed(depthwise(9), smaller(delay=3))
    relays = layer(placement, "conv.synapse.relays")
    # delays up to 8: two links of 3 steps for each of 3 channels, 3 steps of an input's 8 bits; the second link
    # hears the first
    assert relays.demand.neurons == 6
    assert relays.demand.state_bits.tolist() == [24] * 6
    (core,) = relays.cores
    assert core.input_axons == 6
    assert layer(placement, "conv").cores[0].input_axons == 3 + 6 + 1
    noted = [v for v in check(placement) if v.layer == "conv"]
    assert [(v.limit, v.value, v.allowed, v.mended) for v in noted] == [("delay", 8, 3, True)]


def test_delay_lines_are_chains_of_relays_that_hold_counts() -> None:
    one = np.ones(2)
    nodes = {
        "input": nir.Input(np.array([2]), metadata={"spikescr.signal": "spikes"}),
        "a.w": nir.Linear(np.ones((2, 2))), "a.lif": lif(2), "b.w": nir.Linear(np.ones((2, 2))), "b.lif": lif(2),
        "late": nir.Delay(100 * DT * one), "c.w": nir.Linear(np.ones((2, 2))), "c.lif": lif(2),
        "d.w": nir.Linear(np.ones((2, 2))), "d.lif": lif(2),
        "output": nir.Output(np.array([2])), "o2": nir.Output(np.array([2])),
    }  # fmt: skip
    edges = [
        ("input", "a.w"), ("a.w", "a.lif"), ("input", "b.w"), ("b.w", "b.lif"), ("a.lif", "late"), ("b.lif", "late"),
        ("late", "c.w"), ("c.w", "c.lif"), ("c.lif", "output"), ("late", "d.w"), ("d.w", "d.lif"), ("d.lif", "o2"),
    ]  # fmt: skip
    placement = placed(nir.NIRGraph(nodes, edges, metadata=dict(GRAPH)))
    late = layer(placement, "late")
    # 100 steps of a chip that delays 63: two relays for each channel; a sum of two neurons is 0 to 2, two bits
    assert late.demand.neurons == 4
    assert late.demand.state_bits.tolist() == [100] * 4  # 2 bits x 50 steps each
    assert late.demand.payload_bits == 2
    # first relays hear a and b, second ones the first; the last of each chain sends to c and d
    assert late.cores[0].input_axons == 2 * 2 + 2
    assert late.reached.tolist() == [1, 2, 1, 2]
    assert late.abroad.tolist() == [0, 2, 0, 2]
    assert fits(check(placement))


def test_layers_of_spikescr_and_what_attention_keeps() -> None:
    model, _, _ = calibrated_model()  # 16 channels in 2 heads of 8
    placement = place(lower(to_nir(fold(model), steps=24, dt=DT)), "loihi2", chip_named("loihi2"), {})
    attention = layer(placement, "blocks.0.ssa.attention")
    assert attention.demand.operations == ("blocks.0.ssa.attention.product", "blocks.0.ssa.attention.lif")
    # 8 sums of up to 24 (5 bits), membrane, input sum
    assert attention.demand.state_bits.tolist() == [8 * 5 + 24 + 24] * 16
    # k, q: 8 connections each, v and the clock one
    assert attention.demand.synapse_bits.tolist() == [8 * 18] * 16
    # 24 steps of 8 queries for each head that a core touches, one set of parameters
    assert attention.demand.core_bits(Range(0, 16)) == 24 * 16 + 8 * PARAMETERS
    assert attention.demand.core_bits(Range(3, 8)) == 24 * 8 + 8 * PARAMETERS
    assert attention.demand.core_bits(Range(7, 9)) == 24 * 16 + 8 * PARAMETERS
    assert attention.cores[0].input_axons == 3 * 16 + 1
    causal, _, _ = calibrated_model(SMALL.model_copy(update={"attention": "causal"}))
    waits_not = place(lower(to_nir(fold(causal), steps=24, dt=DT)), "loihi2", chip_named("loihi2"), {})
    product = layer(waits_not, "blocks.0.ssa.attention").demand
    assert product.state_bits.tolist() == attention.demand.state_bits.tolist()  # K^T V is as large
    assert product.core_bits(Range(0, 16)) == 8 * PARAMETERS  # but no queries are kept
    rotary = layer(placement, "blocks.0.ssa.q_rotated")
    # cos and sin: 24 x 4 entries of a byte each, 16 bits of ticks
    assert rotary.demand.core_bits(Range(0, 2)) == 8 * 2 * 24 * 4 + 16 + 8 * PARAMETERS
    assert layer(placement, "clock").demand.operations == ("clock.delay1", "clock.delay25", "clock.delay28")
    gated = layer(placement, "blocks.0.sgc.gated").demand.operations
    assert gated == tuple(f"blocks.0.sgc.{part}" for part in ("value.synapse", "gated.gate", "gated.lif"))


def test_convolutions_weights_are_stored_once_or_for_every_neuron() -> None:
    conv = nir.Conv2d((6, 6), np.ones((4, 2, 3, 3)), 1, 0, 1, 1, np.ones(4))
    nodes = {
        "input": nir.Input({"input": np.array([2, 6, 6])}),
        "conv": conv,
        "output": nir.Output(np.array([4, 4, 4])),
    }
    program = lower(
        nir.NIRGraph(nodes, [("input", "conv"), ("conv", "output")], metadata=dict(GRAPH), type_check=False)
    )
    (two,) = place(program, "loihi2", chip_named("loihi2"), {}).layers
    # 72 weights; 64 neurons: an input sum and a bias of 24 bits; 72 inputs
    assert two.memory == 72 + 64 * 6 + 72 * AXON
    (one,) = place(program, "loihi1", chip_named("loihi1"), {}).layers
    # 18 weights for each of 64 neurons: 8 bits, 6 to say which neuron; synapses alone
    assert one.memory == 64 * 18 * 14 // 8


def test_bits_of_a_graph_in_fixed_point_are_read() -> None:
    graph = chain(nir.Linear(np.ones((4, 4))), lif(4), width=4)
    graph.nodes["node0"].metadata["spikescr.bits"] = 6
    assert layer_bits(graph, lower(graph)) == {"node1": 6}


@pytest.mark.parametrize(
    ("limits", "width", "limit", "value", "allowed", "remedy"),
    [
        # 5000 inputs: weights, sums and entries of axons, parameters
        (
            {"memory": 20000, "input_axons": 9999},
            5000,
            "memory",
            5000 + 6 + 5000 * AXON + PARAMETERS,
            20000,
            "fewer bits (--bits)",
        ),
        ({}, 5000, "input_axons", 5000, 4096, "split each of its neurons over several"),
    ],
)
def test_a_neuron_that_no_core_holds(
    limits: dict[str, int], width: int, limit: str, value: int, allowed: int, remedy: str
) -> None:
    placement = placed(chain(nir.Linear(np.ones((2, width))), lif(2), width=width), smaller(**limits))
    assert [core.neurons for core in placement.layers[0].cores] == [1, 1]
    (found,) = (v for v in check(placement) if v.limit == limit)
    assert (found.layer, found.value, found.allowed, found.mended) == ("node1", value, allowed, False)
    assert remedy in found.remedy
    assert found.line.startswith(f"node1: {limit.replace('_', ' ')}: {value:,} against {allowed:,} ")
    assert f"{value - allowed:,} over" in found.line
    assert not fits((found,))


def test_what_loihi_cannot_do() -> None:
    model, _, _ = calibrated_model()
    program = lower(to_nir(fold(model), steps=24, dt=DT))
    found = check(place(program, "loihi1", chip_named("loihi1"), {}, 10))
    by_limit: dict[str, list[Violation]] = {}
    for violation in found:
        by_limit.setdefault(violation.limit, []).append(violation)
    blocks = "blocks.0.ssa."
    assert {v.layer for v in by_limit["programmable"]} == {
        blocks + part for part in ("q_rotated", "k_rotated", "attention")
    }
    assert "needs neurons that run programs" in by_limit["programmable"][0].line
    assert all((v.value, v.allowed) == (10, 9) for v in by_limit["weight_bits"])
    # the sum of three residual streams, 0 to 3, and input values
    assert {(v.layer, v.value) for v in by_limit["payload_bits"]} == {
        ("blocks.0.mlp1.contract.lif.sum.delay28", 2), ("input", 8),
    }  # fmt: skip


def test_more_cores_than_a_chip_has() -> None:
    placement = placed(chain(nir.Linear(np.ones((300, 4))), lif(300), width=4), smaller(neurons=2))
    (found,) = check(placement)
    assert (found.limit, found.value, found.allowed) == ("cores", 150, 128)
    assert placement.chips == 2
    assert "take 2 chips" in found.line


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    neurons=st.integers(1, 12),
    memory=st.integers(40, 4000),
    axons=st.integers(2, 40),
    delay=st.integers(1, 5),
)
def test_any_network_is_placed_whole_and_within_limits_or_a_rule_tells(
    seed: int, neurons: int, memory: int, axons: int, delay: int
) -> None:
    graph = RandomGraph(seed, steps=5, samples=1, layers=5, cycles=True).case.graph
    program = lower(graph)
    chip = smaller(neurons=neurons, memory=memory, input_axons=axons, output_axons=axons, delay=delay)
    placement = place(program, "loihi2", chip, {})
    assert_whole(program, placement, chip)


def assert_whole(program: Program, placement: Placement, chip: Chip) -> None:
    """Every neuron on one core, every limit kept or told, and what leaves a core enters another."""
    told = {(v.layer, v.limit) for v in check(placement)}
    for found in placement.layers:
        held = [n for core in found.cores for n in core.part.numbers.tolist()]
        assert sorted(held) == list(range(found.demand.neurons))
        for core in found.cores:
            for limit in ("neurons", "memory", "input_axons", "output_axons"):
                assert getattr(core, limit) <= chip.whole(limit) or (found.name, limit) in told
        assert sum(core.output_axons for core in found.cores) == found.reached.sum()
        assert (found.abroad <= found.reached).all()
    assert placement.memory == sum(core.memory for found in placement.layers for core in found.cores)
    on_cores = [name for found in placement.layers for name in found.demand.operations]
    kinds = {o.name: type(o).__name__ for o in program.operations}
    within = held_delays(program, chip.whole("delay"))
    placeable = (n for n, kind in kinds.items() if kind not in ("Source", "Sink", "Select"))
    assert sorted(on_cores) == sorted(n for n in placeable if n not in within)
    # every axon that enters a core leaves another, or the host
    hosts = {n for n, kind in kinds.items() if kind == "Source"}
    entering = sum(
        len(channels)
        for found in placement.layers
        for core in found.cores
        for name, channels in found.demand.inputs(core.part).items()
        if name not in hosts
    )
    assert entering == sum(core.output_axons for found in placement.layers for core in found.cores)


@pytest.mark.parametrize("name", ["adaptive", "dcls adaptive", "adlif", "axonal", "recurrent", "commander"])
def test_families_are_placed_whole(name: str) -> None:
    model, _, _ = calibrated_model(VARIANTS[name], samples=2, window=14)
    program = lower(to_nir(fold(model, DT), steps=14, dt=DT))
    for chip in (chip_named("loihi2"), smaller(neurons=4)):
        placement = place(program, "loihi2", chip, {})
        neurons = {o.name for o in program.operations if isinstance(o, Neuron)}
        assert neurons <= {operation for found in placement.layers for operation in found.demand.operations}
        assert_whole(program, placement, chip)
    assert sum(len(found.cores) for found in placement.layers) > len(placement.layers)


def test_routing_is_looked_through() -> None:
    one, spikes, values = np.ones(3), Signal.SPIKES, Signal.VALUES

    def neuron(name: str, source: str) -> Neuron:
        given = {"decay": one, "gain": one, "drive": 0 * one, "threshold": one, "v_reset": 0 * one}
        return Neuron(name=name, width=3, signal=spikes, x=Port((source,), 3, spikes), **given)

    operations = (
        Source(name="input", width=3, signal=spikes),
        neuron("a", "input"),
        Select(name="wire", width=3, signal=spikes, x=Port(("a",), 3, spikes), index=np.array([2, -1, 2])),
        Synapse(name="w", width=3, signal=values, x=Port(("wire",), 3, spikes), taps=(Tap(0, np.eye(3)),)),
        neuron("b", "w"),
    )
    placement = place(Program(operations, 1, 1.0, 1), "loihi2", smaller(neurons=1), {})
    # channels 0 and 2 of the routed signal are neuron 2 of a, channel 1 is nobody's: two of three cores of b hear it
    assert layer(placement, "a").reached.tolist() == [0, 0, 2]
    assert [core.input_axons for core in layer(placement, "b").cores] == [1, 0, 1]
