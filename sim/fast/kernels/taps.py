"""Compiled inner loop of taps that do not mix channels."""

# Kernels take what numba infers: their docstrings state shapes and types.
# mypy: allow-untyped-defs, allow-untyped-decorators, disable-error-code="assignment"

from __future__ import annotations

import numpy as np
from numba import njit

from spikescr.sim.fast.kernels.events import KERNEL


@njit(**KERNEL)
def depthwise(out, rows, events, weight, scratch):  # noqa: PLR0912
    """Taps that do not mix channels, delays 0, 1, ..., K - 1: every event adds its channel's K weights at once.

    out: (rows, N) to fill, of the rows `rows`. weight: (N, K). scratch: (N, longest + K), longest being the most steps
    of a sample in the event list.
    """
    lo, hi, base = rows
    slo, shi, sbase, ptr, idx, mult = events
    width, taps = weight.shape
    for b in range(len(lo)):
        first, count = slo[b], shi[b] - slo[b] + taps
        for i in range(width):
            for m in range(count):
                scratch[i, m] = 0
        for n in range(slo[b], shi[b]):
            s = sbase[b] + n - slo[b]
            m = np.uint64(n - first)
            for e in range(ptr[s], ptr[s + 1]):
                i = idx[e]
                if len(mult):
                    times = weight.dtype.type(mult[e])
                    for k in range(np.uint64(taps)):
                        scratch[i, m + k] += times * weight[i, k]
                else:
                    for k in range(np.uint64(taps)):
                        scratch[i, m + k] += weight[i, k]
        for n in range(lo[b], hi[b]):
            r = base[b] + n - lo[b]
            m = n - first
            if 0 <= m < count:
                for j in range(width):
                    out[r, j] = scratch[j, m]
            else:
                for j in range(width):
                    out[r, j] = 0
