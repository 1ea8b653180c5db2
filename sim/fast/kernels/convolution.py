"""Compiled inner loops of convolutions: each output place gathers the weights that its events meet, in their order."""

# Kernels take what numba infers: their docstrings state shapes and types.
# mypy: allow-untyped-defs, allow-untyped-decorators, disable-error-code="assignment"

from __future__ import annotations

import numpy as np
from numba import njit

from spikescr.sim.fast.kernels.counts import ENTRIES, GRADED, SPIKES, SYNOPS, SYNOPS_GRADED
from spikescr.sim.fast.kernels.events import KERNEL
from spikescr.sim.fast.kernels.neurons import list_fired, update
from spikescr.sim.fast.kernels.products import frame, multiply
from spikescr.sim.fast.kernels.vectors import gather_rows, gather_scaled_rows

WIDE = 64
"""Channels above which a list of rows is added in parts: all columns of a few rows, before the next."""
AT_ONCE = 16
"""Rows of such a part."""


@njit(**KERNEL)
def find_segments(idx, start, stop, columns, starts):
    """starts[s]: where the entries of segment s, one row of an image, begin in the sorted idx[start:stop]."""
    segment, bound = 0, columns
    starts[0] = start
    for e in range(start, stop):
        while idx[e] >= bound:
            segment += 1
            starts[segment] = e
            bound += columns
    starts[segment + 1 :] = stop


@njit(**KERNEL)
def gather(  # noqa: PLR0912
    strip, first_row, stop_row, first, stop, lists, amounts_met, ends, idx, amounts, starts, weight, shapes, walk,
    meetings,
):  # fmt: skip
    """Add to rows of the output, strip (places, channels), what events of channels [first, stop) of each group give.

    For every place of a row it lists which rows of the weights its events meet, in their order, and then adds these up:
    twice the additions a second of adding what each event gives to all the places that it reaches. It is one function
    on purpose: calls within it would take longer than lists do.

    lists: (columns K,), K a column, rows of a group's weights; amounts_met likewise or of size 0. ends: (columns,),
    where the list of each ends.
    """
    one, two = np.uint64(1), np.uint64(2)
    columns, rows = shapes[0, 2], shapes[0, 1]
    reached, taps, places = meetings
    height, width = walk[3]
    groups, each, inside = weight.shape[0], weight.shape[2], shapes[0, 0] // weight.shape[0]
    out_columns = len(ends)
    room = np.uint64(len(lists) // out_columns)
    graded, sums, weights = len(amounts) > 0, strip.reshape(strip.size), weight.reshape(weight.size)
    for row in range(first_row, stop_row):
        for g in range(groups):
            for p in range(np.uint64(out_columns)):
                ends[p] = p * room
            for c in range(first, stop):
                for k in range(height):
                    y = row * walk[0, 0] + k * walk[2, 0] - walk[1, 0]
                    if y < 0 or y >= rows:
                        continue
                    tap = np.uint64((c * height + k) * width)
                    segment = (g * inside + c) * rows + y
                    before = segment * columns
                    for e in range(np.uint64(starts[segment]), np.uint64(starts[segment + 1])):
                        x = np.uint64(idx[e] - before)
                        i = np.uint64(reached[x])
                        count = np.uint64(reached[x + one]) - i
                        if count == 3 and not graded:  # the usual kernel, without a loop
                            place = np.uint64(places[i])
                            lists[ends[place]] = tap + np.uint64(taps[i])
                            ends[place] += one
                            place = np.uint64(places[i + one])
                            lists[ends[place]] = tap + np.uint64(taps[i + one])
                            ends[place] += one
                            place = np.uint64(places[i + two])
                            lists[ends[place]] = tap + np.uint64(taps[i + two])
                            ends[place] += one
                            continue
                        for j in range(i, i + count):
                            place = np.uint64(places[j])
                            lists[ends[place]] = tap + np.uint64(taps[j])
                            if graded:
                                amounts_met[ends[place]] = amounts[e]
                            ends[place] += one
            first_weight = g * weight.shape[1] * each
            for column in range(out_columns):
                begin = ((row - first_row) * out_columns + column) * strip.shape[1] + g * each
                p, end = np.int64(column * room), np.int64(ends[column])
                while p < end:
                    stop_at = min(p + AT_ONCE, end) if each > WIDE else end
                    if graded:
                        gather_scaled_rows(sums, begin, weights, first_weight, lists, amounts_met, p, stop_at, each)
                    else:
                        gather_rows(sums, begin, weights, first_weight, lists, amounts_met, p, stop_at, each)
                    p = stop_at


@njit(**KERNEL)
def repeats(ptr, idx, amounts, r):
    """Whether the entries of row r are those of row r - 1."""
    count = ptr[r + 1] - ptr[r]
    if ptr[r] - ptr[r - 1] != count:
        return False
    now, then = ptr[r], ptr[r - 1]
    for e in range(count):
        if idx[now + e] != idx[then + e] or (len(amounts) and amounts[now + e] != amounts[then + e]):
            return False
    return True


@njit(**KERNEL)
def copy(to, of, places):
    """Copy sums (places, channels); an assignment of slices would take as long to compile as all the rest."""
    for p in range(places):
        for o in range(to.shape[1]):
            to[p, o] = of[p, o]


@njit(**KERNEL)
def add_sorted(current, first_row, rows, idx, amounts, starts, shape):
    """current (places, channels) += events of an image of `shape`, those of `rows` rows from first_row on."""
    columns = shape[2]
    for c in range(shape[0]):
        for y in range(rows):
            segment = c * shape[1] + first_row + y
            before = segment * columns - y * columns
            for e in range(starts[segment], starts[segment + 1]):
                current[idx[e] - before, c] += amounts[e] if len(amounts) else 1


@njit(**KERNEL)
def list_by_channel(eights, places, cursor, found, idx, start):
    """List flags (places, channels), eight in an entry, by channels; returns where the list ends.

    cursor: (channels + 1,). found: as many as there are flags, and 8 to spare.
    """
    channels = len(cursor) - 1
    count = list_fired(eights, found, 0)
    cursor[:] = 0
    for e in range(count):
        cursor[found[e] - np.int64(found[e] / channels) * channels + 1] += 1
    for c in range(channels):
        cursor[c + 1] += cursor[c]
    for e in range(count):
        place = np.int64(found[e] / channels)  # a division of integers takes three times as long
        c = found[e] - place * channels
        idx[start + cursor[c]] = c * places + place
        cursor[c] += 1
    return start + count


@njit(**KERNEL)
def convolve(  # noqa: PLR0912, PLR0915
    out, ptr, idx, rows, fired, events, numbers, framing, tile, scratch, dense, more, lif, spikes, membranes,
):  # fmt: skip
    """A convolution of sorted event lists to `out`, or with `lif` the neurons behind it: what fires, listed by channel.

    A tile of the output is held as (places, channels), so that an event adds a row of weights: some samples at all
    their steps, some rows of the image. Where weights are larger than a cache they come in blocks of input channels,
    each for the whole tile. An input that is that of the step before is not convolved again.

    out: (rows, N) to fill, of the rows `rows`, where lif has size 0. ptr, idx, fired, spikes, membranes: as of
    `neurons.layer`. events: an event list in which no channel stands twice; amounts of the entries in its last place,
    of the type of weights, of size 0 where all are 1. numbers: weight (groups, in channels K, out channels of the
    group), bias (out channels,), shapes of input and output (2, 3), stride, padding, dilation and kernel (4, 2), and
    for each input column which taps meet which places. framing: rows and columns of a framed image, and reads and taps
    as of `products.multiply`. tile: samples, rows, channels. scratch: total (samples, steps, places, channels), lists,
    amounts_met, ends as of `gather`, starts and starts of `more` (samples, steps, segments + 1), eight flags in an
    entry (samples, steps, N / 8), the same one by one, v, cursor and found as of `list_by_channel`; framed images
    (steps, size): of size 0 where `gather` is to add, else a tile is of one sample and all channels. dense, more:
    values, packed rows, and sorted events that are added to the currents of neurons. lif: as of `neurons.layer`, for
    neurons in the order (places, channels).

    Returns:
        (sample, step) of the first membrane that is not finite, or (-1, -1).
    """
    lo, hi, base = rows
    slo, shi, sbase, eptr, eidx, amounts = events
    weight, bias, shapes, walk, meetings = numbers
    size_framed, reads, offsets = framing
    total, lists, amounts_met, ends, starts, more_starts, eights, flags, v, cursor, found, images = scratch
    packed, plo, phi, pbase = dense
    mlo, mhi, mbase, mptr, midx, mamounts = more
    channels, height, width = shapes[1]
    places = height * width
    inside = shapes[0, 0] // len(weight)
    biases = np.empty(total.shape[2] * channels, total.dtype)
    for j in range(len(biases)):
        biases[j] = bias[j % channels]
    shared = lif.shape[1] == 1
    constants = np.empty((len(lif), 1 if shared else len(biases)), lif.dtype)
    repeated = np.empty(total.shape[:2], np.bool_)
    bad_sample, bad_step = -1, -1
    end = 0
    if lif.size:
        ptr[0] = 0
    for b0 in range(0, len(lo), tile[0]):
        b1 = min(b0 + tile[0], len(lo))
        for b in range(b0, b1):
            for n in range(lo[b], hi[b]):
                at = n - lo[b]
                repeated[b - b0, at] = False
                if slo[b] <= n < shi[b]:
                    s = sbase[b] + n - slo[b]
                    repeated[b - b0, at] = n > max(lo[b], slo[b]) and repeats(eptr, eidx, amounts, s)
                    find_segments(eidx, eptr[s], eptr[s + 1], shapes[0, 2], starts[b - b0, at])
                    if len(images):
                        frame(images[at], walk, shapes[0], size_framed, eidx, amounts, starts[b - b0, at])
                if mlo[b] <= n < mhi[b]:
                    s = mbase[b] + n - mlo[b]
                    find_segments(midx, mptr[s], mptr[s + 1], width, more_starts[b - b0, at])
                if lif.size:
                    eights[b - b0, at, -1] = 0
        for r0 in range(0, height, tile[1]):
            r1 = min(r0 + tile[1], height)
            size = (r1 - r0) * width
            for c0 in range(0, inside, tile[2]):
                for b in range(b0, b1):
                    for n in range(lo[b], hi[b]):
                        at = n - lo[b]
                        if c0 == 0:
                            total[b - b0, at, :size] = 0
                        if not slo[b] <= n < shi[b]:
                            continue
                        s = sbase[b] + n - slo[b]
                        if repeated[b - b0, at]:
                            if c0 + tile[2] >= inside:
                                copy(total[b - b0, at], total[b - b0, at - 1], size)
                            continue
                        if len(images):
                            multiply(total[b - b0, at], r0 * width, size, images[at], weight, reads, offsets)
                            continue
                        gather(
                            total[b - b0, at], r0, r1, c0, min(c0 + tile[2], inside), lists, amounts_met, ends, eidx,
                            amounts, starts[b - b0, at], weight, shapes, walk, meetings,
                        )  # fmt: skip
            for k in range(len(lif)):
                for j in range(1 if shared else size * channels):
                    constants[k, j] = lif[k, j if shared else r0 * width * channels + j]
            for b in range(b0, b1):
                v[: size * channels] = 0
                for n in range(lo[b], hi[b]):
                    at, r = n - lo[b], base[b] + n - lo[b]
                    strip = total[b - b0, at]
                    first = r0 * width
                    if lif.size == 0:
                        for o in range(channels):
                            for p in range(size):
                                out[r, o * places + first + p] = strip[p, o] + bias[o]
                        continue
                    a, z = first * channels, (first + size) * channels
                    currents = strip[:size].reshape(size * channels)
                    once = total.dtype.type(1)
                    values, others = plo[b] <= n < phi[b], mlo[b] <= n < mhi[b]
                    if values or others:  # (sum + bias) + other, as edges that join are added
                        once = total.dtype.type(0)
                        for j in range(size * channels):
                            currents[j] += biases[j]
                    if values:
                        d = pbase[b] + n - plo[b]
                        for o in range(channels):
                            for p in range(size):
                                strip[p, o] += packed[d, o * places + first + p]
                    if others:
                        add_sorted(strip, r0, r1 - r0, midx, mamounts, more_starts[b - b0, at], shapes[1])
                    fires = flags[b - b0, at, a:z]
                    if update(v[: z - a], currents, 0, currents, biases, once, constants, fires) and (
                        bad_sample < 0 or b < bad_sample or (b == bad_sample and n < bad_step)
                    ):
                        bad_sample, bad_step = b, n
                    if membranes.size:
                        for o in range(channels):
                            for p in range(size):
                                membranes[n, b, o * places + first + p] = strip[p, o]
        if bad_sample >= 0:
            return bad_sample, bad_step
        if lif.size == 0:
            continue
        for b in range(b0, b1):
            for n in range(lo[b], hi[b]):
                begin = end
                end = list_by_channel(eights[b - b0, n - lo[b]], places, cursor, found, idx, end)
                ptr[base[b] + n - lo[b] + 1] = end
                fired[n, b] = end - begin
                if spikes.size:
                    for e in range(begin, end):
                        spikes[n, b, idx[e]] = True
    return -1, -1


@njit(**KERNEL)
def convolve_planes(out, rows, events, numbers):  # noqa: PLR0912
    """A convolution of few output channels in each group, as pools are; arguments as of `convolve`.

    weight: (in channels, rows, columns, out channels of the group). meetings: for rows, then for columns.
    """
    lo, hi, base = rows
    slo, shi, sbase, ptr, idx, amounts = events
    weight, bias, shapes, across, meetings = numbers
    row_reached, row_taps, row_places = across
    reached, taps, column_places = meetings
    channels, height, width = shapes[1]
    places = height * width
    each = weight.shape[3]
    inside = shapes[0, 0] // (channels // each)
    in_rows, in_columns = shapes[0, 1], shapes[0, 2]
    one, amount = np.uint64(1), weight.dtype.type(1)
    for b in range(len(lo)):
        for n in range(lo[b], hi[b]):
            total = out[base[b] + n - lo[b]]
            total[:] = 0
            if slo[b] <= n < shi[b]:
                s = sbase[b] + n - slo[b]
                c, y, member, first, bound = 0, 0, 0, 0, in_columns
                for e in range(ptr[s], ptr[s + 1]):
                    while idx[e] >= bound:
                        bound += in_columns
                        y += 1
                        if y == in_rows:
                            y = 0
                            c += 1
                            member += 1
                            if member == inside:
                                member = 0
                                first += each
                    x = np.uint64(idx[e] - bound + in_columns)
                    if len(amounts):
                        amount = amounts[e]
                    for i in range(np.uint64(row_reached[y]), np.uint64(row_reached[y + 1])):
                        line = np.uint64(first * places + row_places[i] * width)
                        for j in range(np.uint64(reached[x]), np.uint64(reached[x + one])):
                            place = line + np.uint64(column_places[j])
                            for o in range(np.uint64(each)):
                                total[place] += amount * weight[c, row_taps[i], taps[j], o]
                                place += np.uint64(places)
            for o in range(channels):
                if bias[o] != 0:
                    for p in range(o * places, (o + 1) * places):
                        total[p] += bias[o]


@njit(**KERNEL)
def count_convolution(counts, kind, rows, ptr, idx, amounts, real, fan_out):
    """Counts (kinds, P, B) of a convolution, of `kind`, from its event list; real: an entry of any amount counts once.

    fan_out: (in width,).
    """
    lo, hi, base = rows
    for b in range(len(lo)):
        for n in range(lo[b], hi[b]):
            r = base[b] + n - lo[b]
            events = cost = synops = synops_graded = graded = 0
            for e in range(ptr[r], ptr[r + 1]):
                synops += fan_out[idx[e]]
            if len(amounts):
                for e in range(ptr[r], ptr[r + 1]):
                    if amounts[e] != 1:
                        graded += 1
                        synops_graded += fan_out[idx[e]]
                    if not real:
                        events += np.int64(amounts[e])
                        cost += np.int64(amounts[e]) * fan_out[idx[e]]
            if real or len(amounts) == 0:
                events, cost = ptr[r + 1] - ptr[r], synops
            counts[SPIKES, n, b] = events
            counts[kind, n, b] = cost
            counts[ENTRIES, n, b] = ptr[r + 1] - ptr[r]
            counts[SYNOPS, n, b] = synops
            counts[GRADED, n, b] = graded
            counts[SYNOPS_GRADED, n, b] = synops_graded
