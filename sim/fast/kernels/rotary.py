"""Compiled inner loops of positions: rotary ones and tables."""

# Kernels take what numba infers: their docstrings state shapes and types.
# mypy: allow-untyped-defs, allow-untyped-decorators, disable-error-code="assignment"

from __future__ import annotations

import numpy as np
from numba import njit

from spikescr.sim.fast.kernels.events import KERNEL, ticks_at


@njit(**KERNEL)
def rotary_events(out, rows, events, clock, cos, sin, head):
    """Rotary positions of an event list; cos, sin: (positions, head / 2). Returns whether positions sufficed."""
    lo, hi, base = rows
    slo, shi, sbase, ptr, idx, mult = events
    clo, chi, cbase, cptr = clock
    width = out.shape[1]
    pairs = np.empty(width, np.int64)
    for i in range(width):
        pairs[i] = i % head // 2
    for b in range(len(lo)):
        position = 0
        for n in range(lo[b], hi[b]):
            r = base[b] + n - lo[b]
            for j in range(width):
                out[r, j] = 0
            if ticks_at(clo, chi, cbase, cptr, b, n) == 0:
                continue
            if position >= len(cos):
                return False
            if slo[b] <= n < shi[b]:
                s = sbase[b] + n - slo[b]
                for e in range(ptr[s], ptr[s + 1]):
                    i = idx[e]
                    c, z = cos[position, pairs[i]], sin[position, pairs[i]]
                    if len(mult):
                        times = cos.dtype.type(mult[e])
                        c, z = times * c, times * z
                    out[r, i] += c
                    if i & 1:
                        out[r, i - 1] -= z
                    else:
                        out[r, i + 1] += z
            position += 1
    return True


@njit(**KERNEL)
def rotary_values(out, rows, packed, packed_rows, clock, cos, sin, head):
    """Rotary positions of packed rows; the rest as `rotary_events`."""
    lo, hi, base = rows
    slo, shi, sbase = packed_rows
    clo, chi, cbase, cptr = clock
    for b in range(len(lo)):
        position = 0
        for n in range(lo[b], hi[b]):
            r = base[b] + n - lo[b]
            for j in range(out.shape[1]):
                out[r, j] = 0
            if ticks_at(clo, chi, cbase, cptr, b, n) == 0:
                continue
            if position >= len(cos):
                return False
            if slo[b] <= n < shi[b]:
                s = sbase[b] + n - slo[b]
                for i in range(0, out.shape[1], 2):
                    pair = i % head // 2
                    c, z = cos[position, pair], sin[position, pair]
                    out[r, i] = packed[s, i] * c - packed[s, i + 1] * z
                    out[r, i + 1] = packed[s, i] * z + packed[s, i + 1] * c
            position += 1
    return True


@njit(**KERNEL)
def encode(out, rows, clock, table):
    """Fill out (rows, N) with the table's row of the ticks so far, 0 without a tick; False: the table is too short."""
    lo, hi, base = rows
    clo, chi, cbase, cptr = clock
    for b in range(len(lo)):
        position = 0
        for n in range(lo[b], hi[b]):
            r = base[b] + n - lo[b]
            if ticks_at(clo, chi, cbase, cptr, b, n) == 0:
                out[r] = 0
                continue
            if position >= len(table):
                return False
            out[r] = table[position]
            position += 1
    return True
