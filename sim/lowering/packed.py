"""Packed operations of the dialect become operations: their operands' signals and sizes checked, their numbers read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import nir
import numpy as np

from spikescr import dialect
from spikescr.errors import GraphError
from spikescr.sim.program import (
    Attention,
    CausalAttention,
    Gate,
    Maximum,
    Operation,
    Port,
    Position,
    Rotary,
    Signal,
    TokenAttention,
)

_REAL = (Signal.SPIKES, Signal.VALUES)
_CARRIED: Mapping[str, tuple[Signal, ...]] = {"clock": (Signal.CLOCK,), "q": (Signal.SPIKES,), "k": (Signal.SPIKES,)}
_CARRIED_BY: Mapping[str, Mapping[str, tuple[Signal, ...]]] = {
    "attention": {"v": (Signal.SPIKES,)},
    "causal_attention": {"v": (Signal.SPIKES,)},
    "token_attention": {"v": _REAL},
    "maximum": {"x": _REAL},
}
"""Operands, and what they may carry where not all is allowed: of any operation, of one."""

Made: TypeAlias = Callable[[nir.NIRGraph, Mapping[str, Any], dict[str, Any]], Operation]


def packed_operation(node: nir.NIRGraph, ports: Mapping[str, Port], common: dict[str, Any]) -> Operation:
    """The operation of a packed node, a select aside.

    Args:
        node: whose metadata hold the parameters that the dialect's table asks for.
        ports: what arrives at its operands, by name.
        common: name, width, signal and latency.

    Raises:
        GraphError: an operand carries what it must not, or sizes contradict each other; the message names node and
            operand.
    """
    op, name = node.metadata[dialect.OP], common["name"]
    carried = {**_CARRIED, **_CARRIED_BY.get(op, {})}
    for key, port in ports.items():
        allowed = carried.get(key, tuple(Signal))
        if port.signal not in allowed:
            wanted = " or ".join(signal.value for signal in allowed)
            raise GraphError(f"{name}: operand {key} must carry {wanted}, not {port.signal.value}")
    return _MADE[op](node, ports, common)


def _rotary(node: nir.NIRGraph, ports: Mapping[str, Any], common: dict[str, Any]) -> Rotary:
    heads = int(node.metadata["heads"])
    tables: dict[str, Any] = {key: np.asarray(node.metadata[key], np.float64) for key in ("cos", "sin")}
    _check_parts(common, heads, "heads", 2 * int(tables["cos"].shape[1]))
    return Rotary(**common, **ports, heads=heads, **tables)


def _position(node: nir.NIRGraph, ports: Mapping[str, Any], common: dict[str, Any]) -> Position:
    table = np.asarray(node.metadata["table"], np.float64)
    if table.ndim != 2 or table.shape[1] != common["width"]:
        raise GraphError(
            f"{common['name']}: metadata table must have shape (steps, {common['width']}), has {table.shape}"
        )
    return Position(**common, **ports, table=table)


def _attention(node: nir.NIRGraph, ports: Mapping[str, Any], common: dict[str, Any]) -> Attention:
    steps = int(node.metadata["steps"])
    return Attention(**common, **ports, **_heads(node, common), steps=steps)


def _causal_attention(node: nir.NIRGraph, ports: Mapping[str, Any], common: dict[str, Any]) -> CausalAttention:
    return CausalAttention(**common, **ports, **_heads(node, common))


def _heads(node: nir.NIRGraph, common: dict[str, Any]) -> dict[str, Any]:
    heads = int(node.metadata["heads"])
    _check_parts(common, heads, "heads", common["width"] // heads)
    return {"heads": heads, "scale": float(node.metadata["scale"])}


def _token_attention(node: nir.NIRGraph, ports: Mapping[str, Any], common: dict[str, Any]) -> TokenAttention:
    heads, tokens = int(node.metadata["heads"]), int(node.metadata["tokens"])
    _check_parts(common, heads * tokens, "tokens in all heads", common["width"] // (heads * tokens))
    return TokenAttention(**common, **ports, heads=heads, tokens=tokens, scale=float(node.metadata["scale"]))


def _maximum(node: nir.NIRGraph, ports: Mapping[str, Any], common: dict[str, Any]) -> Maximum:
    return Maximum(**common, **ports, fan=int(node.metadata["fan"]))


def _gate(node: nir.NIRGraph, ports: Mapping[str, Any], common: dict[str, Any]) -> Gate:
    if ports["spike"].width not in (1, common["width"]):
        raise GraphError(
            f"{common['name']}: spike_width is {ports['spike'].width}, must be 1 or the width {common['width']}"
        )
    return Gate(**common, **ports, inverted=dialect.GATES[node.metadata[dialect.OP]])


def _check_parts(common: Mapping[str, Any], count: int, what: str, width: int) -> None:
    if count * width != common["width"]:
        raise GraphError(
            f"{common['name']}: {count} {what} of {width} channels do not make the width {common['width']}"
        )


_MADE: Mapping[str, Made] = {
    "rotary": _rotary,
    "position": _position,
    "attention": _attention,
    "causal_attention": _causal_attention,
    "token_attention": _token_attention,
    "maximum": _maximum,
    **dict.fromkeys(dialect.GATES, _gate),
}
