"""Compiled inner loops of convolutions."""

# Kernels take what numba infers: their docstrings state shapes and types.
# mypy: allow-untyped-defs, allow-untyped-decorators, disable-error-code="assignment"

from __future__ import annotations

import numpy as np
from numba import njit

from spikescr.sim.fast.kernels.counts import ENTRIES, GRADED, SPIKES, SYNOPS, SYNOPS_GRADED
from spikescr.sim.fast.kernels.events import KERNEL


@njit(**KERNEL)
def scatter(total, i, times, weight, shapes, walk):
    """Add what one input gives: total (places, out channels) += times * its weights; `times` events, or a real number.

    For each output the inputs come in the order of their flat indices, hence the order of each sum is known.
    """
    channels, rows, columns = shapes[0]
    each = weight.shape[3]
    c = i // (rows * columns)
    y, x = i // columns % rows, i % columns
    first = np.uint64(c // (channels // (shapes[1, 0] // each)) * each)
    for k in range(weight.shape[1]):
        row = y + walk[1, 0] - k * walk[2, 0]
        if row < 0 or row % walk[0, 0] or row // walk[0, 0] >= shapes[1, 1]:
            continue
        for m in range(weight.shape[2]):
            column = x + walk[1, 1] - m * walk[2, 1]
            if column < 0 or column % walk[0, 1] or column // walk[0, 1] >= shapes[1, 2]:
                continue
            place = row // walk[0, 0] * shapes[1, 2] + column // walk[0, 1]
            for o in range(np.uint64(each)):
                total[place, first + o] += times * weight[c, k, m, o]


@njit(**KERNEL)
def put(out, r, total, bias):
    """Row r of out = total + bias, channel by channel."""
    places = len(total)
    for o in range(len(bias)):
        for p in range(places):
            out[r, o * places + p] = total[p, o] + bias[o]


@njit(**KERNEL)
def count_entry(counts, n, b, kind, events, fan_out, graded):
    """Counts (kinds, P, B) of one non-zero entry that stands for some events."""
    counts[SPIKES, n, b] += events
    counts[kind, n, b] += events * fan_out
    counts[ENTRIES, n, b] += 1
    counts[SYNOPS, n, b] += fan_out
    if graded:
        counts[GRADED, n, b] += 1
        counts[SYNOPS_GRADED, n, b] += fan_out


@njit(**KERNEL)
def convolve_events(out, rows, events, weight, bias, shapes, walk, fan_out, counts, kind):
    """A convolution of an event list in which no channel stands twice; out: (rows, N) to fill, of the rows `rows`.

    counts: (kinds, P, B), zeros to fill; its operations are of `kind`.
    """
    lo, hi, base = rows
    slo, shi, sbase, ptr, idx, mult = events
    total = np.empty((shapes[1, 1] * shapes[1, 2], len(bias)), out.dtype)
    for b in range(len(lo)):
        for n in range(lo[b], hi[b]):
            total[:] = 0
            if slo[b] <= n < shi[b]:
                s = sbase[b] + n - slo[b]
                for e in range(ptr[s], ptr[s + 1]):
                    count = mult[e] if len(mult) else 1
                    scatter(total, np.int64(idx[e]), weight.dtype.type(count), weight, shapes, walk)
                    count_entry(counts, n, b, kind, count, fan_out[idx[e]], count != 1)
            put(out, base[b] + n - lo[b], total, bias)


@njit(**KERNEL)
def convolve_values(out, rows, packed, packed_rows, weight, bias, shapes, walk, fan_out, counts, kind):
    """A convolution of packed rows; the rest as `convolve_events`, an entry that is not 0 counting once."""
    lo, hi, base = rows
    slo, shi, sbase = packed_rows
    total = np.empty((shapes[1, 1] * shapes[1, 2], len(bias)), out.dtype)
    for b in range(len(lo)):
        for n in range(lo[b], hi[b]):
            total[:] = 0
            if slo[b] <= n < shi[b]:
                s = sbase[b] + n - slo[b]
                for i in range(packed.shape[1]):
                    if packed[s, i] != 0:
                        scatter(total, i, packed[s, i], weight, shapes, walk)
                        count_entry(counts, n, b, kind, 1, fan_out[i], packed[s, i] != 1)
            put(out, base[b] + n - lo[b], total, bias)
