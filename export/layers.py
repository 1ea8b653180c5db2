"""The numbers of one spiking layer, from the nodes of a NIR graph that make it, in units of its neurons' thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from spikescr.export.pooling import Convolution, pair
from spikescr.export.registers import raised

FloatArray = NDArray[np.float64]
Shape = tuple[int, ...]
NEURONS = (nir.LIF, nir.IF, nir.CubaLIF)
_ALIKE = 1e-9  # relative: time constants, and a channel's neurons, that differ by less are the same


class RefusedError(Exception):
    """Why a node cannot be part of a chain."""


@dataclass(frozen=True)
class SpikingLayer:
    """Synapses and the neurons that they feed, everything in units of each neuron's threshold.

        u = (1 - current_decay) u + W x;  v = (1 - voltage_decay) v + u + bias;  spike where v > 1;  v = 0 there

    Attributes:
        name: of the neurons' node.
        shape: of the output, (N,) or (C, H, W).
        weight: (out, in), or (out, in / groups, H, W).
        bias: (out,), acts at every step.
        current_decay: per step, 0 to 1.
        voltage_decay: per step, 0 to 1.
        delay: steps of every synapse (out, in), None where all are 0.
        convolution: geometry, None of a dense layer.
        meets: spike where v >= 1.
        threshold: the graph's own number, in units of what synapses add to the membrane; None where neurons differ.
        apart: neurons that do not do what `meets` says at v = 1; the others, more of them, do.
    """

    name: str
    shape: tuple[int, ...]
    weight: FloatArray
    bias: FloatArray
    current_decay: float
    voltage_decay: float
    delay: NDArray[np.int64] | None = None
    convolution: Convolution | None = None
    meets: bool = False
    threshold: float | None = None
    apart: int = 0


@dataclass(frozen=True)
class Neurons:
    """Neurons of a layer; arrays have its shape.

    Attributes:
        gain: what a weight of 1 adds to the membrane, in thresholds.
        leak: what the membrane gets in each step, in thresholds.
        threshold: in units of what a weight of 1 adds.
        meets: those that fire where the membrane meets the threshold.
        current_decay: per step.
        voltage_decay: per step.
    """

    gain: FloatArray
    leak: FloatArray
    threshold: FloatArray
    meets: NDArray[np.bool_]
    current_decay: float
    voltage_decay: float


def neurons_of(node: nir.NIRNode, shape: Shape, dt: float) -> Neurons:
    """What an IF, LIF or CubaLIF does, by forward Euler.

    Args:
        node: its parameters may be one number, or of a shape that NumPy broadcasts, for all neurons.
        shape: of the layer.
        dt: seconds per step.

    Raises:
        RefusedError: a parameter that a chain does not have.
    """

    def parameter(field: str) -> FloatArray:
        values = real(getattr(node, field))
        if values.size == np.prod(shape):
            return values.reshape(shape)
        try:
            return np.broadcast_to(values, shape)
        except ValueError:
            raise RefusedError(f"{field} of shape {values.shape} for neurons of shape {shape}") from None

    threshold, meets = raised(parameter("v_threshold"))
    if not np.all(threshold > 0):
        raise RefusedError("threshold not above 0")
    if np.any(parameter("v_reset")):
        raise RefusedError("v_reset other than 0")
    r = parameter("r")
    zero = np.zeros(shape)
    if isinstance(node, nir.IF):
        current, membrane, gain, leak = zero + 1, zero, r * dt, zero
    else:
        cuba = isinstance(node, nir.CubaLIF)
        membrane = dt / _above_zero(parameter("tau_mem" if cuba else "tau"))
        current = dt / _above_zero(parameter("tau_syn")) if cuba else zero + 1
        for decay in (membrane, current):
            if np.ptp(decay) > _ALIKE * np.max(decay) or np.max(decay) > 1 + _ALIKE:
                raise RefusedError("time constants that differ within the layer or are shorter than a step")
        gain = r * membrane * (parameter("w_in") * current if cuba else 1.0)
        leak = parameter("v_leak") * membrane
    gain, leak = gain / threshold, leak / threshold
    if not all(np.all(np.isfinite(x)) for x in (gain, leak, threshold)):
        raise RefusedError("weights, biases or neurons' parameters that are no numbers")
    return Neurons(gain, leak, threshold, meets, float(np.max(current)), float(np.max(membrane)))


def geometry_of(node: nir.Conv2d) -> Convolution:
    """Stride, padding, dilation and groups.

    Raises:
        RefusedError: the padding is not the same on both sides.
    """
    stride, dilation = pair(node.stride), pair(node.dilation)
    padding = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
    if padding == "same" if isinstance(padding, str) else False:
        spans = [d * (k - 1) for d, k in zip(dilation, node.weight.shape[2:], strict=True)]
        if any(span % 2 for span in spans) or stride != (1, 1):
            raise RefusedError("padding 'same' that is not symmetric")
        zeros = (spans[0] // 2, spans[1] // 2)
    else:
        zeros = (0, 0) if isinstance(padding, str) else pair(padding)
    return Convolution(stride, zeros, dilation, int(node.groups))


def convolved(size: tuple[int, int], kernel: Shape, by: Convolution) -> tuple[int, int]:
    """Height and width of what a convolution puts out; not above 0 where its kernel does not fit."""
    axes = zip(size, kernel, by.stride, by.padding, by.dilation, strict=True)
    height, width = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in axes)
    return height, width


def by_channel(values: FloatArray) -> FloatArray:
    """(channels,) of (channels, height, width).

    Raises:
        RefusedError: they differ within a channel.
    """
    flat = values.reshape(values.shape[0], -1)
    if np.any(np.ptp(flat, axis=1) > _ALIKE * np.abs(flat).max()):
        raise RefusedError("neurons that differ within a channel of a convolution")
    return flat[:, 0]


def real(values: Any) -> FloatArray:
    """Real numbers.

    Raises:
        RefusedError: the values are others.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise RefusedError(f"parameters of type {array.dtype}")
    return array.astype(np.float64)


def _above_zero(tau: FloatArray) -> FloatArray:
    if not np.all(tau > 0):
        raise RefusedError("time constants not above 0")
    return tau
