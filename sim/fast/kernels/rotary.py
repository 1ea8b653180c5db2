"""Compiled inner loop of position encodings."""

# Kernels take what numba infers: their docstrings state shapes and types.
# mypy: allow-untyped-defs, allow-untyped-decorators

from __future__ import annotations

from numba import njit

from spikescr.sim.fast.kernels.neurons import KERNEL, ticks_at


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
