"""Compiled inner loops of depthwise taps, rotary positions, attention and the counts of synapses.

The forms of signals are those of `kernels`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from spikescr.sim.fast.kernels import KERNEL, ticks_at


@njit(**KERNEL)
def depthwise(out, rows, events, weight, scratch):
    """Taps that do not mix channels, delays 0, 1, ..., K - 1: every event adds its channel's K weights at once.

    Args:
        out: (rows, N) to fill.
        rows: of out; they hold all steps that events reach, or fewer.
        weight: (N, K).
        scratch: (N, steps + K) with `steps` of the longest sample of the events.
    """
    lo, hi, base = rows
    slo, shi, sbase, ptr, idx, mult = events
    width, taps = weight.shape
    for b in range(len(lo)):
        first, count = slo[b], shi[b] - slo[b] + taps
        scratch[:, :count] = 0
        for n in range(slo[b], shi[b]):
            s = sbase[b] + n - slo[b]
            m = n - first
            for e in range(ptr[s], ptr[s + 1]):
                line = scratch[idx[e]]
                kernel = weight[idx[e]]
                if len(mult):
                    times = weight.dtype.type(mult[e])
                    for k in range(taps):
                        line[m + k] += times * kernel[k]
                else:
                    for k in range(taps):
                        line[m + k] += kernel[k]
        for n in range(lo[b], hi[b]):
            row = out[base[b] + n - lo[b]]
            m = n - first
            if 0 <= m < count:
                for j in range(width):
                    row[j] = scratch[j, m]
            else:
                row[:] = 0


@njit(**KERNEL)
def rotary_events(out, rows, events, clock, cos, sin, head):
    """Rotary positions of an event list; cos, sin: (positions, head / 2). Returns whether positions sufficed."""
    lo, hi, base = rows
    slo, shi, sbase, ptr, idx, mult = events
    for b in range(len(lo)):
        position = 0
        for n in range(lo[b], hi[b]):
            row = out[base[b] + n - lo[b]]
            row[:] = 0
            ticks = ticks_at(clock, b, n)
            if ticks == 0:
                continue
            if position >= len(cos):
                return False
            if slo[b] <= n < shi[b]:
                s = sbase[b] + n - slo[b]
                for e in range(ptr[s], ptr[s + 1]):
                    i = idx[e]
                    pair = (i % head) >> 1
                    c, z = cos[position, pair], sin[position, pair]
                    if len(mult):
                        times = cos.dtype.type(mult[e])
                        c, z = times * c, times * z
                    row[i] += c
                    if i & 1:
                        row[i - 1] -= z
                    else:
                        row[i + 1] += z
            position += 1
    return True


@njit(**KERNEL)
def rotary_values(out, rows, packed, packed_rows, clock, cos, sin, head):
    """Rotary positions of packed rows; the rest as `rotary_events`."""
    lo, hi, base = rows
    slo, shi, sbase = packed_rows
    for b in range(len(lo)):
        position = 0
        for n in range(lo[b], hi[b]):
            row = out[base[b] + n - lo[b]]
            row[:] = 0
            if ticks_at(clock, b, n) == 0:
                continue
            if position >= len(cos):
                return False
            if slo[b] <= n < shi[b]:
                x = packed[sbase[b] + n - slo[b]]
                for i in range(0, len(row), 2):
                    pair = (i % head) >> 1
                    c, z = cos[position, pair], sin[position, pair]
                    row[i] = x[i] * c - x[i + 1] * z
                    row[i + 1] = x[i] * z + x[i + 1] * c
            position += 1
    return True


@njit(**KERNEL)
def attention(out, rows, q, k, v, clock, heads, scale, steps, ac, quadratic):
    """Q (K^T V), streaming: writes A while the clock ticks, reads with the q of `steps` before.

    Args:
        out: (rows, N) to fill; rows: those of the clock, `steps` later.
        q, k, v: event lists without repeated channels.
        ac, quadratic: counts (P, B) to fill.
    """
    lo, hi, base = rows
    qlo, qhi, qbase, qptr, qidx, qmult = q
    klo, khi, kbase, kptr, kidx, kmult = k
    vlo, vhi, vbase, vptr, vidx, vmult = v
    width = out.shape[1]
    depth = width // heads
    real = out.dtype.type
    state = np.empty((width, depth), out.dtype)
    values = np.empty(width, out.dtype)
    keys = np.empty(width, np.int64)
    live = np.empty(heads, np.int64)
    for b in range(len(lo)):
        state[:] = 0
        keys[:] = 0
        total = 0
        for n in range(lo[b] - steps, hi[b]):
            cost = 0
            if n < len(ac) and ticks_at(clock, b, n):
                live[:] = 0
                values[:] = 0
                if vlo[b] <= n < vhi[b]:
                    s = vbase[b] + n - vlo[b]
                    for e in range(vptr[s], vptr[s + 1]):
                        j = vidx[e]
                        values[j] = real(vmult[e]) if len(vmult) else real(1)
                        live[j // depth] += 1
                    total += vptr[s + 1] - vptr[s]
                if klo[b] <= n < khi[b]:
                    s = kbase[b] + n - klo[b]
                    for e in range(kptr[s], kptr[s + 1]):
                        i = kidx[e]
                        keys[i] += 1
                        first = i // depth * depth
                        cost += live[i // depth]
                        times = real(kmult[e]) if len(kmult) else real(1)
                        line = state[i]
                        for j in range(depth):
                            line[j] += times * values[first + j]
            if n >= lo[b]:
                row = out[base[b] + n - lo[b]]
                row[:] = 0
                if ticks_at(clock, b, n - steps):
                    met = 0
                    if qlo[b] <= n - steps < qhi[b]:
                        s = qbase[b] + n - steps - qlo[b]
                        for e in range(qptr[s], qptr[s + 1]):
                            i = qidx[e]
                            met += keys[i]
                            first = i // depth * depth
                            times = real(qmult[e]) if len(qmult) else real(1)
                            line = state[i]
                            for j in range(depth):
                                row[first + j] += times * line[j]
                        cost += (qptr[s + 1] - qptr[s]) * depth
                        for j in range(width):
                            row[j] *= scale
                    quadratic[n, b] = met + total
            ac[n, b] = cost


@njit(**KERNEL)
def count_arrivals(out, rows, cum, factor):
    """out (P, B) += factor * events of each row."""
    lo, hi, base = rows
    for b in range(len(lo)):
        for n in range(lo[b], hi[b]):
            r = base[b] + n - lo[b]
            out[n, b] += factor * (cum[r + 1] - cum[r])


@njit(**KERNEL)
def count_synapse(spikes, cost, discarded, bias, rows, cum, delays, fan_outs, clock, width, biased, gated):
    """Counts (P, B) of a synapse, as the docstring of `program.Synapse` says; `discarded` only where `gated`."""
    lo, hi, base = rows
    period = len(spikes)
    for b in range(len(lo)):
        for n in range(lo[b], min(hi[b], period)):
            r = base[b] + n - lo[b]
            count = cum[r + 1] - cum[r]
            if count:
                spikes[n, b] = count
                for k in range(len(delays)):
                    if n + delays[k] < period:
                        cost[n + delays[k], b] += fan_outs[k] * count
    if biased or gated:
        for n in range(period):
            for b in range(len(lo)):
                ticks = ticks_at(clock, b, n)
                if biased:
                    bias[n, b] += width * ticks
                if gated and ticks == 0:
                    discarded[n, b] = cost[n, b]
