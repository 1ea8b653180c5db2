"""The exporter: a folded network as a NIR graph, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any

import nir

from spikescr import dialect
from spikescr.errors import ExportError
from spikescr.export import commander as nodes
from spikescr.export.arithmetic import Fixed, Real, array
from spikescr.export.builder import GraphBuilder, Stream, Weights
from spikescr.model import Current, Masked, Network, SpikeSCR, SpikingLayer, TimeConv
from spikescr.model.adaptive import AdaptiveLIF
from spikescr.model.adlif import AdaptiveNetwork
from spikescr.model.blocks import MLP, SGLE, SpikingGatedConvolution, SpikingSelfAttention
from spikescr.model.commander import (
    CommanderBlock,
    Embedding,
    MultiScaleAttention,
    RefinementMLP,
    ShiftedLIF,
    SpikCommander,
)
from spikescr.model.delays import AxonalLinear, Delayed, DelayNetwork
from spikescr.model.fixed import FixedHead
from spikescr.model.layers import Spiking
from spikescr.model.position import sinusoidal_table
from spikescr.model.recurrent import RecurrentLayer, RecurrentNetwork
from spikescr.model.rotary import Rotary
from spikescr.readouts import SOFTMAX_SUM


def to_nir(
    model: Network, *, steps: int, dt: float, signal: str = "values", metadata: Mapping[str, Any] | None = None
) -> nir.NIRGraph:
    """The NIR graph of a folded model.

    Neurons are named as their modules in the model (`blocks.0.ssa.q.lif`), so that spikes can be compared by name.

    Args:
        model: folded (`spikescr.export.fold.fold`), or that in integers (`spikescr.quantization.in_integers`).
        steps: T, the window in steps; the latency of full attention and the length of the position tables.
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
    def __init__(self, model: Network, steps: int, dt: float) -> None:
        self.model = model
        self.steps = steps
        self.build = GraphBuilder(dt)
        self.paths = {module: name for name, module in model.named_modules()}
        head = getattr(model, "head", None)  # what is of no family has none; `hidden` refuses it
        self.numbers: Real = Fixed() if isinstance(head, FixedHead) else Real()

    def run(self, signal: str, metadata: Mapping[str, Any]) -> nir.NIRGraph:
        x = self.build.input("input", self.model.config.inputs, signal, self.numbers.of_input(self.model))
        x = self.hidden(self.model, x)
        head = self.build.linear("head", x, *self.numbers.of_head(self.model.head))
        self.build.output("output", head, self.numbers.of_output(self.model.head))
        return self.build.graph(
            {
                **self.numbers.of_graph(),
                dialect.DT: self.build.dt,
                dialect.STEPS: self.steps,
                dialect.READOUT: SOFTMAX_SUM,
                **metadata,
            }
        )

    def hidden(self, model: Network, x: Stream) -> Stream:
        match model:
            case SpikeSCR():
                return self.spikescr(model, x)
            case DelayNetwork() | AdaptiveNetwork():
                for layer in model.layers:
                    assert isinstance(layer, SpikingLayer)
                    x = self.spiking_layer(layer, x)
                return x
            case RecurrentNetwork():
                for layer in model.layers:
                    assert isinstance(layer, RecurrentLayer)
                    x = self.recurrent_layer(layer, x)
                return x
            case SpikCommander():
                return self.commander(model, x)
            case _:
                raise ExportError(f"{type(model).__name__} cannot be exported")

    def spikescr(self, model: SpikeSCR, x: Stream) -> Stream:
        x = self.spiking_layer(model.sem, x)
        if model.position is not None:
            table = sinusoidal_table(self.steps, x.width)
            operands = {"clock": self.build.clock(x.latency)}
            x = self.build.joined(x, self.build.operation("position", "position", x.width, operands, {"table": table}))
        if model.positioned is not None:
            x = self.neurons(model.positioned, x)
        for block in model.blocks:
            assert isinstance(block, SGLE)
            x = self.build.joined(x, self.attention(block.ssa, x))
            x = self.build.joined(x, self.mlp(block.mlp1, x))
            if block.sgc is not None:
                x = self.build.joined(x, self.gated_convolution(block.sgc, x))
            x = self.build.joined(x, self.mlp(block.mlp2, x))
        return x

    def commander(self, model: SpikCommander, x: Stream) -> Stream:
        if isinstance(model.embedding, Embedding):
            path = f"{self.paths[model.embedding]}.pointwise"
            x = self.build.linear(path, x, array(model.embedding.pointwise.weight))
            x = self.spiking_layer(model.embedding.depthwise, x)
            x = self.build.joined(x, self.spiking_layer(model.embedding.linear, x))
        else:
            x = self.spiking_layer(model.embedding, x)
        for block in model.blocks:
            assert isinstance(block, CommanderBlock)
            x = self.build.joined(x, self.multi_scale(block.attention, x))
            mlp = block.mlp
            x = self.build.joined(x, self.refined(mlp, x) if isinstance(mlp, RefinementMLP) else self.mlp(mlp, x))
        return x

    def multi_scale(self, attention: MultiScaleAttention, x: Stream) -> Stream:
        build, path = self.build, self.paths[attention]
        if attention.first is not None:
            x = self.neurons(attention.first, x)
        v, parts = self.spiking_layer(attention.v, x), []
        if attention.q is not None and attention.k is not None and attention.mixed is not None:
            both = build.joined(self.spiking_layer(attention.q, x), self.spiking_layer(attention.k, x))
            passed: list[Stream] = []
            if attention.near is not None:
                spikes = self.neurons(attention.near, nodes.moving_sum(build, f"{path}.near", both))
                passed.append(build.gate(f"{path}.near.passed", spikes, build.delayed(v, spikes.latency)))
            if attention.far is not None:
                total = nodes.whole_sum(build, f"{path}.far", both, self.steps)
                gated = build.gate(f"{path}.far.gate", total, build.delayed(v, total.latency))
                passed.append(self.neurons(attention.far, gated))
            parts.append(self.spiking_layer(attention.mixed, reduce(build.joined, passed)))
        if attention.filter is not None:
            assert attention.filtered is not None
            current = nodes.head_convolution(build, f"{path}.filter", v, attention.filter)
            parts.append(self.neurons(attention.filtered, current))
        return self.spiking_layer(attention.out, reduce(build.joined, parts))

    def refined(self, mlp: RefinementMLP, x: Stream) -> Stream:
        """SCR-MLP: its halves are selected by 0/1 wires, and what reads both has a synapse for each."""
        x = self.spiking_layer(mlp.expand, self.spiking_layer(mlp.enter, x))
        half, path = x.width // 2, self.paths[mlp]
        first, second = (self.build.part(f"{path}.half{i}", x, slice(i * half, (i + 1) * half)) for i in range(2))
        first = self.spiking_layer(mlp.depthwise, first)
        whole = self.build.side_by_side(f"{path}.whole", first, second)
        return self.spiking_layer(mlp.leave, self.spiking_layer(mlp.contract, whole))

    def neurons(self, layer: Spiking, current: Stream) -> Stream:
        name = f"{self.paths[layer]}.lif"
        if isinstance(layer.lif, ShiftedLIF):
            return nodes.shifted_lif(self.build, name, current, layer.lif)
        if isinstance(layer.lif, AdaptiveLIF):
            return self.adaptive_neurons(name, current, layer.lif)
        return self.numbers.neurons(self.build, name, current, layer.lif)

    def recurrent_layer(self, layer: RecurrentLayer, x: Stream) -> Stream:
        path = self.paths[layer]
        current = self.current(path, layer.current, x)

        def neurons(name: str, gated: Stream) -> Stream:
            return self.numbers.neurons(self.build, name, gated, layer.lif)

        return self.build.recurrent(f"{path}.lif", current, self.numbers.of_neurons(layer.lif), neurons)

    def adaptive_neurons(self, name: str, current: Stream, lif: AdaptiveLIF) -> Stream:
        if lif.tau is None or lif.dt != self.build.dt:
            raise ExportError(f"{name}: fold for steps of {self.build.dt} s")
        constants = lif.constants()
        by_membrane, by_spike = array(constants.by_membrane), array(constants.by_spike)
        return self.build.adaptive_lif(name, current, lif.tau, by_membrane, by_spike)

    def spiking_layer(self, layer: SpikingLayer, x: Stream) -> Stream:
        return self.neurons(layer, self.current(self.paths[layer], layer.current, x))

    def current(self, name: str, current: Current, x: Stream) -> Stream:
        (weights,) = self.weights(current)
        if isinstance(current.synapse, TimeConv):
            return self.build.convolution(name, x, *weights)
        if isinstance(current.synapse, Delayed):
            delayed = (
                self.build.axonal_linear if isinstance(current.synapse, AxonalLinear) else self.build.delayed_linear
            )
            return delayed(name, x, weights, current.synapse.delays().numpy(), current.synapse.taps // 2)
        return self.build.linear(name, x, *weights)

    def weights(self, current: Current, *parts: slice) -> tuple[Weights, ...]:
        """Of some shares of a current's outputs, or of all."""
        if not isinstance(current.norm, Masked) or current.synapse.bias is None:
            raise ExportError(f"{self.paths[current]}: has batch normalisation; fold the model before exporting it")
        return tuple(self.numbers.of_current(current, part) for part in parts or (slice(None),))

    def mlp(self, mlp: MLP, x: Stream) -> Stream:
        return self.spiking_layer(mlp.contract, self.spiking_layer(mlp.expand, x))

    def attention(self, ssa: SpikingSelfAttention, x: Stream) -> Stream:
        path, width = self.paths[ssa], x.width
        q, k, v = (self.spiking_layer(layer, x) for layer in (ssa.q, ssa.k, ssa.v))
        if ssa.rotary is not None:
            q, k = (
                self.rotated(layer, ssa.rotary, ssa.heads, stream)
                for layer, stream in ((ssa.q_rotated, q), (ssa.k_rotated, k))
            )
        operands = {"q": q, "k": k, "v": v, "clock": self.build.clock(q.latency)}
        parameters = {"heads": ssa.heads, "scale": float(ssa.scale)}
        op, waits = ("causal_attention", {}) if ssa.causal is not None else ("attention", {"steps": self.steps})
        attended = self.build.operation(
            f"{path}.attention.product", op, width, operands, parameters | waits, duration=waits.get("steps", 0)
        )
        return self.spiking_layer(ssa.out, self.neurons(ssa.attention, attended))

    def rotated(self, layer: Spiking, rotary: Rotary, heads: int, x: Stream) -> Stream:
        cos, sin = rotary.tables(self.steps)
        turned = self.build.operation(
            f"{self.paths[layer]}.rotary",
            "rotary",
            x.width,
            {"x": x, "clock": self.build.clock(x.latency)},
            {"heads": heads, "cos": cos, "sin": sin, **self.numbers.of_rotary()},
        )
        return self.neurons(layer, turned)

    def gated_convolution(self, sgc: SpikingGatedConvolution, x: Stream) -> Stream:
        path, width = self.paths[sgc], x.width
        x = self.spiking_layer(sgc.depthwise, self.spiking_layer(sgc.pointwise, x))
        if not sgc.gating_unit:
            return self.neurons(sgc.gated, self.current(f"{path}.value", sgc.split, x))
        values, gates = self.weights(sgc.split, slice(0, width), slice(width, None))
        value, gate = self.build.linear(f"{path}.value", x, *values), self.build.linear(f"{path}.gate_in", x, *gates)
        gate = self.spiking_layer(sgc.gate, self.neurons(sgc.gate_in, gate))
        return self.neurons(sgc.gated, self.build.gate(f"{path}.gated.gate", value, gate))
