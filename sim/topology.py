"""A NIR graph checked and indexed for lowering: neighbours, widths, signals, wires."""

from __future__ import annotations

import graphlib
from collections.abc import Container, Iterable, Sequence

import nir
import numpy as np

from spikescr.errors import GraphError
from spikescr.export import dialect
from spikescr.sim.program import Signal

STANDARD = (nir.Input, nir.Output, nir.Linear, nir.Scale, nir.Delay, nir.LIF)

# What a reader of HDF5 may give for a parameter of each type.
_ACCEPTED: dict[type, tuple[type, ...]] = {
    int: (int, np.integer),
    float: (float, np.floating),
    np.ndarray: (np.ndarray,),
}


class Topology:
    """What lowering asks about a graph.

    before, after: sources and destinations of every node, sorted. width: of every node's output. signal: what it
    carries. wires: Linear nodes that only route. synapses: Linear and Scale nodes that are not wires. cyclic: nodes
    that a path leads back to.
    """

    def __init__(self, graph: nir.NIRGraph) -> None:
        """Indexes the graph.

        Raises:
            GraphError: a node of an unsupported type, a wire that is not a selection or leads elsewhere than into a
                packed operation, widths that differ along an edge.
        """
        self.graph = graph
        for name, node in graph.nodes.items():
            self._check_supported(name, node)
        self.before = {name: tuple(sorted(a for a, b in graph.edges if b == name)) for name in graph.nodes}
        self.after = {name: tuple(sorted(b for a, b in graph.edges if a == name)) for name in graph.nodes}
        self.width = {name: _width(node.output_type) for name, node in graph.nodes.items()}
        self.wires = {n for n, node in graph.nodes.items() if _is_wire(node)}
        self.synapses = [
            n for n, node in graph.nodes.items() if isinstance(node, (nir.Linear, nir.Scale)) and n not in self.wires
        ]
        for name in graph.nodes:
            self._check_node(name)
        self.cyclic = self._find_cyclic()
        self.signal = self._derive_signals()

    def latency(self, name: str) -> int | None:
        """Latency of a node's output in steps where the graph states it."""
        value = self.graph.nodes[name].metadata.get(dialect.LATENCY)
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
            raise GraphError(f"{name}: a {type(node).__name__} cannot be run yet, only {known} and packed operations")

    def _check_node(self, name: str) -> None:
        node = self.graph.nodes[name]
        if isinstance(node, nir.Input):
            return
        if not self.before[name]:
            raise GraphError(f"{name}: nothing leads into this {type(node).__name__}")
        wanted = _width(node.input_type)
        for source in self.before[name]:
            if self.width[source] != wanted:
                raise GraphError(f"{source} -> {name}: {self.width[source]} channels lead into {wanted}")
        if isinstance(node, nir.NIRGraph):
            stray = [source for source in self.before[name] if source not in self.wires]
            if stray:
                raise GraphError(f"{stray[0]} -> {name}: operands of a packed operation must come through wires")
        if name in self.wires:
            self._check_wire(name, node)

    def _check_wire(self, name: str, node: nir.Linear) -> None:
        weight = np.asarray(node.weight)
        if not np.isin(weight, (0, 1)).all() or (weight.sum(axis=1) > 1).any():
            raise GraphError(f"{name}: a wire selects: entries 0 or 1, at most one 1 in a row")
        if len(self.after[name]) != 1 or not isinstance(self.graph.nodes[self.after[name][0]], nir.NIRGraph):
            raise GraphError(f"{name}: a wire must lead into one packed operation")

    def _find_cyclic(self) -> frozenset[str]:
        sorter = graphlib.TopologicalSorter({name: self.before[name] for name in self.graph.nodes})
        try:
            sorter.prepare()
        except graphlib.CycleError:
            return frozenset(name for name in self.graph.nodes if self.leads(self.after[name], name))
        return frozenset()

    def _derive_signals(self) -> dict[str, Signal]:
        """Signal of every node's output; those that pass on what they get may stand in a cycle of such nodes."""
        kinds: dict[str, set[Signal]] = {}
        feeding: dict[str, list[str]] = {}
        for name, node in self.graph.nodes.items():
            kinds[name] = set()
            if isinstance(node, nir.Input):
                kinds[name] = {self._input_signal(name, node)}
            elif isinstance(node, nir.LIF):
                kinds[name] = {Signal.SPIKES}
            elif isinstance(node, (nir.Delay, nir.Output)) or name in self.wires:
                feeding[name] = list(self.before[name])
            elif isinstance(node, nir.NIRGraph) and node.metadata[dialect.OP] == "gate":
                slots = dialect.PACKED_OPERATIONS["gate"].operands(node.metadata, self.width[name])[0]
                feeding[name] = [w for w in self.before[name] if self.graph.nodes[w].weight[: slots.stop].any()]
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
        stated = node.metadata.get(dialect.SIGNAL, Signal.VALUES.value)
        if stated not in (Signal.VALUES.value, Signal.SPIKES.value):
            raise GraphError(f"{name}: metadata {dialect.SIGNAL} must be values or spikes, not {stated!r}")
        return Signal(stated)


def _width(types: dict[str, np.ndarray]) -> int:
    return int(np.prod(next(iter(types.values()))))


def _is_wire(node: nir.NIRNode) -> bool:
    return isinstance(node, nir.Linear) and node.metadata.get(dialect.OP) == dialect.WIRE
