"""Standard nodes of NIR that become one operation each, and what the graph's metadata say about time."""

from __future__ import annotations

import dataclasses
from typing import Any

import nir
import numpy as np

from spikescr import dialect
from spikescr.errors import GraphError
from spikescr.sim.lowering.shapes import Geometry
from spikescr.sim.program import (
    ChannelDelay,
    Convolution,
    DelayLine,
    FloatArray,
    IntArray,
    Operation,
    Port,
    Signal,
    Synapse,
    Tap,
)

FOREIGN_DT = "dt"  # graph metadata, the word that others use for seconds per step


def operation(
    node: nir.NIRNode, geometry: Geometry | None, delay: IntArray | None, x: Port, common: dict[str, Any]
) -> Operation:
    """The operation of a Delay, a Flatten, a convolution, a pool or an Affine.

    Args:
        node: what it is.
        geometry: of a convolution or a pool.
        delay: of a Delay, of every channel in steps.
        x: what arrives.
        common: name, width, signal and latency.

    Raises:
        GraphError: a weight that is not a number, a bias of another shape, a clock in a convolution.
    """
    if geometry is not None:
        return _convolution(node, geometry, x, common)
    if isinstance(node, nir.Affine):
        return _affine(node, x, common)
    if delay is None or (delay == delay[0]).all():  # a Flatten passes on what it gets
        return DelayLine(**common, x=x, delay=0 if delay is None else int(delay[0]))
    return ChannelDelay(**common, x=x, delay=delay)


def _convolution(node: nir.NIRNode, geometry: Geometry, x: Port, common: dict[str, Any]) -> Convolution:
    name = common["name"]
    if x.signal is Signal.CLOCK:
        raise GraphError(f"{name}: the clock leads into a {type(node).__name__}; lead it through a Linear")
    check_numbers(name, "weight", geometry.weight)
    if geometry.bias is not None:
        check_numbers(name, "bias", geometry.bias)
    fields = {f.name: getattr(geometry, f.name) for f in dataclasses.fields(geometry) if f.name != "shape"}
    return Convolution(**common, x=x, **fields)


def _affine(node: nir.Affine, x: Port, common: dict[str, Any]) -> Synapse:
    """A synapse whose bias has no clock; a bias of zeros is none."""
    name = common["name"]
    weight, bias = (np.asarray(array, np.float64) for array in (node.weight, node.bias))
    if bias.shape != weight.shape[:1]:
        raise GraphError(f"{name}: bias has shape {bias.shape}, must have {weight.shape[:1]}")
    check_numbers(name, "weight", weight)
    check_numbers(name, "bias", bias)
    biased: dict[str, Any] = {"bias": bias, "origin": ("bias",)} if bias.any() else {}
    return Synapse(**common, x=x, taps=(Tap(0, weight),), **biased)


def check_numbers(name: str, field: str, values: FloatArray) -> None:
    """Raises GraphError where a parameter of node `name` is not finite."""
    fit = np.isfinite(values)
    if not fit.all():
        raise GraphError(f"{name}: {field} must be numbers, found {values[~fit][0]} at {np.argwhere(~fit)[0].tolist()}")


def spread(values: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """One number for each channel, (width,)."""
    return (values if values.size == np.prod(shape, dtype=int) else np.broadcast_to(values, shape)).ravel()


def has_clock(graph: nir.NIRGraph) -> bool:
    """Whether one of the graph's Inputs is the clock of the dialect."""
    return any(isinstance(n, nir.Input) and n.metadata.get(dialect.OP) == dialect.CLOCK for n in graph.nodes.values())


def step_length(graph: nir.NIRGraph) -> float:
    """Seconds per step, from the metadata."""
    for key in (dialect.DT, FOREIGN_DT):
        if key in graph.metadata:
            return _graph_parameter(graph, key, "seconds per step")
    raise GraphError(
        f"the graph's metadata must have {dialect.DT}, seconds per step, or it must be given: --dt SECONDS"
    )


def window(graph: nir.NIRGraph) -> int:
    """The window of a sample in steps, from the metadata."""
    steps = _graph_parameter(graph, dialect.STEPS, "the window in steps")
    if steps != int(steps):
        raise GraphError(f"the graph's metadata has {dialect.STEPS} {steps}; it must be a whole number")
    return int(steps)


def _graph_parameter(graph: nir.NIRGraph, key: str, meaning: str) -> float:
    value = graph.metadata.get(key)
    if not isinstance(value, (int, float, np.integer, np.floating)) or not 0 < value < np.inf:
        raise GraphError(f"the graph's metadata must have {key}, {meaning}, above 0; found {value!r}")
    return float(value)
