"""What the metadata of a NIR file may hold where they mean something to us: a schema, checked once at the door.

Keys that are not here are others' and are passed on as they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
from pydantic import ValidationError

from spikescr import dialect
from spikescr.errors import GraphError
from spikescr.schemas import brief
from spikescr.sim.lowering.primitives import op_of
from spikescr.stages import FrontWork

_MOST_STEPS = 10**9


@dataclass(frozen=True)
class Entry:
    """What a key may hold.

    Attributes:
        what: in words, for messages.
        fits: whether a value is that.
    """

    what: str
    fits: Callable[[Any], bool]


def _whole(low: int, high: int | None = None) -> Entry:
    def fits(value: Any) -> bool:
        whole = _is_number(value) and float(value).is_integer()
        return whole and low <= value and (high is None or value <= high)

    return Entry(f"a whole number, {low} or more" if high is None else f"a whole number from {low} to {high}", fits)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _table(value: Any) -> bool:
    return (
        isinstance(value, np.ndarray)
        and value.dtype.kind in "iuf"
        and value.ndim == 2
        and value.size > 0
        and bool(np.isfinite(value).all())
    )


def _index(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "iu" and value.ndim == 1 and value.size > 0


def _json(kind: type[list[Any]] | type[dict[str, Any]], item: type | None = None) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        if not isinstance(value, str):
            return False
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError):
            return False
        return isinstance(parsed, kind) and (item is None or all(isinstance(x, item) for x in parsed))

    return fits


def _front_work(value: Any) -> bool:
    if not _json(dict)(value):
        return False
    try:
        FrontWork.model_validate_json(value)
    except ValidationError:
        return False
    return True


_TEXT = Entry("text", lambda value: isinstance(value, str))
_NUMBER = Entry("a number", lambda value: _is_number(value) and bool(np.isfinite(value)))
_POSITIVE = Entry("a number above 0", lambda value: _is_number(value) and 0 < value < np.inf)
_TABLE = Entry("an array (steps, n) of numbers", _table)
_OBJECT = Entry("text, a JSON object", _json(dict))
_REGISTER = 4095

GRAPH: Mapping[str, Entry] = {
    dialect.GRAPH_FORMAT: _whole(1),
    dialect.PRECISION: _TEXT,
    dialect.DT: _POSITIVE,
    dialect.STEPS: _whole(1, _MOST_STEPS),
    dialect.TAIL: _whole(0, _MOST_STEPS),
    dialect.READOUT: _TEXT,
    dialect.CLASSES: Entry("text, a JSON list of names", _json(list, str)),
    dialect.DATA: _OBJECT,
    dialect.FRONT_END: Entry("text, JSON of a front end's stages", _front_work),
    dialect.MODEL: _OBJECT,
    dialect.CHECKPOINT: _TEXT,
    dialect.VERSIONS: _OBJECT,
    dialect.RESET: _TEXT,
}
NODE: Mapping[str, Entry] = {
    dialect.OP: _TEXT,
    dialect.LATENCY: _whole(0, _MOST_STEPS),
    dialect.SIGNAL: Entry("values or spikes", lambda value: isinstance(value, str) and value in ("values", "spikes")),
    dialect.ORIGIN: _TEXT,
    dialect.HELD: _whole(0, 1),
    dialect.EXPONENT: _whole(0, 7),
    dialect.BITS: _whole(1, 64),
    dialect.SIGN_MODE: _TEXT,
    dialect.SCALE: _POSITIVE,
    dialect.DV: _whole(0, _REGISTER),
    dialect.VTH: _whole(0, 2**17 - 1),
    dialect.DU: _whole(0, _REGISTER),
    dialect.BIAS_MANT: _whole(-4096, 4095),
    dialect.BIAS_EXP: _whole(0, 7),
    dialect.RESET: _TEXT,
}
PACKED: Mapping[str, Entry] = {
    "heads": _whole(1),
    "cos": _TABLE,
    "sin": _TABLE,
    "table": _TABLE,
    "scale": _NUMBER,
    "steps": _whole(1, _MOST_STEPS),
    "width": _whole(1),
    "spike_width": _whole(1),
    "tokens": _whole(1),
    "depth": _whole(1),
    "fan": _whole(1),
    "source_width": _whole(1),
    "index": Entry("an array (n,) of whole numbers", _index),
}
"""Parameters of packed operations; which of them one has, the dialect's table says."""


def graph_faults(metadata: Mapping[str, Any]) -> list[str]:
    """What is wrong with the metadata of a graph, each with the key."""
    return _faults(metadata, GRAPH, "")


def check_graph(metadata: Mapping[str, Any]) -> None:
    """Refuses metadata of a graph that hold something else than the schema says.

    Raises:
        GraphError: with key, value and what it must be.
    """
    faults = graph_faults(metadata)
    if faults:
        raise GraphError(f"the graph's {faults[0]}")


def node_faults(node: nir.NIRNode) -> list[str]:
    """What is wrong with the metadata of a node, each with the key."""
    faults = _faults(node.metadata, NODE, "")
    if not isinstance(node, nir.NIRGraph) or dialect.OP not in node.metadata:
        return faults
    op = op_of(node)
    if op is None:
        known = ", ".join(dialect.PACKED_OPERATIONS)
        return [
            *faults,
            f"a nested NIRGraph with {dialect.OP} {_shown(node.metadata[dialect.OP])} cannot be run, only {known}",
        ]
    parameters = dialect.PACKED_OPERATIONS[op].parameters
    missing = [key for key in parameters if key not in node.metadata]
    if missing:
        return [*faults, f"metadata of {op} lacks {', '.join(missing)}"]
    faults += _faults(node.metadata, {key: PACKED[key] for key in parameters}, f" of {op}")
    if not faults and op == "rotary" and node.metadata["cos"].shape != node.metadata["sin"].shape:
        shapes = f"{node.metadata['cos'].shape} and {node.metadata['sin'].shape}"
        faults.append(f"metadata cos and sin of {op} must have one shape, they have {shapes}")
    if not faults and op == dialect.SELECT:
        index, width = node.metadata["index"], node.metadata["source_width"]
        beyond = index[(index < -1) | (index >= width)]
        if beyond.size:
            faults.append(f"metadata index of {op} must be from -1 to {width - 1}, it holds {beyond[0]}")
    return faults


def _faults(metadata: Mapping[str, Any], schema: Mapping[str, Entry], of: str) -> list[str]:
    return [
        f"metadata {key}{of} must be {entry.what}, is {_shown(metadata[key])}"
        for key, entry in schema.items()
        if key in metadata and not entry.fits(metadata[key])
    ]


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.ndim:
        return f"an array of shape {value.shape} of {value.dtype}"
    return brief(value)
