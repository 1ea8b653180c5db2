"""Compiled inner loops that route by an index vector."""

# Kernels take what numba infers: their docstrings state shapes and types.
# mypy: allow-untyped-defs, allow-untyped-decorators, disable-error-code="assignment"

from __future__ import annotations

import numpy as np
from numba import njit

from spikescr.sim.fast.kernels.events import KERNEL
from spikescr.sim.fast.kernels.neurons import list_fired


@njit(**KERNEL)
def selected(idx, starts):
    """How many entries those that select entries `idx` get."""
    count = 0
    for e in range(len(idx)):
        count += starts[idx[e] + 1] - starts[idx[e]]
    return count


@njit(**KERNEL)
def select_events(ptr, idx, starts, targets, eights, out_ptr, out_idx):
    """Entries of every row to those that select them, sorted: channel c to targets[starts[c]:starts[c + 1]].

    A flag for each output is set, and the flags are listed, which takes less time than sorting. eights: zeros, a flag
    for each output, eight in an entry. out_ptr, out_idx: to fill, out_idx with 8 entries to spare.
    """
    flags = eights.view(np.bool_)
    p = 0
    out_ptr[0] = 0
    for r in range(len(ptr) - 1):
        for e in range(ptr[r], ptr[r + 1]):
            for t in range(starts[idx[e]], starts[idx[e] + 1]):
                flags[targets[t]] = True
        first = p
        p = list_fired(eights, out_idx, p)
        for e in range(first, p):
            flags[out_idx[e]] = False
        out_ptr[r + 1] = p


@njit(**KERNEL)
def select_values(out, packed, index):
    """out[r, i] = packed[r, index[i]], 0 where index[i] is -1."""
    for r in range(len(out)):
        for i in range(len(index)):
            out[r, i] = packed[r, index[i]] if index[i] >= 0 else 0


@njit(**KERNEL)
def select_maximum(out, packed, index):
    """out[r, i] = the largest of what index[i], index[N + i], .. select as in `select_values`; NaN where one is."""
    width = out.shape[1]
    for r in range(len(out)):
        for i in range(width):
            largest = packed[r, index[i]] if index[i] >= 0 else 0
            for k in range(i + width, len(index), width):
                value = packed[r, index[k]] if index[k] >= 0 else 0
                if value > largest or np.isnan(value):
                    largest = value
            out[r, i] = largest
