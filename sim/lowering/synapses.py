"""Delays, convolutions, pools and Affines, which become one operation each, and the weights of synapses."""

from __future__ import annotations

import dataclasses
from typing import Any

import nir
import numpy as np

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


def bias_of(node: nir.Affine) -> FloatArray | None:
    """What an Affine adds at every step; None where that is zeros: nothing is added then, and nothing counted."""
    bias = np.asarray(node.bias, np.float64)
    return bias if bias.any() else None


def _convolution(node: nir.NIRNode, geometry: Geometry, x: Port, common: dict[str, Any]) -> Convolution:
    name = common["name"]
    if x.signal is Signal.CLOCK:
        raise GraphError(f"{name}: the clock leads into a {type(node).__name__}; lead it through a Linear")
    check_numbers(name, "weight", geometry.weight)
    if geometry.bias is not None:
        check_numbers(name, "bias", geometry.bias)
    fields = {
        f.name: getattr(geometry, f.name) for f in dataclasses.fields(geometry) if f.name not in ("reads", "shape")
    }
    return Convolution(**common, x=x, **fields)


def _affine(node: nir.Affine, x: Port, common: dict[str, Any]) -> Synapse:
    """A synapse whose bias has no clock."""
    name = common["name"]
    weight, bias = np.asarray(node.weight, np.float64), bias_of(node)
    if np.shape(node.bias) != weight.shape[:1]:
        raise GraphError(f"{name}: bias has shape {np.shape(node.bias)}, must have {weight.shape[:1]}")
    check_numbers(name, "weight", weight)
    if bias is not None:
        check_numbers(name, "bias", bias)
    biased: dict[str, Any] = {} if bias is None else {"bias": bias, "origin": ("bias",)}
    return Synapse(**common, x=x, taps=(Tap(0, weight),), **biased)


def check_numbers(name: str, field: str, values: FloatArray) -> None:
    """Raises GraphError where a parameter of node `name` is not finite."""
    fit = np.isfinite(values)
    if not fit.all():
        raise GraphError(f"{name}: {field} must be numbers, found {values[~fit][0]} at {np.argwhere(~fit)[0].tolist()}")
