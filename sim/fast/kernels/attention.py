"""Compiled inner loops of attention, Q (K^T V)."""

# Kernels take what numba infers: their docstrings state shapes and types.
# mypy: allow-untyped-defs, allow-untyped-decorators, disable-error-code="assignment"

from __future__ import annotations

import numpy as np
from numba import njit

from spikescr.sim.fast.kernels.events import KERNEL, ticks_at


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
    """Attention: out[r] = scale * q A; returns the coincidences of q with all keys."""
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
def causal_attention(out, rows, q, k, v, clock, heads, scale, ac, quadratic):
    """Q (K^T V) of what came until now: writes A and reads it at every step in which the clock ticks.

    out: (rows, N) to fill. q, k, v: event lists in which no channel stands twice. ac, quadratic: counts (P, B).
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
        for n in range(lo[b], hi[b]):
            r = base[b] + n - lo[b]
            for j in range(width):
                out[r, j] = 0
            if not ticks_at(clo, chi, cbase, cptr, b, n):
                continue
            vs, ks, qs = vbase[b] + n - vlo[b], kbase[b] + n - klo[b], qbase[b] + n - qlo[b]
            vstart, vstop = (vptr[vs], vptr[vs + 1]) if vlo[b] <= n < vhi[b] else (0, 0)
            kstart, kstop = (kptr[ks], kptr[ks + 1]) if klo[b] <= n < khi[b] else (0, 0)
            start, stop = (qptr[qs], qptr[qs + 1]) if qlo[b] <= n < qhi[b] else (0, 0)
            total += vstop - vstart
            cost = write(
                state, keys, spread, live, head_of, depth, kidx, kstart, kstop, kmult, vidx, vstart, vstop, vmult
            )
            met = read(out, r, state, keys, head_of, depth, scale, qidx, start, stop, qmult)
            ac[n, b] = cost + (stop - start) * depth
            quadratic[n, b] = met + total
