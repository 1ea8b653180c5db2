"""Modules of SpikingJelly's layers recorded, folded, lowered and executed: every spike is the module's."""

import json
from pathlib import Path

import nir
import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

import spikescr
from spikescr.errors import ExportError, GraphError, UsageError
from spikescr.export.deploy import write_graph


class Residual(nn.Module):
    """A convolution beside its input, soft resets, adds, an average to the classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(layer.Conv2d(2, 6, 3, padding=1, bias=False), layer.BatchNorm2d(6), neuron.IFNode())
        self.conv = layer.Conv2d(6, 6, 3, padding=1, groups=3)
        self.norm = layer.BatchNorm2d(6)
        self.fires = neuron.LIFNode(tau=1.5, v_reset=None, decay_input=False)
        self.pool = layer.AvgPool2d(2)
        self.drop = layer.Dropout(0.5)
        self.head = layer.Linear(6 * 16, 5)
        self.out = neuron.ParametricLIFNode(init_tau=3.0, v_threshold=0.05)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.fires(self.norm(self.conv(x)))
        return self.out(self.head(self.drop(self.pool(x).flatten(2)))).mean(0)


class Tokens(nn.Module):
    """Attention over tokens of a step, queries, keys and values by chunks of one Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.embedded = layer.Linear(5, 8), neuron.LIFNode()
        self.qkv, self.parts = layer.Linear(8, 24), neuron.LIFNode(v_threshold=0.2)
        self.attend = neuron.LIFNode(v_threshold=0.05)
        self.head = layer.Linear(8, 3)

    def forward(self, x):
        x = self.embedded(self.embed(3 * x))
        q, k, v = (part.unflatten(-1, (2, 4)).transpose(2, 3) for part in self.parts(self.qkv(4 * x)).chunk(3, -1))
        y = (q @ k.transpose(-2, -1)) * 0.25 @ v
        y = self.attend(y).transpose(2, 3).flatten(-2)
        return self.head((x + y).mean(2)).sum(0)


class Loop(nn.Module):
    """Steps one by one, with a recurrent layer; (T, B, 6) -> (T, B, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(6, 8)
        self.recurrent = layer.LinearRecurrentContainer(
            nn.Sequential(nn.Linear(8, 8), neuron.LIFNode(tau=2.0, v_threshold=0.2)), 8, 8
        )
        self.out = nn.Linear(8, 4)

    def forward(self, x):
        return torch.stack([self.out(self.recurrent(self.into(step))) for step in x])


class Held(nn.Module):
    """The same image at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fires = layer.Conv2d(1, 4, 3), neuron.IFNode(v_threshold=0.7)
        self.pool = layer.MaxPool2d(2)

    def forward(self, x):
        return self.pool(self.fires(self.conv(x.unsqueeze(0).repeat(5, 1, 1, 1, 1)))).sum(0).flatten(1)


class Normalised(nn.Module):
    """A batch normalisation that no weights can take: a sum of spikes stands before it, a neuron behind."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(layer.Conv2d(1, 4, 3, padding=1), neuron.IFNode(v_threshold=0.5))
        self.pool, self.norm = layer.AvgPool2d(3, 1, 1), layer.BatchNorm2d(4)
        self.fires, self.head = neuron.LIFNode(v_threshold=0.3), layer.Linear(4 * 36, 3)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.pool(x)
        return self.head((self.fires(self.norm(x)) + x).flatten(2)).mean(0)


def multi_step(net: nn.Module, x: torch.Tensor) -> nn.Module:
    """Multi-step, batch statistics of x, eval mode."""
    functional.set_step_mode(net, "m")
    for _ in range(30):
        net(x)
        functional.reset_net(net)
    return net.eval()


def of(name: str) -> tuple[nn.Module, torch.Tensor, str]:
    torch.manual_seed(3)
    match name:
        case "residual":
            x = 2 * torch.rand(4, 3, 2, 8, 8)
            return multi_step(Residual(), x), x, "steps"
        case "tokens":
            return multi_step(Tokens(), x := 2 * torch.rand(3, 4, 7, 5)), x, "steps"
        case "loop":
            return Loop().eval(), 4 * torch.randn(6, 3, 6), "steps"
        case "held":
            return multi_step(Held(), x := torch.rand(3, 1, 8, 8)), x, "held"
        case "normalised":
            return multi_step(Normalised(), x := torch.rand(4, 3, 1, 6, 6)), x, "steps"
    raise KeyError(name)


@pytest.mark.parametrize("backend", ["fast", "lava"])
@pytest.mark.parametrize("name", ["residual", "tokens", "loop", "held", "normalised"])
def test_every_spike_is_the_module_s(name: str, backend: str) -> None:
    net, x, time = of(name)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    graph = spikescr.to_nir(net, x, time=time)
    told = spikescr.verify(net, graph, x.numpy(), backend=backend)
    assert told.differing == 0
    assert told.passed
    assert told.layers
    assert not [row.layer for row in told.layers if row.silent]
    neurons = {name for name, part in net.named_modules() if isinstance(part, neuron.BaseNode)}
    assert neurons <= {row.layer for row in told.layers}
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_a_graph_of_another_network_is_found_out() -> None:
    net, x, _ = of("residual")
    graph = spikescr.to_nir(net, x)
    with torch.no_grad():
        net.conv.weight[:] = net.conv.weight.flip(0)
    told = spikescr.verify(net, graph, x.numpy(), backend="fast")
    assert told.differing > 0
    assert told.explained == 0
    assert not told.passed
    assert told.divergence.layer == "fires"
    expected, executed = told.membranes
    assert (expected >= 1) == told.divergence.expected
    assert (executed >= 1) == told.divergence.executed
    assert f"membranes {expected!r} and {executed!r}" in told.first
    with pytest.raises(GraphError, match=r"the module has no neurons that the graph has: fires, out, stem\.2"):
        spikescr.verify(nn.Flatten(2), graph, x.numpy(), backend="fast")
    with pytest.raises(ExportError, match="Held fails on an input of shape"):
        spikescr.verify(of("held")[0], graph, x.numpy(), backend="fast")


def test_a_membrane_at_its_threshold_explains_what_differs() -> None:
    """7 spikes of 9: 7 times 1/9, rounded, is less than 7/9."""
    assert 7 * (1 / 9) < 7 / 9
    net = nn.Sequential(layer.AvgPool2d(3), neuron.IFNode(v_threshold=7 / 9), layer.Flatten(), layer.Linear(1, 4))
    net.append(neuron.IFNode(v_threshold=0.01))
    functional.set_step_mode(net, "m")
    nn.init.ones_(net[3].weight)
    x = torch.zeros(3, 2, 1, 3, 3)
    x.view(3, 2, 9)[:, 0, :7] = 1
    told = spikescr.verify(net, spikescr.to_nir(net, x), x.numpy(), backend="fast")
    assert told.differing == told.explained > 0
    assert told.passed
    assert "meet their threshold within rounding" in told.first


def test_what_is_recorded_needs_an_example() -> None:
    with pytest.raises(UsageError, match="give an example of its input"):
        spikescr.to_nir(of("held")[0])


def test_what_has_no_place_in_a_graph_is_refused_by_name() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid())
    with pytest.raises(ExportError, match="sigmoid"):
        spikescr.to_nir(net, torch.rand(3, 4, 3))


def test_metadata_say_what_the_graph_was_made_of() -> None:
    net, x, time = of("held")
    metadata = spikescr.to_nir(net, x, time=time, dt=0.002).metadata
    assert metadata["spikescr.dt"] == 0.002
    assert metadata["spikescr.steps"] == 5
    assert metadata["spikescr.readout"] == "sum"
    assert json.loads(metadata["spikescr.model"]) == {
        "module": "Held", "time": "held", "axes": [0, 1], "output_axis": None,
    }  # fmt: skip


def test_a_file_with_grouped_convolutions_is_read_without_nir_s_own_check(tmp_path: Path) -> None:
    net, x, _ = of("residual")
    graph = spikescr.to_nir(net, x)
    write_graph(tmp_path / "net.nir", graph)
    assert nir.read(tmp_path / "net.nir", type_check=False).nodes["conv"].groups == 3
    assert spikescr.verify(net, tmp_path / "net.nir", x.numpy(), backend="fast").differing == 0


def test_simulate_takes_the_input_of_the_module() -> None:
    net, x, time = of("held")
    run = spikescr.simulate(spikescr.to_nir(net, x, time=time), x.numpy())
    expected = net(x).detach().numpy()
    np.testing.assert_allclose(run.outputs["output"].sum(0), expected)
