"""Lowering: a NIR graph becomes a Program.

1. Flatten: open nested graphs, tell the shapes of all signals, check the nodes: supported types only, one word about
   anything else that names node and type.
2. Fuse: Linear and Scale nodes that share a source (each behind a Delay of its own) and a destination are the taps of
   one temporal synapse; a Linear from the clock that shares the destination is its bias.
3. Resolve wires into the operands of the packed operations.
4. Derive what every output carries, hence whether its synapses accumulate or multiply.
5. Break cycles: a Delay of a step or more does it; where a cycle has none, an edge that leaves a neuron and leads back
   to it carries what it put out in the step before, through a DelayLine of one step that is put in and noted.
6. Sort topologically and find the longest path through delays, the period; edges that lead back are left out.
"""

from __future__ import annotations

import graphlib
from collections.abc import Iterable
from typing import Any

import nir
import numpy as np

from spikescr import dialect
from spikescr.errors import GraphError
from spikescr.sim.lowering.fixed import check_packed, check_weights, is_fixed
from spikescr.sim.lowering.fusing import Fused
from spikescr.sim.lowering.graph_time import check_step, has_clock, step_length, window
from spikescr.sim.lowering.metadata import check_graph
from spikescr.sim.lowering.neurons import Integration, Neurons, Reset
from spikescr.sim.lowering.packed import packed_operation
from spikescr.sim.lowering.primitives import Kind, kind_of
from spikescr.sim.lowering.shapes import spread
from spikescr.sim.lowering.synapses import check_numbers, operation
from spikescr.sim.lowering.timing import Timing, longest_delay
from spikescr.sim.lowering.topology import Topology
from spikescr.sim.program import (
    DelayLine,
    IntArray,
    Operation,
    Port,
    Program,
    Role,
    Select,
    Signal,
    Sink,
    Source,
    Synapse,
    Tap,
)
from spikescr.sim.recording import KINDS
from spikescr.sizes import require_memory


def lower(
    graph: nir.NIRGraph,
    *,
    dt: float | None = None,
    steps: int | None = None,
    integration: Integration = "euler",
    input_signal: Signal | None = None,
    round_delays: bool = False,
    reset: Reset | None = None,
) -> Program:
    """Makes the Program that the backends run.

    Args:
        graph: of the primitives of NIR 1.0.8, nested as they like, and the packed operations of the dialect.
        dt: seconds per step; the graph's metadata (`spikescr.dt` or `dt`) where None.
        steps: how many steps to run. Where None, the metadata's `spikescr.steps` are the window of a sample, and the
            Program runs as many more as delays need until all is quiet. A graph with a clock has its window.
        integration: of the neurons' equations, see `sim.lowering.neurons`.
        input_signal: what the inputs carry, the clock aside; where None the metadata `spikescr.signal` of each decides,
            values where that is not there.
        round_delays: take the nearest whole step for delays that are none.
        reset: of neurons of which the file does not say it (metadata `reset_mechanism`); to v_reset where None.

    Raises:
        GraphError: the graph cannot be run; the message names node, field and value.
    """
    return _Lowering(graph, dt, steps, integration, input_signal, round_delays, reset).run()


class _Lowering:
    def __init__(
        self,
        graph: nir.NIRGraph,
        dt: float | None,
        steps: int | None,
        integration: Integration,
        input_signal: Signal | None,
        round_delays: bool,
        reset: Reset | None,
    ) -> None:
        check_graph(graph.metadata)
        self.fixed = is_fixed(graph.metadata)
        tailed = dialect.TAIL_FORMAT if dialect.TAIL in graph.metadata else dialect.FORMAT
        known = dialect.FIXED_FORMAT if self.fixed else tailed
        version = graph.metadata.get(dialect.GRAPH_FORMAT, known)
        if version != known:
            raise GraphError(f"metadata {dialect.GRAPH_FORMAT} is {version}, this version reads {known}; export again")
        self.dt = step_length(graph) if dt is None else check_step(dt, "dt")
        self.top = Topology(graph, input_signal)
        self.clocked = clocked = has_clock(graph)
        if clocked and dt is not None and dialect.DT in graph.metadata and dt != step_length(graph):
            raise GraphError(
                f"the graph's metadata has {dialect.DT} {step_length(graph)}; with a clock, whose window and "
                f"latencies are steps, it cannot be run with {dt}"
            )
        self.open_end = steps is not None and not clocked
        self.steps = steps if steps is not None and not clocked else window(graph)
        if clocked and steps not in (None, self.steps):
            raise GraphError(f"the graph's metadata has {dialect.STEPS} {self.steps}; it cannot be run for {steps}")
        self.owner: dict[str, str] = {}  # node -> operation that puts out its signal
        self.operations: dict[str, Operation] = {}
        self.timing = Timing(self.top, self.dt, round_delays=round_delays)
        self.returning = self.timing.returning
        self.neurons = Neurons(self.dt, integration, graph.metadata, reset)
        self.fused = Fused(self.timing)

    def run(self) -> Program:
        self._name_owners()
        for name in self._order():
            self._lower_node(name)
        self._drop_unread()
        period = self.steps + (0 if self.open_end else self._lateness())
        self._check_room(period)
        return Program(
            operations=tuple(self.operations.values()),
            steps=self.steps,
            dt=self.dt,
            period=period,
            metadata=dict(self.top.metadata),
            notes=(*self.timing.notes, *self.neurons.notes),
            nested={name: path for name, path in self.top.paths.items() if len(path) > 1 and name in self.operations},
        )

    def _drop_unread(self) -> None:
        """Leaves out Selects whose readers take what feeds them."""
        while True:
            read = {name for o in self.operations.values() for port in o.ports.values() for name in port.sources}
            unread = [n for n, o in self.operations.items() if isinstance(o, Select) and n not in read]
            if not unread:
                return
            for name in unread:
                del self.operations[name]

    def _lateness(self) -> int:
        """Steps after the window until the last of it is out.

        What Outputs state is enough for a graph without a clock: where it fires on its own, as with a bias at every
        step, it would never be quiet.
        """
        ends = [self.top.latency(name) for name, node in self.top.nodes.items() if kind_of(node) is Kind.OUTPUT]
        if not self.clocked and ends and None not in ends:
            return max(late for late in ends if late is not None)
        return longest_delay(self.operations.values())

    def _check_room(self, period: int) -> None:
        """Refuses more steps, or longer delays, than there is memory for, of one sample alone."""
        held = [(o.longest_delay("x") * o.width, o.name) for o in self.operations.values() if o.role is Role.DELAY]
        if held:
            most, name = max(held)
            what, remedy = f"{name}: what it delays of one sample", "give shorter delays or a longer dt (--dt)"
            require_memory(8 * most, what, remedy, GraphError)
        ends = sum(o.width for o in self.operations.values() if o.role is Role.HOST)
        needed = 8 * period * (len(self.operations) * len(KINDS) + ends)
        what = f"a run of {period:,} steps, with inputs, outputs and counts of one sample,"
        require_memory(needed, what.rstrip(","), "give fewer steps (--steps) or a longer dt (--dt)", GraphError)

    def _name_owners(self) -> None:
        fused = {member: name for name, members in self.fused.groups.items() for member in members}
        absorbed = {self.fused.own_delay(name) for name in self.top.synapses}
        for name in self.top.nodes:
            if name not in self.top.wires and name not in absorbed:
                self.owner[name] = fused.get(name, name)

    def _order(self) -> list[str]:
        """Operations in topological order, inputs first."""
        members: dict[str, list[str]] = {}
        for node, owner in self.owner.items():
            members.setdefault(owner, []).append(node)
        # Ordered, not a set: the order of a Program must not depend on how Python hashes strings.
        needs = {owner: dict.fromkeys(s for n in nodes for s in self._feeding(n)) for owner, nodes in members.items()}
        for name, group in self.fused.groups.items():  # the clock that may gate a synapse, see _gate_clock
            for gate in dict.fromkeys(
                g for wire in self.top.after[group[0]] if wire in self.top.wires for g in self.top.after[wire]
            ):
                clocks = (w for w in self.top.before[gate] if self.top.signal[w] is Signal.CLOCK)
                needs[name] |= dict.fromkeys(source for wire in clocks for source in self._feeding(wire))
        try:
            return list(graphlib.TopologicalSorter(needs).static_order())
        except graphlib.CycleError as error:
            raise GraphError(
                f"the nodes {' -> '.join(error.args[1])} form a cycle that neither a Delay nor a neuron breaks"
            ) from error

    def _feeding(self, node: str) -> Iterable[str]:
        """Operations whose output of the same step this node needs, through absorbed delays and wires."""
        waits = node in self.top.cyclic and self.timing.waits(node)
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
        if name not in self.top.nodes:
            self._step_before(name)
            return
        node = self.top.nodes[name]
        width = self.top.width[name]
        latency = self.top.latency(name)
        common: dict[str, Any] = {
            "name": name, "width": width, "signal": self.top.signal[name], "latency": latency,
        }  # fmt: skip
        kind = kind_of(node)
        if kind is Kind.INPUT:
            self._add(Source(**common, unit=node.metadata.get(dialect.SCALE) if self.fixed else None))
        elif kind is Kind.OUTPUT:
            self._add(Sink(**common, x=self._port(name), scale=node.metadata.get(dialect.SCALE, 1.0)))
        elif kind is Kind.NEURON:
            for made in self.neurons.operations(node, self.top.shape[name], self._port(name), common):
                self._add(made)
        elif isinstance(node, nir.NIRGraph):
            self._packed(name, node, common)
        elif self.fixed and kind not in (Kind.DELAY, Kind.FLATTEN):
            raise GraphError(
                f"{name} ({type(node).__name__}): cannot be run in fixed point, where synapses are Linear and Scale, "
                "neurons LIF and CubaLIF"
            )
        else:
            delay = self.timing.delays.get(name)
            self._add(operation(node, self.top.geometry.get(name), delay, self._port(name), common))

    def _step_before(self, name: str) -> None:
        neuron = next(a for (a, _), line in self.returning.items() if line == name)
        latency = self.top.latency(neuron)
        self._add(
            DelayLine(
                name=name,
                width=self.top.width[neuron],
                signal=self.top.signal[neuron],
                latency=None if latency is None else latency + 1,
                x=Port((neuron,), self.top.width[neuron], self.top.signal[neuron]),
                delay=1,
            )
        )

    def _synapse(self, name: str, members: tuple[str, ...]) -> None:
        weighted = [m for m in members if not self.fused.is_bias((m,))] or list(members)
        biases = [m for m in members if m not in weighted]
        taps = []
        for member in weighted:
            node = self.top.nodes[member]
            scale = isinstance(node, nir.Scale)
            weight = np.asarray(node.scale if scale else node.weight, np.float64)
            check_numbers(member, "scale" if scale else "weight", weight)
            if self.fixed:
                check_weights(member, node.metadata, weight)
            if scale:
                weight = spread(weight, self.top.shape[member])
            delay = self.fused.own_delay(member)
            taps.append(Tap(0 if delay is None else int(self.timing.delays[delay][0]), weight))
        taps.sort(key=lambda tap: tap.delay)
        bias = self.top.nodes[biases[0]] if biases else None
        if bias is not None and self.fixed:
            check_weights(biases[0], bias.metadata, np.asarray(bias.weight, np.float64))
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
            for gate in self.top.after[after]:
                if self.top.nodes[gate].metadata[dialect.OP] != "gate":
                    return None
                value, spike = self.top.operands(gate)
                if not self.top.feeds(after, value):
                    return None
                clocks.add(self._operand_port(gate, spike))
        clock = clocks.pop() if len(clocks) == 1 else None
        return clock if clock is not None and clock.signal is Signal.CLOCK and clock.width == 1 else None

    def _operand_port(self, name: str, operand: dialect.Operand) -> Port:
        """The port of one operand: the whole of what its wires bring, or Selects where they reorder.

        What leads there without a wire, into the one operand that there is, is the operand as it stands.
        """
        sources: list[str] = []
        signals: list[Signal] = []
        routing = self.top.wires | self.top.selects
        plain = tuple(node for node in self.top.before[name] if node not in routing)
        if plain:
            port = self._sum(plain, name)
            sources, signals = [*port.sources], [port.signal]
        for wire in self.top.before[name]:
            if wire in plain:
                continue
            if not self.top.feeds(wire, operand):
                continue
            source, index = self._selected(self._port(wire), self.top.index(wire)[operand.start : operand.stop])
            signals.append(source.signal)
            if np.array_equal(index, np.arange(source.width)) and not set(source.sources) & set(sources):
                sources += source.sources
                continue
            alone = len(self.top.after[wire]) == 1
            select = f"{wire}.{operand.name}" if alone else f"{wire}.{name}.{operand.name}"
            if select not in self.operations:
                self._add(Select(name=select, width=operand.width, signal=source.signal, x=source, index=index))
            sources.append(select)
        if not sources:
            raise GraphError(f"{name}: no wire brings its operand {operand.name}")
        return Port(tuple(sources), operand.width, self.top.joined(name, signals))

    def _selected(self, x: Port, index: IntArray) -> tuple[Port, IntArray]:
        """What a selection takes of a port, and which channels, through the Selects that it is fed by alone."""
        while len(x.sources) == 1 and isinstance(inner := self.operations.get(x.sources[0]), Select):
            x, index = inner.x, np.where(index >= 0, inner.index[index], -1)
        return x, index

    def _read_beside(self, name: str, operation: str) -> bool:
        """Whether a reader of a node hears an operation by another way too: it adds both, and a port names it once."""
        beside = {source for reader in self.top.after[name] for source in self.top.before[reader]} - {name}
        return any(self.owner.get(source) == operation for source in beside)

    def _packed(self, name: str, node: nir.NIRGraph, common: dict[str, Any]) -> None:
        if node.metadata[dialect.OP] == dialect.SELECT:
            x, index = self._selected(self._port(name), self.top.index(name))
            same = len(x.sources) == 1 and np.array_equal(index, np.arange(x.width))
            if same and not self._read_beside(name, x.sources[0]):
                self.owner[name] = x.sources[0]  # a change of shape
            else:
                self._add(Select(**common, x=x, index=index))
            return
        ports = {operand.name: self._operand_port(name, operand) for operand in self.top.operands(name)}
        if self.fixed:
            check_packed(name, node.metadata)
        self._add(packed_operation(node, ports, common))

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
