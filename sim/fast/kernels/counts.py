"""Compiled inner loops of depthwise taps, rotary positions, attention and the counts of synapses.

The forms of signals are those of `kernels`; so are the reasons for tuples that are taken apart once and for unsigned
indices.
"""

# Kernels take what numba infers: their docstrings state shapes and types.
# mypy: allow-untyped-defs, allow-untyped-decorators, disable-error-code="assignment"

from __future__ import annotations

import numpy as np
from numba import njit

from spikescr.sim.fast.kernels.neurons import KERNEL, ticks_at
from spikescr.sim.recording import KINDS

SPIKES, AC, DISCARDED, BIAS = (KINDS.index(kind) for kind in ("spikes", "ac", "discarded", "bias"))
ENTRIES, GRADED = KINDS.index("entries"), KINDS.index("graded")
SYNOPS, SYNOPS_GRADED, SYNOPS_DISCARDED = (
    KINDS.index(kind) for kind in ("synops", "synops_graded", "synops_discarded")
)


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
def write(state, keys, spread, live, head_of, depth, k, kstart, kstop, kmult, v, vstart, vstop, vmult):
    """Attention at a step that ticks: state[i] += k[i] * v of i's head, keys[i] += 1; returns the accumulations."""
    for j in range(len(spread)):
        spread[j] = 0
    for h in range(len(live)):
        live[h] = 0
    for e in range(vstart, vstop):
        j = v[e]
        spread[j] = state.dtype.type(vmult[e]) if len(vmult) else state.dtype.type(1)
        live[head_of[j]] += 1
    cost = 0
    for e in range(kstart, kstop):
        i = k[e]
        h = head_of[i]
        keys[i] += 1
        if live[h]:
            cost += live[h]
            first = np.uint64(h * depth)
            times = state.dtype.type(kmult[e]) if len(kmult) else state.dtype.type(1)
            for j in range(np.uint64(depth)):
                state[i, j] += times * spread[first + j]
    return cost


@njit(**KERNEL)
def read(out, r, state, keys, head_of, depth, scale, q, start, stop, mult):
    """Attention a window later: out[r] = scale * q A; returns the coincidences of q with all keys."""
    met = 0
    for e in range(start, stop):
        i = q[e]
        met += keys[i]
        first = np.uint64(head_of[i] * depth)
        times = state.dtype.type(mult[e]) if len(mult) else state.dtype.type(1)
        for j in range(np.uint64(depth)):
            out[r, first + j] += times * state[i, j]
    for j in range(out.shape[1]):
        out[r, j] *= scale
    return met


@njit(**KERNEL)
def attention(out, rows, q, k, v, clock, heads, scale, steps, ac, quadratic):
    """Q (K^T V), streaming: writes A while the clock ticks, reads with the q of `steps` before.

    out: (rows, N) to fill; its rows are those of the clock, `steps` later. q, k, v: event lists in which no channel
    stands twice. ac, quadratic: counts (P, B) to fill.
    """
    lo, hi, base = rows
    qlo, qhi, qbase, qptr, qidx, qmult = q
    klo, khi, kbase, kptr, kidx, kmult = k
    vlo, vhi, vbase, vptr, vidx, vmult = v
    clo, chi, cbase, cptr = clock
    width = out.shape[1]
    depth = width // heads
    state, spread = np.empty((width, depth), out.dtype), np.empty(width, out.dtype)
    keys, live = np.empty(width, np.int64), np.empty(heads, np.int64)
    head_of = np.arange(width) // depth
    for b in range(len(lo)):
        state[:] = 0
        keys[:] = 0
        total = 0
        for n in range(lo[b] - steps, hi[b]):
            cost = 0
            if n < len(ac) and ticks_at(clo, chi, cbase, cptr, b, n):
                vs = vbase[b] + n - vlo[b]
                ks = kbase[b] + n - klo[b]
                vstart, vstop = (vptr[vs], vptr[vs + 1]) if vlo[b] <= n < vhi[b] else (0, 0)
                kstart, kstop = (kptr[ks], kptr[ks + 1]) if klo[b] <= n < khi[b] else (0, 0)
                total += vstop - vstart
                cost = write(
                    state, keys, spread, live, head_of, depth, kidx, kstart, kstop, kmult, vidx, vstart, vstop, vmult
                )
            if n >= lo[b]:
                r = base[b] + n - lo[b]
                for j in range(width):
                    out[r, j] = 0
                past = n - steps
                if ticks_at(clo, chi, cbase, cptr, b, past):
                    qs = qbase[b] + past - qlo[b]
                    start, stop = (qptr[qs], qptr[qs + 1]) if qlo[b] <= past < qhi[b] else (0, 0)
                    met = read(out, r, state, keys, head_of, depth, scale, qidx, start, stop, qmult)
                    cost += (stop - start) * depth
                    quadratic[n, b] = met + total
            ac[n, b] = cost


@njit(**KERNEL)
def count_arrivals(out, rows, cum, factor):
    """Counts (P, B): add `factor` for each event of each row."""
    lo, hi, base = rows
    for b in range(len(lo)):
        for n in range(lo[b], hi[b]):
            r = base[b] + n - lo[b]
            out[n, b] += factor * (cum[r + 1] - cum[r])


@njit(**KERNEL)
def count_tally(counts, rows, tally, fan_out):
    """Counts (kinds, P, B): entries and graded entries of each row, and `fan_out` synops for each."""
    lo, hi, base = rows
    for b in range(len(lo)):
        for n in range(lo[b], hi[b]):
            r = base[b] + n - lo[b]
            counts[ENTRIES, n, b] = tally[r, 0]
            counts[GRADED, n, b] = tally[r, 1]
            counts[SYNOPS, n, b] = fan_out * tally[r, 0]
            counts[SYNOPS_GRADED, n, b] = fan_out * tally[r, 1]


@njit(**KERNEL)
def reach_of_events(out, ptr, idx, mult, fan_outs):
    """Events, entries and graded entries times the synapses of their channels, (rows, taps, 3); no channel twice."""
    out[:] = 0
    for r in range(len(out)):
        for e in range(ptr[r], ptr[r + 1]):
            times = mult[e] if len(mult) else 1
            for k in range(len(fan_outs)):
                reached = fan_outs[k, idx[e]]
                out[r, k, 0] += times * reached
                out[r, k, 1] += reached
                if times != 1:
                    out[r, k, 2] += reached


@njit(**KERNEL)
def reach_of_values(out, packed, fan_outs):
    """The same for packed rows of values, in which every non-zero entry is an event."""
    out[:] = 0
    for r in range(len(out)):
        for i in range(packed.shape[1]):
            if packed[r, i] != 0:
                for k in range(len(fan_outs)):
                    out[r, k, 0] += fan_outs[k, i]
                    out[r, k, 1] += fan_outs[k, i]
                    if packed[r, i] != 1:
                        out[r, k, 2] += fan_outs[k, i]


@njit(**KERNEL)
def reach_of_rows(out, cum, tally, fan_outs):
    """The same where all channels of a tap have as many synapses, fan_outs (taps, 1), from the sums of each row."""
    for r in range(len(out)):
        for k in range(len(fan_outs)):
            out[r, k, 0] = fan_outs[k, 0] * (cum[r + 1] - cum[r])
            for kind in range(2):
                out[r, k, 1 + kind] = fan_outs[k, 0] * tally[r, kind] if len(tally) else 0


@njit(**KERNEL)
def count_synapse(counts, kind, rows, cum, tally, delays, reach, clock, width, biased, gated):  # noqa: PLR0912
    """Counts (kinds, P, B) of a synapse, as the docstring of `program.Synapse` says; its operations are of `kind`.

    tally: entries and graded entries of each row, of size 0 for a clock. reach: (rows, taps, 3), as above.
    """
    lo, hi, base = rows
    clo, chi, cbase, cptr = clock
    spikes, cost, bias = counts[SPIKES], counts[kind], counts[BIAS]
    synops, synops_graded = counts[SYNOPS], counts[SYNOPS_GRADED]
    period = len(spikes)
    for b in range(len(lo)):
        for n in range(lo[b], hi[b]):
            r = base[b] + n - lo[b]
            count = cum[r + 1] - cum[r]
            if not count:
                continue
            spikes[n, b] = count
            for k in range(len(delays)):
                if n + delays[k] < period:
                    cost[n + delays[k], b] += reach[r, k, 0]
            if len(tally):
                counts[ENTRIES, n, b] = tally[r, 0]
                counts[GRADED, n, b] = tally[r, 1]
                for k in range(len(delays)):
                    if n + delays[k] < period:
                        synops[n + delays[k], b] += reach[r, k, 1]
                        synops_graded[n + delays[k], b] += reach[r, k, 2]
        if biased:
            for n in range(clo[b], chi[b]):
                r = cbase[b] + n - clo[b]
                bias[n, b] += width * (cptr[r + 1] - cptr[r])
        if gated:
            for n in range(lo[b], min(hi[b] + delays[-1], period)):
                if ticks_at(clo, chi, cbase, cptr, b, n) == 0:
                    counts[SYNOPS_DISCARDED, n, b] = synops[n, b]
                    if kind == AC:
                        counts[DISCARDED, n, b] = cost[n, b]


@njit(**KERNEL)
def count_window(out, first, valid, width):
    """Counts (P, B): `width` for the steps of each sample, from `first` on."""
    for b in range(len(valid)):
        for n in range(first, min(first + valid[b], len(out))):
            out[n, b] = width
