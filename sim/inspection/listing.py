"""A graph and its report as text and as JSON has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from typing import Any

import nir
import numpy as np

from spikescr.sim.inspection.inspection import GraphReport, total
from spikescr.sim.lowering.flat import FlatGraph
from spikescr.sim.lowering.primitives import kind_name


def shape_text(shape: Sequence[int] | None) -> str:
    """A shape in one word: 2x16x16; "?" where it is not known."""
    return "?" if shape is None else "x".join(map(str, shape)) or "scalar"


def values(graph: nir.NIRGraph) -> Iterator[str]:
    """Lines on every node: name, type, shapes, what it feeds, its fields in full where they are small, its metadata."""
    flat = FlatGraph(graph)
    hidden = ("input_type", "output_type", "metadata")
    for name in flat.order:
        node, into, out = flat.nodes[name], shape_text(flat.reads[name]), shape_text(flat.shape.get(name))
        yield f"{name}: {kind_name(node)} {into} > {out}, feeds {', '.join(flat.after[name]) or 'nothing'}"
        if isinstance(node, nir.NIRGraph):
            yield from (f"    {inner}: {_inner(part)}" for inner, part in node.nodes.items())
        else:
            yield from (f"    {f.name} = {_array(getattr(node, f.name))}" for f in fields(node) if f.name not in hidden)
        yield from (f"    [{key}] {_array(value)}" for key, value in node.metadata.items())
    yield "graph:"
    yield from (f"    [{key}] {_array(value)}" for key, value in graph.metadata.items())


def as_json(report: GraphReport, warnings: Sequence[str]) -> dict[str, Any]:
    """All figures of a report; warnings: those to be told, its own among them."""
    return {
        "nodes": [asdict(node) for node in report.nodes],
        "edges": report.edges,
        "totals": {name: asdict(total(nodes)) for name, nodes in report.groups.items()},
        "metadata": {key: _plain(value) for key, value in report.metadata.items()},
        "warnings": list(warnings),
    }


def _plain(value: Any) -> Any:
    """A value of NIR's metadata as JSON has it."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray):
        return [_plain(inner) for inner in value.tolist()]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def _inner(node: nir.NIRNode) -> str:
    """A node of a packed operation's body, which is NaN where it is as it should be."""
    kind, into, out = type(node).__name__, node.input_type, node.output_type
    nan = " of NaN" if np.all(np.isnan(getattr(node, "weight", 0.0))) else ""
    return f"{kind} {_declared(into)} > {_declared(out)}{nan}"


def _declared(types: dict[str, Any] | None) -> str:
    """A shape as a node has it."""
    sizes = next(iter((types or {}).values()), None)
    return shape_text(None if sizes is None else tuple(int(n) for n in np.atleast_1d(sizes)))


def _array(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return str(value)
    text = np.array2string(
        value, separator=", ", max_line_width=10**6, threshold=60, formatter={"float_kind": str, "int_kind": str}
    )
    return " ".join(text.split())
