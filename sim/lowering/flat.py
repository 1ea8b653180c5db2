"""A NIR graph of any origin as one flat list of nodes: nested graphs opened, shapes told, signals derived.

The one flattening: lowering runs what it gives, inspection shows it, also of graphs that cannot be run. What is wrong
is collected, not raised.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import nir
import numpy as np

from spikescr import dialect
from spikescr.errors import GraphError
from spikescr.sim.lowering.metadata import node_faults
from spikescr.sim.lowering.ordering import in_order, natural
from spikescr.sim.lowering.primitives import (
    PRIMITIVES,
    Carries,
    Kind,
    Unreadable,
    faults,
    kind_name,
    kind_of,
    op_of,
    primitive,
)
from spikescr.sim.lowering.shapes import Geometry, Shape, arriving_or_declared, geometry, input_shape
from spikescr.sim.program import IntArray, Signal

Edge = tuple[str, str]
MOST_EVENTS = 2**62
"""Of one channel in one step that are told apart: a loop of sums has no bound."""


@dataclass(frozen=True)
class Flow:
    """What arrives at a node or leaves it.

    Attributes:
        kinds: of all that is summed there; none where nothing ever arrives.
        events: the most events of one step on one channel: 1 behind a neuron and at an input, the sum where edges join.
    """

    kinds: frozenset[Signal] = frozenset()
    events: int = 0

    @property
    def kind(self) -> Signal | None:
        """What the sum carries: sums of different kinds are values."""
        return None if not self.kinds else next(iter(self.kinds)) if len(self.kinds) == 1 else Signal.VALUES


class FlatGraph:
    """Nodes by name, nested ones as `outer.inner`, and the edges between them.

    A reset or bits that a nested graph's metadata state hold for its nodes. Its Inputs and Outputs pass on what they
    get. Packed operations of the dialect stay whole.

    Attributes:
        nodes: name -> node, in the order of the file.
        paths: name -> names of the graphs around the node, and its own.
        edges: sorted.
        before, after: sources and destinations of every node, sorted as the edges.
        relays: Inputs and Outputs of nested graphs.
        wires: Linear nodes that only route.
        selects: packed operations that only route.
        shape, reads: of every node's output and input, where it can be told.
        geometry: of convolutions, pools, and Linear and Affine nodes of several matrices.
        leaving: what every node puts out.
        faulty: nodes whose parameters or metadata are not what they must be.
        problems: why the graph cannot be lowered, each with the node; none that only lowering finds.
    """

    def __init__(self, graph: nir.NIRGraph, input_signal: Signal | None = None) -> None:
        """Flattens a graph; it is not changed.

        Args:
            graph: as read or made.
            input_signal: what the Inputs carry that are not the clock, where the graph's metadata is not to decide.
        """
        self.problems: list[str] = []
        self.nodes: dict[str, nir.NIRNode] = {}
        self.paths: dict[str, tuple[str, ...]] = {}
        self.relays: set[str] = set()
        self.faulty: set[str] = set()
        self._input = input_signal
        edges = self._open(graph, (), {})
        self._check_nodes()
        self.edges = self._checked(edges)
        self.before, self.after = neighbours(self.nodes, self.edges)
        self.wires = {name for name, node in self.nodes.items() if op_of(node) == dialect.WIRE}
        self.selects = {name for name, node in self.nodes.items() if op_of(node) == dialect.SELECT}
        self._indices: dict[str, IntArray] = {}
        self.geometry: dict[str, Geometry] = {}
        self.shape: dict[str, Shape] = {}
        self._tell_shapes()
        self.reads = {name: self._input_shape(name) for name in self.nodes}
        for name in self.of_kind(Kind.PACKED):
            if self.reads[name] is None:
                self.problems.append(f"{name}: a packed operation must have an Input with its shape")
            elif name in self.shape and name not in self.faulty and op_of(self.nodes[name]) is not None:
                self._check_slots(name)
        self.order = self._flowing()
        self.leaving = self._flows()

    def arriving(self, name: str) -> Flow:
        """What arrives at a node."""
        return self._joined(self.before[name], self.leaving)

    def index(self, name: str) -> IntArray:
        """Of what a wire or a select puts out: the channel of what arrives there that it is, -1 for 0; (width,)."""
        if name not in self._indices:
            node = self.nodes[name]
            if name in self.selects:
                index = np.asarray(node.metadata["index"], np.int64)
            else:
                weight = np.asarray(node.weight)
                index = np.where(weight.any(axis=1), weight.argmax(axis=1), -1)
            self._indices[name] = index
        return self._indices[name]

    def feeds(self, name: str, operand: dialect.Operand) -> bool:
        """Whether a wire or a select brings something to an operand's slots."""
        return bool((self.index(name)[operand.start : operand.stop] >= 0).any())

    def flow_into(self, name: str, operand: dialect.Operand) -> Flow:
        """What arrives at one operand of a packed operation."""
        return self._into(name, operand, self.leaving)

    def operands(self, name: str) -> tuple[dialect.Operand, ...]:
        """Of a packed operation whose metadata are as they must be."""
        node = self.nodes[name]
        return dialect.PACKED_OPERATIONS[node.metadata[dialect.OP]].operands(node.metadata, self.width(name))

    def width(self, name: str) -> int:
        """Channels that a node puts out; 0 where it is not known."""
        shape = self.shape.get(name)
        return 0 if shape is None else int(np.prod(shape, dtype=object))

    def reached(self, start: Iterable[str], *, forward: bool) -> set[str]:
        """All nodes to which a path leads from `start`, or from which one leads there; `start` included."""
        steps = self.after if forward else self.before
        seen = set(start)
        frontier = list(seen)
        while frontier:
            more = {name for name in steps[frontier.pop()] if name not in seen}
            seen |= more
            frontier += more
        return seen

    def of_kind(self, kind: Kind) -> list[str]:
        """Nodes of a kind, those of nested graphs that only pass on left out."""
        return [name for name, node in self.nodes.items() if kind_of(node) is kind and name not in self.relays]

    def _open(self, graph: nir.NIRGraph, path: tuple[str, ...], told: dict[str, object]) -> list[Edge]:
        """Takes in a graph and those in it; its edges."""
        entries: dict[str, list[str]] = {}
        exits: dict[str, list[str]] = {}
        edges: list[Edge] = []
        for key, node in graph.nodes.items():
            name = ".".join((*path, key))
            if isinstance(node, nir.NIRGraph) and dialect.OP not in node.metadata:
                kept = {k: node.metadata[k] for k in (dialect.RESET, dialect.BITS) if k in node.metadata}
                edges += self._open(node, (*path, key), told | kept)
                ends = {kind: [n for n, x in node.nodes.items() if type(x) is kind] for kind in (nir.Input, nir.Output)}
                for kind, names in ends.items():
                    if len(names) != 1:
                        self.problems.append(
                            f"{name}: a nested NIRGraph must have one {kind.__name__} to be run, it has {len(names)}; "
                            f"edges of NIR do not say which is meant"
                        )
                entries[key], exits[key] = ([f"{name}.{n}" for n in names] for names in ends.values())
                continue
            entries[key] = exits[key] = [name]
            if name in self.nodes:
                self.problems.append(f"{name}: a node and one of a nested graph have this name; rename one")
                continue
            self.nodes[name] = _told(node, told)
            self.paths[name] = (*path, key)
            if path and isinstance(node, (nir.Input, nir.Output)):
                self.relays.add(name)
        for a, b in graph.edges:
            missing = next((end for end in (a, b) if end not in graph.nodes), None)
            if missing is not None:
                where = f"{'.'.join(path)}: " if path else ""
                self.problems.append(f"{where}the edge {a} -> {b} names a node {missing} that the graph does not have")
                continue
            edges += [(out, into) for out in exits[a] for into in entries[b]]
        return edges

    def _check_nodes(self) -> None:
        for name, node in self.nodes.items():
            problems = [*faults(node), *node_faults(node)]
            self.problems += [f"{name}: {fault}" for fault in problems]
            if problems:
                self.faulty.add(name)
            if isinstance(node, Unreadable):
                self.problems.append(f"{name}: {node.why}")
            elif kind_of(node) is Kind.UNKNOWN:
                known = ", ".join(kind.__name__ for kind in PRIMITIVES)
                self.problems.append(
                    f"{name} ({type(node).__name__}): cannot be run, only {known} and packed operations"
                )

    def _checked(self, edges: list[Edge]) -> list[Edge]:
        for (a, b), count in Counter(edges).items():
            if count > 1:
                self.problems.append(f"the edge {a} -> {b} is there twice; a Scale of 2 would add up")
            if b not in self.relays and isinstance(self.nodes[b], nir.Input):
                self.problems.append(f"{a} -> {b}: an edge leads into an Input of the graph")
            if a not in self.relays and isinstance(self.nodes[a], nir.Output):
                self.problems.append(f"{a} -> {b}: an edge leads out of an Output of the graph")
        return sorted(set(edges))

    def _tell_shapes(self) -> None:
        """Shapes from what the nodes say and from what arrives where they do not.

        Parameters of one number, or of shapes that NumPy broadcasts to what arrives, hold for all channels.
        """
        left = dict.fromkeys(self.nodes)
        while left:
            left_before = len(left)
            for name in list(left):
                arriving = next((self.shape[source] for source in self.before[name] if source in self.shape), None)
                waiting = any(source in left for source in self.before[name])
                if self._tell(name, arriving, waiting):
                    del left[name]
            if len(left) == left_before:  # only a cycle may need what it gives: take what its nodes say themselves
                alone = next((name for name in left if self._tell(name, None, False)), None)
                if alone is None:
                    break
                del left[alone]
        for name in left:
            kind = kind_name(self.nodes[name])
            self.problems.append(f"{name}: the shape that arrives at this {kind} cannot be told")

    def _tell(self, name: str, arriving: Shape | None, waiting: bool) -> bool:
        """Whether the shape of a node is settled: it is known now, or the node contradicts itself or what arrives."""
        node = self.nodes[name]
        rule = arriving_or_declared if name in self.relays else primitive(node).shape
        try:
            shape = rule(name, node, arriving, waiting)
            if shape is None:
                return False
            if kind_of(node) in (Kind.CONVOLUTION, Kind.POOL) or _matrices(node):
                self.geometry[name] = geometry(name, node, arriving)
        except GraphError as error:
            self.problems.append(str(error))
        except (AttributeError, IndexError, TypeError, ValueError) as error:  # a field is what no file should hold
            self.problems.append(f"{name} ({kind_name(node)}): its shape cannot be told: {error}")
        else:
            self.shape[name] = shape
        return True

    def _input_shape(self, name: str) -> Shape | None:
        if name in self.geometry:
            return self.geometry[name].reads
        arriving = next((self.shape[source] for source in self.before[name] if source in self.shape), None)
        return input_shape(self.nodes[name], arriving, self.shape.get(name))

    def _flowing(self) -> list[str]:
        """Names in an order in which data flows: what feeds a node before it, but where a cycle cannot have that."""
        clocks = [name for name, node in self.nodes.items() if op_of(node) == dialect.CLOCK]
        others = [name for name in self.of_kind(Kind.INPUT) if name not in clocks]
        clocked = self.reached(clocks, forward=True) - self.reached(others, forward=True)
        before = {name: sorted(sources, key=natural) for name, sources in self.before.items()}
        return in_order({name: sorted(sources, key=lambda s: s in clocked) for name, sources in before.items()})

    def _flows(self) -> dict[str, Flow]:
        leaving = dict.fromkeys(self.nodes, Flow())
        # A neuron's output does not depend on what arrives: a few rounds settle every path, cycles included.
        for _ in range(len(self.nodes) + 1):
            before = dict(leaving)
            for name in self.order:
                leaving[name] = self._leaving(name, leaving)
            if leaving == before:
                break
        return leaving

    def _leaving(self, name: str, leaving: dict[str, Flow]) -> Flow:
        node, sources, op = self.nodes[name], self.before[name], op_of(self.nodes[name])
        if isinstance(node, nir.Input) and name not in self.relays:
            return Flow(frozenset([self._input_signal(node)]), 1)
        carries = primitive(node).carries
        if op in dialect.GATES and name in self.shape and name not in self.faulty:
            return self._into(name, self.operands(name)[0], leaving)
        if name not in self.wires and carries is not Carries.ARRIVING:
            return Flow(frozenset([Signal.SPIKES if carries is Carries.SPIKES else Signal.VALUES]), 1)
        arriving = self._joined(sources, leaving)
        if kind_of(node) is Kind.POOL and name in self.geometry:
            window = int(np.prod(self.geometry[name].weight.shape[2:]))
            return Flow(arriving.kinds, min(arriving.events * window, MOST_EVENTS))
        return arriving

    def _into(self, name: str, operand: dialect.Operand, leaving: Mapping[str, Flow]) -> Flow:
        routing = (self.wires | self.selects) - self.faulty
        return self._joined([s for s in self.before[name] if s in routing and self.feeds(s, operand)], leaving)

    def _joined(self, sources: Iterable[str], leaving: Mapping[str, Flow]) -> Flow:
        """The sum of what sources put out; where selects put theirs side by side, no channel gets the events of all."""
        flows = {source: leaving[source] for source in sources}
        placed = [s for s in flows if s in self.selects and s not in self.faulty]
        if len({len(self.index(s)) for s in placed}) != 1:
            return joined(flows.values())
        each = np.sum([np.where(self.index(s) >= 0, float(flows[s].events), 0.0) for s in placed], axis=0)
        beside = Flow(frozenset().union(*(flows[s].kinds for s in placed)), int(min(each.max(), MOST_EVENTS)))
        return joined([beside, *(flow for source, flow in flows.items() if source not in placed)])

    def _check_slots(self, name: str) -> None:
        """Input and Output of a packed operation hold what its metadata say."""
        op, wanted = self.nodes[name].metadata[dialect.OP], self.operands(name)[-1].stop
        slots = int(np.prod(self.reads[name] or (), dtype=object))
        if slots != wanted:
            self.problems.append(f"{name}: metadata of {op} ask for {wanted} slots, its Input has {slots}")
        if name in self.selects and len(self.nodes[name].metadata["index"]) != self.width(name):
            count = len(self.nodes[name].metadata["index"])
            self.problems.append(f"{name}: metadata index of {op} has {count} entries for {self.width(name)} outputs")

    def _input_signal(self, node: nir.Input) -> Signal:
        if op_of(node) == dialect.CLOCK:
            return Signal.CLOCK
        if self._input is not None:
            return self._input
        told = node.metadata.get(dialect.SIGNAL)
        return Signal.SPIKES if isinstance(told, str) and told == Signal.SPIKES.value else Signal.VALUES


def opened(graph: nir.NIRGraph) -> nir.NIRGraph:
    """A graph that does the same without nested ones, whose nodes are `outer.inner`; packed operations stay whole.

    The graph itself where nothing is nested in it, or something is wrong with it that whoever reads it must say.
    """
    if not any(isinstance(node, nir.NIRGraph) and dialect.OP not in node.metadata for node in graph.nodes.values()):
        return graph
    flat = FlatGraph(graph)
    if flat.problems:
        return graph
    edges, gone = without(flat.edges, flat.relays)
    made = nir.NIRGraph({}, [], metadata=graph.metadata, type_check=False)
    made.nodes, made.edges = {name: node for name, node in flat.nodes.items() if name not in gone}, edges
    return made


def joined(flows: Iterable[Flow]) -> Flow:
    """The sum of what joining edges carry."""
    joining = list(flows)
    events = min(sum(flow.events for flow in joining), MOST_EVENTS)
    return Flow(frozenset().union(*(flow.kinds for flow in joining)), events)


def neighbours(
    nodes: Iterable[str], edges: Iterable[Edge]
) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """Sources and destinations of every node, in the order of the edges."""
    before: dict[str, list[str]] = {name: [] for name in nodes}
    after: dict[str, list[str]] = {name: [] for name in before}
    for a, b in edges:
        before[b].append(a)
        after[a].append(b)
    return {n: tuple(names) for n, names in before.items()}, {n: tuple(names) for n, names in after.items()}


def without(edges: Iterable[Edge], relays: Iterable[str]) -> tuple[list[Edge], set[str]]:
    """Edges that lead past nodes which only pass on what they get, and the nodes that are gone.

    One stays where it passes on a signal to a node that gets the same signal another way too: the two add up, and there
    is only one edge between two nodes.
    """
    left, gone = set(edges), set()
    for relay in relays:
        sources, targets = {a for a, b in left if b == relay}, {b for a, b in left if a == relay}
        direct = {(a, b) for a in sources for b in targets}
        if not sources or not targets or relay in sources or direct & left:
            continue
        left = {edge for edge in left if relay not in edge} | direct
        gone.add(relay)
    return sorted(left), gone


def _matrices(node: nir.NIRNode) -> bool:
    """Whether a Linear or an Affine has a matrix for each place of leading axes."""
    return isinstance(node, (nir.Linear, nir.Affine)) and node.weight.ndim > 2


def _told(node: nir.NIRNode, told: dict[str, object]) -> nir.NIRNode:
    """A node with what the metadata of the graphs around it say of it and its own do not."""
    more = {key: value for key, value in told.items() if key not in node.metadata}
    if not primitive(node).weighted:
        more.pop(dialect.BITS, None)
    if not more or isinstance(node, (nir.Input, nir.Output)):
        return node
    node = copy.copy(node)
    node.metadata = {**more, **node.metadata}
    return node
