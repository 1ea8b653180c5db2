"""Compiled inner loops that move signals: between the forms that they have, in time, and through gates."""

# Kernels take what numba infers: their docstrings state shapes and types.
# mypy: allow-untyped-defs, allow-untyped-decorators, disable-error-code="assignment"

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

KERNEL: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(**KERNEL)
def ticks_at(lo, hi, base, ptr, b, n):
    """Ticks of sample b at step n."""
    if lo[b] <= n < hi[b]:
        r = base[b] + n - lo[b]
        return ptr[r + 1] - ptr[r]
    return 0


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
    lo, hi, _ = rows
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
def tally_values(packed, out):
    """out (rows, 2): non-zero entries of each row, and those of them that are not 1."""
    for r in range(len(packed)):
        entries = graded = 0
        for j in range(packed.shape[1]):
            entries += packed[r, j] != 0
            graded += (packed[r, j] != 0) & (packed[r, j] != 1)
        out[r, 0], out[r, 1] = entries, graded


@njit(**KERNEL)
def tally_events(ptr, idx, mult, seen, out):
    """out (rows, 2): channels with events in each row, and those with more than one.

    seen: (N,) bytes, zeros, where a channel may stand twice in a row, else of size 0.
    """
    for r in range(len(out)):
        entries = graded = 0
        start, stop = np.uint64(ptr[r]), np.uint64(ptr[r + 1])
        if len(seen):
            for e in range(start, stop):
                channel = np.uint64(idx[e])
                before = seen[channel]
                after = 2 if before or (len(mult) and mult[e] > 1) else 1
                entries += before == 0
                graded += (before < 2) & (after == 2)
                seen[channel] = after
            for e in range(start, stop):
                seen[np.uint64(idx[e])] = 0
        else:
            entries = ptr[r + 1] - ptr[r]
            if len(mult):
                for e in range(start, stop):
                    graded += mult[e] > 1
        out[r, 0], out[r, 1] = entries, graded


@njit(**KERNEL)
def list_events(packed, ptr, idx, cum, mult):
    """Event list of packed non-negative integers; `mult` of size 0: all are 0 or 1 and cum is not filled.

    idx and mult have an entry to spare: every channel is written, and the next one over it where it has no events.
    """
    p = 0
    ptr[0] = 0
    for r in range(len(packed)):
        total = 0
        if len(mult):
            for j in range(packed.shape[1]):
                count = np.int64(packed[r, j])
                idx[p] = j
                mult[p] = count
                total += count
                p += count != 0
        else:
            for j in range(packed.shape[1]):
                idx[p] = j
                p += packed[r, j] != 0
        ptr[r + 1] = p
        if len(mult):
            cum[r + 1] = cum[r] + total


@njit(**KERNEL)
def list_values(packed, ptr, idx, amounts):
    """What is not 0 in packed values; idx and amounts have an entry to spare, as in `list_events`."""
    p = 0
    ptr[0] = 0
    for r in range(len(packed)):
        for j in range(packed.shape[1]):
            idx[p] = j
            amounts[p] = packed[r, j]
            p += packed[r, j] != 0
        ptr[r + 1] = p


@njit(**KERNEL)
def merge_events(rows, one, other, ptr, idx, cum, mult):
    """The sum of two event lists, entries one after the other; cum and mult are filled where mult has a size."""
    lo, hi, base = rows
    alo, ahi, abase, aptr, aidx, amult = one
    blo, bhi, bbase, bptr, bidx, bmult = other
    p = 0
    ptr[0] = 0
    if len(mult):
        cum[0] = 0
    for b in range(len(lo)):
        for n in range(lo[b], hi[b]):
            first = p
            if alo[b] <= n < ahi[b]:
                s = abase[b] + n - alo[b]
                p = copy_events(aptr[s], aptr[s + 1], aidx, amult, idx, mult, p)
            if blo[b] <= n < bhi[b]:
                s = bbase[b] + n - blo[b]
                p = copy_events(bptr[s], bptr[s + 1], bidx, bmult, idx, mult, p)
            r = base[b] + n - lo[b]
            ptr[r + 1] = p
            if len(mult):
                total = 0
                for e in range(first, p):
                    total += mult[e]
                cum[r + 1] = cum[r] + total


@njit(**KERNEL)
def copy_events(start, stop, idx, mult, into, into_mult, place):
    """Copy entries [start, stop) to `place`; returns where they end there."""
    at, to = np.uint64(start), np.uint64(place)
    for e in range(np.uint64(stop - start)):
        into[to + e] = idx[at + e]
    if len(into_mult):
        for e in range(np.uint64(stop - start)):
            into_mult[to + e] = mult[at + e] if len(mult) else 1
    return place + stop - start


@njit(**KERNEL)
def add_packed(out, rows, packed, packed_rows):
    """out += packed, row by row of the same step; out has more steps."""
    lo, _, base = rows
    slo, shi, sbase = packed_rows
    for b in range(len(slo)):
        for n in range(slo[b], shi[b]):
            r, s = base[b] + n - lo[b], sbase[b] + n - slo[b]
            for j in range(out.shape[1]):
                out[r, j] += packed[s, j]


@njit(**KERNEL)
def add_events(out, rows, events):
    """out += the events, row by row of the same step; out has more steps."""
    lo, _, base = rows
    slo, shi, sbase, ptr, idx, mult = events
    for b in range(len(slo)):
        for n in range(slo[b], shi[b]):
            r, s = base[b] + n - lo[b], sbase[b] + n - slo[b]
            for e in range(ptr[s], ptr[s + 1]):
                out[r, idx[e]] += mult[e] if len(mult) else 1


@njit(**KERNEL)
def unpack(out, packed, rows):
    """out (P, B, N) float64 = packed rows at their steps, zero elsewhere."""
    lo, hi, base = rows
    periods, samples, width = out.shape
    for n in range(periods):
        for b in range(samples):
            if lo[b] <= n < hi[b]:
                r = base[b] + n - lo[b]
                for j in range(width):
                    out[n, b, j] = packed[r, j]
            else:
                for j in range(width):
                    out[n, b, j] = 0


@njit(**KERNEL)
def delay_channels(out, rows, packed, packed_rows, delay):
    """out[n, j] = packed[n - delay[j], j], 0 where there is no such row."""
    lo, hi, base = rows
    slo, shi, sbase = packed_rows
    for b in range(len(lo)):
        for n in range(lo[b], hi[b]):
            r = base[b] + n - lo[b]
            for j in range(len(delay)):
                m = n - delay[j]
                out[r, j] = packed[sbase[b] + m - slo[b], j] if slo[b] <= m < shi[b] else 0


@njit(**KERNEL)
def inverted_gate(out, rows, spikes, whole):
    """Zeros in out (rows, N) where a spike stands; `whole`: a spike stands for all channels. Returns as `gate`."""
    lo, _, base = rows
    slo, shi, sbase, ptr, idx, mult = spikes
    for b in range(len(slo)):
        for n in range(slo[b], shi[b]):
            r, s = base[b] + n - lo[b], sbase[b] + n - slo[b]
            for e in range(ptr[s], ptr[s + 1]):
                if len(mult) and mult[e] != 1:
                    return mult[e]
                if whole:
                    out[r] = 0
                else:
                    out[r, idx[e]] = 0
    return 1


@njit(**KERNEL)
def gate(out, rows, value, value_rows, spikes, whole):
    """A gate: out = value where a spike stands, else 0; `whole`: a spike stands for all channels.

    out: (rows, N) to fill, of the rows `rows`. spikes: event list.

    Returns:
        An event count that is not 1, which no gate takes, or 1.
    """
    lo, hi, base = rows
    vlo, vhi, vbase = value_rows
    slo, shi, sbase, ptr, idx, mult = spikes
    width = out.shape[1]
    for b in range(len(lo)):
        for n in range(lo[b], hi[b]):
            r = base[b] + n - lo[b]
            for j in range(width):
                out[r, j] = 0
            if not slo[b] <= n < shi[b]:
                continue
            inside = vlo[b] <= n < vhi[b]
            x = vbase[b] + n - vlo[b]
            s = sbase[b] + n - slo[b]
            for e in range(ptr[s], ptr[s + 1]):
                if len(mult) and mult[e] != 1:
                    return mult[e]
                if inside and whole:
                    for j in range(width):
                        out[r, j] = value[x, j]
                elif inside:
                    out[r, idx[e]] = value[x, idx[e]]
    return 1
