"""A NIR graph checked and indexed for lowering: neighbours, shapes, signals, wires."""

from __future__ import annotations

import graphlib
from collections.abc import Container, Iterable, Sequence

import nir
import numpy as np

from spikescr import dialect
from spikescr.errors import GraphError
from spikescr.sim.lowering.flat import FlatGraph, neighbours, without
from spikescr.sim.lowering.primitives import Kind, kind_of
from spikescr.sim.program import Signal
from spikescr.sizes import require_memory

_PER_CHANNEL = 64
"""Bytes that a channel of a node takes at least: its parameters and its state, eight numbers."""


class Topology:
    """What lowering asks about a graph: flat, checked, nodes that only pass on what they get taken out.

    Attributes:
        nodes, edges, metadata: the graph's.
        paths: node -> names of the graphs around it, and its own.
        before, after: sources and destinations of every node, sorted.
        shape, width: of every node's output.
        geometry: of convolutions and pools, and of Linear and Affine nodes of several matrices.
        signal: what an output carries.
        wires: nodes that only route, into packed operations: Linear ones, and selects that lead nowhere else.
        selects: packed operations that only route.
        index, feeds, operands: of wires, selects and packed operations, as those of `FlatGraph`.
        synapses: Linear and Scale nodes that are one matrix and not wires.
        cyclic: nodes that a path leads back to.
    """

    def __init__(self, graph: nir.NIRGraph, input_signal: Signal | None = None) -> None:
        """Indexes the graph.

        Args:
            graph: as read; it is not changed.
            input_signal: what the Inputs carry that are not the clock, where the graph's metadata is not to decide.

        Raises:
            GraphError: a node of an unsupported type, a wire that is not a selection or leads elsewhere than into a
                packed operation, one fed by something else than wires and selects, shapes that cannot be told, widths
                that differ along an edge, metadata of another kind than the dialect has, no Output.
        """
        flat = FlatGraph(graph, input_signal)
        if flat.problems:
            raise GraphError(flat.problems[0])
        self.nodes = {name: _passed_on(node) if name in flat.relays else node for name, node in flat.nodes.items()}
        self.metadata, self.paths = graph.metadata, flat.paths
        self.wires, self.geometry, self.shape, self._reads = flat.wires, flat.geometry, flat.shape, flat.reads
        self.index, self.feeds, self.operands, self.selects = flat.index, flat.feeds, flat.operands, flat.selects
        self.width = {name: flat.width(name) for name in self.nodes}
        self._check_sizes()
        self._index(flat.edges)
        self.synapses = [
            name
            for name, node in self.nodes.items()
            if kind_of(node) is Kind.SYNAPSE and name not in self.wires and name not in self.geometry
        ]
        for name in self.nodes:
            self._check_node(name)
        if not any(kind_of(node) is Kind.OUTPUT for node in self.nodes.values()):
            raise GraphError("the graph has no Output: nothing would come out of it; lead a node into one")
        edges, gone = without(self.edges, [n for n in self.nodes if n in flat.relays or self._is(n, Kind.FLATTEN)])
        for name in gone:
            del self.nodes[name]
        self._index(edges)
        self.wires = self.wires | {name for name in self.selects if self._only_wires(name)}
        self.cyclic = self._find_cyclic()
        kinds = {name: sorted(flat.leaving[name].kinds, key=str) for name in self.nodes}
        self.signal = {name: self.joined(name, carried) for name, carried in kinds.items()}

    def _is(self, name: str, kind: Kind) -> bool:
        return kind_of(self.nodes[name]) is kind

    def _index(self, edges: list[tuple[str, str]]) -> None:
        self.edges = edges
        self.before, self.after = neighbours(self.nodes, edges)

    def _check_sizes(self) -> None:
        widest = max(self.width, key=lambda name: self.width[name], default=None)
        if widest is not None:
            needed = _PER_CHANNEL * sum(self.width.values())
            what = (
                f"the state of the graph's nodes, of which {widest} with {self.width[widest]:,} channels is the widest"
            )
            require_memory(needed, what, "narrow them", GraphError)

    def latency(self, name: str) -> int | None:
        """Latency of a node's output in steps where the graph states it."""
        value = self.nodes[name].metadata.get(dialect.LATENCY)
        return None if value is None else int(value)

    def leads(self, start: Iterable[str], end: str, without: Container[tuple[str, str]] = ()) -> bool:
        """Whether a path leads from one of `start` to `end`, not through the edges `without`; `end` itself counts."""
        seen, frontier = set(start), list(start)
        while frontier:
            name = frontier.pop()
            if name == end:
                return True
            more = {b for b in self.after[name] if b not in seen and (name, b) not in without}
            seen |= more
            frontier += more
        return False

    def joined(self, reader: str, signals: Sequence[Signal]) -> Signal:
        """What the sum of signals carries: spikes stay spikes; the clock does not mix with anything."""
        kinds = set(signals)
        if not kinds:
            raise GraphError(f"{reader}: nothing ever arrives there")
        if len(kinds) == 1:
            return kinds.pop()
        if Signal.CLOCK in kinds:
            raise GraphError(f"{reader}: the clock joins other signals; lead it through a Linear")
        return Signal.VALUES

    def _check_node(self, name: str) -> None:
        node = self.nodes[name]
        if kind_of(node) is Kind.INPUT:
            return
        if not self.before[name]:
            raise GraphError(f"{name}: nothing leads into this {type(node).__name__}")
        wanted = self._in_width(name, node)
        for source in self.before[name]:
            if self.width[source] != wanted:
                raise GraphError(f"{source} -> {name}: {self.width[source]} channels lead into {wanted}")
        if self._takes_wires(name) and len(self.operands(name)) > 1:
            stray = [source for source in self.before[name] if source not in self.wires | self.selects]
            if stray:
                raise GraphError(
                    f"{stray[0]} -> {name}: operands of a packed operation must come through wires or selects"
                )
        if name in self.wires:
            self._check_wire(name, node)

    def _in_width(self, name: str, node: nir.NIRNode) -> int:
        if name in self.geometry:
            return int(np.prod(self.geometry[name].in_shape))
        if isinstance(node, (nir.Linear, nir.Affine)):
            return int(node.weight.shape[-1])
        if isinstance(node, nir.NIRGraph):
            return int(np.prod(self._reads[name] or ()))  # known, or the graph was refused
        return self.width[name]

    def _check_wire(self, name: str, node: nir.Linear) -> None:
        weight = np.asarray(node.weight)
        if not np.isin(weight, (0, 1)).all() or (weight.sum(axis=1) > 1).any():
            raise GraphError(f"{name}: a wire selects: entries 0 or 1, at most one 1 in a row")
        if len(self.after[name]) != 1 or not self._takes_wires(self.after[name][0]):
            raise GraphError(f"{name}: a wire must lead into one packed operation")

    def _takes_wires(self, name: str) -> bool:
        """Whether a node is a packed operation of operands; a select takes what any node puts out."""
        return isinstance(self.nodes[name], nir.NIRGraph) and name not in self.selects

    def _only_wires(self, name: str) -> bool:
        return bool(self.after[name]) and all(self._takes_wires(after) for after in self.after[name])

    def _find_cyclic(self) -> frozenset[str]:
        sorter = graphlib.TopologicalSorter(self.before)
        try:
            sorter.prepare()
        except graphlib.CycleError:
            return frozenset(name for name in self.nodes if self.leads(self.after[name], name))
        return frozenset()


def _passed_on(node: nir.NIRNode) -> nir.Delay:
    """What a nested graph's Input or Output is: it passes on what it gets."""
    return nir.Delay(np.zeros(()), metadata=node.metadata)
