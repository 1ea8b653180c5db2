"""What a NIR graph consists of, node by node: shapes, parameters, synapses, state, operations per step.

For graphs of any origin: nothing here needs a node that the simulator can run. All figures are those of the graph as it
is written; a simulator may share delay lines between taps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import nir
import numpy as np

from spikescr import dialect
from spikescr.errors import GraphError
from spikescr.sim.flat_graph import SPIKING, FlatGraph, Flow, op_of, shape, width
from spikescr.sim.lowering.lower import lower
from spikescr.sim.lowering.nodes import FOREIGN_DT, has_clock

STATE_BYTES = 8  # of one state variable: the simulator computes in float64
SYNAPSES = (nir.Linear, nir.Affine, nir.Scale, nir.Conv1d, nir.Conv2d)
POOLS = (nir.SumPool2d, nir.AvgPool2d)
# State variables of one neuron.
VARIABLES = {nir.LIF: 1, nir.IF: 1, nir.LI: 1, nir.I: 1, nir.CubaLIF: 2, nir.CubaLI: 2, nir.Threshold: 0}
# Fields of nodes that say how they are wired, not with what weights.
_GEOMETRY = ("input_type", "input_shape", "stride", "padding", "dilation", "groups", "kernel_size")


@dataclass(frozen=True)
class Parameter:
    """An array of a node: number of values, their type, bytes in memory."""

    count: int
    dtype: str
    bytes: int


@dataclass(frozen=True)
class Operations:
    """Operations of one step in which every input is active, an upper bound; counted as a simulation counts them.

    ac: accumulations. mac: multiply-accumulates. bias: additions of biases. neuron: membrane updates.
    """

    ac: int = 0
    mac: int = 0
    bias: int = 0
    neuron: int = 0

    def __add__(self, other: Operations) -> Operations:
        return Operations(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True)
class NodeReport:
    """One node.

    type: NIR's, or the dialect's name of it. standard: not one of the dialect's. shapes: None where the file does not
    tell. carries: what arrives, "clock", "spikes" or "values". synapses: connections whose weight is not 0, a
    convolution's unrolled. latency: steps by which the output is late, None where the file does not tell. state_bytes:
    None where it depends on a step that the file does not tell. bits: of its weights in fixed point, None where the
    file does not tell.
    """

    name: str
    type: str
    standard: bool
    input_shape: tuple[int, ...] | None
    output_shape: tuple[int, ...] | None
    carries: str | None
    parameters: Mapping[str, Parameter]
    synapses: int
    neurons: int
    latency: int | None
    operations: Operations
    state_bytes: int | None
    bits: int | None

    @property
    def parameter_count(self) -> int:
        """Values of all arrays."""
        return sum(p.count for p in self.parameters.values())

    @property
    def parameter_bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(p.bytes for p in self.parameters.values())


@dataclass(frozen=True)
class GraphReport:
    """A graph: its nodes in the order in which data flows, metadata, and what is odd about it."""

    nodes: tuple[NodeReport, ...]
    edges: tuple[tuple[str, str], ...]
    metadata: dict[str, Any]
    warnings: tuple[str, ...]

    @property
    def groups(self) -> dict[str, tuple[NodeReport, ...]]:
        """Standard nodes, the dialect's packed operations (and its clock), its wires, all."""
        return {
            "standard": tuple(n for n in self.nodes if n.standard),
            "packed": tuple(n for n in self.nodes if not n.standard and n.type != dialect.WIRE),
            "wires": tuple(n for n in self.nodes if n.type == dialect.WIRE),
            "all": self.nodes,
        }


@dataclass(frozen=True)
class Total:
    """Sums over nodes; state of those whose state is known."""

    nodes: int
    parameters: int
    parameter_bytes: int
    synapses: int
    neurons: int
    operations: Operations
    state_bytes: int


def total(nodes: Iterable[NodeReport]) -> Total:
    """Adds nodes up."""
    found = tuple(nodes)
    return Total(
        nodes=len(found),
        parameters=sum(n.parameter_count for n in found),
        parameter_bytes=sum(n.parameter_bytes for n in found),
        synapses=sum(n.synapses for n in found),
        neurons=sum(n.neurons for n in found),
        operations=sum((n.operations for n in found), Operations()),
        state_bytes=sum(n.state_bytes or 0 for n in found),
    )


def inspect(graph: nir.NIRGraph) -> GraphReport:
    """Describes a graph, of any origin.

    Args:
        graph: as `nir.read` gives it, with or without inferred shapes.

    Returns:
        The report. Its warnings name nodes of no effect, numbers that are none, shapes that the file does not tell, and
        what the simulator says where it cannot run the graph.
    """
    flat = FlatGraph(graph)
    flows = flat.flows()
    dt = graph.metadata.get(dialect.DT)
    nodes = tuple(_node(name, node, flows[name], dt) for name, node in flat.nodes.items())
    return GraphReport(nodes, flat.edges, dict(graph.metadata), tuple(_warnings(graph, flat, nodes)))


def _node(name: str, node: nir.NIRNode, flow: Flow, dt: float | None) -> NodeReport:
    op = op_of(node)
    outputs = width(node.output_type)
    latency, bits = (node.metadata.get(key) for key in (dialect.LATENCY, dialect.BITS))
    synapses = 0 if op == dialect.WIRE or flow.kind == "clock" else _connections(node, zeros=False)
    return NodeReport(
        name=name,
        type=op or type(node).__name__,
        standard=op is None,
        input_shape=shape(node.input_type),
        output_shape=shape(node.output_type),
        carries=flow.kind,
        parameters=_parameters(node, op),
        synapses=synapses if isinstance(node, SYNAPSES) else 0,
        neurons=outputs if isinstance(node, SPIKING + tuple(VARIABLES)) else 0,
        latency=None if latency is None else int(latency),
        operations=_operations(node, op, flow, outputs),
        state_bytes=_state_bytes(node, op, outputs, dt),
        bits=None if bits is None else int(bits),
    )


def _parameters(node: nir.NIRNode, op: str | None) -> dict[str, Parameter]:
    if isinstance(node, nir.NIRGraph):
        arrays = {k: v for k, v in node.metadata.items() if isinstance(v, np.ndarray)}
    else:
        values = {f.name: getattr(node, f.name) for f in fields(node) if f.name not in _GEOMETRY}
        arrays = {k: v for k, v in values.items() if isinstance(v, np.ndarray)}
    return {key: Parameter(int(a.size), str(a.dtype), int(a.nbytes)) for key, a in arrays.items()}


def _connections(node: nir.NIRNode, *, zeros: bool) -> int:
    """Pairs of an input and an output channel that a node connects; a convolution's are unrolled over its input.

    Args:
        node: any; what is neither a synapse nor a pool connects nothing.
        zeros: whether those of weight 0 are counted too.
    """
    if isinstance(node, (nir.Linear, nir.Affine, nir.Scale)):
        weight = node.scale if isinstance(node, nir.Scale) else node.weight
        return int(weight.size if zeros else np.count_nonzero(weight))
    known, out = shape(node.input_type), shape(node.output_type)
    if not isinstance(node, (nir.Conv1d, nir.Conv2d, *POOLS)) or known is None or out is None:
        return 0
    if isinstance(node, POOLS):
        weight = np.ones((out[0], 1, *(_axis(node.kernel_size, axis) for axis in range(2))))
    else:
        weight = node.weight
    # How often each place of the kernel lies within the input, axis by axis.
    reached = np.ones(())
    for axis, length in enumerate(known[1:]):
        size, step = weight.shape[2 + axis], _axis(node.stride, axis)
        dilation = _axis(getattr(node, "dilation", 1), axis)
        span = dilation * (size - 1)
        if isinstance(node.padding, str):
            padded = {"valid": 0, "same": span}[node.padding]
            before = padded // 2
        else:
            before = _axis(node.padding, axis)
            padded = 2 * before
        positions = (length + padded - span - 1) // step + 1
        places = np.arange(positions)[:, None] * step - before + np.arange(size) * dilation
        reached = np.multiply.outer(reached, np.sum((places >= 0) & (places < length), axis=0))
    live = np.ones(weight.shape) if zeros else weight != 0
    return int(np.sum(live.sum(axis=(0, 1)) * reached))


def _axis(value: Any, axis: int) -> int:
    values = np.atleast_1d(np.asarray(value))
    return int(values[axis] if values.size > 1 else values[0])


def _operations(node: nir.NIRNode, op: str | None, flow: Flow, outputs: int) -> Operations:
    if op is not None:
        return _packed_operations(node, op, flow, outputs)
    if isinstance(node, tuple(VARIABLES)):
        return Operations(neuron=outputs)
    if not isinstance(node, SYNAPSES + POOLS):
        return Operations()
    if flow.kind == "clock":
        return Operations(bias=outputs)
    bias = outputs if isinstance(node, (nir.Affine, nir.Conv1d, nir.Conv2d)) else 0
    count = _connections(node, zeros=True) if flow.kind is not None else 0
    if flow.kind == "spikes":
        return Operations(ac=count * flow.events, bias=bias)
    return Operations(mac=count, bias=bias)


def _packed_operations(node: nir.NIRNode, op: str, flow: Flow, outputs: int) -> Operations:
    if op == "rotary":
        return Operations(ac=2 * outputs * _rotated_events(flow))
    if op == "attention":
        # Writing k v^T and reading q A: every head adds D x D numbers twice.
        return Operations(ac=2 * outputs * outputs // int(node.metadata["heads"]))
    return Operations()


def _rotated_events(flow: Flow) -> int:
    """Events per channel of the operand x: all that arrives but the one wire of the clock."""
    return max(flow.events - 1, 0)


def _state_bytes(node: nir.NIRNode, op: str | None, outputs: int, dt: float | None) -> int | None:
    if op == "attention":
        head = outputs // int(node.metadata["heads"])
        return STATE_BYTES * outputs * (head + int(node.metadata["steps"]))  # A per head, and q until it is read
    if op in ("rotary", "position"):
        return STATE_BYTES  # the number of ticks
    if isinstance(node, nir.Delay):
        return None if dt is None else STATE_BYTES * int(np.rint(np.sum(node.delay) / dt))
    return STATE_BYTES * outputs * VARIABLES.get(type(node), 0)


def _warnings(graph: nir.NIRGraph, flat: FlatGraph, nodes: tuple[NodeReport, ...]) -> list[str]:
    found = []
    for name, node in flat.nodes.items():
        if isinstance(node, nir.NIRGraph):
            continue
        for f in fields(node):
            value = getattr(node, f.name)
            if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not np.all(np.isfinite(value)):
                found.append(f"{name}: {f.name} has numbers that are not finite")
    unknown = [n.name for n in nodes if n.input_shape is None or n.output_shape is None]
    if unknown:
        found.append(f"shapes unknown, and with them synapses and operations: {_few(unknown)}")
    driven = flat.reached([n for n, node in flat.nodes.items() if isinstance(node, nir.Input)], forward=True)
    if silent := [name for name in flat.nodes if name not in driven]:
        found.append(f"no input leads to: {_few(silent)}")
    heard = flat.reached([n for n, node in flat.nodes.items() if isinstance(node, nir.Output)], forward=False)
    if unheard := [name for name in flat.nodes if name not in heard]:
        found.append(f"no output is reached from: {_few(unheard)}")
    if not unknown:
        # The input tells how many steps there are, but for a graph with a clock. Where the file has no seconds per
        # step, any will do, delays rounded to it, to see what else there is.
        told = any(key in graph.metadata for key in (dialect.DT, FOREIGN_DT))
        steps = None if has_clock(graph) else 1
        try:
            lower(graph, dt=None if told else 1.0, steps=steps, round_delays=not told)
        except GraphError as error:
            found.append(f"spikescr simulate cannot run it: {error}")
        else:
            if not told:
                found.append("the file has no step: spikescr simulate needs --dt SECONDS")
    return found


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
