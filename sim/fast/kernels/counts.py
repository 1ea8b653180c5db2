"""Compiled inner loops that count."""

# Kernels take what numba infers: their docstrings state shapes and types.
# mypy: allow-untyped-defs, allow-untyped-decorators, disable-error-code="assignment"

from __future__ import annotations

from numba import njit

from spikescr.sim.fast.kernels.events import KERNEL, ticks_at
from spikescr.sim.recording import KINDS

SPIKES, AC, DISCARDED, BIAS = (KINDS.index(kind) for kind in ("spikes", "ac", "discarded", "bias"))
ENTRIES, GRADED = KINDS.index("entries"), KINDS.index("graded")
SYNOPS, SYNOPS_GRADED, SYNOPS_DISCARDED = (
    KINDS.index(kind) for kind in ("synops", "synops_graded", "synops_discarded")
)


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
