"""Reading NIR files, from whoever wrote them."""

from __future__ import annotations

from pathlib import Path

import nir

from spikescr.errors import GraphError


def read_graph(path: Path, *, type_check: bool = True) -> nir.NIRGraph:
    """A graph from a NIR file.

    Args:
        path: of the file.
        type_check: whether nir infers the shapes of all nodes and compares them along the edges.

    Raises:
        GraphError: there is no such file, it is not NIR, or its graph contradicts itself; the message names the file.
    """
    if not path.is_file():
        raise GraphError(f"{path}: no such file; make one with: spikescr export --to nir")
    try:
        graph = nir.read(path, type_check=type_check)
    # nir and h5py raise whatever comes (KeyError, OSError, AssertionError, ValueError, TypeError) on foreign files.
    except Exception as error:
        raise GraphError(f"{path}: not a readable NIR graph ({type(error).__name__}: {error})") from error
    if not isinstance(graph, nir.NIRGraph):
        raise GraphError(f"{path}: holds a single {type(graph).__name__}, not a graph")
    for a, b in graph.edges:  # nir asks this only together with the shapes
        for end in (a, b):
            if end not in graph.nodes:
                raise GraphError(f"{path}: the edge {a} -> {b} names a node {end} that the graph does not have")
    return graph
