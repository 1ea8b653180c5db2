"""Nested graphs become part of the graph around them; nodes that only pass on what they get are taken out."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import nir
import numpy as np

from spikescr import dialect
from spikescr.errors import GraphError

Edge = tuple[str, str]


def inline(graph: nir.NIRGraph) -> nir.NIRGraph:
    """A graph whose nested graphs are replaced by their nodes, named `outer.inner`; packed operations stay.

    A nested Input or Output becomes a Delay of 0 s, which passes on what it gets. A reset that a nested graph's
    metadata states holds for its nodes.

    Raises:
        GraphError: a nested graph has other than one Input and one Output: edges of NIR lead to nodes, not to ports; or
            two nodes would have one name; or one of the two has no type.
    """
    if not any(_is_nested(node) for node in graph.nodes.values()):
        return graph
    nodes: dict[str, nir.NIRNode] = {}
    edges: list[Edge] = []
    entry, leaving = {name: name for name in graph.nodes}, {name: name for name in graph.nodes}
    for name, node in graph.nodes.items():
        if not _is_nested(node):
            _add(nodes, name, node)
            continue
        inner = inline(node)
        ends = {kind: [n for n, x in inner.nodes.items() if isinstance(x, kind)] for kind in (nir.Input, nir.Output)}
        for kind, found in ends.items():
            if len(found) != 1:
                raise GraphError(
                    f"{name}: a nested NIRGraph must have one {kind.__name__} to be run, it has {len(found)}; edges of "
                    f"NIR do not say which is meant"
                )
        entry[name], leaving[name] = (f"{name}.{found[0]}" for found in ends.values())
        for inner_name, inner_node in inner.nodes.items():
            _add(nodes, f"{name}.{inner_name}", _relay_or_copy(f"{name}.{inner_name}", inner_node, node.metadata))
        edges += [(f"{name}.{a}", f"{name}.{b}") for a, b in inner.edges]
    edges += [(leaving[a], entry[b]) for a, b in graph.edges]
    return nir.NIRGraph(nodes, edges, metadata=graph.metadata, type_check=False)


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


def _is_nested(node: nir.NIRNode) -> bool:
    return isinstance(node, nir.NIRGraph) and node.metadata.get(dialect.OP) is None


def _relay_or_copy(name: str, node: nir.NIRNode, metadata: dict[str, object]) -> nir.NIRNode:
    if isinstance(node, (nir.Input, nir.Output)):
        shape = next(iter((node.output_type or {}).values()), None)
        if shape is None:
            raise GraphError(f"{name}: the {type(node).__name__} of a nested graph has no type; write its shape")
        return nir.Delay(np.zeros(tuple(shape)))
    if dialect.RESET not in metadata or dialect.RESET in node.metadata:
        return node
    node = copy.copy(node)
    node.metadata = {**node.metadata, dialect.RESET: metadata[dialect.RESET]}
    return node


def _add(nodes: dict[str, nir.NIRNode], name: str, node: nir.NIRNode) -> None:
    if name in nodes:
        raise GraphError(f"{name}: a node and one of a nested graph have this name; rename one")
    nodes[name] = node
