"""Inspection: figures against the model, against executed counts and against PyTorch; foreign graphs; the drawing."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

import nir
import numpy as np
import pytest
from from_torch import SMALL, calibrated_model, fold, to_nir, torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import RandomGraph

from spikescr.sim.fast.backend import FastBackend
from spikescr.sim.inspection.drawing import draw, layer_of
from spikescr.sim.inspection.inspection import GraphReport, NodeReport, inspect, total
from spikescr.sim.inspection.layering import place
from spikescr.sim.lowering.flat import FlatGraph
from spikescr.sim.lowering.lower import lower
from spikescr.sim.lowering.ordering import in_order, natural

if TYPE_CHECKING:
    from spikescr.model import SpikeSCR

DT = 0.01
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def network() -> tuple[SpikeSCR, nir.NIRGraph]:
    model, _, _ = calibrated_model()
    return model, to_nir(fold(model), steps=24, dt=DT)


def chain(*nodes: nir.NIRNode, **metadata: object) -> nir.NIRGraph:
    """Input -> 0 -> 1 ... -> output."""
    named = {"input": nir.Input(np.array(next(iter(nodes[0].input_type.values()))))}
    named |= {str(i): node for i, node in enumerate(nodes)}
    named["output"] = nir.Output(np.array([1]))
    graph = nir.NIRGraph(named, list(itertools.pairwise(named)), metadata=metadata, type_check=False)
    named["output"].input_type = {"input": None}
    graph.infer_types()
    return graph


def lif(*shape: int) -> nir.LIF:
    one = np.ones(shape)
    return nir.LIF(tau=2 * DT * one, r=2 * one, v_leak=0 * one, v_threshold=one, v_reset=0 * one)


def node(report: GraphReport, name: str) -> NodeReport:
    return next(n for n in report.nodes if n.name == name)


def test_synapses_and_neurons_are_those_of_the_model(network: tuple[SpikeSCR, nir.NIRGraph]) -> None:
    from spikescr.model import LIF

    model, graph = network
    report = inspect(graph)
    weights = [m.weight for m in model.modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv1d))]
    assert len(weights) > 10
    assert total(report.nodes).synapses == sum(w.numel() for w in weights)
    layers = [m for m in model.modules() if isinstance(m, LIF)]
    assert sum(1 for n in report.nodes if n.neurons) == len(layers)
    assert {n.latency for n in report.nodes} >= {0, 1, 25, 28}
    assert report.warnings == ()


def test_what_is_ours_is_told_by_metadata(network: tuple[SpikeSCR, nir.NIRGraph]) -> None:
    report = inspect(network[1])
    ours = {n.type for n in report.nodes if not n.standard}
    assert ours == {"clock", "wire", "gate", "rotary", "attention"}
    assert sum(len(report.groups[kind]) for kind in ("standard", "packed", "wires")) == len(report.nodes)
    assert total(report.groups["wires"]).synapses == 0
    product = node(report, "blocks.0.ssa.attention.product")
    # two heads of 8: A is written and read, 8 x 8 each; A and the last 24 queries are kept
    assert product.operations.ac == 2 * 2 * 8 * 8
    assert product.state_bytes == 8 * (2 * 8 * 8 + 24 * 16)
    assert node(report, "blocks.0.ssa.q_rotated.rotary").operations.ac == 2 * 16
    assert node(report, "sem.synapse.delay2").state_bytes == 8 * 2 * 12


def test_causal_attention_keeps_no_queries() -> None:
    model, _, _ = calibrated_model(SMALL.model_copy(update={"attention": "causal"}))
    product = node(inspect(to_nir(fold(model), steps=24, dt=1 / 24)), "blocks.0.ssa.attention.product")
    assert (product.operations.ac, product.state_bytes) == (2 * 2 * 8 * 8, 8 * 2 * 8 * 8)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31))
def test_no_step_executes_more_than_the_bound(seed: int) -> None:
    case = RandomGraph(seed, steps=5, samples=2, layers=4, cycles=True, spatial=False).case
    inputs = {name: np.minimum(x, 1) if x.min() >= 0 else x for name, x in case.inputs.items()}
    report = inspect(case.graph)
    counts = FastBackend(lower(case.graph), 2).run(inputs).counts
    bound = total(report.nodes).operations
    for kind in ("ac", "mac", "bias", "neuron"):
        executed = sum(counts.per_step(name, kind) for name in counts.operations)
        assert executed.max() <= getattr(bound, kind), kind


def test_the_bound_is_reached_when_every_input_is_active() -> None:
    rng = np.random.default_rng(0)
    one = np.ones(4)
    nodes = {
        "input": nir.Input(np.array([4]), metadata={"spikescr.signal": "spikes"}),
        "a": nir.Linear(rng.normal(size=(6, 4))),
        "b": nir.Scale(one),
        "sum": nir.Linear(rng.normal(size=(3, 4))),
        "fire": nir.LIF(tau=DT * one, r=one, v_leak=one, v_threshold=0 * one, v_reset=0 * one),
        "output_a": nir.Output(np.array([6])),
        "output": nir.Output(np.array([3])),
    }
    edges = [("input", "a"), ("a", "output_a"), ("input", "b"), ("b", "fire"), ("fire", "sum"), ("input", "sum")]
    graph = nir.NIRGraph(nodes, [*edges, ("sum", "output")], metadata={"spikescr.dt": DT, "spikescr.steps": 3})
    counts = FastBackend(lower(graph), 1).run({"input": np.ones((3, 1, 4))}).counts
    report = inspect(graph)
    assert counts.per_step("fire", "fired").min() == 4
    assert node(report, "sum").operations.ac == 2 * 3 * 4  # an event of the input and one of the neuron
    for name in ("a", "b", "sum"):
        assert counts.per_step(name, "ac")[0, 0] == node(report, name).operations.ac


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@settings(max_examples=60)
@given(
    length=st.integers(5, 9), kernel=st.integers(1, 4), stride=st.integers(1, 3), dilation=st.integers(1, 2),
    padding=st.sampled_from([0, 1, 2, "same", "valid"]), groups=st.sampled_from([1, 2]), two=st.booleans(),
)  # fmt: skip
def test_connections_of_a_convolution_are_pytorchs(
    length: int, kernel: int, stride: int, dilation: int, padding: int | str, groups: int, two: bool
) -> None:
    """Ones through ones: PyTorch's output is the number of inputs that reach each position."""
    if dilation * (kernel - 1) >= length:
        return
    stride = 1 if padding == "same" else stride
    weight = np.ones((4, 4 // groups, kernel, kernel) if two else (4, 4 // groups, kernel))
    shape = (length, length) if two else length
    made = (nir.Conv2d if two else nir.Conv1d)(shape, weight, stride, padding, dilation, groups, np.zeros(4))
    convolve = torch.nn.functional.conv2d if two else torch.nn.functional.conv1d
    ones = torch.ones((1, 4, length, length) if two else (1, 4, length))
    reached = convolve(ones, torch.tensor(weight, dtype=torch.float32), None, stride, padding, dilation, groups)
    nodes = {"input": nir.Input(np.array(ones.shape[1:])), "conv": made, "output": nir.Output(np.array([4]))}
    graph = nir.NIRGraph(nodes, [("input", "conv"), ("conv", "output")], type_check=False)
    assert node(inspect(graph), "conv").synapses == reached.sum()
    weight[0, 0] = 0  # no synapses
    live = convolve(ones, torch.tensor(weight, dtype=torch.float32), None, stride, padding, dilation, groups)
    assert node(inspect(graph), "conv").synapses == live.sum() < reached.sum()
    assert node(inspect(graph), "conv").operations.mac == live.sum()


def recurrent() -> nir.NIRGraph:
    """A convolutional front, and a recurrent subgraph as nirtorch writes them."""
    inner = nir.NIRGraph(
        nodes={
            "input": nir.Input(np.array([5])),
            "lif": lif(5),
            "w_rec": nir.Linear(np.ones((5, 5))),
            "output": nir.Output(np.array([5])),
        },
        edges=[("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")],
    )
    nodes = {
        "input": nir.Input(np.array([2, 8, 8])),
        "0": nir.Conv2d((8, 8), np.ones((3, 2, 3, 3)), 1, 1, 1, 1, np.zeros(3)),
        "1": nir.IF(np.ones((3, 8, 8)), np.ones((3, 8, 8))),
        "2": nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        "3": nir.Flatten(np.array([3, 4, 4]), 0, -1),
        "4": nir.Affine(np.ones((5, 48)), np.zeros(5)),
        "5": inner,
        "output": nir.Output(np.array([5])),
    }
    return nir.NIRGraph(nodes, list(itertools.pairwise(nodes)))


def test_foreign_graph_with_a_nested_recurrence() -> None:
    report = inspect(recurrent())
    assert [n.name for n in report.nodes][-4:] == ["5.w_rec", "5.lif", "5.output", "output"]
    assert ("4", "5.input") in report.edges
    assert ("5.output", "output") in report.edges
    assert node(report, "0").operations.mac == node(report, "0").synapses
    assert node(report, "2").carries == "spikes"
    # four neurons are summed: up to four events on each channel
    assert node(report, "4").operations.ac == 4 * 5 * 48
    assert node(report, "4").operations.bias == 0  # zeros are not added
    assert node(report, "5.w_rec").carries == "spikes"
    assert node(report, "1").neurons == 192
    assert all(n.standard for n in report.nodes)
    assert report.warnings == ("the file has no step: to run it give dt (--dt), seconds per step",)


def test_warnings_name_the_node() -> None:
    nodes = {
        "input": nir.Input(np.array([2])),
        "bad": nir.Linear(np.array([[1.0, np.nan]])),
        "output": nir.Output(np.array([1])),
        "lost": nir.Linear(np.ones((1, 1))),
        "conv": nir.Conv1d(None, np.ones((1, 1, 3)), 1, 0, 1, 1, np.zeros(1)),
    }
    edges = [("input", "bad"), ("bad", "output"), ("lost", "lost"), ("conv", "conv")]
    warnings = inspect(nir.NIRGraph(nodes, edges, type_check=False)).warnings
    assert warnings == (
        "bad: weight has numbers that are not finite",
        "shapes unknown, and with them synapses and operations: conv",
        "no input leads to: conv, lost",
        "no output is reached from: conv, lost",
        "spikescr simulate cannot run it: conv: the shape that arrives at this Conv1d cannot be told",
    )


def test_state_of_a_delay_is_unknown_without_a_step() -> None:
    graph = chain(nir.Delay(np.full(3, 4 * DT)))
    assert node(inspect(graph), "0").state_bytes is None
    graph.metadata["spikescr.dt"] = DT
    assert node(inspect(graph), "0").state_bytes == 8 * 3 * 4


def test_cuba_neurons_keep_two_variables() -> None:
    one = np.ones(3)
    report = inspect(chain(nir.CubaLIF(one, one, one, one, one), nir.CubaLI(one, one, one, one), nir.I(one)))
    assert [n.state_bytes for n in report.nodes] == [0, 48, 48, 24, 0]


@given(edges=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=25))
def test_order_has_every_node_once_and_sources_first_where_there_is_no_cycle(edges: list[tuple[int, int]]) -> None:
    forward = {(min(e), max(e)) for e in edges if e[0] != e[1]}
    before = {str(n): [str(a) for a, b in forward if b == n] for n in range(10)}
    order = in_order(before)
    assert sorted(order) == sorted(before)
    assert all(order.index(a) < order.index(b) for b, sources in before.items() for a in sources)
    cyclic = in_order({str(n): [str(a) for a, b in edges if b == n] for n in range(10)})
    assert sorted(cyclic) == sorted(before)


def test_names_sort_as_people_count() -> None:
    assert sorted(["tap10", "tap2", "b", "0.10", "0.9"], key=natural) == ["0.9", "0.10", "b", "tap2", "tap10"]


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("sem.synapse.tap0", "sem"),
        ("sem.synapse.delay2", "sem"),
        ("sem.gate.wire_value", "sem"),
        ("blocks.0.mlp1.contract.lif.sum.delay56", "blocks.0.mlp1.contract"),
        ("blocks.0.sgc.gate.lif", "blocks.0.sgc.gate"),
        ("features.3", "features.3"),
        ("0", "0"),
        ("rnn.lif.cell", "rnn.lif"),
    ],
)
def test_layer_by_name(name: str, layer: str) -> None:
    assert layer_of(name) == layer


def test_drawing_has_a_box_per_layer_and_the_residual_stream(network: tuple[SpikeSCR, nir.NIRGraph]) -> None:
    root = ET.fromstring(draw(inspect(network[1]), "a <title>"))
    names = [e.text for e in root.iter(f"{SVG}text") if e.get("class") == "name"]
    assert len(names) == len(set(names)) == 17 + 4  # a box per LIF layer; value, head, input and output
    assert {"sem", "blocks.0.ssa.attention", "blocks.0.sgc.gated", "head", "input", "output"} <= set(names)
    assert sum(1 for e in root.iter(f"{SVG}circle")) == 4  # a residual connection around each of the four parts
    width, height = (float(root.get(side)) for side in ("width", "height"))
    for rect in root.iter(f"{SVG}rect"):
        x, y = float(rect.get("x", 0)), float(rect.get("y", 0))
        assert 0 <= x <= x + float(rect.get("width")) <= width
        assert 0 <= y <= y + float(rect.get("height")) <= height


@settings(max_examples=40)
@given(edges=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), min_size=1, max_size=25, unique=True))
def test_boxes_of_any_graph_do_not_overlap(edges: list[tuple[int, int]]) -> None:
    sizes = {str(n): (30.0 + 17 * n, 20.0 + n) for n in range(12)}
    placed = place(sizes, [(str(a), str(b)) for a, b in edges if a != b])
    for a, b in itertools.combinations(sizes, 2):
        (xa, ya), (xb, yb) = placed.centres[a], placed.centres[b]
        apart = abs(xa - xb) * 2 >= sizes[a][0] + sizes[b][0] or abs(ya - yb) * 2 >= sizes[a][1] + sizes[b][1]
        assert apart, (a, b)


def test_flat_graph_of_a_written_file_is_the_same(tmp_path: Path, network: tuple[SpikeSCR, nir.NIRGraph]) -> None:
    nir.write(tmp_path / "a.nir", network[1])
    read, made = FlatGraph(nir.read(tmp_path / "a.nir")), FlatGraph(network[1])
    assert read.order == made.order
    assert {n: read.arriving(n) for n in read.nodes} == {n: made.arriving(n) for n in made.nodes}
