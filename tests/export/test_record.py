"""Recording small networks, written from their equations: what a step of a sample does, and what stands against it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from oracles.step_interpreter import Interpreter
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

from spikescr.errors import ExportError
from spikescr.export.record import StepNetwork, per_step, record, stepped
from spikescr.export.record.recorder import copied
from spikescr.export.record.step import Time


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Weights are drawn as well as inputs."""
    torch.manual_seed(0)


def many(module: nn.Module) -> nn.Module:
    functional.set_step_mode(module, "m")
    return module


def lively(module: nn.Module) -> nn.Module:
    """With weights and statistics with which layers fire."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(part.weight, 1.0, 3.0)
            nn.init.uniform_(part.bias, -0.2, 0.8)
            nn.init.uniform_(part.running_mean, -0.2, 0.2)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
    return module


def agrees(module: nn.Module, x: Tensor, time: Time = "steps") -> StepNetwork:
    """The network of a module, after its outputs and those of the module are the same and every layer fires."""
    network = stepped(record(module, x, time))
    whole, x = copied(module), x.double()
    with torch.no_grad():
        expected = torch.stack([whole(part) for part in x]) if time == "loop" else whole(x)
    interpreter = Interpreter(network)
    steps = x if time != "held" else x.expand(network.steps, *x.shape)
    (found,) = interpreter.run(steps).values()
    torch.testing.assert_close(found.reshape(expected.shape), expected, rtol=0, atol=1e-12)
    assert all(torch.stack(spikes).any() for spikes in interpreter.spikes.values()), "a silent layer proves nothing"
    return network


def operations(network: StepNetwork) -> list[str]:
    return [node.operation for node in network.nodes]


class Residual(nn.Module):
    """x + SN(BN(Conv x)), then 1 - that, then the product with x; a soft reset in between."""

    def __init__(self) -> None:
        super().__init__()
        self.first = neuron.IFNode(v_threshold=0.4)
        self.conv = layer.Conv2d(2, 2, 3, padding=1, groups=2)
        self.bn = layer.BatchNorm2d(2)
        self.second = neuron.LIFNode(v_reset=None, v_threshold=0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = self.second(self.bn(self.conv(x)))
        return x * (1.0 - y) + 2 * y


def csnn() -> nn.Module:
    return nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1, bias=False),
        layer.BatchNorm2d(4),
        neuron.IFNode(),
        layer.MaxPool2d(2, 2),
        layer.Flatten(),
        layer.Dropout(0.5),
        layer.Linear(64, 20),
        neuron.LIFNode(decay_input=False),
        layer.VotingLayer(5),
    )


def test_a_convolutional_network_is_a_node_for_each_layer() -> None:
    network = agrees(lively(many(csnn())), torch.rand(3, 4, 2, 8, 8))
    layers = ["input", "conv", "batch_norm", "neuron", "max_pool", "linear", "neuron", "avg_pool", "output"]
    assert operations(network) == layers
    assert [network.signals[node.result].kind for node in network.nodes][3:5] == ["spikes", "spikes"]
    assert [node.path for node in network.nodes][1:4] == ["0", "1", "2"]
    assert (network.steps, network.time) == (3, "steps")


def test_one_step_at_a_time_is_the_same_network() -> None:
    x = torch.rand(3, 2, 2, 8, 8)
    single, several = csnn(), csnn()
    several.load_state_dict(single.state_dict())
    lively(single), lively(several)
    one, other = agrees(single, x, "loop"), agrees(many(several), x)
    assert operations(one) == operations(other)


def test_residuals_gates_and_soft_reset() -> None:
    network = agrees(lively(many(Residual())), torch.rand(4, 2, 2, 6, 6))
    assert operations(network)[-6:] == ["neuron", "complement", "product", "scale", "sum", "output"]
    assert network.signals[network.nodes[-1].operands[0].signal].kind == "counts"


class Held(nn.Module):
    """An image that every step sees; the mean over the steps, then a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = many(nn.Sequential(layer.Conv2d(2, 3, 3), layer.BatchNorm2d(3), neuron.IFNode(), layer.Flatten()))
        self.head = nn.Linear(48, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(0).repeat(4, 1, 1, 1, 1)
        return self.head(self.body(x).mean(0))


def test_a_held_input_and_a_mean_before_the_last_layer() -> None:
    network = agrees(lively(Held()), torch.rand(2, 2, 6, 6), "held")
    assert network.steps == 4
    assert network.nodes[0].options["held"]
    assert network.nodes[-1].options["readout"] == "mean"


class Summed(Held):
    """The same, the sum taken: the bias of the layer behind it comes once, not in each step."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.expand(4, *x.shape)
        return self.head(self.body(x).sum(dim=0))


def test_a_bias_behind_a_sum_over_the_steps_comes_once() -> None:
    assert agrees(lively(Summed()), torch.rand(2, 2, 6, 6), "held").nodes[-1].options["readout"] == "sum"


class Handwritten(nn.Module):
    """A loop over time with a recurrent layer and a sum of its own: h from zeros, or from nothing."""

    def __init__(self, start: str) -> None:
        super().__init__()
        self.start = start
        self.inward, self.back = nn.Linear(6, 8), nn.Linear(8, 8)
        self.spiking, self.out = neuron.LIFNode(tau=1.5, v_threshold=0.3), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = {"like": torch.zeros_like(x[0, :, :1]).expand(-1, 8), "fresh": torch.zeros(x.shape[1], 8, dtype=x.dtype)}[
            self.start
        ]
        total = 0
        for step in x:
            h = self.spiking(self.inward(step) + self.back(h))
            total = total + self.out(h)
        return total / len(x)


@pytest.mark.parametrize("start", ["like", "fresh"])
def test_a_loop_over_time_with_a_recurrent_layer(start: str) -> None:
    torch.manual_seed(1)
    network = agrees(Handwritten(start), 2 * torch.rand(5, 3, 6))
    assert operations(network).count("neuron") == operations(network).count("delay") == 1
    assert operations(network).count("linear") == 3
    assert network.nodes[-1].options["readout"] == "sum"


class Feeding(nn.Module):
    """A loop whose states are the number 0.0 at first, as SNASNet's: one fed back, one that decays."""

    def __init__(self, lag: int = 1) -> None:
        super().__init__()
        self.lag = lag
        self.inward, self.back, self.bn = nn.Linear(6, 8), nn.Linear(8, 8), nn.BatchNorm1d(8)
        self.first, self.second = neuron.LIFNode(tau=1.5, v_threshold=0.3), neuron.IFNode(v_threshold=0.6)
        self.across = nn.Linear(8, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        static, last, trace = self.inward(x), [0.0] * self.lag, 0.0
        found = []
        for _ in range(5):
            spikes = self.first(static + last[0])
            spikes = spikes + self.first_again(static + last[0])
            trace = 0.75 * trace + self.across(spikes)
            out = self.second(trace)
            last = [*last[1:], self.bn(self.back(out))]
            found.append(out)
        return torch.stack(found)

    def first_again(self, x: Tensor) -> Tensor:
        return 0.5 * x


@pytest.mark.parametrize("lag", [1, 2])
def test_a_loop_whose_first_pass_reads_numbers(lag: int) -> None:
    network = agrees(lively(Feeding(lag)), torch.rand(3, 6), "held")
    assert operations(network).count("neuron") == 2
    assert operations(network).count("delay") == lag + 1
    assert network.nodes[-1].options["readout"] == "every"


class Pipelined(nn.Module):
    """Called step by step: the second neuron gets what the first gave a call before."""

    def __init__(self) -> None:
        super().__init__()
        self.inward, self.first, self.second = nn.Linear(6, 8), neuron.IFNode(v_threshold=0.3), neuron.IFNode()
        self.before: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        before = torch.zeros(len(x), 8, dtype=x.dtype) if self.before is None else self.before
        self.before = self.first(self.inward(x))
        out: Tensor = self.second(before)
        return out


def test_a_neuron_that_gets_the_step_before() -> None:
    network = agrees(Pipelined(), 2 * torch.rand(4, 2, 6), "loop")
    assert operations(network) == ["input", "linear", "neuron", "delay", "neuron", "output"]


CONTAINERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: layer.LinearRecurrentContainer(neuron.IFNode(v_threshold=0.4), 6, 6),
    "element": lambda: layer.ElementWiseRecurrentContainer(neuron.IFNode(v_threshold=0.9), lambda y, x: y + x),
    "filter": lambda: nn.Sequential(neuron.IFNode(), layer.SynapseFilter(tau=3.0), layer.Linear(6, 4), neuron.IFNode()),
    "delay": lambda: nn.Sequential(neuron.IFNode(), layer.Delay(2), layer.Linear(6, 4), neuron.IFNode(v_threshold=0.2)),
    "steps": lambda: layer.MultiStepContainer(nn.Linear(6, 4), neuron.IFNode(v_threshold=0.2)),
    "folded": lambda: nn.Sequential(
        layer.SeqToANNContainer(nn.Linear(6, 4), nn.BatchNorm1d(4)), neuron.IFNode(v_threshold=0.3)
    ),
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_containers(kind: str) -> None:
    torch.manual_seed(0)
    module = CONTAINERS[kind]()
    if kind in {"filter", "delay", "linear", "element"}:
        many(module) if isinstance(module, nn.Sequential) else setattr(module, "step_mode", "m")
    elif kind == "folded":
        many(module[1])
    agrees(module, 2 * torch.rand(5, 3, 6))


def refused(module: nn.Module, x: Tensor, time: Time = "steps") -> list[tuple[str, str, str]]:
    network, problems = per_step(record(module, x, time))
    assert network is None
    return [(problem.fault, problem.path, problem.operation) for problem in problems]


class Mixing(nn.Module):
    """Takes a way of moving axes before its neuron."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.change = change
        self.sn = neuron.LIFNode(step_mode="m")

    def forward(self, x: Tensor) -> Tensor:
        return self.sn(self.change(x))


FOLDS: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "steps into samples": ("steps", lambda x: x.flatten(0, 1)),
    "samples first": ("steps", lambda x: x.transpose(0, 1)),
    "reshaped, not permuted": ("steps", lambda x: x.permute(1, 2, 0, 3).reshape(x.shape)),
    "batch": ("samples", lambda x: x + x.flip(1)),
    "mean": ("samples", lambda x: x - x.mean(1, keepdim=True)),
    "all": ("samples", lambda x: x / 2 - x.mean() + x),
    "steps": ("steps", lambda x: x + x.flip(0)),
}


@pytest.mark.parametrize("kind", FOLDS)
@pytest.mark.parametrize("shape", [(3, 2, 4, 5), (2, 2, 2, 2)])
def test_samples_or_steps_that_are_mixed(kind: str, shape: tuple[int, ...]) -> None:
    fault, change = FOLDS[kind]
    assert fault in {problem[0] for problem in refused(Mixing(change), torch.rand(shape))}


RESETS: dict[str, tuple[bool, Callable[[nn.Module], object]]] = {
    "by reset_net": (False, functional.reset_net),
    "by hand": (False, lambda net: setattr(net.sn, "v", 0.0)),
    "in place": (False, lambda net: net.sn.v.zero_()),
    "detached": (True, lambda net: net.sn.v.detach_()),
}


@pytest.mark.parametrize("kind", RESETS)
def test_a_reset_in_the_middle_of_forward(kind: str) -> None:
    same, reset = RESETS[kind]

    class Resetting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sn = neuron.LIFNode(v_threshold=0.6)

        def forward(self, x: Tensor) -> Tensor:
            functional.reset_net(self)
            found = []
            for step, part in enumerate(x):
                found.append(self.sn(part))
                if step == 1:
                    reset(self)
            return torch.stack(found)

    x = torch.rand(4, 3, 5)
    if same:
        agrees(Resetting(), x)
    else:
        assert ("structure", "sn", "LIFNode") in refused(Resetting(), x)


def test_all_problems_at_once_with_the_line_of_the_user() -> None:
    class Wrong(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.sn = layer.Conv3d(2, 2, 1, step_mode="s"), neuron.QIFNode(step_mode="m")

        def forward(self, x: Tensor) -> Tensor:
            x = torch.sigmoid(x) * x
            if x.sum() > 0:
                x = torch.softmax(x, -1)
            return self.sn(x)

    record_ = record(Wrong(), torch.rand(3, 2, 4))
    _, problems = per_step(record_)
    assert [(p.operation, p.fault) for p in problems] == [
        ("bool", "data"),
        ("sigmoid", "operation"),
        ("sum", "samples"),
        ("gt", "operation"),
        ("softmax", "operation"),
        ("QIFNode", "neuron"),
    ]
    assert all(problem.line.startswith("test_record.py:") for problem in problems)
    assert problems[-1].path == "sn"
    assert all(problem.remedy for problem in problems)


def test_a_module_is_left_as_it_is() -> None:
    module = many(csnn())
    module[2].v = 0.25
    before = {name: value.clone() for name, value in module.state_dict().items()}
    stepped(record(module, torch.rand(2, 2, 2, 8, 8)))
    assert module.training
    assert module[2].v == 0.25
    assert not module[0]._forward_hooks
    assert all(
        torch.equal(value, before[name]) and value.dtype == before[name].dtype
        for name, value in module.state_dict().items()
    )


def test_a_module_that_fails_is_named() -> None:
    with pytest.raises(
        ExportError, match=r"Sequential fails on an input of shape \(3, 2, 1, 8, 8\) in 0: RuntimeError"
    ):
        record(many(csnn()), torch.rand(3, 2, 1, 8, 8))
