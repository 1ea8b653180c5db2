"""What the frameworks get wrong or cannot do, asserted, so that a version that mends it is noticed."""

from __future__ import annotations

import itertools
import signal
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch
from frameworks.catalogue import cases, missing
from frameworks.comparison import execute
from frameworks.torch_peer import quiet
from torch import nn

nirtorch = pytest.importorskip("nirtorch")
snn = pytest.importorskip("snntorch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    norse = pytest.importorskip("norse.torch")

from snntorch.export_nir import export_to_nir as from_snntorch  # noqa: E402
from snntorch.import_nir import import_from_nir as to_snntorch  # noqa: E402
from spikingjelly.activation_based import layer, neuron  # noqa: E402
from spikingjelly.activation_based.nir_exchange import export_to_nir as from_spikingjelly  # noqa: E402

DT = 1e-4


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with quiet():
        yield


def chain(*nodes: nir.NIRNode) -> nir.NIRGraph:
    named = {"input": nir.Input(np.array([2])), **{f"n{i}": node for i, node in enumerate(nodes)}}
    named["output"] = nir.Output(np.array([2]))
    return nir.NIRGraph(named, list(itertools.pairwise(named)))


def lif(**changes: Any) -> nir.LIF:
    values = {"tau": 2 * DT, "r": 2.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0} | changes
    return nir.LIF(**{name: np.full(2, value) for name, value in values.items()})


def test_these_are_the_versions_that_were_looked_at() -> None:
    packages = ("nirtorch", "snntorch", "norse", "spikingjelly", "nir")
    found = {package: version(package) for package in packages}
    assert found == {"nirtorch": "2.6", "snntorch": "1.0.0", "norse": "1.1.0", "spikingjelly": "2.0.0", "nir": "1.0.8"}


def test_nirtorch_loses_the_bias_of_an_affine() -> None:
    bias = np.array([7.0, 8.0])
    imported = nirtorch.nir_to_torch(chain(nir.Affine(np.eye(2), bias)), {}, dtype=torch.float64)
    assert not np.isclose(imported.n0.bias.detach().numpy(), bias).any()  # what PyTorch initialised it with
    assert imported.n0.weight.bias.tolist() == bias.tolist()  # where it went


def test_nirtorch_takes_its_own_map_over_the_callers() -> None:
    mine = {nn.Linear: lambda module: nir.Linear(2 * module.weight.detach().numpy())}
    module = nn.Sequential(nn.Linear(2, 2, bias=False))
    exported = nirtorch.torch_to_nir(module, mine)
    (linear,) = (node for node in exported.nodes.values() if isinstance(node, nir.Linear))
    np.testing.assert_array_equal(linear.weight, module[0].weight.detach().numpy())
    exported = nirtorch.torch_to_nir(module, mine, default_dict={})
    (linear,) = (node for node in exported.nodes.values() if isinstance(node, nir.Linear))
    np.testing.assert_array_equal(linear.weight, 2 * module[0].weight.detach().numpy())


def test_nirtorch_never_ends_on_a_graph_with_two_inputs() -> None:
    graph = chain(nir.Linear(np.eye(2)))
    graph.nodes |= {"clock": nir.Input(np.array([1])), "ticks": nir.Output(np.array([1]))}
    graph.edges.append(("clock", "ticks"))

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    try:
        with pytest.raises(TimeoutError):
            nirtorch.nir_to_torch(graph, {})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_snntorch_cannot_export_one_decay_for_all_neurons() -> None:
    net = nn.Sequential(nn.Linear(3, 2), snn.Leaky(0.9, init_hidden=True))
    with pytest.raises(ValueError, match="type mismatch"):
        from_snntorch(net, torch.zeros(1, 3), ignore_dims=[0])


def test_snntorchs_spikes_are_float32_whatever_comes_in() -> None:
    spikes, _ = snn.Leaky(0.9)(torch.ones(1, 2, dtype=torch.float64))
    assert spikes.dtype == torch.float32


def test_snntorchs_recurrent_synaptic_neurons_cannot_reset_at_once() -> None:
    neurons = snn.RSynaptic(0.5, 0.9, linear_features=2, init_hidden=True, reset_delay=False)
    with pytest.raises(TypeError, match="NoneType"):
        neurons(torch.ones(1, 2))


def test_snntorch_subtracts_the_threshold_a_step_late() -> None:
    """v = 0.5 v + x - z of the step before: 1.5 fires; 0.75 + 0 - 1 = -0.25, where NIR has (1.5 - 1) / 2 = 0.25."""
    neurons = snn.Leaky(0.5)
    _, v = neurons(torch.tensor([[1.5]]), torch.zeros(1, 1))
    assert neurons(torch.zeros(1, 1), v)[1].item() == -0.25
    at_once = snn.Leaky(0.5, reset_delay=False)
    _, v = at_once(torch.tensor([[1.5]]), torch.zeros(1, 1))
    assert at_once(torch.zeros(1, 1), v)[1].item() == 0.25


def test_snntorch_loses_spikes_above_two_thresholds() -> None:
    """It subtracts at once, but takes what is still above the threshold for a reset that was already made."""
    given = torch.tensor([2.5, 0.0, 0.0, 0.0, 1.2, 0.0])
    neurons, v = snn.Leaky(0.9, reset_delay=False), torch.zeros(1)
    theirs = []
    for x in given:
        spike, v = neurons(x.reshape(1), v)
        theirs.append(int(spike))
    node = nir.LIF(10 * DT * np.ones(1), 10 * np.ones(1), np.zeros(1), np.ones(1), np.zeros(1))
    named = {"input": nir.Input(np.array([1])), "n0": node, "output": nir.Output(np.array([1]))}
    graph = nir.NIRGraph(named, [*itertools.pairwise(named)])
    graph.metadata["reset_mechanism"] = "subtract"
    _, got = execute(graph, given.double().numpy().reshape(-1, 1, 1), DT, "fast")
    assert theirs == [1, 0, 0, 0, 1, 0]
    assert got.spikes["n0"][:, 0, 0].tolist() == [1, 1, 0, 0, 1, 0]


@pytest.mark.parametrize("reset_delay", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        lambda **options: snn.RLeaky(0.5, V=torch.zeros(1), all_to_all=False, **options),
        lambda **options: snn.Synaptic(0.0, 0.5, **options),
    ],
    ids=["RLeaky", "Synaptic"],
)
def test_snntorch_loses_what_arrives_after_a_spike_where_the_reset_is_delayed(make: Any, reset_delay: bool) -> None:
    neurons = make(init_hidden=True, reset_mechanism="zero", reset_delay=reset_delay)
    assert [neurons(torch.full((1, 1), 1.5)).item() for _ in range(4)] == (
        [1, 0, 1, 0] if reset_delay else [1, 1, 1, 1]
    )


def test_snntorch_leads_the_input_of_a_recurrent_layer_through_its_recurrent_weights() -> None:
    """It folds the cycle of the graph that it is given into a nested one. With weights of 0 no input arrives."""
    graph = chain(nir.Linear(4 * np.eye(2)), lif())
    graph.nodes["back"] = nir.Linear(np.zeros((2, 2)))
    graph.edges += [("n1", "back"), ("back", "n1")]
    _, got = execute(graph, np.ones((3, 1, 2)), DT, "fast")
    assert got.spikes["n1"].all()
    imported = to_snntorch(graph)
    assert ("n1.input", "back") in graph.nodes["n1"].edges
    assert ("n1.input", "n1") not in graph.nodes["n1"].edges
    state = None
    for _ in range(3):
        spikes, state = imported(torch.ones(1, 2), state)
        assert not spikes.any()


def test_snntorch_takes_steps_of_a_tenth_of_a_millisecond_for_granted() -> None:
    """tau of 2 ms: its decay is 1 - 0.1 / 2, whatever the graph's metadata say of the step."""
    graph = chain(nir.Linear(np.eye(2)), lif(tau=2e-3, r=20.0))
    graph.metadata["dt"] = 1e-3
    np.testing.assert_allclose(to_snntorch(graph).n1.beta, 0.95)


@pytest.mark.parametrize("lost", [nn.Flatten, lambda: nn.AvgPool2d(2)], ids=["Flatten", "AvgPool2d"])
def test_norse_exports_what_it_does_not_know_as_none(lost: Any) -> None:
    net = norse.SequentialState(nn.Conv2d(1, 2, 3), lost(), norse.LIFBoxCell())
    assert norse.to_nir(net, torch.zeros(1, 1, 6, 6)).nodes["1"] is None


def test_norse_exports_recurrent_cells_as_none() -> None:
    net = norse.SequentialState(nn.Linear(3, 2), norse.LIFRecurrentCell(2, 2))
    assert norse.to_nir(net, torch.zeros(1, 3)).nodes["1"] is None


def test_norse_cannot_export_a_convolution_without_bias() -> None:
    net = norse.SequentialState(nn.Conv2d(1, 2, 3, bias=False), norse.LIFBoxCell())
    with pytest.raises(AttributeError, match="detach"):
        norse.to_nir(net, torch.zeros(1, 1, 6, 6))


def test_norses_graph_of_a_convolution_cannot_be_written(tmp_path: Path) -> None:
    """Nor can nir infer its shape: the size of the image is None."""
    exported = norse.to_nir(norse.SequentialState(nn.Conv2d(1, 2, 3)), torch.zeros(1, 6, 6))
    with pytest.raises(TypeError, match="One of data, shape or dtype"):
        nir.write(tmp_path / "norse.nir", exported)


def test_norses_graph_of_one_constant_for_all_neurons_cannot_be_written(tmp_path: Path) -> None:
    net = norse.SequentialState(nn.Linear(3, 2), norse.LIFBoxCell())
    with pytest.raises(TypeError, match="Scalar datasets"):
        nir.write(tmp_path / "norse.nir", norse.to_nir(net, torch.zeros(3)))


def test_norse_forgets_v_reset() -> None:
    cell = norse.LIFBoxCell(norse.LIFBoxParameters(v_reset=torch.tensor(-1.0)))
    assert norse.to_nir(norse.SequentialState(nn.Linear(3, 2), cell), torch.zeros(3)).nodes["1"].v_reset == 0
    imported = norse.from_nir(chain(nir.Linear(np.eye(2)), lif(v_reset=-1.0)), dt=DT)
    assert imported.n1.p.v_reset == 0


def test_membranes_of_norse_start_at_the_leak_and_those_of_spikingjelly_at_the_reset() -> None:
    """NIR says nothing of the first step; ours start at 0. The loop is v = v / 2 + rest / 2 from either start."""
    rest = 0.75
    parameters = norse.LIFBoxParameters(tau_mem_inv=torch.tensor(500.0), v_leak=torch.tensor(rest))
    _, state = norse.LIFBoxCell(parameters, dt=1e-3)(torch.zeros(1, 1))
    assert state.v.item() == rest  # from 0 it would be rest / 2
    cell = neuron.LIFNode(tau=2.0, v_reset=rest, v_threshold=2.0)
    cell(torch.zeros(1, 1))
    assert cell.v.item() == rest


def test_spikingjelly_refuses_soft_resets() -> None:
    net = nn.Sequential(layer.Linear(3, 2), neuron.LIFNode(v_reset=None))
    with pytest.raises(NotImplementedError, match="soft reset"):
        from_spikingjelly(net, torch.zeros(1, 3))


@pytest.mark.parametrize(
    ("container", "error"),
    [
        (lambda: layer.LinearRecurrentContainer(neuron.LIFNode(), 2, 2), torch.fx.proxy.TraceError),
        (lambda: layer.ElementWiseRecurrentContainer(neuron.LIFNode(), lambda x, y: x + y), ValueError),
    ],
    ids=["linear", "element-wise"],
)
def test_spikingjelly_cannot_export_recurrent_containers(container: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        from_spikingjelly(nn.Sequential(layer.Linear(3, 2), container()), torch.zeros(1, 3))


def test_nir_mistakes_the_shape_of_a_convolution_whose_kernel_is_not_square() -> None:
    """(5, 4) rows and columns, kernel (3, 2), stride (2, 1): (2, 3) places, nir says (2, 2)."""
    node = nir.Conv2d((5, 4), np.ones((6, 4, 3, 2)), (2, 1), 0, 1, 1, np.zeros(6))
    assert node.output_type["output"].tolist() == [6, 2, 2]
    assert torch.nn.functional.conv2d(torch.ones(1, 4, 5, 4), torch.ones(6, 4, 3, 2), stride=(2, 1)).shape[2:] == (2, 3)


def test_imports_leave_our_graph_alone_where_they_are_handed_a_copy() -> None:
    assert not missing("ours")
    case = cases("ours")["spikingjelly_recurrent"](2, 1)
    assert sorted(case.nir.nodes) == ["back", "fc1.synapse", "fc2.synapse", "hidden", "input", "last", "output"]
