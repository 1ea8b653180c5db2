"""Convolutions over a whole window, alone or with the neurons that they feed."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from spikescr.sim.fast.batch import NO_MEMBRANES, NO_SPIKES, Batch, Output, failure
from spikescr.sim.fast.kernels import convolution as kernels
from spikescr.sim.fast.memory import Buffers
from spikescr.sim.fast.plan import KIND, Image, Kernel
from spikescr.sim.fast.ports import NO_PLACES
from spikescr.sim.fast.signals import NO_INTS, Entries, Events, Rows, Values
from spikescr.sim.program import Convolution, IntArray, Neuron, Signal

WEIGHTS_AT_ONCE = 4 << 20
"""Bytes of weights up to which all of them are used for a few places before the next, else a block for many places."""
WEIGHTS_MULTIPLIED = 1 << 20
"""Bytes of weights up to which they may be multiplied, whatever they meet: they are read again every eight places."""
BLOCK = 1 << 18
"""Bytes of a block of larger weights, about."""
TILE = 1 << 20
"""Bytes of the sums that share a block, about."""
ROWS = 1 << 17
"""Bytes of the sums of some rows of one sample at all steps, about, where there are no blocks."""

Scratch: TypeAlias = tuple[NDArray[Any], ...]


def convolution(batch: Batch, operation: Convolution) -> Output:
    """At all steps where it has a bias, else at those in which something arrives."""
    x, rows = _arriving(batch, operation)
    packed = batch.packed(operation, rows)
    convolve(batch.plan.kernels[operation.name], batch.ports.buffers, packed, rows, x)
    return Values(rows, packed)


def convolve(kernel: Kernel, buffers: Buffers, out: NDArray[Any], rows: Rows, x: Entries) -> None:
    """Convolves entries to packed rows `out`, (rows, N)."""
    if kernel.planes:
        kernels.convolve_planes(out, rows.arrays, x.arrays, kernel.numbers)
        return
    none = np.zeros(len(rows.lo), np.int64)
    no_values = (np.empty((0, 0), out.dtype), none, none, none)
    no_events = (none, none, none, NO_INTS, NO_PLACES, np.empty(0, out.dtype))
    tile, scratch = _tile(kernel, buffers, rows, x, neurons=False)
    kernels.convolve(
        out, NO_INTS, NO_PLACES, rows.arrays, np.empty((0, 0), np.int64), x.arrays, kernel.numbers, kernel.framing,
        tile, scratch, no_values, no_events, np.empty((0, 1), out.dtype), NO_SPIKES, NO_MEMBRANES,
    )  # fmt: skip


def image_neuron(batch: Batch, operation: Neuron, image: Image) -> Output:
    """A convolution and its neurons, which may read something else as well."""
    ports, name, dtype = batch.ports, operation.name, batch.dtype
    kernel = batch.plan.kernels[image.convolution.name]
    x, own = _arriving(batch, image.convolution)
    parts = [(own, 0, 0)]
    none = np.zeros(batch.shape[1], np.int64)
    values: tuple[NDArray[Any], ...] = (np.empty((0, 0), dtype), none, none, none)
    events: tuple[NDArray[Any], ...] = (none, none, none, NO_INTS, NO_PLACES, np.empty(0, dtype))
    if image.other is not None:
        other = ports.signals[image.other.sources[0]]
        if isinstance(other, Events) and other.unique:
            events = ports.entries(image.other).arrays
        else:
            other = ports.values(image.other)
            values = (other.packed, *other.rows.arrays)
        parts.append((other.rows, 0, 0))
    whole = batch.record_membranes or name not in batch.plan.quiet
    rows = ports.geometry.all if whole else ports.geometry.spanning(parts)
    ptr = ports.buffers((rows.count + 1,), np.int64)
    idx = ports.buffers((rows.count * operation.width + 8,), np.int32)
    tile, scratch = _tile(kernel, ports.buffers, rows, x, neurons=True)
    sample, step = kernels.convolve(
        np.empty((0, 0), dtype), ptr, idx, rows.arrays, batch.count(operation, "fired"), x.arrays, kernel.numbers,
        kernel.framing, tile, scratch, values, events, batch.plan.lif[name], batch.spikes_of(operation),
        batch.membranes_of(operation),
    )  # fmt: skip
    if sample >= 0:
        raise failure(operation, f"a membrane of sample {sample} is not finite", step)
    batch.count_updates(operation)
    return Events(rows, ptr, idx[: int(ptr[-1])], ptr, NO_INTS, unique=True)


def _arriving(batch: Batch, operation: Convolution) -> tuple[Entries, Rows]:
    """What a convolution takes, counted, and the rows that it puts out."""
    ports, counts, signal = batch.ports, batch.counts[operation.name], operation.x.signal
    x, real = ports.entries(operation.x), signal is Signal.VALUES
    kernels.count_convolution(
        counts, KIND["mac" if real else "ac"], x.rows.arrays, x.ptr, x.idx, x.amounts, real,
        batch.plan.kernels[operation.name].fan_out,
    )  # fmt: skip
    if operation.bias is not None:
        counts[KIND["bias"]] = operation.width
    return x, ports.geometry.all if operation.bias is not None else ports.geometry.spanning([(x.rows, 0, 0)])


def _multiplies(kernel: Kernel, x: Entries) -> bool:
    """Whether so much is not 0 that multiplying all takes less time than listing what is not.

    Nanoseconds for a tap and a place, on one core (AVX-512, in float64; the ratio is much the same in float32): to list
    it where it meets an event and to add the weights, and to multiply these whatever it meets.
    """
    each = kernel.weight.shape[2]
    listed = len(x.idx) * (1.6 + 0.085 * each)
    all_of_it = max(x.rows.count, 1) * int(kernel.shapes[0].prod()) * (0.1 + 0.037 * each)
    return kernel.weight.nbytes <= WEIGHTS_MULTIPLIED and listed > all_of_it


def _tile(kernel: Kernel, buffers: Buffers, rows: Rows, x: Entries, *, neurons: bool) -> tuple[IntArray, Scratch]:
    """How much is convolved at once, (samples, rows, channels), and the memory for it."""
    dtype, samples = kernel.weight.dtype, len(rows.lo)
    inside, in_rows, _ = (int(n) for n in kernel.shapes[0])
    inside //= len(kernel.weight)
    channels, height, width = (int(n) for n in kernel.shapes[1])
    steps = max(int((rows.hi - rows.lo).max()), 1)
    row = steps * width * channels * dtype.itemsize
    if kernel.weight.nbytes > WEIGHTS_AT_ONCE:
        tile = (min(samples, max(1, TILE // (height * row))), height, max(1, BLOCK * inside // kernel.weight.nbytes))
        multiplied = 0
    else:
        multiplied = steps * int(_multiplies(kernel, x))
        tile = (1, min(height, max(1, ROWS // row)), inside)
    taps = tile[2] * int(kernel.walk[3].prod())
    places = tile[1] * width
    n = channels * height * width if neurons else 0
    eights = buffers((tile[0], steps, (n + 7) // 8), np.uint64)
    scratch = (
        buffers((tile[0], steps, places, channels), dtype),
        buffers((width * taps,), np.int32),
        buffers((width * taps,), dtype),
        np.empty(width, np.uint64),
        buffers((tile[0], steps, int(kernel.shapes[0, 0]) * in_rows + 1), np.int64),
        buffers((tile[0], steps, channels * height + 1), np.int64),
        eights,
        eights.view(np.bool_),
        np.empty(places * channels, dtype),
        np.empty(channels + 1, np.int64),
        buffers((n + 8,), np.int32),
        buffers((multiplied, int(kernel.shapes[0, 0] * kernel.framing[0].prod())), dtype),
    )
    return np.array(tile), scratch
