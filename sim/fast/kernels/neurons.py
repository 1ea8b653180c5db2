"""Compiled inner loops of currents, neurons and leaky sums."""

# Kernels take what numba infers: their docstrings state shapes and types.
# mypy: allow-untyped-defs, allow-untyped-decorators, no-warn-unreachable

from __future__ import annotations

import numpy as np
from numba import njit

from spikescr.dialect import INT32, WRAP
from spikescr.sim.fast.kernels.events import KERNEL, ticks_at
from spikescr.sim.fast.kernels.vectors import (
    add_block,
    add_scaled_block,
    put_eight,
    update_each,
    update_shared,
)

# Of eight flags, gathered with the first one in the lowest bit: how many are set, and which, in order.
BITS = np.array([mask.bit_count() for mask in range(256)])
PLACES = np.zeros((256, 8), np.int32)
for _mask in range(256):
    _set = [k for k in range(8) if _mask >> k & 1]
    PLACES[_mask, : len(_set)] = _set


@njit(**KERNEL)
def sum_events(product, rows, events, weight, inputs, delays):
    """product (rows, blocks * lanes) = what the events of all taps give, of the rows `rows`.

    A block of columns after the other, each for all rows, so that its weights stay in the nearest cache.
    events: an event list. weight: (blocks * taps * inputs, lanes), of a block all taps, of a tap all inputs.
    """
    lo, hi, base = rows
    elo, ehi, ebase, ptr, idx, mult = events
    flat = product.reshape(product.size)
    lanes = weight.shape[1]
    for block in range(product.shape[1] // lanes):
        for b in range(len(lo)):
            for n in range(lo[b], hi[b]):
                place = (base[b] + n - lo[b]) * product.shape[1] + block * lanes
                fresh = 1
                for k in range(len(delays)):
                    m = n - delays[k]
                    if elo[b] <= m < ehi[b]:
                        e = ebase[b] + m - elo[b]
                        first = (block * len(delays) + k) * inputs
                        if len(mult):
                            add_scaled_block(flat, place, weight, first, idx, mult, ptr[e], ptr[e + 1], fresh)
                        else:
                            add_block(flat, place, weight, first, idx, mult, ptr[e], ptr[e + 1], fresh)
                        fresh = 0
                if fresh:
                    for j in range(np.uint64(lanes)):
                        flat[np.uint64(place) + j] = 0


@njit(**KERNEL)
def subtract(v, before, threshold, flags):
    """A soft reset: v = before - threshold where a neuron fired; threshold (N,) or (1,)."""
    for j in range(len(v)):
        if flags[j]:
            v[j] = before[j] - threshold[j if len(threshold) > 1 else 0]


@njit(**KERNEL)
def update(v, driving, place, current, bias, ticks, lif, flags):
    """One step of all neurons, which the numbers of `driving` from `place` on drive.

    current: to fill with v before the reset; it may be what drives. Returns whether a membrane is not finite.
    """
    if lif.shape[1] == 1:
        bad = update_shared(v, driving, place, current, bias, ticks, lif, flags, len(lif) - 1, 1, len(v))
    else:
        bad = update_each(v, driving, place, current, bias, ticks, lif, flags, len(lif) - 1, lif.shape[1], len(v))
    if len(lif) == 4:
        subtract(v, current, lif[3], flags)
    return bad != 0


@njit(**KERNEL)
def update_fixed(v, u, current, bias, ticks, lif, flags):
    """The same in fixed point, currents u with it; returns how many currents wrapped and membranes were cut."""
    saturated = 0
    for j in range(len(v)):
        k = j if lif.shape[1] > 1 else 0
        c = np.trunc(u[j] * lif[5, k]) + lif[1, k] * (current[j] + ticks * bias[j])
        if c > WRAP or c <= -WRAP:
            saturated += 1
            if c >= INT32 or c < -INT32:
                c -= 2 * INT32 * np.floor((c + INT32) / (2 * INT32))
            if c > WRAP:
                c -= 2 * WRAP
            elif c <= -WRAP:
                c += 2 * WRAP
        u[j] = c
        h = np.trunc(v[j] * lif[0, k]) + c + lif[2, k]
        if h >= WRAP or h <= -WRAP:
            h = WRAP - 1 if h > 0 else 1 - WRAP
            saturated += 1
        fired = h > lif[3, k]
        flags[j] = fired
        current[j] = h
        v[j] = 0 if fired else h
    return saturated


@njit(**KERNEL)
def list_fired(eights, idx, start):
    """Write the channels that fired to idx from `start` on, eight flags at a time; returns where the list ends.

    The factor gathers eight bytes of 0 or 1 into the top byte. No branch: mispredictions would cost more than the
    stores of up to 8 entries too many that this makes. 25 ns for 128 channels; one channel at a time took 70.
    """
    p = start
    for w in range(len(eights)):
        mask = np.int64((eights[w] * np.uint64(0x0102040810204080)) >> np.uint64(56))
        put_eight(idx, p, PLACES, mask, np.int32(8 * w))
        p += BITS[mask]
    return p


@njit(**KERNEL)
def layer(  # noqa: PLR0912, PLR0915
    out, ptr, idx, rows, fired, dense, dense_rows, delays, bias, clock, gated, lif, spikes, membranes, saturated,
):  # fmt: skip
    """The current of a synapse, to `out`, or with `lif` the neurons behind it: event list and count of what fires.

    It is one long loop on purpose: a function that is given all these arrays costs 60 ns a call, in references counted
    and arguments copied, which is as much as the update of 128 neurons.

    out: (rows, N) to fill, of the rows `rows`, where lif has size 0. ptr, idx: event list to fill, of the same rows,
    else; idx with 8 entries to spare. fired: counts (P, B) to fill. dense: products already taken, (rows, taps * N) or
    more columns, that with tap k in columns k N to (k + 1) N. bias: (N,), zeros where there is none. gated: the current
    passes only while the clock ticks. lif: decay, gain, drive, threshold, reset: (5, N), or (5, 1) where all neurons
    share them; no row of resets where they are soft; in fixed point a sixth row, the decay of currents. spikes,
    membranes: (P, B, N) to fill, or of size 0. saturated: counts (P, B) to fill in fixed point.

    Returns:
        (sample, step) of a membrane that is not finite, or (-1, -1).
    """
    lo, hi, base = rows
    dlo, dhi, dbase = dense_rows
    clo, chi, cbase, cptr = clock
    width = len(bias)
    v, u, current = np.empty(width, bias.dtype), np.empty(width, bias.dtype), np.empty(width, bias.dtype)
    eights = np.zeros((width + 7) // 8, np.uint64)
    flags = eights.view(np.bool_)
    flat, straight = dense.reshape(dense.size), len(delays) == 1 and len(lif) == 5
    last, wide = len(lif) - 1, lif.shape[1]
    p = 0
    if lif.size:
        ptr[0] = 0
    for b in range(len(lo)):
        for j in range(width):
            v[j] = 0
            u[j] = 0
        for n in range(lo[b], hi[b]):
            r = base[b] + n - lo[b]
            ticks = bias.dtype.type(ticks_at(clo, chi, cbase, cptr, b, n))
            passes = ticks != 0 or not gated
            m = n - delays[0]
            if straight and passes and dlo[b] <= m < dhi[b]:
                place = (dbase[b] + m - dlo[b]) * dense.shape[1]
                if wide == 1:
                    bad = update_shared(v, flat, place, current, bias, ticks, lif, flags, last, wide, width) != 0
                else:
                    bad = update_each(v, flat, place, current, bias, ticks, lif, flags, last, wide, width) != 0
            else:
                fresh = True
                if passes:
                    for k in range(len(delays)):
                        m = n - delays[k]
                        if dlo[b] <= m < dhi[b]:
                            d = dbase[b] + m - dlo[b]
                            first = np.uint64(k * width)
                            if fresh:
                                for j in range(np.uint64(width)):
                                    current[j] = dense[d, first + j]
                            else:
                                for j in range(np.uint64(width)):
                                    current[j] += dense[d, first + j]
                            fresh = False
                if fresh:
                    for j in range(width):
                        current[j] = 0
                if lif.size == 0:
                    for j in range(width):
                        out[r, j] = current[j] + ticks * bias[j]
                    continue
                if len(lif) == 6:
                    saturated[n, b] = update_fixed(v, u, current, bias, ticks, lif, flags)
                    bad = False
                else:
                    bad = update(v, current, 0, current, bias, ticks, lif, flags)
            if bad:
                return b, n
            first_event = p
            p = list_fired(eights, idx, p)
            ptr[r + 1] = p
            fired[n, b] = p - first_event
            if spikes.size:
                for j in range(width):
                    spikes[n, b, j] = flags[j]
            if membranes.size:
                for j in range(width):
                    membranes[n, b, j] = current[j]
    return -1, -1


@njit(**KERNEL)
def integrate(out, rows, packed, packed_rows, sums, membranes):
    """v = v * decay + gain * x + drive, of all steps; sums: decay, gain, drive (3, N). membranes: (P, B, N) or size 0.

    Returns:
        (sample, step) of a sum that is not finite, or (-1, -1).
    """
    lo, hi, base = rows
    slo, shi, sbase = packed_rows
    v = np.empty(out.shape[1], out.dtype)
    for b in range(len(lo)):
        v[:] = 0
        for n in range(lo[b], hi[b]):
            r = base[b] + n - lo[b]
            inside = slo[b] <= n < shi[b]
            s = sbase[b] + n - slo[b]
            bad = False
            for j in range(len(v)):
                x = packed[s, j] if inside else out.dtype.type(0)
                v[j] = v[j] * sums[0, j] + sums[1, j] * x + sums[2, j]
                out[r, j] = v[j]
                bad |= v[j] - v[j] != 0
            if bad:
                return b, n
            if membranes.size:
                for j in range(len(v)):
                    membranes[n, b, j] = v[j]
    return -1, -1
