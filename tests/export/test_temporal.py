"""Convolutions over the steps of a user's module: taps, look-ahead, steps that are won; every spike the module's."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, monitor, neuron
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- its usual name

import spikescr
from spikescr import dialect
from spikescr.errors import DataError
from spikescr.export.module.convert import export_module
from spikescr.export.record import per_step, record


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


class Temporal(nn.Module):
    """Two convolutions over (B, C, T), batch normalisation behind the first, and a residual where steps are kept."""

    def __init__(self, kernel: int = 3, padding: int = 1, dilation: int = 1, groups: int = 1, cut: bool = False,
                 causal: bool = False, reset: float | None = 0.0, stride: int = 1) -> None:  # fmt: skip
        super().__init__()
        options = {"padding": 0 if causal else padding, "dilation": dilation, "stride": stride}
        self.first = nn.Conv1d(6, 8, kernel, bias=False, **options)
        self.bn = nn.BatchNorm1d(8)
        self.second = nn.Conv1d(8, 8, kernel, groups=groups, **options)
        self.one, self.two = (neuron.LIFNode(v_threshold=0.2, v_reset=reset, step_mode="m") for _ in range(2))
        self.head = nn.Linear(8, 3)
        self.cut, self.before = cut, dilation * (kernel - 1) if causal else 0
        nn.init.uniform_(self.bn.weight, 1.0, 2.0)
        nn.init.uniform_(self.bn.bias, 0.0, 0.5)
        nn.init.uniform_(self.bn.running_mean, -0.2, 0.2)

    def over_time(self, conv: nn.Module, x: Tensor) -> Tensor:
        y: Tensor = conv(F.pad(x.permute(1, 2, 0), (self.before, 0)))
        return (y[..., : len(x)] if self.cut else y).permute(2, 0, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(self.bn(self.over_time(self.first, x).transpose(1, 2)).transpose(1, 2))
        y = self.two(self.over_time(self.second, x))
        return self.head(x + y if len(x) == len(y) else y)


CASES: dict[str, tuple[dict[str, object], int]] = {
    "centred": ({}, 0),
    "depthwise": ({"groups": 8}, 0),
    "in groups": ({"groups": 2, "kernel": 5, "padding": 4, "dilation": 2}, 0),
    "causal": ({"causal": True, "kernel": 4, "dilation": 2}, 0),
    "cut behind": ({"cut": True, "padding": 2}, 0),
    "longer by one each": ({"kernel": 4, "padding": 2}, 2),
    "longer by two each": ({"padding": 2}, 4),
    "soft reset": ({"reset": None, "kernel": 4, "padding": 2}, 2),
}


def agrees(net: nn.Module, x: Tensor, backend: str = "fast", axes: tuple[int, int] = (0, 1)) -> dict[str, int]:
    """Tail and latency of the graph, once layers fire as SpikingJelly's own monitor sees and answers are the same."""
    graph = spikescr.to_nir(net, x, axes=axes)
    told = spikescr.verify(net, graph, x, backend=backend)
    assert (told.differing, told.explained, told.passed) == (0, 0, True)
    run = spikescr.simulate(graph, x.numpy(), backend=backend)
    net = net.double()
    watch = monitor.OutputMonitor(net, neuron.BaseNode)
    with torch.no_grad():
        answer = net(x.movedim((0, 1), axes))
    watch.disable()
    functional.reset_net(net)
    expected = {path: watch[path][0] for path in watch.monitored_layers}
    assert all(spikes.any() for spikes in expected.values()), "a silent layer proves nothing"
    tail = int(graph.metadata.get(dialect.TAIL, 0))
    for path, spikes in expected.items():  # of neurons in the order (T, ..., N), their samples aside
        assert int(run.spikes[path][: len(spikes)].sum()) == int(spikes.sum())
    found = run.outputs["output"] if run.answers is None else run.answers
    np.testing.assert_allclose(found, answer.numpy(), rtol=1e-9, atol=1e-9)
    return {"tail": tail, "latency": graph.nodes["output"].metadata[dialect.LATENCY]}


@pytest.mark.parametrize("kind", CASES)
def test_no_spike_differs(kind: str) -> None:
    options, tail = CASES[kind]
    net = Temporal(**options).eval()  # type: ignore[arg-type]
    assert agrees(net, 2 * torch.rand(7, 3, 6, dtype=torch.float64))["tail"] == tail


@pytest.mark.lava
@pytest.mark.parametrize("kind", ["centred", "longer by one each"])
def test_nor_in_lava(kind: str) -> None:
    net = Temporal(**CASES[kind][0]).eval()  # type: ignore[arg-type]
    agrees(net, 2 * torch.rand(7, 3, 6, dtype=torch.float64), "lava")


@pytest.mark.parametrize(("kind", "latency"), [("centred", 2), ("causal", 0), ("longer by one each", 2)])
def test_a_look_ahead_is_stated_as_latency(kind: str, latency: int) -> None:
    net = Temporal(**CASES[kind][0]).eval()  # type: ignore[arg-type]
    graph = spikescr.to_nir(net, torch.rand(7, 3, 6))
    assert graph.nodes["output"].metadata[dialect.LATENCY] == latency
    clocked = any(node.metadata.get(dialect.OP) == dialect.CLOCK for node in graph.nodes.values())
    assert clocked or not latency


class Speech(nn.Module):
    """As SpikingJelly's example: (B, C, T, F), even kernels over time and features, the mean over all frames."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [(1, 1, 2), (2, 2, 6), (4, 3, 12)]  # dilations of time and features, padding of time
        self.convs = nn.ModuleList(
            nn.Conv2d(2 if not number else 4, 4, (4, 3), padding=(pad, wide), dilation=(time, wide), bias=False)
            for number, ((time, wide, _), pad) in enumerate(zip(sizes, (2, 4, 6), strict=True))
        )
        self.neurons = nn.ModuleList(neuron.LIFNode(tau=10 / 7, v_threshold=0.3, step_mode="m") for _ in sizes)
        self.fc = nn.Linear(4 * 9, 5)

    def forward(self, x: Tensor) -> Tensor:
        for conv, spiking in zip(self.convs, self.neurons, strict=True):
            x = spiking(2 * conv(x).transpose(0, 2)).transpose(0, 2)
        return self.fc(x.permute(0, 2, 1, 3).flatten(2)).mean(1)


def test_axes_say_where_the_module_wants_steps_and_samples() -> None:
    x = torch.randn(10, 3, 2, 9, dtype=torch.float64)
    told = agrees(Speech().eval(), x, axes=(2, 0))
    assert told["tail"] == 3
    assert told["latency"] > 5


class Attending(nn.Module):
    """Attention over all steps in the order that needs no matrix of steps, positions added before it."""

    def __init__(self, queries: bool = True) -> None:
        super().__init__()
        self.inward = nn.Linear(6, 8)
        self.one = neuron.LIFNode(v_threshold=0.1, step_mode="m")
        self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))
        self.sq, self.sk, self.sv = (neuron.LIFNode(v_threshold=0.05, step_mode="m") for _ in range(3))
        self.out = neuron.LIFNode(v_threshold=0.2, step_mode="m")
        self.head = nn.Linear(8, 3)
        self.queries = queries
        self.register_buffer("table", 0.3 * torch.randn(7, 1, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(self.inward(x) + self.table)
        q, k, v = (
            spiking(layer(x)).unflatten(2, (2, 4)).permute(1, 2, 0, 3)
            for layer, spiking in ((self.q, self.sq), (self.k, self.sk), (self.v, self.sv))
        )
        together: Tensor = k.transpose(-2, -1) @ v
        if not self.queries:
            return together
        logits: Tensor = self.head(self.out(0.25 * (q @ together).permute(2, 0, 1, 3).flatten(2)))
        return logits


@pytest.mark.parametrize("backend", ["fast", pytest.param("lava", marks=pytest.mark.lava)])
def test_attention_over_the_steps(backend: str) -> None:
    assert agrees(Attending().eval(), 2 * torch.rand(7, 3, 6, dtype=torch.float64), backend)["latency"] == 7


def test_what_all_steps_give_together_goes_nowhere_alone() -> None:
    network, problems = per_step(record(Attending(queries=False).eval(), torch.rand(7, 3, 6)))
    assert network is None
    assert [(problem.operation, problem.fault) for problem in problems] == [("matmul", "steps")]


def test_folding_is_checked_on_the_example() -> None:
    net = Temporal(kernel=4, padding=2).eval()
    exported = export_module(net, 2 * torch.rand(7, 3, 6), dt=1e-3)
    assert [(layer.layer, layer.differing) for layer in exported.folding] == [("one", 0), ("two", 0)]
    assert 0 < max(layer.largest for layer in exported.folding) < 1e-12  # batch normalisation was folded


def test_a_shorter_sample_is_the_module_on_fewer_steps() -> None:
    net = Temporal(kernel=4, padding=2).eval().double()
    x = 2 * torch.rand(7, 2, 6, dtype=torch.float64)
    run = spikescr.simulate(spikescr.to_nir(net, x), x.numpy(), steps=[7, 4])
    with torch.no_grad():
        whole, short = net(x[:, :1]), (functional.reset_net(net), net(x[:4, 1:]))[1]
    np.testing.assert_allclose(run.outputs["output"][:, 0], whole[:, 0].numpy(), atol=1e-12)
    np.testing.assert_allclose(run.outputs["output"][: len(short), 1], short[:, 0].numpy(), atol=1e-12)


def test_an_input_that_is_too_long_is_told_with_the_inputs_steps() -> None:
    net = Temporal(kernel=4, padding=2).eval()
    graph = spikescr.to_nir(net, torch.rand(7, 3, 6))
    with pytest.raises(DataError, match="lasts 8 steps, the graph's window is 7"):
        spikescr.simulate(graph, np.zeros((8, 3, 6)))


REFUSED = {
    "a stride": ({"stride": 2}, "stride over the steps"),
    "lost steps": ({"padding": 0}, "it has 3 steps, layers before it 7"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused_says_why(kind: str) -> None:
    options, reason = REFUSED[kind]
    network, problems = per_step(record(Temporal(**options).eval(), torch.rand(7, 3, 6)))  # type: ignore[arg-type]
    assert network is None
    assert reason in problems[0].told
    assert problems[0].remedy
    assert all(problem.fault == "steps" for problem in problems)


def test_the_graph_says_that_it_is_of_a_later_format() -> None:
    graph = spikescr.to_nir(Temporal(kernel=4, padding=2).eval(), torch.rand(7, 3, 6))
    assert graph.metadata[dialect.GRAPH_FORMAT] == dialect.TAIL_FORMAT
    assert graph.metadata[dialect.STEPS] == 9
    for one, other in pairwise([*graph.edges, graph.edges[0]]):
        assert one != other
