"""SpikingJelly: networks of its layers, exported by `spikingjelly.activation_based.nir_exchange`.

Soft resets and grouped convolutions are refused by the exporter; its recurrent containers cannot be traced. Neurons:
v = v + (x - (v - v_reset)) / tau (decay_input) or v - (v - v_reset) / tau + x; spike where v >= v_threshold, while NIR
fires above the threshold only. Membranes start at v_reset, which is 0 here: NIR says nothing of the first step, we
start at 0.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import nir
import numpy as np
import torch
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.nir_exchange import export_to_nir
from torch import nn

from frameworks.comparison import Case, changed, events
from frameworks.torch_peer import draw, fired, quiet

DT = 1e-3


def export(net: nn.Module, *shape: int) -> nir.NIRGraph:
    """Their graph, without the axis of samples."""
    with quiet():
        return export_to_nir(net, torch.zeros(1, *shape, dtype=torch.float64), dt=DT)


def case(graph: str, net: nn.Sequential, x: Any, **more: Any) -> Case:
    """Exports a network and runs it."""
    exported = export(net, *x.shape[2:])
    functional.reset_net(net)
    spikes = fired({f"_{i}": m for i, m in enumerate(net) if isinstance(m, neuron.BaseNode)}, x, net)
    return Case(graph, "SpikingJelly", version("spikingjelly"), "exported", exported, DT, x, spikes, **more)


def feed_forward(steps: int, samples: int) -> Case:
    """Dense layers: LIFs with either input convention, a learnt decay, integrate-and-fire neurons."""
    net = nn.Sequential(
        layer.Linear(12, 40), neuron.LIFNode(tau=3.0), layer.Linear(40, 30, bias=False),
        neuron.ParametricLIFNode(init_tau=1.6, decay_input=False), layer.Linear(30, 10), neuron.IFNode(),
    )  # fmt: skip
    draw(net, 1, 3.0)
    return case("feed-forward", net, events(2, steps, samples, 12))


def synaptic(steps: int, samples: int) -> Case:
    """LIFs with a synaptic current."""
    net = nn.Sequential(layer.Linear(12, 40), neuron.CUBALIFNode(0.5, 0.8), layer.Linear(40, 10), neuron.LIFNode())
    return case("synaptic currents", draw(net, 3, 0.7), events(4, steps, samples, 12))


def convolutional(steps: int, samples: int) -> Case:
    """2-D convolutions with stride, dilation and padding, average pooling, Flatten, a dense layer."""
    net = nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1), neuron.LIFNode(), layer.AvgPool2d(2),
        layer.Conv2d(4, 6, 2, dilation=(2, 1), bias=False), neuron.LIFNode(tau=1.5), layer.Flatten(),
        layer.Linear(54, 10), neuron.LIFNode(),
    )  # fmt: skip
    return case("convolutional", draw(net, 5, 3.0), events(6, steps, samples, 2, 10, 8))


def at_threshold(steps: int, samples: int) -> Case:
    """Weights and decays of few binary digits, so that membranes often stand at the threshold exactly."""
    net = nn.Sequential(layer.Linear(12, 40, bias=False), neuron.LIFNode(), layer.Linear(40, 10, bias=False),
                        neuron.IFNode()).double()  # fmt: skip
    rng = np.random.default_rng(7)
    for i, low in ((0, -1), (2, -2)):
        shape = tuple(net[i].weight.shape)
        net[i].weight.data = torch.tensor(rng.integers(low, 4, shape) / (4 if i == 0 else 16), dtype=torch.float64)
    made = case("membranes at the threshold", net, events(8, steps, samples, 12))

    def below(_name: str, node: nir.NIRNode) -> None:
        if isinstance(node, (nir.LIF, nir.IF)):
            node.v_threshold = np.nextafter(node.v_threshold, -np.inf)

    reason = "fires at the threshold, exported as it is; one float64 lower, as we export it, the same spikes"
    return Case(**{**vars(made), "reason": reason, "mended": changed(made.nir, below)})


CASES: dict[str, Callable[[int, int], Case]] = {
    f.__name__: f for f in (feed_forward, synaptic, convolutional, at_threshold)
}
