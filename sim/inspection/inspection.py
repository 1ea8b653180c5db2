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
from spikescr.sim.lowering.flat import FlatGraph, Flow
from spikescr.sim.lowering.graph_time import has_clock, has_step, step_length
from spikescr.sim.lowering.lower import lower
from spikescr.sim.lowering.primitives import Kind, kind_name, kind_of, op_of, primitive
from spikescr.sim.lowering.shapes import spread
from spikescr.sim.lowering.synapses import bias_of
from spikescr.sim.lowering.timing import MOST_STEPS, delay_steps
from spikescr.sim.program import Signal

ROUTING = (dialect.WIRE, dialect.SELECT)
STATE_BYTES = 8  # of one state variable: the simulator computes in float64


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

    Attributes:
        name: of the node.
        type: NIR's, or the dialect's name of it.
        standard: not one of the dialect's.
        input_shape: of one step; None where the file does not tell.
        output_shape: of one step; None where the file does not tell.
        carries: what arrives, "clock", "spikes" or "values".
        parameters: its arrays by name.
        synapses: connections whose weight is not 0, a convolution's unrolled.
        neurons: how many.
        latency: steps by which the output is late; None where the file does not tell.
        operations: of one step, at most.
        state_bytes: of its state variables; None where it depends on a step that the file does not tell.
        bits: of its weights in fixed point; None where the file does not tell.
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
        """Standard nodes, the dialect's packed operations (and its clock), its wires and selects, all."""
        return {
            "standard": tuple(n for n in self.nodes if n.standard),
            "packed": tuple(n for n in self.nodes if not n.standard and n.type not in ROUTING),
            "wires": tuple(n for n in self.nodes if n.type in ROUTING),
            "all": self.nodes,
        }


@dataclass(frozen=True)
class Total:
    """Sums over nodes.

    Attributes:
        nodes: how many.
        parameters: values of all arrays.
        parameter_bytes: of all arrays in memory.
        synapses: connections whose weight is not 0.
        neurons: how many.
        operations: of one step, at most.
        state_bytes: of the nodes whose state is known.
    """

    nodes: int
    parameters: int
    parameter_bytes: int
    synapses: int
    neurons: int
    operations: Operations
    state_bytes: int


def total(nodes: Iterable[NodeReport]) -> Total:
    """Adds nodes up."""
    reports = tuple(nodes)
    return Total(
        nodes=len(reports),
        parameters=sum(n.parameter_count for n in reports),
        parameter_bytes=sum(n.parameter_bytes for n in reports),
        synapses=sum(n.synapses for n in reports),
        neurons=sum(n.neurons for n in reports),
        operations=sum((n.operations for n in reports), Operations()),
        state_bytes=sum(n.state_bytes or 0 for n in reports),
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
    try:
        dt = step_length(graph)
    except GraphError:
        dt = None
    nodes = tuple(_node(flat, name, dt) for name in flat.order)
    edges = tuple((a, b) for a in flat.order for b in flat.after[a])
    return GraphReport(nodes, edges, dict(graph.metadata), tuple(_warnings(graph, flat, nodes)))


def _node(flat: FlatGraph, name: str, dt: float | None) -> NodeReport:
    node, entry, op = flat.nodes[name], primitive(flat.nodes[name]), op_of(flat.nodes[name])
    flow = flat.arriving(name) if name in flat.relays or entry.kind is not Kind.INPUT else flat.leaving[name]
    routed = op == dialect.WIRE or flow.kind is Signal.CLOCK or not entry.weighted
    return NodeReport(
        name=name,
        type=op or kind_name(node),
        standard=op is None,
        input_shape=flat.reads[name],
        output_shape=flat.shape.get(name),
        carries=None if flow.kind is None else flow.kind.value,
        parameters=_parameters(node),
        synapses=0 if routed else _connections(flat, name),
        neurons=flat.width(name) if entry.states is not None else 0,
        latency=_whole(node, dialect.LATENCY),
        operations=Operations() if name in flat.faulty else _operations(flat, name, flow),
        state_bytes=None if name in flat.faulty else _state_bytes(flat, name, dt),
        bits=_whole(node, dialect.BITS) if entry.weighted else None,
    )


def _whole(node: nir.NIRNode, key: str) -> int | None:
    """A whole number of a node's metadata, None where there is none."""
    value = node.metadata.get(key)
    return int(value) if isinstance(value, (int, np.integer)) else None


def _parameters(node: nir.NIRNode) -> dict[str, Parameter]:
    if isinstance(node, nir.NIRGraph):
        values = {key: value for key, value in node.metadata.items() if isinstance(value, np.ndarray)}
    else:
        values = {key: getattr(node, key) for key in primitive(node).numbers}
    arrays = {key: np.asarray(value) for key, value in values.items() if value is not None}
    return {key: Parameter(int(a.size), str(a.dtype), int(a.nbytes)) for key, a in arrays.items()}


def _connections(flat: FlatGraph, name: str) -> int:
    """Pairs of channels that a node connects, a convolution's unrolled over its input; a weight of 0 is none.

    What is neither a synapse nor a pool connects nothing.
    """
    node = flat.nodes[name]
    if name in flat.faulty or name not in flat.shape:
        return 0
    if name in flat.geometry:
        return flat.geometry[name].connections()
    match kind_of(node):
        case Kind.SYNAPSE if isinstance(node, nir.Scale):
            weight = spread(np.asarray(node.scale), flat.shape[name])
        case Kind.SYNAPSE | Kind.AFFINE:
            weight = np.asarray(node.weight)
        case _:
            return 0
    return int(np.count_nonzero(weight))


def _operations(flat: FlatGraph, name: str, flow: Flow) -> Operations:
    entry, op = primitive(flat.nodes[name]), op_of(flat.nodes[name])
    outputs = flat.width(name)
    if op is not None:
        return _packed_operations(flat, name, flow)
    if entry.states is not None:
        return Operations(neuron=outputs)
    if not entry.weighted and entry.kind is not Kind.POOL:
        return Operations()
    if flow.kind is Signal.CLOCK:
        return Operations(bias=outputs)
    bias = outputs if _biased(flat, name) else 0
    count = _connections(flat, name) if flow.kind is not None else 0
    if flow.kind is Signal.SPIKES:
        return Operations(ac=count * flow.events, bias=bias)
    return Operations(mac=count, bias=bias)


def _biased(flat: FlatGraph, name: str) -> bool:
    if name in flat.geometry:
        return flat.geometry[name].bias is not None
    return isinstance(node := flat.nodes[name], nir.Affine) and bias_of(node) is not None


def _packed_operations(flat: FlatGraph, name: str, flow: Flow) -> Operations:
    node, op, outputs = flat.nodes[name], op_of(flat.nodes[name]), flat.width(name)
    if op == "rotary":
        return Operations(ac=2 * outputs * _rotated_events(flow))
    if op in ("attention", "causal_attention"):
        # Writing k v^T and reading q A: every head adds D x D numbers twice.
        return Operations(ac=2 * outputs * outputs // int(node.metadata["heads"]))
    if op == "token_attention":
        return _token_operations(flat, name)
    return Operations()


def _token_operations(flat: FlatGraph, name: str) -> Operations:
    """Of the order that is executed, which the operation knows."""
    heads, tokens, depth = (int(flat.nodes[name].metadata[key]) for key in ("heads", "tokens", "depth"))
    v = flat.operands(name)[2]
    real = Signal.VALUES in flat.flow_into(name, v).kinds
    each = v.width // (heads * tokens)
    scores, weighed = heads * tokens**2 * depth, heads * tokens**2 * each
    if real:
        return Operations(ac=scores, mac=weighed)
    return Operations(ac=min(scores + weighed, 2 * heads * tokens * depth * each))


def _rotated_events(flow: Flow) -> int:
    """Events per channel of the operand x: all that arrives but the one wire of the clock."""
    return max(flow.events - 1, 0)


def _state_bytes(flat: FlatGraph, name: str, dt: float | None) -> int | None:
    node, op, outputs = flat.nodes[name], op_of(flat.nodes[name]), flat.width(name)
    if op in ("attention", "causal_attention"):
        waiting = int(node.metadata["steps"]) if op == "attention" else 0  # q, until it is read
        return STATE_BYTES * outputs * (outputs // int(node.metadata["heads"]) + waiting)  # A per head
    if op in ("rotary", "position"):
        return STATE_BYTES  # the number of ticks
    if kind_of(node) is Kind.DELAY:
        if dt is None or name not in flat.shape:
            return None
        try:
            delay = spread(np.asarray(node.delay, np.float64), flat.shape[name])
        except ValueError:  # of another shape than what arrives: it cannot be run
            return None
        runs = np.isfinite(delay).all() and (delay >= 0).all() and (delay <= MOST_STEPS * dt).all()
        return STATE_BYTES * int(delay_steps(delay, dt).sum()) if runs else None
    return STATE_BYTES * outputs * (primitive(node).states or 0)


def _warnings(graph: nir.NIRGraph, flat: FlatGraph, nodes: tuple[NodeReport, ...]) -> list[str]:
    warnings = []
    for name, node in flat.nodes.items():
        for field in primitive(node).numbers:
            value = np.asarray(getattr(node, field))
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                warnings.append(f"{name}: {field} has numbers that are not finite")
    unknown = [n.name for n in nodes if n.input_shape is None or n.output_shape is None]
    if unknown:
        warnings.append(f"shapes unknown, and with them synapses and operations: {_few(unknown)}")
    driven = flat.reached(flat.of_kind(Kind.INPUT), forward=True)
    if silent := [name for name in flat.order if name not in driven]:
        warnings.append(f"no input leads to: {_few(silent)}")
    heard = flat.reached(flat.of_kind(Kind.OUTPUT), forward=False)
    if unheard := [name for name in flat.order if name not in heard]:
        warnings.append(f"no output is reached from: {_few(unheard)}")
    # The input tells how many steps there are, but for a graph with a clock. Where the file has no seconds per step,
    # any will do, delays rounded to it, to see what else there is.
    told = has_step(graph)
    try:
        lower(graph, dt=None if told else 1.0, steps=None if has_clock(graph) else 1, round_delays=not told)
    except GraphError as error:
        warnings.append(f"spikescr simulate cannot run it: {error}")
    else:
        if not told:
            warnings.append("the file has no step: to run it give dt (--dt), seconds per step")
    return warnings


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
