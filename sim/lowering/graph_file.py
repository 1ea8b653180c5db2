"""Reading NIR files, from whoever wrote them: what nodes can be made of a file, and what is wrong with the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np

from spikescr import dialect
from spikescr.errors import GraphError
from spikescr.sim.lowering.metadata import graph_faults
from spikescr.sim.lowering.primitives import PRIMITIVES, Kind, Unreadable, fault_of, whole_fault
from spikescr.sizes import require_memory
from spikescr.strangers import open_hdf5

_WHAT = "a readable NIR graph"
_UNTOLD = "does not say which nir wrote it"
DEEPEST = 100
"""Groups within groups that a file may have."""
_KINDS = {kind.__name__: kind for kind in PRIMITIVES}
_STRUCTURE = ("type", "metadata", "nodes", "edges", "input_type", "output_type")


def read_graph(path: Path, *, type_check: bool = True) -> nir.NIRGraph:
    """A graph from a NIR file, all of which could be read.

    Args:
        path: of the file.
        type_check: whether nir infers the shapes of all nodes and compares them along the edges.

    Raises:
        GraphError: there is no such file, it is not NIR, or its graph contradicts itself; a node has a type or fields
            that nir does not know, or metadata that mean something else. The message names file, node and what is
            wrong, and where that helps the version of nir that wrote the file.
    """
    graph, problems = describe_graph(path)
    if problems:
        raise GraphError(problems[0])
    if type_check and (refused := refused_by_nir(graph)):
        raise GraphError(f"{path}: not {_WHAT} ({refused})")
    return graph


def describe_graph(path: Path) -> tuple[nir.NIRGraph, tuple[str, ...]]:
    """A graph from a NIR file as far as it can be read: nodes that cannot are `Unreadable`.

    Returns:
        The graph, without inferred shapes, and what is wrong with the file, each with file and node.

    Raises:
        GraphError: there is no such file, or there is no graph in it.
    """
    if not path.exists():
        raise GraphError(f"{path}: no such file; make one with: spikescr export --to nir")
    with open_hdf5(path, GraphError) as file:
        if "node" not in file or not isinstance(file["node"], h5py.Group):
            held = ", ".join(sorted(file)[:5]) or "nothing"
            raise GraphError(f"{path}: not {_WHAT}: it has no group 'node', but {held}")
        try:
            version = f"was written by nir {_text(file['version'][()])}" if "version" in file else _UNTOLD
            content = _Contents(path).read(file["node"])
        except GraphError:
            raise
        # h5py raises whatever comes on damaged files: OSError, RuntimeError, ValueError, TypeError, KeyError.
        except Exception as error:
            raise GraphError(f"{path}: not {_WHAT}: damaged ({type(error).__name__}: {error})") from error
    kind = content.get("type")
    if str(kind) != "NIRGraph":
        raise GraphError(f"{path}: holds a single {kind if isinstance(kind, str) else 'node'}, not a graph")
    reading = _Reading()
    graph = reading.graph(content, ())
    if any(isinstance(node, Unreadable) for node in _all(graph)):
        reading.problems = [f"{problem}; the file {version}" for problem in reading.problems]
    reading.problems += [f"the graph's {fault}" for fault in graph_faults(graph.metadata)]
    return graph, tuple(f"{path}: {problem}" for problem in reading.problems)


def reset_note(path: Path) -> str | None:
    """What to know of a file whose neurons do not say where they reset to, None where all do.

    Up to nir 1.0.4 (1.0.0 to 1.0.4, 0.1 and 0.2 were looked at) neurons had no `v_reset`, and their equations subtract
    the threshold. nir reads such files as resetting to 0 since.

    Raises:
        GraphError: as `describe_graph`.
    """
    with open_hdf5(path, GraphError) as file:
        untold: list[str] = []

        def look(name: str, group: Any) -> None:
            kind = group.get("type") if isinstance(group, h5py.Group) else None
            if not isinstance(kind, h5py.Dataset) or kind.shape != () or "v_threshold" not in group:
                return
            if "v_reset" not in group and dialect.RESET not in group.get("metadata", ()):
                untold.append(name.removeprefix("node/nodes/").replace("/nodes/", "."))

        if f"node/metadata/{dialect.RESET}" not in file:
            file.visititems(look)
    if not untold:
        return None
    few = ", ".join(untold[:3]) + (f" and {len(untold) - 3} more" if len(untold) > 3 else "")
    return (
        f"{few}: the file has no v_reset, as those of nir up to 1.0.4, whose neurons subtract the threshold; it is "
        "taken for v_reset = 0, as nir reads it now; to subtract give reset subtract (--reset subtract)"
    )


def refused_by_nir(graph: nir.NIRGraph) -> str | None:
    """Why nir's own type check refuses a graph, None where it does not. It writes the shapes that it infers into it."""
    try:
        graph.infer_types()
        graph.check_types()
    except Exception as error:  # nir raises whatever comes: AssertionError, ValueError, TypeError, KeyError
        return f"{type(error).__name__}: {error}"
    graph._update_input_output_types()
    return None


class _Reading:
    """Makes nodes of what a file holds; problems: what is wrong, each with the node."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def graph(self, content: Mapping[str, Any], path: tuple[str, ...]) -> nir.NIRGraph:
        """A graph, nested ones included."""
        where = f"{'.'.join(path)}: " if path else ""
        nodes: dict[str, nir.NIRNode] = {}
        held = content.get("nodes")
        if not isinstance(held, dict):
            self.problems.append(f"{where}the graph has no nodes")
            held = {}
        for name, node in held.items():
            nodes[name] = self._node(node, (*path, name))
        edges: list[tuple[str, str]] = []
        for ends in self._edges(content.get("edges"), where):
            missing = [end for end in ends if end not in nodes]
            if missing:  # nir asks this only together with the shapes
                self.problems.append(
                    f"{where}the edge {ends[0]} -> {ends[1]} names a node {missing[0]} that the graph does not have"
                )
            else:
                edges.append(ends)
        metadata = content.get("metadata", {})
        if not isinstance(metadata, dict):
            self.problems.append(f"{where}the graph's metadata is no group of entries")
            metadata = {}
        graph = nir.NIRGraph({}, [], metadata=metadata, type_check=False)
        graph.nodes, graph.edges = nodes, edges
        try:
            graph._update_input_output_types()
        except (KeyError, AttributeError, TypeError):
            graph.input_type, graph.output_type = {}, {}
        return graph

    def _edges(self, stored: Any, where: str) -> list[tuple[str, str]]:
        array = np.asarray(stored) if stored is not None else np.zeros((0, 2))
        if array.size == 0:
            return []
        if array.ndim != 2 or array.shape[1] != 2:
            self.problems.append(f"{where}edges must be pairs of names, they have the shape {array.shape}")
            return []
        # The first versions of nir numbered their nodes.
        return [(_text(a), _text(b)) for a, b in array.tolist()]

    def _node(self, content: Any, path: tuple[str, ...]) -> nir.NIRNode:
        if isinstance(content, dict) and str(content.get("type")) == "NIRGraph":
            return self.graph(content, path)
        try:
            return _made(content)
        # Constructors of nir raise whatever comes: AssertionError, TypeError, ValueError, KeyError, IndexError.
        except Exception as error:
            fields = content if isinstance(content, dict) else {}
            kind, why = fields.get("type"), str(error) if isinstance(error, GraphError) else _why(fields, error)
            self.problems.append(f"{'.'.join(path)}: {why}")
            metadata = fields.get("metadata")
            return Unreadable(
                kind if isinstance(kind, str) else "?", why, metadata=metadata if isinstance(metadata, dict) else {}
            )


def _made(content: Any) -> nir.NIRNode:
    """A node of what a file holds for it.

    Raises:
        GraphError: it has no type that nir knows, or parameters that are no numbers.
        Exception: what nir's constructor raises.
    """
    kind = content.get("type") if isinstance(content, dict) else None
    if not isinstance(kind, str):
        raise GraphError("is no node: it has no type")
    if kind not in _KINDS:
        raise GraphError(f"type {kind} is not one of nir {nir.version}")
    if not isinstance(content.get("metadata", {}), dict):
        raise GraphError("metadata is no group of entries")
    entry = PRIMITIVES[_KINDS[kind]]
    for key, (least, most) in entry.numbers.items():
        if key in content and (fault := fault_of(key, content[key], least, most)):
            raise GraphError(fault)
    for key, (least, count) in entry.whole.items():
        word = entry.kind is Kind.CONVOLUTION and key == "padding" and isinstance(content.get(key), str)
        if key in content and not word and (fault := whole_fault(key, content[key], least, count)):
            raise GraphError(fault)
    given = dict(content)
    if entry.kind is Kind.CONVOLUTION:
        given.setdefault("input_shape", None)  # before version 1 of nir there was none; what arrives tells it
    return _KINDS[kind].from_dict(given)


def _why(content: Mapping[str, Any], error: Exception) -> str:
    """What of a node's fields is not as nir has it."""
    kind = _KINDS[content["type"]]
    fields = {f.name: f for f in dataclasses.fields(kind) if f.init}
    if kind in (nir.Input, nir.Output):
        fields = {"shape": fields[f"{kind.__name__.lower()}_type"]}
    required = [n for n, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING]
    missing = [n for n in required if n not in content and n not in _STRUCTURE]
    more = [key for key in content if key not in fields and key not in _STRUCTURE]
    differences = [f"lacks {', '.join(missing)}, which a {kind.__name__} of nir {nir.version} has"] if missing else []
    differences += [f"has {', '.join(more)}, which no {kind.__name__} of nir {nir.version} has"] if more else []
    return "; ".join(differences) or f"no {kind.__name__} can be made of it ({type(error).__name__}: {error})"


class _Contents:
    """Reads all that groups of a file hold, groups as dictionaries, text as such; sizes are checked before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0

    def read(self, group: h5py.Group, depth: int = 1) -> dict[str, Any]:
        """What a group holds.

        Raises:
            GraphError: it has groups in groups without end, or promises more than memory has room for.
        """
        if depth > DEEPEST:
            raise GraphError(f"{self.path}: {group.name} is nested deeper than {DEEPEST} groups")
        content: dict[str, Any] = {}
        for key, item in group.items():
            if isinstance(item, h5py.Group):
                content[key] = self.read(item, depth + 1)
            elif isinstance(item, h5py.Dataset):
                self.size += 0 if item.shape is None else int(item.size) * item.dtype.itemsize
                what = f"{self.path}: what it holds up to {item.name}"
                require_memory(self.size, what, "give a file without such fields", GraphError)
                value = item[()]
                content[key] = _text(value) if isinstance(value, bytes) else value
        return content


def _text(value: Any) -> str:
    return value.decode("utf8", errors="replace") if isinstance(value, bytes) else str(value)


def _all(graph: nir.NIRGraph) -> list[nir.NIRNode]:
    inner = [node for nested in graph.nodes.values() if isinstance(nested, nir.NIRGraph) for node in _all(nested)]
    return [*graph.nodes.values(), *inner]
