"""Names and shapes of a graph's nodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spikescr import dialect
from spikescr.export.module.wiring import Shape
from spikescr.export.record.step import Node

_BARE = ("linear", "conv", "neuron", "max_pool", "avg_pool", "sum_pool", "or_pool")
"""Operations named as their module; the others get their own name behind it."""


def packable(shape: Shape) -> Shape:
    """A shape of three axes at most, which the output of a packed operation has."""
    return shape if len(shape) <= dialect.MOST_AXES else (int(np.prod(shape[:-2], dtype=int)), *shape[-2:])


def names(nodes: Sequence[Node]) -> dict[int, str]:
    """A name for each node; neurons choose first, so that theirs are their modules'."""
    taken: set[str] = set()
    chosen: dict[int, str] = {}
    ends = ("input", "output")
    for node in sorted(nodes, key=lambda n: (n.operation not in ends, n.operation != "neuron")):
        path = (node.path or "net").replace("/", "_")
        if node.operation in ends:
            base = node.options["name"]
        elif node.operation in _BARE and (path not in taken or node.operation == "neuron"):
            base = path
        else:
            base = f"{path}.{node.operation}"
        name, count = base, 1
        while name in taken:
            count += 1
            name = f"{base}.call{count}" if node.operation == "neuron" else f"{base}{count}"
        taken.add(name)
        chosen[node.number] = name
    return chosen
