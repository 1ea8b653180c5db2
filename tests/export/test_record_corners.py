"""Corners of what users write: pools that round up, constants of channels, resets that are not 0, own neurons."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

import spikescr
from spikescr.export.record import per_step, record


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


class Scaled(nn.Module):
    """A factor and an addend of each channel, (C, 1, 1), on spikes and on what a convolution gives."""

    def __init__(self, *, behind: bool) -> None:
        super().__init__()
        self.behind = behind
        self.conv = layer.Conv2d(3, 3, 3, padding=1)
        self.register_buffer("factor", torch.tensor([0.5, 1.5, 2.0]).reshape(3, 1, 1))
        self.register_buffer("addend", torch.tensor([0.1, 0.3, 0.0]).reshape(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * self.factor + self.addend if self.behind else self.conv(x * self.factor)


def fires(threshold: float = 0.5, **options: object) -> nn.Module:
    return neuron.LIFNode(v_threshold=threshold, **options)  # type: ignore[arg-type]


PARTS: dict[str, Callable[[], list[nn.Module]]] = {
    "max pool, rounded up": lambda: [layer.MaxPool2d(2, 2, ceil_mode=True)],
    "max pool, rounded up and padded": lambda: [layer.MaxPool2d(3, 2, padding=1, ceil_mode=True)],
    "average, rounded up": lambda: [layer.AvgPool2d(2, 2, ceil_mode=True)],
    "average, rounded up, own count": lambda: [layer.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False)],
    "factors before": lambda: [Scaled(behind=False)],
    "factors behind": lambda: [Scaled(behind=True)],
    "reset below 0": lambda: [fires(0.4, v_reset=-0.3)],
    "reset above 0": lambda: [fires(0.6, v_reset=0.2)],
    "reset above 0, input whole": lambda: [fires(0.6, v_reset=0.25, decay_input=False)],
    "integrate, reset above 0": lambda: [neuron.IFNode(v_threshold=1.0, v_reset=0.5)],
}  # fmt: skip


@pytest.mark.parametrize("kind", PARTS)
def test_no_spike_differs(kind: str) -> None:
    net = nn.Sequential(layer.Conv2d(2, 3, 3), fires(), *PARTS[kind](), layer.Conv2d(3, 4, 2), fires(0.2))
    functional.set_step_mode(net, "m")
    nn.init.uniform_(net[0].weight, -0.2, 0.5)
    nn.init.uniform_(net[-2].weight, -0.2, 0.5)
    x = torch.rand(5, 3, 2, 9, 9, dtype=torch.float64)
    told = spikescr.verify(net, spikescr.to_nir(net, x), x, backend="fast")
    assert (told.differing, told.passed) == (0, True)
    assert not [row.layer for row in told.layers if row.silent]
    assert len(told.layers) >= 2


class Own(nn.Module):
    """A leaky neuron in tensors, its spike by a function of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inward, self.out = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        v, found = torch.zeros(x.shape[1], 4, dtype=x.dtype), []
        for part in x:
            v = 0.5 * v + self.inward(part)
            spikes = Spike.apply(v)
            v = v * (1 - spikes)
            found.append(self.out(spikes))
        return torch.stack(found)


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, v: Tensor) -> Tensor:
        return (v >= 1).to(v)


def test_a_neuron_written_in_tensors_is_one_row_that_says_what_would_help() -> None:
    network, problems = per_step(record(Own(), torch.rand(5, 3, 3)))
    assert network is None
    (problem,) = problems
    assert problem.operation == "ge"
    assert problem.line.startswith("test_record_corners.py:")
    assert "LIFNode" in problem.remedy
