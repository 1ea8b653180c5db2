"""A NIR graph of any origin as one flat list of nodes: nested graphs opened, packed operations kept whole.

Nothing here asks whether a node can be simulated.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import nir
import numpy as np

from spikescr import dialect

SPIKING = (nir.LIF, nir.IF, nir.CubaLIF, nir.Threshold)
_PASSING = (nir.Input, nir.Output, nir.Delay, nir.Flatten, nir.SumPool2d)  # put out what they get, or sums of it


@dataclass(frozen=True)
class Flow:
    """What arrives at a node or leaves it.

    kind: "clock", "spikes", "values", or None where nothing ever arrives. events: the most events of one step on one
    channel: 1 behind a neuron and at an input, the sum where edges join, at most.
    """

    kind: str | None
    events: int


class FlatGraph:
    """Nodes by name, nested ones as `outer/inner`, and edges between them, in an order in which data flows.

    nodes: name -> node, what feeds a node before the node, but where a cycle cannot have it. before, after: sources and
    destinations of every node.
    """

    def __init__(self, graph: nir.NIRGraph) -> None:
        nodes: dict[str, nir.NIRNode] = {}
        edges: set[tuple[str, str]] = set()
        _open(graph, "", nodes, edges)
        self.before = {name: tuple(sorted({a for a, b in edges if b == name}, key=natural)) for name in nodes}
        self.after = {name: tuple(sorted({b for a, b in edges if a == name}, key=natural)) for name in nodes}
        self.nodes = nodes
        clocks = [name for name, node in nodes.items() if op_of(node) == dialect.CLOCK]
        others = [name for name, node in nodes.items() if isinstance(node, nir.Input) and name not in clocks]
        clocked = self.reached(clocks, forward=True) - self.reached(others, forward=True)
        data_first = {n: sorted(sources, key=lambda s: s in clocked) for n, sources in self.before.items()}
        self.nodes = {name: nodes[name] for name in in_order(data_first)}

    @property
    def edges(self) -> tuple[tuple[str, str], ...]:
        """All edges, in the order of their sources."""
        return tuple((a, b) for a in self.nodes for b in self.after[a])

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

    def flows(self) -> dict[str, Flow]:
        """What arrives at every node."""
        leaving: dict[str, Flow] = {}
        # A neuron's output does not depend on what arrives: a few rounds settle every path, cycles included.
        for _ in range(len(self.nodes) + 1):
            found = {name: self._leaving(name, leaving) for name in self.nodes}
            if found == leaving:
                break
            leaving = found
        return {name: _joined([leaving[source] for source in self.before[name]]) for name in self.nodes}

    def _leaving(self, name: str, leaving: dict[str, Flow]) -> Flow:
        node, sources = self.nodes[name], self.before[name]
        op = op_of(node)
        if isinstance(node, nir.Input) and not sources:
            stated = "clock" if op == dialect.CLOCK else str(node.metadata.get(dialect.SIGNAL, "values"))
            return Flow(stated, 1)
        if isinstance(node, SPIKING):
            return Flow("spikes", 1)
        if op == "gate":
            slots = dialect.PACKED_OPERATIONS[op].operands(node.metadata, width(node.output_type))[0]
            sources = tuple(s for s in sources if np.any(self.nodes[s].weight[: slots.stop]))
        elif op != dialect.WIRE and not isinstance(node, _PASSING):
            return Flow("values", 1)
        arriving = _joined([leaving.get(source, Flow(None, 0)) for source in sources])
        if isinstance(node, nir.SumPool2d):
            return Flow(arriving.kind, arriving.events * int(np.prod(node.kernel_size)))
        return arriving


def op_of(node: nir.NIRNode) -> str | None:
    """What the dialect calls a node: a packed operation, "wire" or "clock"; None for all that is standard NIR."""
    op = node.metadata.get(dialect.OP)
    if isinstance(node, nir.NIRGraph):
        return op if op in dialect.PACKED_OPERATIONS else None
    wanted = {nir.Linear: dialect.WIRE, nir.Input: dialect.CLOCK}.get(type(node))
    return op if op is not None and op == wanted else None


def shape(types: dict[str, np.ndarray | None] | None) -> tuple[int, ...] | None:
    """The shape that a node states for its one input or output, None where it is not known."""
    if not types or next(iter(types.values())) is None:
        return None
    return tuple(int(n) for n in np.atleast_1d(np.asarray(next(iter(types.values())))))


def width(types: dict[str, np.ndarray | None] | None) -> int:
    """Number of channels of a shape; 0 where it is not known."""
    known = shape(types)
    return 0 if known is None else int(np.prod(known))


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts names as people do: tap2 before tap10."""
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part)


def _open(graph: nir.NIRGraph, prefix: str, nodes: dict[str, nir.NIRNode], edges: set[tuple[str, str]]) -> None:
    def ends(name: str, kind: type[nir.NIRNode]) -> list[str]:
        node = graph.nodes[name]
        if not isinstance(node, nir.NIRGraph) or op_of(node):
            return [prefix + name]
        return [f"{prefix}{name}/{inner}" for inner, n in node.nodes.items() if isinstance(n, kind)]

    for name, node in graph.nodes.items():
        if isinstance(node, nir.NIRGraph) and not op_of(node):
            _open(node, f"{prefix}{name}/", nodes, edges)
        else:
            nodes[prefix + name] = node
    for a, b in graph.edges:
        edges |= {(out, into) for out in ends(a, nir.Output) for into in ends(b, nir.Input)}


def _joined(flows: Iterable[Flow]) -> Flow:
    arriving = [flow for flow in flows if flow.kind is not None]
    kinds = {flow.kind for flow in arriving}
    kind = None if not kinds else kinds.pop() if len(kinds) == 1 else "values"
    return Flow(kind, sum(flow.events for flow in arriving))


def in_order(before: Mapping[str, Sequence[str]]) -> list[str]:
    """Each name right before what needs it: depth first from the last ones, what feeds a name before the name.

    Args:
        before: name -> names that feed it, in the order in which they are to come. In a cycle one of them comes late.
    """
    feeding = {source for sources in before.values() for source in sources}
    ends = sorted((name for name in before if name not in feeding), key=natural)
    order: dict[str, None] = {}
    for end in [*ends, *sorted(before, key=natural)]:
        path = [(end, iter(before[end]))] if end not in order else []
        entered = {end}
        while path:
            name, sources = path[-1]
            following = next((s for s in sources if s not in order and s not in entered), None)
            if following is None:
                order[name] = None
                path.pop()
            else:
                entered.add(following)
                path.append((following, iter(before[following])))
    return list(order)
