"""Compiled inner loops that move signals between their forms: event lists, packed rows, the host's (T, B, N).

The forms are those of `kernels`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from spikescr.sim.fast.kernels import KERNEL


@njit(**KERNEL)
def nonzero_span(x, lo, hi):
    """First step and one past the last step with a non-zero entry, for every sample of x (T, B, N); 0, 0 if none."""
    steps, samples, width = x.shape
    for b in range(samples):
        lo[b] = 0
        hi[b] = 0
        for n in range(steps):
            row = x[n, b]
            for j in range(width):
                if row[j] != 0:
                    hi[b] = n + 1
                    break
            if hi[b] == 0:
                lo[b] = n + 1
        if hi[b] == 0:
            lo[b] = 0


@njit(**KERNEL)
def pack(x, rows, out, cum):
    """Rows of x (T, B, N) to out; cum: non-zero entries up to each row."""
    lo, hi, base = rows
    width = x.shape[2]
    cum[0] = 0
    r = 0
    for b in range(len(lo)):
        for n in range(lo[b], hi[b]):
            count = 0
            for j in range(width):
                value = x[n, b, j]
                out[r, j] = value
                count += value != 0
            r += 1
            cum[r] = cum[r - 1] + count


@njit(**KERNEL)
def count_nonzero(packed, cum):
    """cum: non-zero entries of `packed` up to each row."""
    cum[0] = 0
    for r in range(len(packed)):
        count = 0
        for j in range(packed.shape[1]):
            count += packed[r, j] != 0
        cum[r + 1] = cum[r] + count


@njit(**KERNEL)
def list_events(packed, ptr, idx, cum, mult):
    """Event list of packed non-negative integers; `mult` of size 0: all are 0 or 1 and cum is not filled."""
    p = 0
    ptr[0] = 0
    for r in range(len(packed)):
        total = 0
        for j in range(packed.shape[1]):
            count = packed[r, j]
            if count != 0:
                idx[p] = j
                if len(mult):
                    mult[p] = count
                    total += np.int64(count)
                p += 1
        ptr[r + 1] = p
        if len(mult):
            cum[r + 1] = cum[r] + total


@njit(**KERNEL)
def merge_events(rows, one, other, ptr, idx, cum, mult):
    """The sum of two event lists, entries one after the other; cum and mult are filled where mult has a size."""
    lo, hi, base = rows
    p = 0
    ptr[0] = 0
    if len(mult):
        cum[0] = 0
    for b in range(len(lo)):
        for n in range(lo[b], hi[b]):
            r = base[b] + n - lo[b]
            total = 0
            for source in (one, other):
                slo, shi, sbase, sptr, sidx, smult = source
                if slo[b] <= n < shi[b]:
                    s = sbase[b] + n - slo[b]
                    for e in range(sptr[s], sptr[s + 1]):
                        idx[p] = sidx[e]
                        if len(mult):
                            mult[p] = smult[e] if len(smult) else 1
                            total += mult[p]
                        p += 1
            ptr[r + 1] = p
            if len(mult):
                cum[r + 1] = cum[r] + total


@njit(**KERNEL)
def add_packed(out, rows, packed, packed_rows):
    """out += packed, row by row of the same step; out has more steps."""
    lo, _, base = rows
    slo, shi, sbase = packed_rows
    for b in range(len(slo)):
        for n in range(slo[b], shi[b]):
            target = out[base[b] + n - lo[b]]
            source = packed[sbase[b] + n - slo[b]]
            for j in range(len(target)):
                target[j] += source[j]


@njit(**KERNEL)
def add_events(out, rows, events):
    """out += the events, row by row of the same step; out has more steps."""
    lo, _, base = rows
    slo, shi, sbase, ptr, idx, mult = events
    for b in range(len(slo)):
        for n in range(slo[b], shi[b]):
            target = out[base[b] + n - lo[b]]
            s = sbase[b] + n - slo[b]
            for e in range(ptr[s], ptr[s + 1]):
                if len(mult):
                    target[idx[e]] += mult[e]
                else:
                    target[idx[e]] += 1


@njit(**KERNEL)
def unpack(out, packed, rows):
    """out (P, B, N) float64 = packed rows at their steps, zero elsewhere."""
    lo, hi, base = rows
    periods, samples, width = out.shape
    for n in range(periods):
        for b in range(samples):
            if lo[b] <= n < hi[b]:
                row = packed[base[b] + n - lo[b]]
                for j in range(width):
                    out[n, b, j] = row[j]
            else:
                out[n, b] = 0


@njit(**KERNEL)
def gate(out, rows, value, value_rows, spikes, counts):
    """out = value where a spike gates it, else 0; one row for all channels where out is wider than the spikes' list.

    Args:
        out: (rows, N) to fill, of the rows of the spikes.
        spikes: event list; counts: whether one channel gates all.

    Returns:
        An event count above 1, which is no gate, or 1.
    """
    lo, hi, base = rows
    vlo, vhi, vbase = value_rows
    slo, shi, sbase, ptr, idx, mult = spikes
    for b in range(len(lo)):
        for n in range(lo[b], hi[b]):
            r = base[b] + n - lo[b]
            target = out[r]
            target[:] = 0
            if not slo[b] <= n < shi[b]:
                continue
            s = sbase[b] + n - slo[b]
            inside = vlo[b] <= n < vhi[b]
            row = value[vbase[b] + n - vlo[b]] if inside else target
            for e in range(ptr[s], ptr[s + 1]):
                if len(mult) and mult[e] != 1:
                    return mult[e]
                if counts:
                    target[:] = row
                else:
                    target[idx[e]] = row[idx[e]]
    return 1
