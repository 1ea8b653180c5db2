"""Pools of spikes taken into the synapses behind them: a sum of sums is one sum, of a wider kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Pair = tuple[int, int]
POOLS = (nir.SumPool2d, nir.AvgPool2d)


@dataclass(frozen=True)
class Convolution:
    """Geometry of a convolution, (height, width) each."""

    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int


@dataclass(frozen=True)
class Pool:
    """A pool over (height, width): every window's sum times `factor`."""

    kernel: Pair
    stride: Pair
    padding: Pair
    factor: float


def pool_of(node: nir.NIRNode) -> Pool:
    """What a SumPool2d or an AvgPool2d (over all of its window, padding too) computes."""
    kernel, stride, padding = pair(node.kernel_size), pair(node.stride), pair(node.padding)
    factor = 1 / (kernel[0] * kernel[1]) if isinstance(node, nir.AvgPool2d) else 1.0
    return Pool(kernel, stride, padding, factor)


def pooled(size: Pair, pool: Pool) -> Pair:
    """Size of what the pool puts out; not above 0 where it does not fit."""
    height, width = (
        (n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, pool.kernel, pool.stride, pool.padding, strict=True)
    )
    return height, width


def before_convolution(
    weight: FloatArray, convolution: Convolution, pool: Pool, size: Pair
) -> tuple[FloatArray, Convolution] | None:
    """The convolution that reads the pool's input.

    Args:
        weight: (out, in / groups, height, width).
        convolution: of the pool's output.
        pool: of an input of `size`.
        size: height and width of the pool's input.

    Returns:
        Kernel and geometry; None where padding, which is 0 behind a pool, would become a part of its input.
    """
    axes = zip(size, pooled(size, pool), pool.kernel, pool.stride, pool.padding, convolution.padding, strict=True)
    for n, out, k, s, p, zeros in axes:
        if zeros and (k - 1 >= s + p or out * s - p < n):
            return None
    taps = weight.shape[2:]
    step = [d * s for d, s in zip(convolution.dilation, pool.stride, strict=True)]
    wide = np.zeros((*weight.shape[:2], *((t - 1) * d + k for t, d, k in zip(taps, step, pool.kernel, strict=True))))
    for y, x in np.ndindex(*taps):
        window = wide[:, :, y * step[0] : y * step[0] + pool.kernel[0], x * step[1] : x * step[1] + pool.kernel[1]]
        window += weight[:, :, y, x, None, None] * pool.factor
    (sy, sx), (py, px) = convolution.stride, convolution.padding
    (ty, tx), (qy, qx) = pool.stride, pool.padding
    return wide, Convolution((sy * ty, sx * tx), (py * ty + qy, px * tx + qx), (1, 1), convolution.groups)


def before_dense(weight: FloatArray, pool: Pool, shape: tuple[int, int, int]) -> FloatArray:
    """The weights (out, inputs of the pool) of a layer (out, outputs of the pool) that read the pool's input.

    Args:
        weight: (out, channels x pooled height x pooled width), channel first.
        pool: between the two.
        shape: of the pool's input, (channels, height, width).
    """
    channels, *size = shape
    out = pooled((size[0], size[1]), pool)
    given = weight.reshape(len(weight), channels, *out) * pool.factor
    (py, px), (sy, sx), (ky, kx) = pool.padding, pool.stride, pool.kernel
    wide = np.zeros((len(weight), channels, size[0] + 2 * py, size[1] + 2 * px))
    for y, x in np.ndindex(*out):
        wide[:, :, y * sy : y * sy + ky, x * sx : x * sx + kx] += given[:, :, y, x, None, None]
    return wide[:, :, py : py + size[0], px : px + size[1]].reshape(len(weight), -1)


def pair(value: Any) -> Pair:
    """Two whole numbers; one holds for both axes."""
    height, width = np.broadcast_to(np.asarray(value).ravel(), (2,))
    return int(height), int(width)
