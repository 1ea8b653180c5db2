"""Lowering: a folded StepNetwork in NIR's terms becomes a NIR graph, node by node, named after the module's paths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import nir
import numpy as np

from spikescr import dialect
from spikescr.dialect import PACKED_OPERATIONS, into_slots, packed_node, select_node
from spikescr.errors import ExportError
from spikescr.export.module.naming import names, packable
from spikescr.export.module.neurons import neuron_node
from spikescr.export.module.rewrite import rewritten
from spikescr.export.module.synapses import synapse
from spikescr.export.module.timing import is_timed, last_steps, latencies, silent_outside, span, taps
from spikescr.export.module.wiring import Shape, Wiring
from spikescr.export.record.step import Node, Operand, StepNetwork


def lower(net: StepNetwork, dt: float, metadata: Mapping[str, Any] | None = None) -> nir.NIRGraph:
    """The NIR graph of a folded network.

    Args:
        net: what `fold` gave.
        dt: seconds per step.
        metadata: more entries for the graph.

    Returns:
        The graph: neurons named as their modules ("layer1.0.sn1"; a module's second call in a step ".call2"), a window
        of `net.steps`. A module's samples are all whole windows, and biases act at every step; a clock is there only
        where convolutions over the steps look ahead: then gates keep what nodes do outside of their steps from neurons.

    Raises:
        ExportError: NIR and the dialect have no words for an operation; the message names module and line.
    """
    return _Lowering(rewritten(net), dt).run(metadata or {})


class _Lowering:
    def __init__(self, net: StepNetwork, dt: float) -> None:
        self.net, self.dt = net, dt
        self.sources: dict[int, tuple[str, ...]] = {}
        self.shapes: dict[int, Shape] = {}
        self.reshaped: dict[tuple[int, Shape], tuple[str, ...]] = {}
        self.names = names(net.nodes)
        taken = dialect.CLOCK in self.names.values()
        self.wires = Wiring(net.steps, dt, f"spikescr.{dialect.CLOCK}" if taken else dialect.CLOCK)
        self.late = latencies(net)
        self.timed = is_timed(net, self.late)
        self.silent, self.last = silent_outside(net), last_steps(net)
        self.readout = "every"

    def run(self, metadata: Mapping[str, Any]) -> nir.NIRGraph:
        late = [node for node in self.net.nodes if node.operation == "delay"]
        for node in late:  # what a cycle reads is there before what makes it
            self.wires.now = self.late[node.result]
            shape = packable(self._shape(node))
            self._put(node, nir.Delay(np.full(shape, self.dt)), (), shape=shape)
        for node in self.net.nodes:
            if node.operation != "delay":
                self.wires.now = self.late[node.result]
                _LOWER[node.operation](self, node)
        for node in late:
            self.wires.now = self.late[node.result]
            self.wires.lead(self._read(node.operands[0], packable(self._shape(node))), self.names[node.number])
        own: dict[str, Any] = {dialect.GRAPH_FORMAT: dialect.FORMAT, dialect.DT: self.dt, dialect.STEPS: self.net.steps}
        if self.net.tail:
            own |= {dialect.TAIL: self.net.tail, dialect.GRAPH_FORMAT: dialect.TAIL_FORMAT}
        if self.readout != "every":
            own[dialect.READOUT] = self.readout
        try:
            return nir.NIRGraph(
                nodes=dict(sorted(self.wires.nodes.items())),
                edges=sorted(self.wires.edges),
                metadata=dict(sorted({**own, **metadata}.items())),
            )
        except ValueError as error:
            raise ExportError(f"the graph is not NIR: {error}") from error

    def input(self, node: Node) -> None:
        kind = self.net.signals[node.result].kind
        said: dict[str, Any] = {dialect.SIGNAL: "values" if kind == "values" else "spikes"}
        if node.options["held"]:
            said[dialect.HELD] = 1
        self._put(node, nir.Input(np.array(self._shape(node))), (), said)

    def output(self, node: Node) -> None:
        shape = node.operands[0].shape
        self.readout = node.options["readout"]
        self._put(node, nir.Output(np.array(shape)), self._read(node.operands[0], shape))

    def linear(self, node: Node) -> None:
        weight, bias = node.arrays["weight"], node.arrays.get("bias")
        made = nir.Linear(weight) if bias is None or self.timed else nir.Affine(weight, bias)
        self._put(node, made, self._read(node.operands[0], (weight.shape[1],)), shape=(len(weight),))
        if self.timed and bias is not None:
            name = self.wires.add(
                f"{self.names[node.number]}.bias", nir.Linear(bias[:, None]), self.wires.clock(self.net.steps)
            )
            self.sources[node.result] += (name,)

    def conv(self, node: Node) -> None:
        weight, o = node.arrays["weight"], node.options
        bias = node.arrays.get("bias", np.zeros(len(weight)))
        sources = self._read(node.operands[0], node.operands[0].shape)
        geometry = [tuple(int(n) for n in o[name]) for name in ("stride", "padding", "dilation")]
        out = tuple(
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(node.operands[0].shape[1:], weight.shape[2:], *geometry, strict=True)
        )
        if weight.ndim == 3:
            made = nir.Conv1d(None, weight, *(g[0] for g in geometry), int(o["groups"]), bias)
        elif weight.ndim == 4:
            made = nir.Conv2d(None, weight, *geometry, int(o["groups"]), bias)
        else:
            at = f" ({node.line})" if node.line else ""
            raise ExportError(f"{node.path}: a convolution over three axes{at}; NIR has Conv1d and Conv2d")
        self._put(node, made, sources, shape=(len(weight), *out))

    def neuron(self, node: Node) -> None:
        shape = packable(self._shape(node))
        made = neuron_node(self.names[node.number], node.options["equation"], shape, self.dt)
        current = self._read(node.operands[0], shape)
        if self.timed:
            if isinstance(made, (nir.LIF, nir.CubaLIF)) and made.v_leak.any():
                raise ExportError(
                    f"{node.path}: its membrane moves without input, and convolutions over the steps make it begin "
                    "late; use neurons that rest where they are reset"
                )
            if not self.silent[node.operands[0].signal]:
                current = self.wires.gated(self.names[node.number], current, shape, span(node, self.net))
        self._put(node, made, current, shape=shape)

    def temporal(self, node: Node) -> None:
        """Taps, each a Delay and its synapses: Linear or Scale of channels, Conv1d where there is an axis of space."""
        x, o, name, due = node.operands[0], node.options, self.names[node.number], self.wires.now
        self.wires.now = begin = self.late[x.signal]
        base = self._read(x, x.shape)
        if self.timed and not (self.silent[x.signal] and self.last[x.signal] <= int(o["reads"])):
            base = self.wires.gated(f"{name}.read", base, x.shape, int(o["reads"]))
        weight, bias, clocked = node.arrays["weight"], node.arrays.get("bias"), len(x.shape) == 1
        offsets = [(due - begin - offset, number) for number, offset in enumerate(taps(node))]
        used = [pair for pair in offsets if weight[:, :, pair[1]].any()] or offsets[:1]
        made: list[str] = []
        for delay, number in sorted(used):
            sources = base
            if delay:
                self.wires.now = begin + delay
                sources = (
                    self.wires.add(f"{name}.synapse.delay{delay}", nir.Delay(np.full(x.shape, delay * self.dt)), base),
                )
            self.wires.now = due
            tap = synapse(weight[:, :, number], o, None if made else bias)
            made.append(self.wires.add(f"{name}.synapse.tap{delay}", tap, sources))
        if clocked and bias is not None and bias.any():
            made.append(self.wires.add(f"{name}.bias", nir.Linear(bias[:, None]), self.wires.clock(self.net.steps)))
        self.sources[node.result], self.shapes[node.result] = tuple(made), self._shape(node)

    def pool(self, node: Node) -> None:
        x, o = node.operands[0], node.options
        window = [np.array(o[name]) for name in ("window", "stride", "padding")]
        out = tuple(int((n + 2 * p - k) // s + 1) for n, k, s, p in zip(x.shape[1:], *window, strict=True))
        shape = (x.shape[0], *out)
        made = (nir.AvgPool2d if node.operation == "avg_pool" else nir.SumPool2d)(*window)
        sources = self._read(x, x.shape)
        if node.operation != "or_pool":
            self._put(node, made, sources, shape=shape)
            return
        name = self.names[node.number]
        self.wires.add(f"{name}.count", made, sources)
        self._put(node, nir.Threshold(np.full(shape, 0.5)), (f"{name}.count",), shape=shape)

    def select(self, node: Node) -> None:
        index, shape = node.arrays["index"], self._shape(node)
        names, start = [], 0
        for number, operand in enumerate(node.operands):
            size = int(np.prod(operand.shape, dtype=int))
            within = (index >= start) & (index < start + size)
            reads = self.shapes[operand.signal]
            name = self.names[node.number] + (f".{number}" if len(node.operands) > 1 else "")
            made = select_node(np.where(within, index - start, -1), reads, packable(shape))
            names.append(self.wires.add(name, made, self._read(operand, reads)))
            start += size
        self.sources[node.result], self.shapes[node.result] = tuple(names), packable(shape)

    def sum(self, node: Node) -> None:
        shape = packable(self._shape(node))
        reads = [self._read(o, shape) for o in node.operands]
        flat = [name for names in reads for name in names]
        if len(set(flat)) < len(flat):  # a sum of sums that share a term: edges cannot be there twice
            for place, (operand, names) in enumerate(zip(node.operands, reads, strict=True)):
                if len(names) > 1:
                    reads[place] = (self._relay(node, place, operand, names, shape),)
            flat = [name for names in reads for name in names]
        self.sources[node.result], self.shapes[node.result] = tuple(flat), shape

    def scale(self, node: Node) -> None:
        shape = packable(self._shape(node))
        factor = node.arrays["factor"].reshape(shape)
        self._put(node, nir.Scale(factor), self._read(node.operands[0], shape), shape=shape)

    def gate(self, node: Node) -> None:
        width = int(np.prod(self._shape(node), dtype=int))
        op = "inverted_gate" if node.options["inverted"] else "gate"
        self._packed(node, op, {"width": width, "spike_width": width}, ("value", "spike"))

    def token_attention(self, node: Node) -> None:
        heads, tokens, depth = node.operands[0].shape
        parameters = {"heads": heads, "tokens": tokens, "depth": depth, "scale": float(node.options["scale"])}
        self._packed(node, "token_attention", parameters, ("q", "k", "v"))

    def attention(self, node: Node) -> None:
        heads, depth = node.operands[0].shape[-2:] if len(node.operands[0].shape) > 1 else (1, *node.operands[0].shape)
        if node.operands[2].shape[-1] != depth:
            raise ExportError(f"{node.path}: attention over the steps wants values as wide as keys ({node.line})")
        parameters = {"heads": heads, "scale": float(node.options["scale"]), "steps": self.net.steps}
        self._packed(node, "attention", parameters, ("q", "k", "v", "clock"), self.net.steps)

    def rotary(self, node: Node) -> None:
        parameters = {"heads": int(node.options["heads"]), "cos": node.arrays["cos"], "sin": node.arrays["sin"]}
        self._packed(node, "rotary", parameters, ("x", "clock"))

    def position(self, node: Node) -> None:
        shape = packable(self._shape(node))
        name, read = self.names[node.number], self._read(node.operands[0], shape)
        width = int(np.prod(shape, dtype=int))
        (slot,) = PACKED_OPERATIONS["position"].operands({}, width)
        wire = self.wires.add(f"{name}.clock", into_slots(slot, slot.stop, (1,)), self.wires.clock(self.net.steps))
        made = packed_node("position", width, self.wires.now, {"table": node.arrays["table"]}, shape=shape)
        self.sources[node.result], self.shapes[node.result] = (*read, self.wires.add(name, made, (wire,))), shape

    def maximum(self, node: Node) -> None:
        self._packed(node, "maximum", {"fan": int(node.options["fan"])}, ("x",))

    def _packed(
        self, node: Node, op: str, parameters: Mapping[str, Any], names: Sequence[str], duration: int = 0
    ) -> None:
        """Puts out `duration` steps after its operands have come; the last may be the clock."""
        due, self.wires.now = self.wires.now, self.wires.now - duration
        shape = packable(self._shape(node))
        width = int(np.prod(shape, dtype=int))
        operands = PACKED_OPERATIONS[op].operands(parameters, width)
        name, slots = self.names[node.number], operands[-1].stop
        wires = []
        if operands[-1].name == dialect.CLOCK:
            clock = self.wires.clock(self.net.steps)
            wires.append(self.wires.add(f"{name}.clock", into_slots(operands[-1], slots, (1,)), clock))
        for operand, read in zip(operands, node.operands, strict=False):
            reads = self.shapes[read.signal]
            wires.append(
                self.wires.add(f"{name}.{operand.name}", into_slots(operand, slots, reads), self._read(read, reads))
            )
        self.wires.now = due
        self._put(node, packed_node(op, width, self.wires.now, parameters, shape=shape), wires, shape=shape)

    def _relay(self, node: Node, place: int, operand: Operand, names: tuple[str, ...], shape: Shape) -> str:
        index = np.arange(int(np.prod(shape, dtype=int)))
        return self.wires.add(f"{self.names[node.number]}.{place}", select_node(index, shape, shape), names)

    def _shape(self, node: Node) -> Shape:
        return self.net.signals[node.result].shape

    def _read(self, operand: Operand, shape: Shape) -> tuple[str, ...]:
        """Nodes whose sum is a signal in a shape, now; a Flatten or a select is put in where it has another."""
        have, late = self.shapes[operand.signal], self.late[operand.signal]
        if have == tuple(shape):
            return self.wires.delayed(self.sources[operand.signal], have, late, self.wires.now)
        key = (operand.signal, tuple(shape))
        if key not in self.reshaped:
            due, self.wires.now = self.wires.now, late
            base = self.sources[operand.signal][0]
            if len(shape) == 1:
                made: nir.NIRNode = nir.Flatten({"input": np.array(have)}, 0, -1)
                name = self.wires.free(f"{base}.flat")
            else:
                made = select_node(np.arange(int(np.prod(shape, dtype=int))), have, shape)
                name = self.wires.free(f"{base}.shape")
            self.reshaped[key] = (self.wires.add(name, made, self.sources[operand.signal]),)
            self.wires.now = due
        return self.wires.delayed(self.reshaped[key], tuple(shape), late, self.wires.now)

    def _put(
        self,
        node: Node,
        made: nir.NIRNode,
        sources: Sequence[str],
        stated: Mapping[str, Any] | None = None,
        shape: Shape | None = None,
    ) -> None:
        name = self.wires.add(self.names[node.number], made, sources, stated)
        self.sources[node.result] = (name,)
        self.shapes[node.result] = tuple(shape or self._shape(node))


_LOWER: Mapping[str, Callable[[_Lowering, Node], None]] = {
    "input": _Lowering.input,
    "output": _Lowering.output,
    "linear": _Lowering.linear,
    "conv": _Lowering.conv,
    "neuron": _Lowering.neuron,
    "temporal": _Lowering.temporal,
    "sum_pool": _Lowering.pool,
    "avg_pool": _Lowering.pool,
    "or_pool": _Lowering.pool,
    "select": _Lowering.select,
    "sum": _Lowering.sum,
    "scale": _Lowering.scale,
    "gate": _Lowering.gate,
    "token_attention": _Lowering.token_attention,
    "attention": _Lowering.attention,
    "rotary": _Lowering.rotary,
    "position": _Lowering.position,
    "maximum": _Lowering.maximum,
}
