"""What a graph's metadata say about time: seconds per step, the window, whether there is a clock."""

from __future__ import annotations

import nir
import numpy as np

from spikescr import dialect
from spikescr.errors import GraphError
from spikescr.schemas import brief
from spikescr.sim.lowering.primitives import op_of

FOREIGN_DT = "dt"
"""The word that others use in the graph's metadata for seconds per step."""
SHORTEST, LONGEST = 1e-12, 1e6
"""Seconds that a step may have; files that count in steps or milliseconds are within."""


def has_clock(graph: nir.NIRGraph) -> bool:
    """Whether one of the graph's Inputs is the clock of the dialect."""
    return any(op_of(node) == dialect.CLOCK for node in graph.nodes.values())


def has_step(graph: nir.NIRGraph) -> bool:
    """Whether the graph's metadata tell seconds per step."""
    return any(key in graph.metadata for key in (dialect.DT, FOREIGN_DT))


def step_length(graph: nir.NIRGraph) -> float:
    """Seconds per step, from the metadata.

    Raises:
        GraphError: they do not tell, or tell what is no time.
    """
    for key in (dialect.DT, FOREIGN_DT):
        if key in graph.metadata:
            return check_step(_graph_parameter(graph, key, "seconds per step"), f"the graph's metadata {key}")
    raise GraphError(f"the graph's metadata must have {dialect.DT}, seconds per step, or dt (--dt) must be given")


def check_step(dt: float, where: str) -> float:
    """Seconds per step, if it is a time that a step may have.

    Raises:
        GraphError: it is not.
    """
    if not SHORTEST <= dt <= LONGEST:
        raise GraphError(f"{where}: a step must have from {SHORTEST:g} to {LONGEST:g} s, not {dt:g} s")
    return dt


def window(graph: nir.NIRGraph) -> int:
    """The window of a sample in steps, from the metadata.

    Raises:
        GraphError: they do not tell.
    """
    return int(_graph_parameter(graph, dialect.STEPS, "the window in steps"))


def _graph_parameter(graph: nir.NIRGraph, key: str, meaning: str) -> float:
    value = graph.metadata.get(key)
    if not isinstance(value, (int, float, np.integer, np.floating)) or not 0 < value < np.inf:
        raise GraphError(f"the graph's metadata must have {key}, {meaning}, above 0; found {brief(value)}")
    return float(value)
