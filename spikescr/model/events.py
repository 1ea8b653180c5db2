"""Products with spikes on a CPU that touch events alone: what is 0 adds nothing, so rows where it is 0 are passed over.

A layer that fires at 20 % leaves 80 % of X W^T and of the gradient of W to nobody. Every output is summed by one thread
in an order that follows from x alone, so results do not depend on the number of threads.
"""

# Kernels take what numba infers: their docstrings state shapes and types.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

from spikescr.model import kernels

DENSEST = 0.4
"""Share of events above which a matrix product of all values is faster (they meet at about 0.5 on two cores)."""
LOOKED_AT = 17
"""Of so many rows one is looked at to tell the share; odd, so that it walks through steps and samples alike."""
BLOCK = 128
"""Rows that `_weight` gathers at a time: of them and of what they add to, little enough stays in the cache."""

# A product and the sum that takes it up may be rounded once; LIFs, which must not, are in `kernels`.
compiled = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})


def few(x: Tensor) -> bool:
    """Whether so little of x (M, K) is not 0 that these functions are faster than a product of all values."""
    looked_at = x.detach().numpy()[::LOOKED_AT]
    return bool(_events(looked_at) <= DENSEST * looked_at.size)


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """X W^T + b (M, N) for x (M, K), W (N, K), b (N,)."""
    out = x.new_empty(len(x), len(weight))
    kernels.run(_product, len(x), x.contiguous(), weight.T.contiguous(), bias, out)
    return out


def weight_gradient(x: Tensor, upstream: Tensor) -> Tensor:
    """The gradient of W (N, K), upstream^T X, for x (M, K), upstream (M, N)."""
    out = x.new_zeros(x.shape[1], upstream.shape[1])
    # Every share of the inputs walks through all of upstream: no more shares than threads.
    kernels.run(_weight, x.shape[1], x.contiguous(), upstream.contiguous(), out, chunks=torch.get_num_threads())
    return out.T


@compiled
def _events(x):
    """How many of x (M, K) are not 0."""
    count = 0
    for m in range(len(x)):
        for k in range(x.shape[1]):
            count += x[m, k] != 0
    return count


@compiled
def _gather(row, flags, places):
    """Writes where a row is not 0 into places (K + 1,), in order, and returns how many; flags (K,): scratch."""
    for k in range(len(row)):
        flags[k] = row[k] != 0
    count = 0
    for k in range(len(row)):
        places[count] = k
        count += flags[k]
    return count


@compiled
def _product(lo, hi, x, weight, bias, out):
    """Rows lo to hi of x weight + bias; x (M, K), weight (K, N), bias (N,) or None, out (M, N)."""
    flags, places = np.empty(x.shape[1], np.uint8), np.empty(x.shape[1] + 1, np.int32)
    for m in range(lo, hi):
        xs, to = x[m], out[m]
        count = _gather(xs, flags, places)
        if bias is None:
            to[:] = x.dtype.type(0)
        else:
            to[:] = bias
        fours = count // 4 * 4
        for i in range(0, fours, 4):
            a, b, c, d = xs[places[i]], xs[places[i + 1]], xs[places[i + 2]], xs[places[i + 3]]
            ws, us, vs, zs = weight[places[i]], weight[places[i + 1]], weight[places[i + 2]], weight[places[i + 3]]
            for n in range(len(to)):
                to[n] += (a * ws[n] + b * us[n]) + (c * vs[n] + d * zs[n])
        for i in range(fours, count):
            a, ws = xs[places[i]], weight[places[i]]
            for n in range(len(to)):
                to[n] += a * ws[n]


@compiled
def _weight(lo, hi, x, upstream, out):
    """Rows lo to hi of x^T upstream, added to out; x (M, K), upstream (M, N), out (K, N)."""
    wide = hi - lo
    rows, counts = np.empty((wide, BLOCK), np.int32), np.empty(wide, np.int64)
    flags, places = np.empty(wide, np.uint8), np.empty(wide + 1, np.int32)
    total = np.empty(upstream.shape[1], x.dtype)
    for start in range(0, len(x), BLOCK):
        counts[:] = 0
        for m in range(start, min(start + BLOCK, len(x))):
            for i in range(_gather(x[m, lo:hi], flags, places)):
                k = places[i]
                rows[k, counts[k]] = m
                counts[k] += 1
        for k in range(wide):
            count, ms, to = counts[k], rows[k], out[lo + k]
            total[:] = x.dtype.type(0)
            fours = count // 4 * 4
            for i in range(0, fours, 4):
                a, b, c, d = x[ms[i], lo + k], x[ms[i + 1], lo + k], x[ms[i + 2], lo + k], x[ms[i + 3], lo + k]
                ws, us, vs, zs = upstream[ms[i]], upstream[ms[i + 1]], upstream[ms[i + 2]], upstream[ms[i + 3]]
                for n in range(len(total)):
                    total[n] += (a * ws[n] + b * us[n]) + (c * vs[n] + d * zs[n])
            for i in range(fours, count):
                a, ws = x[ms[i], lo + k], upstream[ms[i]]
                for n in range(len(total)):
                    total[n] += a * ws[n]
            for n in range(len(total)):
                to[n] += total[n]
