"""snnTorch: networks of its modules, exported by `snntorch.export_nir`.

Exporting takes one decay and one threshold per neuron (a scalar fails in nir's inference of
shapes); its surrogate gradients put out float32 whatever comes in, so that a float64 network needs one of its own. All
networks have steps of 0.1 ms, which snnTorch's exporter takes for granted.

What it does, from its source: v = beta v + x, spike where v > threshold. With `reset_mechanism="zero"` a Leaky is NIR's
LIF. RLeaky and Synaptic are so with `reset_delay=False`; with the default, True, they lose what arrives in the step
after a spike (and RSynaptic cannot run with False). The default reset is by subtraction, which is not exported.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import nir
import snntorch as snn
import torch
from snntorch.export_nir import export_to_nir
from torch import Tensor, nn

from frameworks.comparison import Case, changed, events
from frameworks.torch_peer import draw, fired, quiet

DT = 1e-4


def step_function(x: Tensor) -> Tensor:
    """Heaviside in the precision of its argument."""
    return (x > 0).to(x.dtype)


def per_neuron(*shape: int, low: float = 0.7, high: float = 0.95) -> Tensor:
    """Constants that differ from neuron to neuron."""
    return torch.linspace(low, high, int(torch.Size(shape).numel()), dtype=torch.float64).reshape(shape)


def leaky(*shape: int, reset: str = "zero", **options: Any) -> snn.Leaky:
    """LIFs (shape) with decays of their own."""
    threshold = torch.ones(shape, dtype=torch.float64)
    return snn.Leaky(
        per_neuron(*shape), threshold, spike_grad=step_function, init_hidden=True, reset_mechanism=reset, **options
    )


def export(net: nn.Module, *shape: int) -> nir.NIRGraph:
    """Their graph, without the axis of samples."""
    with quiet():
        return export_to_nir(net, torch.zeros(1, *shape, dtype=torch.float64), ignore_dims=[0])


def case(graph: str, net: nn.Sequential, x: Any, **more: Any) -> Case:
    """Exports a network and runs it."""
    exported = export(net, *x.shape[2:])
    neurons = {i: m for i, m in enumerate(net) if isinstance(m, snn.SpikingNeuron)}
    for module in neurons.values():
        module.reset_mem()
    names = {f"{i}.lif" if isinstance(m, (snn.RLeaky, snn.RSynaptic)) else str(i): m for i, m in neurons.items()}
    spikes = fired(names, x, net)
    return Case(graph, "snnTorch", version("snntorch"), "exported", exported, DT, x, spikes, **more)


def feed_forward(steps: int, samples: int) -> Case:
    """Dense layers of LIFs."""
    net = draw(nn.Sequential(nn.Linear(12, 40), leaky(40), nn.Linear(40, 10), leaky(10)), 1, 1.5)
    return case("feed-forward", net, events(2, steps, samples, 12))


def synaptic(steps: int, samples: int) -> Case:
    """LIFs with a synaptic current."""
    current = snn.Synaptic(
        per_neuron(40, low=0.4), per_neuron(40), torch.ones(40, dtype=torch.float64), spike_grad=step_function,
        init_hidden=True, reset_mechanism="zero", reset_delay=False,
    )  # fmt: skip
    net = draw(nn.Sequential(nn.Linear(12, 40), current, nn.Linear(40, 10), leaky(10)), 3, 0.5)
    return case("synaptic currents", net, events(4, steps, samples, 12))


def recurrent(steps: int, samples: int) -> Case:
    """Layers that feed themselves: all to all with a bias, and each neuron itself alone."""
    options: dict[str, Any] = {
        "spike_grad": step_function, "init_hidden": True, "reset_mechanism": "zero", "reset_delay": False,
    }  # fmt: skip
    first = snn.RLeaky(per_neuron(30), linear_features=30, **options)
    second = snn.RLeaky(per_neuron(10), V=torch.ones(10), all_to_all=False, **options)
    net = draw(nn.Sequential(nn.Linear(12, 30), first, nn.Linear(30, 10), second), 5, 0.5)
    return case("recurrent", net, events(6, steps, samples, 12))


def convolutional(steps: int, samples: int) -> Case:
    """2-D convolutions with stride and padding, average pooling, Flatten, a dense layer."""
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), leaky(4, 10, 8), nn.AvgPool2d(2),
        nn.Conv2d(4, 6, 3, stride=(2, 1), bias=False), leaky(6, 2, 2), nn.Flatten(),
        nn.Linear(24, 10), leaky(10),
    )  # fmt: skip
    return case("convolutional", draw(net, 7, 1.0), events(8, steps, samples, 2, 10, 8))


def soft_reset(steps: int, samples: int) -> Case:
    """Reset by subtraction, of which the exported graph says nothing."""
    layers = [leaky(n, reset="subtract", reset_delay=False) for n in (40, 10)]
    net = draw(nn.Sequential(nn.Linear(12, 40), layers[0], nn.Linear(40, 10), layers[1]), 1, 0.5)
    made = case("soft reset", net, events(2, steps, samples, 12))

    def subtract(_name: str, node: nir.NIRNode) -> None:
        if isinstance(node, nir.LIF):
            node.metadata["reset_mechanism"] = "subtract"

    reason = "exported as a reset to 0; with reset_mechanism subtract in the metadata the same spikes"
    return Case(**{**vars(made), "reason": reason, "mended": changed(made.nir, subtract)})


CASES: dict[str, Callable[[int, int], Case]] = {
    f.__name__: f for f in (feed_forward, synaptic, recurrent, convolutional, soft_reset)
}
