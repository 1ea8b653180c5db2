"""A NIR graph checked and indexed for lowering: neighbours, shapes, signals, wires."""

from __future__ import annotations

import graphlib
from collections import Counter
from collections.abc import Container, Iterable, Sequence

import nir
import numpy as np

from spikescr import dialect
from spikescr.errors import GraphError
from spikescr.sim.lowering.inline import inline, without
from spikescr.sim.lowering.shapes import CONVOLUTIONS, NEURONS, Geometry, geometry, output_shapes
from spikescr.sim.program import Signal

SPIKING = (nir.IF, nir.LIF, nir.CubaLIF, nir.Threshold)
STANDARD = (
    nir.Input, nir.Output, nir.Affine, nir.Linear, nir.Scale, nir.Delay, nir.Flatten, *CONVOLUTIONS, *NEURONS,
)  # fmt: skip

# What a reader of HDF5 may give for a parameter of each type.
_ACCEPTED: dict[type, tuple[type, ...]] = {
    int: (int, np.integer),
    float: (float, np.floating),
    np.ndarray: (np.ndarray,),
}


class Topology:
    """What lowering asks about a graph: nested graphs inlined, nodes that only pass on what they get taken out.

    nodes, edges, metadata: the graph's. before, after: sources and destinations of every node, sorted. shape, width: of
    every node's output. geometry: of convolutions and pools. signal: what an output carries. wires: Linear nodes that
    only route. synapses: Linear and Scale nodes that are one matrix and not wires. cyclic: nodes that a path leads back
    to.
    """

    def __init__(self, graph: nir.NIRGraph, input_signal: Signal | None = None) -> None:
        """Indexes the graph.

        Args:
            graph: as read; it is not changed.
            input_signal: what the Inputs carry that are not the clock, where the graph's metadata is not to decide.

        Raises:
            GraphError: a node of an unsupported type, a wire that is not a selection or leads elsewhere than into a
                packed operation, shapes that cannot be told, widths that differ along an edge.
        """
        flat = inline(graph)
        self.nodes: dict[str, nir.NIRNode] = dict(flat.nodes)
        self.metadata = graph.metadata
        for name, node in self.nodes.items():
            self._check_supported(name, node)
        for edge in flat.edges:
            for end in edge:
                if end not in self.nodes:
                    raise GraphError(f"the edge {edge[0]} -> {edge[1]} names a node {end} that the graph does not have")
        twice = [edge for edge, count in Counter(flat.edges).items() if count > 1]
        if twice:
            raise GraphError(f"the edge {twice[0][0]} -> {twice[0][1]} is there twice; a Scale of 2 would add up")
        self._index(sorted(flat.edges))
        self.shape = output_shapes(self.nodes, self.before)
        self.width = {name: int(np.prod(shape)) for name, shape in self.shape.items()}
        self.wires = {n for n, node in self.nodes.items() if _is_wire(node)}
        self.geometry: dict[str, Geometry] = {}
        for name, node in self.nodes.items():
            if isinstance(node, CONVOLUTIONS) or (isinstance(node, (nir.Linear, nir.Affine)) and node.weight.ndim > 2):
                arriving = self.shape[self.before[name][0]] if self.before[name] else None
                self.geometry[name] = geometry(name, node, arriving)
        self.synapses = [
            name
            for name, node in self.nodes.items()
            if isinstance(node, (nir.Linear, nir.Scale)) and name not in self.wires and name not in self.geometry
        ]
        for name in self.nodes:
            self._check_node(name)
        relays = [n for n, node in self.nodes.items() if isinstance(node, nir.Flatten) or self._is_relay(graph, n)]
        edges, gone = without(self.edges, relays)
        for name in gone:
            del self.nodes[name]
        self._index(edges)
        self.cyclic = self._find_cyclic()
        self._input = input_signal
        self.signal = self._derive_signals()

    def _index(self, edges: list[tuple[str, str]]) -> None:
        self.edges = edges
        self.before: dict[str, tuple[str, ...]] = dict.fromkeys(self.nodes, ())
        self.after: dict[str, tuple[str, ...]] = dict.fromkeys(self.nodes, ())
        for a, b in edges:  # sorted, and so are both
            self.before[b] += (a,)
            self.after[a] += (b,)

    def _is_relay(self, graph: nir.NIRGraph, name: str) -> bool:
        """Whether a node was the Input or Output of a nested graph."""
        node = self.nodes[name]
        return name not in graph.nodes and isinstance(node, nir.Delay) and not node.delay.any()

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

    def _check_supported(self, name: str, node: nir.NIRNode) -> None:
        if isinstance(node, nir.NIRGraph):
            op = node.metadata.get(dialect.OP)
            spec = dialect.PACKED_OPERATIONS.get(str(op))
            if spec is None:
                known = ", ".join(dialect.PACKED_OPERATIONS)
                raise GraphError(f"{name}: a nested NIRGraph with {dialect.OP} {op!r} cannot be run, only {known}")
            missing = [key for key in spec.parameters if key not in node.metadata]
            if missing:
                raise GraphError(f"{name}: metadata of {op} lacks {', '.join(missing)}")
            for key, kind in spec.parameters.items():
                if not isinstance(node.metadata[key], _ACCEPTED[kind]):
                    found = type(node.metadata[key]).__name__
                    raise GraphError(f"{name}: metadata {key} of {op} must be {kind.__name__}, not {found}")
        elif not isinstance(node, STANDARD):
            known = ", ".join(kind.__name__ for kind in STANDARD)
            raise GraphError(f"{name}: a {type(node).__name__} cannot be run, only {known} and packed operations")

    def _check_node(self, name: str) -> None:
        node = self.nodes[name]
        if isinstance(node, nir.Input):
            return
        if not self.before[name]:
            raise GraphError(f"{name}: nothing leads into this {type(node).__name__}")
        wanted = self._in_width(name, node)
        for source in self.before[name]:
            if self.width[source] != wanted:
                raise GraphError(f"{source} -> {name}: {self.width[source]} channels lead into {wanted}")
        if isinstance(node, nir.NIRGraph):
            stray = [source for source in self.before[name] if source not in self.wires]
            if stray:
                raise GraphError(f"{stray[0]} -> {name}: operands of a packed operation must come through wires")
        if name in self.wires:
            self._check_wire(name, node)

    def _in_width(self, name: str, node: nir.NIRNode) -> int:
        if name in self.geometry:
            return int(np.prod(self.geometry[name].in_shape))
        if isinstance(node, (nir.Linear, nir.Affine)):
            return int(node.weight.shape[1])
        if isinstance(node, nir.NIRGraph):
            return int(np.prod(next(iter(node.input_type.values()))))
        return self.width[name]

    def _check_wire(self, name: str, node: nir.Linear) -> None:
        weight = np.asarray(node.weight)
        if not np.isin(weight, (0, 1)).all() or (weight.sum(axis=1) > 1).any():
            raise GraphError(f"{name}: a wire selects: entries 0 or 1, at most one 1 in a row")
        if len(self.after[name]) != 1 or not isinstance(self.nodes[self.after[name][0]], nir.NIRGraph):
            raise GraphError(f"{name}: a wire must lead into one packed operation")

    def _find_cyclic(self) -> frozenset[str]:
        sorter = graphlib.TopologicalSorter(self.before)
        try:
            sorter.prepare()
        except graphlib.CycleError:
            return frozenset(name for name in self.nodes if self.leads(self.after[name], name))
        return frozenset()

    def _derive_signals(self) -> dict[str, Signal]:
        """Signal of every node's output; those that pass on what they get may stand in a cycle of such nodes."""
        kinds: dict[str, set[Signal]] = {}
        feeding: dict[str, list[str]] = {}
        for name, node in self.nodes.items():
            kinds[name] = set()
            if isinstance(node, nir.Input):
                kinds[name] = {self._input_signal(name, node)}
            elif isinstance(node, SPIKING):
                kinds[name] = {Signal.SPIKES}
            elif isinstance(node, (nir.Delay, nir.Output, nir.Flatten, nir.SumPool2d)) or name in self.wires:
                feeding[name] = list(self.before[name])
            elif isinstance(node, nir.NIRGraph) and node.metadata[dialect.OP] == "gate":
                slots = dialect.PACKED_OPERATIONS["gate"].operands(node.metadata, self.width[name])[0]
                feeding[name] = [w for w in self.before[name] if self.nodes[w].weight[: slots.stop].any()]
            else:
                kinds[name] = {Signal.VALUES}
        changed = True
        while changed:
            changed = False
            for name, sources in feeding.items():
                arriving = set().union(*(kinds[source] for source in sources))
                changed = changed or arriving != kinds[name]
                kinds[name] = arriving
        return {name: self.joined(name, sorted(found, key=str)) for name, found in kinds.items()}

    def _input_signal(self, name: str, node: nir.Input) -> Signal:
        if node.metadata.get(dialect.OP) == dialect.CLOCK:
            return Signal.CLOCK
        if self._input is not None:
            return self._input
        stated = node.metadata.get(dialect.SIGNAL, Signal.VALUES.value)
        if stated not in (Signal.VALUES.value, Signal.SPIKES.value):
            raise GraphError(f"{name}: metadata {dialect.SIGNAL} must be values or spikes, not {stated!r}")
        return Signal(stated)


def _is_wire(node: nir.NIRNode) -> bool:
    return isinstance(node, nir.Linear) and node.metadata.get(dialect.OP) == dialect.WIRE
