"""Lowering: a NIR graph becomes a Program.

1. Check the nodes: supported types only, one word about anything else that names node and type.
2. Fuse: Linear and Scale nodes that share a source (each behind a Delay of its own) and a destination are the taps of
   one temporal synapse; a Linear from the clock that shares the destination is its bias.
3. Resolve wires into the operands of the packed operations.
4. Derive what every output carries, hence whether its synapses accumulate or multiply.
5. Break cycles: a Delay of a step or more does it; where a cycle has none, an edge that leaves a neuron and leads back
   to it carries the spikes of the step before, through a DelayLine of one step that is put in.
6. Sort topologically and find the longest path through delays, the period; edges that lead back are left out.
"""

from __future__ import annotations

import graphlib
import logging
from collections.abc import Iterable
from typing import Any

import nir
import numpy as np

from spikescr.errors import GraphError
from spikescr.export import dialect
from spikescr.sim.fusing import Fused
from spikescr.sim.program import (
    Attention,
    DelayLine,
    Gate,
    IntArray,
    Neuron,
    Operation,
    Port,
    Position,
    Program,
    Rotary,
    Select,
    Signal,
    Sink,
    Source,
    Synapse,
    Tap,
)
from spikescr.sim.topology import Topology

_log = logging.getLogger(__name__)

WHOLE_STEPS = 1e-6  # how far, in steps, a delay may be from a whole number


def lower(graph: nir.NIRGraph) -> Program:
    """Makes the Program that the backends run.

    Args:
        graph: NIR graph with `spikescr.dt` and `spikescr.steps` in its metadata; standard nodes Input, Output,
            Linear, Scale, Delay, LIF, and the packed operations of the dialect.

    Raises:
        GraphError: the graph cannot be run; the message names node, field and value.
    """
    return _Lowering(graph).run()


class _Lowering:
    def __init__(self, graph: nir.NIRGraph) -> None:
        version = graph.metadata.get(dialect.GRAPH_FORMAT, dialect.FORMAT)
        if version != dialect.FORMAT:
            raise GraphError(
                f"metadata {dialect.GRAPH_FORMAT} is {version}, this version reads {dialect.FORMAT}; export again"
            )
        self.dt = float(_graph_parameter(graph, dialect.DT, "seconds per step"))
        steps = _graph_parameter(graph, dialect.STEPS, "the window in steps")
        if steps != int(steps):
            raise GraphError(f"the graph's metadata has {dialect.STEPS} {steps}; it must be a whole number")
        self.steps = int(steps)
        self.graph = graph
        self.top = Topology(graph)
        self.owner: dict[str, str] = {}  # node -> operation that puts out its signal
        self.operations: dict[str, Operation] = {}
        self.returning = self._find_returning()  # edges out of a neuron that carry the spikes of the step before
        self.fused = Fused(self.top)

    def run(self) -> Program:
        self._name_owners()
        for name in self._order():
            self._lower_node(name)
        return Program(
            operations=tuple(self.operations.values()),
            steps=self.steps,
            dt=self.dt,
            period=self.steps + self._longest_delay(),
            metadata=dict(self.graph.metadata),
        )

    def _find_returning(self) -> dict[tuple[str, str], str]:
        """Edges that leave a neuron on a cycle without a step of delay, and the DelayLine put in for each."""
        waiting = {n for n in self.top.cyclic if self._waits(n)}
        into = {edge for edge in self.graph.edges if edge[1] in waiting}
        found: dict[tuple[str, str], str] = {}
        for name in sorted(self.top.cyclic):
            if not isinstance(self.graph.nodes[name], nir.LIF):
                continue
            for after in self.top.after[name]:
                if after not in waiting and self.top.leads([after], name, into):
                    line = f"{name}.step_before"
                    if line in self.graph.nodes:
                        raise GraphError(f"{line}: this name is needed for the DelayLine behind {name}")
                    _log.info("%s -> %s closes a cycle: it carries the spikes of the step before", name, after)
                    found[name, after] = line
        return found

    def _waits(self, name: str) -> bool:
        return isinstance(self.graph.nodes[name], nir.Delay) and self._delay_steps(name) >= 1

    def _name_owners(self) -> None:
        fused = {member: name for name, members in self.fused.groups.items() for member in members}
        absorbed = {self.fused.own_delay(name) for name in self.top.synapses}
        for name in self.graph.nodes:
            if name not in self.top.wires and name not in absorbed:
                self.owner[name] = fused.get(name, name)

    def _order(self) -> list[str]:
        """Operations in topological order, inputs first."""
        members: dict[str, list[str]] = {}
        for node, owner in self.owner.items():
            members.setdefault(owner, []).append(node)
        # Ordered, not a set: the order of a Program must not depend on how Python hashes strings.
        needs = {owner: dict.fromkeys(s for n in nodes for s in self._feeding(n)) for owner, nodes in members.items()}
        try:
            return list(graphlib.TopologicalSorter(needs).static_order())
        except graphlib.CycleError as error:
            raise GraphError(
                f"the nodes {' -> '.join(error.args[1])} form a cycle that neither a Delay nor a neuron breaks"
            ) from error

    def _feeding(self, node: str) -> Iterable[str]:
        """Operations whose output of the same step this node needs, through absorbed delays and wires."""
        waits = node in self.top.cyclic and self._waits(node)
        for before in self.top.before[node]:
            if waits and self.top.leads([node], before):
                continue
            if (before, node) in self.returning:
                yield self.returning[before, node]
            elif before in self.owner:
                yield self.owner[before]
            else:
                yield from self._feeding(before)

    def _lower_node(self, name: str) -> None:
        if name in self.fused.groups:
            self._synapse(name, self.fused.groups[name])
            return
        if name not in self.graph.nodes:
            self._step_before(name)
            return
        node = self.graph.nodes[name]
        width = self.top.width[name]
        latency = self.top.latency(name)
        common: dict[str, Any] = {
            "name": name, "width": width, "signal": self.top.signal[name], "latency": latency,
        }  # fmt: skip
        if isinstance(node, nir.Input):
            self._add(Source(**common))
        elif isinstance(node, nir.Output):
            self._add(Sink(**common, x=self._port(name)))
        elif isinstance(node, nir.Delay):
            self._add(DelayLine(**common, x=self._port(name), delay=self._delay_steps(name)))
        elif isinstance(node, nir.LIF):
            ratio = self.dt / _positive(name, "tau", node.tau)
            self._add(
                Neuron(
                    **common,
                    x=self._port(name),
                    decay=1.0 - ratio,
                    gain=np.asarray(node.r, np.float64) * ratio,
                    drive=np.asarray(node.v_leak, np.float64) * ratio,
                    threshold=np.asarray(node.v_threshold, np.float64),
                    v_reset=np.asarray(node.v_reset, np.float64),
                )
            )
        else:
            self._packed(name, node, common)

    def _step_before(self, name: str) -> None:
        neuron = next(a for (a, _), line in self.returning.items() if line == name)
        latency = self.top.latency(neuron)
        self._add(
            DelayLine(
                name=name,
                width=self.top.width[neuron],
                signal=Signal.SPIKES,
                latency=None if latency is None else latency + 1,
                x=Port((neuron,), self.top.width[neuron], Signal.SPIKES),
                delay=1,
            )
        )

    def _synapse(self, name: str, members: tuple[str, ...]) -> None:
        weighted = [m for m in members if not self.fused.is_bias((m,))] or list(members)
        biases = [m for m in members if m not in weighted]
        taps = []
        for member in weighted:
            node = self.graph.nodes[member]
            weight = np.asarray(node.scale if isinstance(node, nir.Scale) else node.weight, np.float64)
            delay = self.fused.own_delay(member)
            taps.append(Tap(0 if delay is None else self._delay_steps(delay), weight))
        taps.sort(key=lambda tap: tap.delay)
        bias = self.graph.nodes[biases[0]] if biases else None
        clock = self._port(biases[0]) if biases else None
        gate_clock = self._gate_clock(members)
        self._add(
            Synapse(
                name=name,
                width=self.top.width[members[0]],
                signal=self.top.signal[members[0]],
                latency=self.top.latency(members[0]),
                x=self._sum(self.fused.source(weighted[0]), self.fused.own_delay(weighted[0]) or weighted[0]),
                taps=tuple(taps),
                bias=None if bias is None else np.asarray(bias.weight, np.float64)[:, 0],
                origin=() if bias is None else tuple(bias.metadata.get(dialect.ORIGIN, "bias").split("+")),
                clock=gate_clock if clock is None else clock,
                gated=gate_clock is not None and clock in (None, gate_clock),
            )
        )

    def _gate_clock(self, members: tuple[str, ...]) -> Port | None:
        """The clock that gates all that a synapse puts out, or None where not all of it goes through one such gate."""
        clocks = set()
        for after in self.top.after[members[0]]:
            if after not in self.top.wires:
                return None
            gate = self.top.after[after][0]
            operands = self._operands(gate)
            if self.graph.nodes[gate].metadata[dialect.OP] != "gate" or not self._feeds(after, operands["value"]):
                return None
            clocks.add(self._operand_port(gate, operands["spike"]))
        clock = clocks.pop() if len(clocks) == 1 else None
        return clock if clock is not None and clock.signal is Signal.CLOCK and clock.width == 1 else None

    def _operands(self, name: str) -> dict[str, dialect.Operand]:
        node = self.graph.nodes[name]
        operation = dialect.PACKED_OPERATIONS[node.metadata[dialect.OP]]
        return {o.name: o for o in operation.operands(node.metadata, self.top.width[name])}

    def _feeds(self, wire: str, operand: dialect.Operand) -> bool:
        return bool(np.any(self.graph.nodes[wire].weight[operand.start : operand.stop]))

    def _operand_port(self, name: str, operand: dialect.Operand) -> Port:
        """The port of one operand: the whole of what its wires bring, or Selects where they reorder."""
        sources: list[str] = []
        signals: list[Signal] = []
        for wire in self.top.before[name]:
            if not self._feeds(wire, operand):
                continue
            source = self._port(wire)
            rows = self.graph.nodes[wire].weight[operand.start : operand.stop]
            index: IntArray = np.where(rows.any(axis=1), rows.argmax(axis=1), -1)
            signals.append(source.signal)
            if np.array_equal(index, np.arange(source.width)):
                sources += source.sources
                continue
            select = f"{wire}.{operand.name}"
            if select not in self.operations:
                self._add(Select(name=select, width=operand.width, signal=source.signal, x=source, index=index))
            sources.append(select)
        if not sources:
            raise GraphError(f"{name}: no wire brings its operand {operand.name}")
        return Port(tuple(sources), operand.width, self.top.joined(name, signals))

    def _packed(self, name: str, node: nir.NIRGraph, common: dict[str, Any]) -> None:
        metadata = node.metadata
        ports: dict[str, Any] = {}
        for key, operand in self._operands(name).items():
            ports[key] = self._operand_port(name, operand)
        for key, port in ports.items():
            wanted = {"clock": Signal.CLOCK, "q": Signal.SPIKES, "k": Signal.SPIKES, "v": Signal.SPIKES}.get(key)
            if wanted is not None and port.signal is not wanted:
                raise GraphError(f"{name}: operand {key} must carry {wanted.value}, not {port.signal.value}")
        match metadata[dialect.OP]:
            case "rotary":
                self._check_heads(name, int(metadata["heads"]), 2 * int(metadata["cos"].shape[1]))
                tables: dict[str, Any] = {key: np.asarray(metadata[key], np.float64) for key in ("cos", "sin")}
                self._add(Rotary(**common, **ports, heads=int(metadata["heads"]), **tables))
            case "position":
                table = np.asarray(metadata["table"], np.float64)
                if table.ndim != 2 or table.shape[1] != common["width"]:
                    raise GraphError(
                        f"{name}: metadata table must have shape (steps, {common['width']}), has {table.shape}"
                    )
                self._add(Position(**common, **ports, table=table))
            case "attention":
                heads = int(metadata["heads"])
                self._check_heads(name, heads, common["width"] // heads)
                scale, steps = float(metadata["scale"]), int(metadata["steps"])
                self._add(Attention(**common, **ports, heads=heads, scale=scale, steps=steps))
            case "gate":
                if ports["spike"].width not in (1, common["width"]):
                    raise GraphError(
                        f"{name}: spike_width is {ports['spike'].width}, must be 1 or the width {common['width']}"
                    )
                self._add(Gate(**common, **ports))

    def _check_heads(self, name: str, heads: int, head_width: int) -> None:
        width = self.top.width[name]
        if heads * head_width != width:
            raise GraphError(f"{name}: {heads} heads of {head_width} channels do not make the width {width}")

    def _delay_steps(self, name: str) -> int:
        delay = np.asarray(self.graph.nodes[name].delay, np.float64) / self.dt
        steps = np.rint(delay)
        if np.any(np.abs(delay - steps) > WHOLE_STEPS) or np.any(steps < 0):
            raise GraphError(f"{name}: delay must be whole steps of {self.dt} s, not {delay.max() * self.dt} s")
        if np.any(steps != steps[0]):
            raise GraphError(f"{name}: delay must be the same for all channels, not {steps.min():g} to {steps.max():g}")
        return int(steps[0])

    def _port(self, name: str) -> Port:
        return self._sum(self.top.before[name], name)

    def _sum(self, nodes: tuple[str, ...], reader: str) -> Port:
        owners = dict.fromkeys(self.returning.get((node, reader), self.owner[node]) for node in nodes)
        signal = self.top.joined(reader, [self.top.signal[node] for node in nodes])
        return Port(tuple(owners), self.top.width[nodes[0]], signal)

    def _add(self, operation: Operation) -> None:
        if operation.name in self.operations:
            raise GraphError(f"{operation.name}: two operations would have this name; rename the node")
        self.operations[operation.name] = operation

    def _longest_delay(self) -> int:
        reach: dict[str, int] = {}
        for operation in self.operations.values():
            arrivals = {k: max(reach.get(s, 0) for s in port.sources) for k, port in operation.ports.items()}
            if isinstance(operation, Synapse):
                arrivals["x"] += max(tap.delay for tap in operation.taps)
            reach[operation.name] = max(arrivals.values(), default=0)
            if isinstance(operation, DelayLine):
                reach[operation.name] += operation.delay
            elif isinstance(operation, Attention):
                reach[operation.name] += operation.steps
        return max(reach.values(), default=0)


def _graph_parameter(graph: nir.NIRGraph, key: str, meaning: str) -> float:
    value = graph.metadata.get(key)
    if not isinstance(value, (int, float, np.integer, np.floating)) or not 0 < value < np.inf:
        raise GraphError(f"the graph's metadata must have {key}, {meaning}, above 0; found {value!r}")
    return float(value)


def _positive(name: str, field: str, values: np.ndarray) -> np.ndarray:
    if not np.all(np.asarray(values) > 0):
        raise GraphError(f"{name}: {field} must be above 0, found {np.min(values)}")
    return np.asarray(values, np.float64)
