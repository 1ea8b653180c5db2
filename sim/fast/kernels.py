"""Compiled inner loops of currents and neurons.

Signals are packed: sample b has rows for steps lo[b] to hi[b], step n in row base[b] + n - lo[b]; outside it is quiet.
An event list has for row r the channels idx[ptr[r]:ptr[r + 1]], and in cum, at the same places, the events counted
up to there (cum is ptr unless entries stand for several events; then `mult` says for how many). An absent operand is an
array of size 0 or, for taps, a list of no delays.

No kernel uses fastmath: the compiler must not reorder sums, or results would depend on the machine.
"""

from __future__ import annotations

import numpy as np
from numba import njit

KERNEL = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(**KERNEL)
def add_rows(current, weight, idx, start, stop):
    """current += weight[i] for all i in idx[start:stop]; eight rows at once, so that `current` is loaded less often."""
    width = len(current)
    p = start
    while p + 8 <= stop:
        a, b, c, d = weight[idx[p]], weight[idx[p + 1]], weight[idx[p + 2]], weight[idx[p + 3]]
        e, f, g, h = weight[idx[p + 4]], weight[idx[p + 5]], weight[idx[p + 6]], weight[idx[p + 7]]
        for j in range(width):
            current[j] += ((a[j] + b[j]) + (c[j] + d[j])) + ((e[j] + f[j]) + (g[j] + h[j]))
        p += 8
    if p + 4 <= stop:
        a, b, c, d = weight[idx[p]], weight[idx[p + 1]], weight[idx[p + 2]], weight[idx[p + 3]]
        for j in range(width):
            current[j] += (a[j] + b[j]) + (c[j] + d[j])
        p += 4
    while p < stop:
        a = weight[idx[p]]
        for j in range(width):
            current[j] += a[j]
        p += 1


@njit(**KERNEL)
def add_scaled_rows(current, weight, idx, mult, start, stop):
    """current += mult[p] * weight[idx[p]] for p in [start, stop)."""
    for p in range(start, stop):
        a = weight[idx[p]]
        m = current.dtype.type(mult[p])
        for j in range(len(current)):
            current[j] += m * a[j]


@njit(**KERNEL)
def arriving(current, b, n, dense, dense_rows, dense_delays, events, weight, event_delays):
    """The current of sample b at step n, without bias: products already taken, and rows of weights for events.

    dense: (rows, taps * N), the product with tap k in columns k N to (k + 1) N. dense_rows, and the first three of
    events: lo, hi, base. events: (lo, hi, base, ptr, idx, mult). weight: (taps, in, N).
    """
    width = len(current)
    current[:] = 0
    lo, hi, base = dense_rows
    for k in range(len(dense_delays)):
        m = n - dense_delays[k]
        if lo[b] <= m < hi[b]:
            row = dense[base[b] + m - lo[b]]
            first = k * width
            for j in range(width):
                current[j] += row[first + j]
    lo, hi, base, ptr, idx, mult = events
    for k in range(len(event_delays)):
        m = n - event_delays[k]
        if lo[b] <= m < hi[b]:
            r = base[b] + m - lo[b]
            if len(mult):
                add_scaled_rows(current, weight[k], idx, mult, ptr[r], ptr[r + 1])
            else:
                add_rows(current, weight[k], idx, ptr[r], ptr[r + 1])


@njit(**KERNEL)
def ticks_at(clock, b, n):
    """Ticks of sample b at step n; clock: (lo, hi, base, ptr)."""
    lo, hi, base, ptr = clock
    if lo[b] <= n < hi[b]:
        r = base[b] + n - lo[b]
        return ptr[r + 1] - ptr[r]
    return 0


@njit(**KERNEL)
def currents(out, rows, dense, dense_rows, dense_delays, events, weight, event_delays, bias, clock):
    """A synapse: out[row of (b, n)] = sum of the arriving currents + bias * clock."""
    lo, hi, base = rows
    for b in range(len(lo)):
        for n in range(lo[b], hi[b]):
            current = out[base[b] + n - lo[b]]
            arriving(current, b, n, dense, dense_rows, dense_delays, events, weight, event_delays)
            if len(bias):
                ticks = ticks_at(clock, b, n)
                if ticks:
                    ticks = current.dtype.type(ticks)
                    for j in range(len(current)):
                        current[j] += ticks * bias[j]


@njit(**KERNEL)
def update_same(v, current, bias, ticks, lif, flags):
    """One step of neurons that share their parameters: `current` becomes v before the reset; true if one is not finite."""
    decay, gain, drive, threshold, reset = lif[0, 0], lif[1, 0], lif[2, 0], lif[3, 0], lif[4, 0]
    bad = False
    for j in range(len(v)):
        u = v[j] * decay + gain * (current[j] + ticks * bias[j]) + drive
        fired = u > threshold
        flags[j] = fired
        current[j] = u
        v[j] = reset if fired else u
        bad |= not (u - u == 0)
    return bad


@njit(**KERNEL)
def update_each(v, current, bias, ticks, lif, flags):
    """One step of neurons with parameters of their own: `current` becomes v before the reset; true if one is not finite."""
    decay, gain, drive, threshold, reset = lif[0], lif[1], lif[2], lif[3], lif[4]
    bad = False
    for j in range(len(v)):
        u = v[j] * decay[j] + gain[j] * (current[j] + ticks * bias[j]) + drive[j]
        fired = u > threshold[j]
        flags[j] = fired
        current[j] = u
        v[j] = reset[j] if fired else u
        bad |= not (u - u == 0)
    return bad


@njit(**KERNEL)
def neurons(
    ptr, idx, rows, fired, dense, dense_rows, dense_delays, events, weight, event_delays,
    bias, clock, gated, lif, spikes, membranes,
):  # fmt: skip
    """LIF over time, with the synapse before it, its gate, the event list and the count of what fires.

    Args:
        ptr, idx: event list to fill, of the rows `rows`.
        fired: counts (P, B) to fill.
        bias: (N,), zeros where there is none. gated: the current passes only while the clock ticks.
        lif: decay, gain, drive, threshold, reset: (5, N), or (5, 1) where all neurons share them.
        spikes, membranes: (P, B, N) to fill, or of size 0.

    Returns:
        (sample, step) of a membrane that is not finite, or (-1, -1).
    """
    lo, hi, base = rows
    width = len(bias)
    v, current, flags = np.empty(width, bias.dtype), np.empty(width, bias.dtype), np.empty(width, np.bool_)
    p = 0
    ptr[0] = 0
    for b in range(len(lo)):
        v[:] = 0
        for n in range(lo[b], hi[b]):
            ticks = bias.dtype.type(ticks_at(clock, b, n))
            if gated and ticks == 0:
                current[:] = 0
            else:
                arriving(current, b, n, dense, dense_rows, dense_delays, events, weight, event_delays)
            bad = update_same(v, current, bias, ticks, lif, flags) if lif.shape[1] == 1 else update_each(
                v, current, bias, ticks, lif, flags
            )
            if bad:
                return b, n
            first = p
            for j in range(width):  # without a branch: a misprediction costs more than a store
                idx[p] = j
                p += flags[j]
            ptr[base[b] + n - lo[b] + 1] = p
            fired[n, b] = p - first
            if spikes.size:
                spikes[n, b] = flags
            if membranes.size:
                membranes[n, b] = current
    return -1, -1
