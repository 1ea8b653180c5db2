"""Networks that frameworks and the simulator both see: stock PyTorch modules, and the same as a NIR graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

from spikescr.export.builder import GraphBuilder
from spikescr.sim.lowering.lower import lower
from spikescr.sim.program import Program

DT = 0.025


@dataclass(frozen=True)
class Layer:
    """kind: linear, conv (over time) or depthwise; all but the last are followed by a LIF. pruned: half of it is 0."""

    kind: str
    outputs: int
    kernel: int = 1
    bias: bool = True
    norm: bool = False
    pruned: bool = False


class Chain(nn.Module):
    """Layers one after the other, on one sample (1, T, C); the last layer's output has no neurons."""

    def __init__(self, inputs: int, layers: list[Layer], seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.spec = layers
        self.synapses, self.norms, self.neurons = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for layer in layers:
            if layer.kind == "linear":
                synapse: nn.Module = nn.Linear(inputs, layer.outputs, bias=layer.bias)
            else:
                groups = inputs if layer.kind == "depthwise" else 1
                synapse = nn.Conv1d(
                    inputs, layer.outputs, layer.kernel, padding=layer.kernel // 2, groups=groups, bias=layer.bias
                )
            norm = nn.BatchNorm1d(layer.outputs) if layer.norm else nn.Identity()
            if layer.norm:
                nn.init.uniform_(norm.weight, 0.5, 1.5)
                nn.init.uniform_(norm.bias, 0.2, 0.8)
                norm.running_mean.uniform_(-0.2, 0.2)
                norm.running_var.uniform_(0.05, 0.3)
            self.synapses.append(synapse)
            self.norms.append(norm)
            self.neurons.append(neuron.LIFNode(tau=2.0, decay_input=False, v_reset=0.0, step_mode="m"))
            inputs = layer.outputs
        with torch.no_grad():  # as far as weights alone can make neurons fire; the first of a layer never does
            for layer, synapse, norm in zip(layers, self.synapses, self.norms, strict=True):
                synapse.weight.mul_(4.0).add_(0.05)
                if layer.pruned:
                    synapse.weight.mul_(torch.rand(synapse.weight.shape) < 0.5)
                bias = synapse.bias if isinstance(norm, nn.Identity) else norm.bias
                if bias is not None:
                    bias[0] = -100.0
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (1, T, K)."""
        functional.reset_net(self)
        for number, layer in enumerate(self.spec):
            if layer.kind == "linear":
                x = self.synapses[number](x)
                x = self.norms[number](x.transpose(1, 2)).transpose(1, 2)
            else:
                x = self.norms[number](self.synapses[number](x.transpose(1, 2))).transpose(1, 2)
            if number < len(self.spec) - 1:
                x = self.neurons[number](x.transpose(0, 1)).transpose(0, 1)
        return x

    def lowered(self, inputs: int, steps: int, signal: str) -> Program:
        """The same network as the simulator runs it: normalisation folded, made by the exporter's builder."""
        build = GraphBuilder(DT)
        x = build.input("input", inputs, signal)
        for number, layer in enumerate(self.spec):
            weight = self.synapses[number].weight.detach().numpy()
            own = self.synapses[number].bias
            bias = None if own is None else own.detach().numpy()
            origin = ["bias"] if layer.bias else []
            if layer.norm:
                origin.append("batch_norm")
                norm = self.norms[number]
                scale = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach().numpy()
                shift = norm.bias.detach().numpy() - norm.running_mean.numpy() * scale
                bias = shift + (0 if bias is None else bias * scale)
                weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
            make = build.linear if layer.kind == "linear" else build.convolution
            x = make(f"layer{number}", x, weight, bias, origin)
            if number < len(self.spec) - 1:
                x = build.lif(f"layer{number}.lif", x)
        build.output("output", x)
        return lower(build.graph({"spikescr.dt": DT, "spikescr.steps": steps}))


def draw(kind: str, steps: int, samples: int, channels: int, seed: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Input (samples, T, C) that is zero after each sample's valid steps, these (samples,), and its signal."""
    rng = np.random.default_rng(seed)
    shape = (samples, steps, channels)
    values = {
        "binary": (rng.random(shape) < 0.4).astype(float),
        "integer": rng.poisson(0.6, shape).astype(float),
        "graded": rng.choice([0.0, 0.5, 1.0, 2.0], shape),
        "real": rng.normal(size=shape),
    }[kind]
    valid = rng.integers(steps // 2, steps + 1, samples)
    values *= np.arange(steps)[None, :, None] < valid[:, None, None]
    return values, valid, "spikes" if kind in ("binary", "integer") else "values"
