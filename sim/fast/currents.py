"""Synapses over a whole window: their currents, as events or as dense products, and their counts."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from spikescr.sim.fast.batch import NO_MEMBRANES, NO_SPIKES, Batch, Output
from spikescr.sim.fast.kernels import counts as counting
from spikescr.sim.fast.kernels.neurons import layer, sum_events
from spikescr.sim.fast.kernels.taps import depthwise
from spikescr.sim.fast.plan import KIND, Weights
from spikescr.sim.fast.ports import NO_PLACES
from spikescr.sim.fast.signals import NO_INTS, Rows, Values
from spikescr.sim.program import IntArray, Signal, Synapse

NO_COUNTS: IntArray = np.empty((0, 0), np.int64)
NO_TALLY: IntArray = np.empty((0, 2), np.int64)
DENSE_FROM = 0.55
DENSE_FROM_NEAR = 0.9
"""From this share of events to (rows x inputs) on, a dense product is faster than adding a row of weights per event;
the larger one holds for weights of which a block fits the nearest cache (`NEAR`).

Time of events over time of the product, 1200 rows, one core of a Xeon (AVX-512, 48 kB and 2 MB of cache), float64:
128 x 128 synapses at 0.1 0.16, 0.5 0.51, 0.9 0.82; 192 x 192 0.15, 0.52, 0.96; 256 x 256 0.16, 0.67, 1.67; 512 x 128
0.16, 0.88, 1.51; 256 x 1024 0.21, 0.74, 1.88; 1024 x 256 0.18, 0.87, 1.57. In float32 they are up to 0.1 more. What
gives no more than a block of columns never takes the product: making packed values of events would take longer.
"""
NEAR = 192
"""Rows of a block that fit the nearest cache."""

Parts: TypeAlias = list[tuple[Rows, int, int]]
"""Rows in which something arrives, with the shortest and the longest delay until it does."""
Currents: TypeAlias = tuple[tuple[Any, ...], Parts]
"""What `kernels.neurons.layer` takes of currents, and the rows in which some arrive."""


def synapse(batch: Batch, operation: Synapse) -> Output:
    """The currents of a synapse whose neurons do not run with it."""
    ports = batch.ports
    count(batch, operation)
    arguments, parts = currents(batch, operation)
    clock_rows, clock = ports.bias_clock(operation)
    if operation.bias is None:  # it is zero; there is no need to look for ticks
        clock = ports.clock(None)[1]
    else:
        parts.append((clock_rows, 0, 0))
    rows = ports.geometry.spanning(parts)
    packed = batch.packed(operation, rows)
    layer(
        packed, NO_INTS, NO_PLACES, rows.arrays, NO_COUNTS, *arguments, batch.plan.weights[operation.name].bias, clock,
        False, np.empty((0, 0), batch.dtype), NO_SPIKES, NO_MEMBRANES, NO_COUNTS,
    )  # fmt: skip
    return Values(rows, packed)


def count(batch: Batch, operation: Synapse) -> None:
    """Counts all that a synapse does."""
    ports, weights, signal = batch.ports, batch.plan.weights[operation.name], operation.x.signal
    if signal is Signal.VALUES:
        rows, cum = ports.values(operation.x).rows, ports.nonzero(operation.x)
    else:
        events = ports.events(operation.x)
        rows, cum = events.rows, events.cum
    kind = {Signal.SPIKES: "ac", Signal.VALUES: "mac", Signal.CLOCK: "bias"}[signal]
    clock_rows, clock = ports.bias_clock(operation)
    tally = NO_TALLY if signal is Signal.CLOCK else ports.tally(operation.x)
    counting.count_synapse(
        batch.counts[operation.name], KIND[kind], rows.arrays, cum, tally, weights.delays,
        _reach(batch, operation, rows, cum, tally), clock, operation.width,
        operation.bias is not None, operation.gated and kind != "bias",
    )  # fmt: skip
    first, stop = rows.span
    batch.counted_within(operation, (first, stop + int(weights.delays.max())), clock_rows.span)


def _reach(batch: Batch, operation: Synapse, rows: Rows, cum: IntArray, tally: IntArray) -> IntArray:
    """Synapses that are reached in each row by each tap: by events, entries, graded entries; (rows, taps, 3)."""
    ports, fan_outs = batch.ports, batch.plan.weights[operation.name].fan_outs
    reach = ports.buffers((rows.count, len(fan_outs), 3), np.int64)
    if fan_outs.shape[1] == 1:
        counting.reach_of_rows(reach, cum, tally, fan_outs)
    elif operation.x.signal is Signal.VALUES:
        counting.reach_of_values(reach, ports.values(operation.x).packed, fan_outs)
    else:
        _, _, _, ptr, idx, mult = ports.events(operation.x, unique=True).arrays
        counting.reach_of_events(reach, ptr, idx, mult, fan_outs)
    return reach


def currents(batch: Batch, operation: Synapse) -> Currents:
    """The arriving currents: depthwise taps taken at once, events where they are few, else a dense product."""
    ports, weights = batch.ports, batch.plan.weights[operation.name]
    first, last = int(weights.delays.min()), int(weights.delays.max())
    if weights.channels is not None and operation.x.signal is not Signal.VALUES:
        return dense(batch, _depthwise(batch, operation, weights))
    if operation.x.signal is not Signal.VALUES:
        assert weights.blocks is not None
        events = ports.events(operation.x)
        share = DENSE_FROM_NEAR if len(weights.delays) * operation.x.width <= NEAR else DENSE_FROM
        limit = share * events.rows.count * operation.x.width
        each = weights.blocks.shape[1]
        if int(events.ptr[events.rows.count]) < limit or operation.width <= each:
            rows = ports.geometry.spanning([(events.rows, first, last)])
            product = ports.buffers((rows.count, -(-operation.width // each) * each), batch.dtype)
            sum_events(product, rows.arrays, events.arrays, weights.blocks, operation.x.width, weights.delays)
            return dense(batch, Values(rows, product))
    x, width = ports.values(operation.x), operation.width
    product = ports.buffers((x.rows.count, len(weights.delays) * width), batch.dtype)
    if weights.channels is None:
        np.matmul(x.packed, batch.plan.columns(operation), out=product)
    else:
        for k, tap in enumerate(operation.taps):
            np.multiply(x.packed, tap.weight.astype(batch.dtype), out=product[:, k * width : (k + 1) * width])
    arguments, _ = dense(batch, Values(x.rows, product), weights.delays)
    return arguments, [(x.rows, first, last)]


def dense(batch: Batch, values: Values, delays: IntArray | None = None) -> Currents:
    """Packed currents without events."""
    delays = np.zeros(1, np.int64) if delays is None else delays
    return (values.packed, values.rows.arrays, delays), [(values.rows, 0, 0)]


def _depthwise(batch: Batch, operation: Synapse, weights: Weights) -> Values:
    ports = batch.ports
    events = ports.events(operation.x)
    assert weights.channels is not None
    taps = weights.channels.shape[1]
    parts = [(events.rows, int(weights.delays.min()), int(weights.delays.max()))]
    if operation.gated:
        parts = [(ports.clock(operation.clock)[0], 0, 0)]
    rows = ports.geometry.spanning(parts)
    packed = ports.buffers((rows.count, operation.width), batch.dtype)
    longest = int((events.rows.hi - events.rows.lo).max())
    scratch = ports.buffers((operation.width, longest + taps), batch.dtype)
    depthwise(packed, rows.arrays, events.arrays, weights.channels, scratch)
    return Values(rows, packed)
