"""Cycles of operations that do not mix channels, as adaptive neurons are made of, over a whole window."""

# Kernels take what numba infers: their docstrings state shapes and types.
# mypy: allow-untyped-defs, allow-untyped-decorators, disable-error-code="assignment"

from __future__ import annotations

import numpy as np
from numba import njit

from spikescr.sim.fast.kernels.events import KERNEL

DELAY, SCALE, SUM, NEURON, GATE = range(5)
"""Kinds of members."""
EVENTS, COST, ENTRIES, GRADED, SYNOPS, SYNOPS_GRADED = range(6)
"""What is counted of a SCALE; EVENTS of a NEURON are its spikes."""


@njit(**KERNEL)
def run_members(  # noqa: PLR0912, PLR0915
    kinds, numbers, options, fan_outs, sources, given, clocks, counts, outs, places, ring
):
    """All steps of all samples, member by member in their order.

    kinds: (M,). numbers: (M, 5, N): of a SCALE its weights, of a SUM decay, gain, drive, of a NEURON threshold and
    reset as well. options: (M, 2): of a DELAY its steps, of a SCALE whether values arrive, of a NEURON whether its
    reset is soft, of a GATE the clock that opens it and whether it closes it. fan_outs: (M, N). sources: (M + 1,)
    where each member's begin, and the sources: a member, or -1 - g for given[g]. given: (G, P, B, N). clocks: (C, P,
    B), 0 or 1. counts: (M, 6, P, B) to fill. outs: (K, B, P, N) to fill. places: (M,), in outs, or -1. ring: (M,
    longest delay, N).

    Returns:
        (sample, step, member) of a membrane that is not finite, or (-1, -1, -1).
    """
    starts, indices = sources
    members, width = fan_outs.shape
    period, samples = counts.shape[2:]
    now, v = np.zeros((members, width), numbers.dtype), np.zeros((members, width), numbers.dtype)
    x, one = np.zeros(width, numbers.dtype), numbers.dtype.type(1)
    for b in range(samples):
        v[:] = 0
        now[:] = 0
        ring[:] = 0
        for n in range(period):
            for m in range(members):
                if kinds[m] == DELAY:
                    y, late = now[m], ring[m, n % options[m, 0]]
                    for j in range(width):
                        y[j] = late[j]
            for turn in range(2):  # those that delay take in what the others have put out
                for m in range(members):
                    kind = kinds[m]
                    if (kind == DELAY) != (turn == 1):
                        continue
                    for s in range(starts[m], starts[m + 1]):
                        g = indices[s]
                        arriving = now[g] if g >= 0 else given[-1 - g, n, b]
                        if s == starts[m]:
                            for j in range(width):
                                x[j] = arriving[j]
                        else:
                            for j in range(width):
                                x[j] += arriving[j]
                    y = now[m]
                    if kind == DELAY:
                        late = ring[m, n % options[m, 0]]
                        for j in range(width):
                            late[j] = x[j]
                    elif kind == SCALE:
                        weight, fan_out, values = numbers[m, 0], fan_outs[m], options[m, 0]
                        events = cost = entries = graded = synops = synops_graded = 0
                        for j in range(width):
                            y[j] = x[j] * weight[j]
                        for j in range(width):
                            if x[j] != 0:
                                amount = 1 if values else np.int64(x[j])
                                events += amount
                                cost += amount * fan_out[j]
                                entries += 1
                                synops += fan_out[j]
                                if x[j] != one:
                                    graded += 1
                                    synops_graded += fan_out[j]
                        counts[m, EVENTS, n, b], counts[m, COST, n, b] = events, cost
                        counts[m, ENTRIES, n, b], counts[m, GRADED, n, b] = entries, graded
                        counts[m, SYNOPS, n, b], counts[m, SYNOPS_GRADED, n, b] = synops, synops_graded
                    elif kind == GATE:
                        if (clocks[options[m, 0], n, b] == 1) != (options[m, 1] == 1):
                            for j in range(width):
                                y[j] = x[j]
                        else:
                            for j in range(width):
                                y[j] = 0
                    else:
                        u, decay, gain, drive = v[m], numbers[m, 0], numbers[m, 1], numbers[m, 2]
                        bad = False
                        for j in range(width):
                            h = u[j] * decay[j] + gain[j] * x[j] + drive[j]
                            u[j] = h
                            bad |= h - h != 0
                        if bad:
                            return b, n, m
                        if kind == SUM:
                            for j in range(width):
                                y[j] = u[j]
                        else:
                            threshold, reset = numbers[m, 3], numbers[m, 4]
                            for j in range(width):
                                y[j] = u[j] > threshold[j]
                            fired = 0
                            for j in range(width):
                                fired += y[j] != 0
                            counts[m, EVENTS, n, b] = fired
                            if fired and options[m, 0]:
                                for j in range(width):
                                    u[j] = u[j] - threshold[j] if y[j] != 0 else u[j]
                            elif fired:
                                for j in range(width):
                                    u[j] = reset[j] if y[j] != 0 else u[j]
            for m in range(members):
                if places[m] >= 0:
                    y, to = now[m], outs[places[m], b, n]
                    for j in range(width):
                        to[j] = y[j]
    return -1, -1, -1
