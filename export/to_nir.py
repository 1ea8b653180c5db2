"""The exporter: a folded SpikeSCR as a NIR graph, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spikescr.errors import ExportError
from spikescr.export import dialect
from spikescr.export.builder import GraphBuilder, Stream
from spikescr.model import Current, Masked, SpikeSCR, SpikingLayer, TimeConv
from spikescr.model.blocks import MLP, SGLE, SpikingGatedConvolution, SpikingSelfAttention
from spikescr.model.rotary import rotary_table


def to_nir(
    model: SpikeSCR, *, steps: int, dt: float, signal: str = "values", metadata: Mapping[str, Any] | None = None
) -> nir.NIRGraph:
    """The NIR graph of a folded model.

    Neurons are named as their modules in the model (`blocks.0.ssa.q.lif`), so that spikes can be compared by name.

    Args:
        model: folded (`spikescr.export.fold.fold`).
        steps: T, the window in steps; the latency of attention and the length of the rotary table.
        dt: seconds per step.
        signal: what the input carries, "values" or "spikes".
        metadata: more entries for the graph (data, classes, hashes, versions).

    Returns:
        Graph with inputs `input` (C,) and `clock` (1,), output `output` (K,).

    Raises:
        ExportError: the model still has batch normalisation.
    """
    return _Exporter(model, steps, dt).run(signal, metadata or {})


class _Exporter:
    def __init__(self, model: SpikeSCR, steps: int, dt: float) -> None:
        self.model = model
        self.steps = steps
        self.build = GraphBuilder(dt)
        self.paths = {module: name for name, module in model.named_modules()}

    def run(self, signal: str, metadata: Mapping[str, Any]) -> nir.NIRGraph:
        x = self.build.input("input", self.model.config.inputs, signal)
        x = self.spiking_layer(self.model.sem, x)
        for block in self.model.blocks:
            assert isinstance(block, SGLE)
            x = self.build.joined(x, self.attention(block.ssa, x))
            x = self.build.joined(x, self.mlp(block.mlp1, x))
            x = self.build.joined(x, self.gated_convolution(block.sgc, x))
            x = self.build.joined(x, self.mlp(block.mlp2, x))
        self.build.output("output", self.build.linear("head", x, _array(self.model.head.weight), None))
        return self.build.graph(
            {
                dialect.GRAPH_FORMAT: dialect.FORMAT,
                dialect.DT: self.build.dt,
                dialect.STEPS: self.steps,
                dialect.READOUT: dialect.SOFTMAX_SUM,
                **metadata,
            }
        )

    def spiking_layer(self, layer: SpikingLayer, x: Stream) -> Stream:
        path = self.paths[layer]
        return self.build.lif(f"{path}.lif", self.current(path, layer.current, x))

    def current(self, name: str, current: Current, x: Stream) -> Stream:
        weight, bias, origin = self.folded(current)
        if isinstance(current.synapse, TimeConv):
            return self.build.convolution(name, x, weight, bias, origin)
        return self.build.linear(name, x, weight, bias, origin)

    def folded(self, current: Current) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[str, ...]]:
        if not isinstance(current.norm, Masked) or current.synapse.bias is None:
            raise ExportError(f"{self.paths[current]}: has batch normalisation; fold the model before exporting it")
        return _array(current.synapse.weight), _array(current.synapse.bias), current.norm.origin

    def mlp(self, mlp: MLP, x: Stream) -> Stream:
        return self.spiking_layer(mlp.contract, self.spiking_layer(mlp.expand, x))

    def attention(self, ssa: SpikingSelfAttention, x: Stream) -> Stream:
        path, width = self.paths[ssa], x.width
        q = self.rotated(f"{path}.q_rotated", ssa, self.spiking_layer(ssa.q, x))
        k = self.rotated(f"{path}.k_rotated", ssa, self.spiking_layer(ssa.k, x))
        v = self.spiking_layer(ssa.v, x)
        attended = self.build.operation(
            f"{path}.attention.product",
            "attention",
            width,
            {"q": q, "k": k, "v": v, "clock": self.build.clock(q.latency)},
            {"heads": ssa.heads, "scale": float(ssa.scale), "steps": self.steps},
            duration=self.steps,
        )
        return self.spiking_layer(ssa.out, self.build.lif(f"{path}.attention.lif", attended))

    def rotated(self, path: str, ssa: SpikingSelfAttention, x: Stream) -> Stream:
        cos, sin = rotary_table(self.steps, x.width // ssa.heads)
        turned = self.build.operation(
            f"{path}.rotary",
            "rotary",
            x.width,
            {"x": x, "clock": self.build.clock(x.latency)},
            {"heads": ssa.heads, "cos": cos, "sin": sin},
        )
        return self.build.lif(f"{path}.lif", turned)

    def gated_convolution(self, sgc: SpikingGatedConvolution, x: Stream) -> Stream:
        path, width = self.paths[sgc], x.width
        x = self.spiking_layer(sgc.depthwise, self.spiking_layer(sgc.pointwise, x))
        weight, bias, origin = self.folded(sgc.split)
        value = self.build.linear(f"{path}.value", x, weight[:width], bias[:width], origin)
        gate = self.build.linear(f"{path}.gate_in", x, weight[width:], bias[width:], origin)
        gate = self.spiking_layer(sgc.gate, self.build.lif(f"{path}.gate_in.lif", gate))
        return self.build.lif(f"{path}.gated.lif", self.build.gate(f"{path}.gated.gate", value, gate))


def _array(tensor: Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = tensor.detach().cpu().double().numpy()
    return np.ascontiguousarray(array)
