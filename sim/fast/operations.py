"""All other operations over a whole window: delays, routing, gates, maxima, positions, attention."""

from __future__ import annotations

import numpy as np

from spikescr.sim.fast.batch import Batch, Output, failure
from spikescr.sim.fast.kernels import counts as counting
from spikescr.sim.fast.kernels import events as kernels
from spikescr.sim.fast.kernels import rotary as turning
from spikescr.sim.fast.kernels import routing
from spikescr.sim.fast.kernels.attention import attention as attend
from spikescr.sim.fast.kernels.attention import causal_attention as attend_causally
from spikescr.sim.fast.signals import Events, Values
from spikescr.sim.program import (
    Attention,
    CausalAttention,
    ChannelDelay,
    DelayLine,
    Gate,
    Maximum,
    Position,
    Rotary,
    Select,
    Signal,
    TokenAttention,
)
from spikescr.sim.steps.tokens import attend_tokens


def delay_line(batch: Batch, operation: DelayLine) -> Output:
    """The same rows, later."""
    ports = batch.ports
    if operation.signal is Signal.VALUES:
        values = ports.values(operation.x)
        return Values(ports.geometry.late(values.rows, operation.delay), values.packed)
    first, *others = (ports.signals[source] for source in operation.x.sources)
    events = ports.events(operation.x) if others or isinstance(first, Values) else first
    assert isinstance(events, Events)
    rows = ports.geometry.late(events.rows, operation.delay)
    return Events(rows, events.ptr, events.idx, events.cum, events.mult, events.unique)


def channel_delay(batch: Batch, operation: ChannelDelay) -> Output:
    """Channel by channel, over packed rows."""
    x = batch.ports.values(operation.x)
    span = (x.rows, int(operation.delay.min()), int(operation.delay.max()))
    rows = batch.ports.geometry.spanning([span])
    packed = batch.packed(operation, rows, x.packed.dtype)
    kernels.delay_channels(packed, rows.arrays, x.packed, x.rows.arrays, operation.delay)
    return batch.as_carried(operation, Values(rows, packed))


def select(batch: Batch, operation: Select) -> Output:
    """Events to where they are selected, columns of packed rows; what is only given another shape stays what it is."""
    ports = batch.ports
    if operation.name in batch.plan.reshapes and len(operation.x.sources) == 1:
        return ports.signals[operation.x.sources[0]]
    if operation.signal is not Signal.VALUES:
        events = ports.events(operation.x, unique=True)
        if not len(events.mult):
            starts, targets = batch.plan.selects[operation.name]
            entries = routing.selected(events.idx, starts)
            ptr = ports.buffers((events.rows.count + 1,), np.int64)
            idx = ports.buffers((entries + 8,), np.int32)
            eights = np.zeros((operation.width + 7) // 8, np.uint64)
            routing.select_events(events.ptr, events.idx, starts, targets, eights, ptr, idx)
            return Events(events.rows, ptr, idx[:entries], ptr, events.mult, unique=True)
    x = ports.values(operation.x)
    packed = batch.packed(operation, x.rows, x.packed.dtype)
    routing.select_values(packed, x.packed, operation.index)
    return batch.as_carried(operation, Values(x.rows, packed))


def maximum(batch: Batch, operation: Maximum) -> Output:
    """Of the operands, which stand one after the other in packed rows, or are selected from others one by one."""
    window = batch.plan.windows.get(operation.name)
    x = batch.ports.values(operation.x if window is None else window.x)
    packed = batch.packed(operation, x.rows, x.packed.dtype)
    if window is not None:
        routing.select_maximum(packed, x.packed, window.index)
    else:
        x.packed.reshape(-1, operation.fan, operation.width).max(axis=1, out=packed)
    return batch.as_carried(operation, Values(x.rows, packed))


def gate(batch: Batch, operation: Gate) -> Output:
    """At the steps in which a spike opens it, or a value comes that no spike stops."""
    ports = batch.ports
    spikes, value = ports.events(operation.spike, unique=True), ports.values(operation.value)
    if operation.spike.signal is not Signal.CLOCK:
        counting.count_arrivals(batch.count(operation, "spikes"), spikes.rows.arrays, spikes.cum, 1)
    opening = [(spikes.rows, 0, 0), (value.rows, 0, 0)] if operation.inverted else [(spikes.rows, 0, 0)]
    rows = ports.geometry.spanning(opening)
    packed = batch.packed(operation, rows, value.packed.dtype)
    whole = operation.spike.width == 1
    if operation.inverted:
        packed[:] = 0
        kernels.add_packed(packed, rows.arrays, value.packed, value.rows.arrays)
        strange = kernels.inverted_gate(packed, rows.arrays, spikes.arrays, whole)
    else:
        strange = kernels.gate(packed, rows.arrays, value.packed, value.rows.arrays, spikes.arrays, whole)
    if strange != 1:
        raise failure(operation, f"a gate opens on 1 and closes on 0, got {strange}")
    return Values(rows, packed)


def rotary(batch: Batch, operation: Rotary) -> Output:
    """At the steps in which the clock ticks."""
    ports, head = batch.ports, operation.width // operation.heads
    cos, sin = operation.cos.astype(batch.dtype), operation.sin.astype(batch.dtype)
    clock_rows, clock = ports.clock(operation.clock)
    rows = ports.geometry.spanning([(clock_rows, 0, 0)])
    packed = batch.packed(operation, rows)
    if operation.x.signal is Signal.SPIKES:
        events = ports.events(operation.x, unique=True)
        arrived, cum = events.rows, events.cum
        enough = turning.rotary_events(packed, rows.arrays, events.arrays, clock, cos, sin, head)
    else:
        x = ports.values(operation.x)
        arrived, cum = x.rows, ports.nonzero(operation.x)
        enough = turning.rotary_values(packed, rows.arrays, x.packed, x.rows.arrays, clock, cos, sin, head)
    if not enough:
        raise failure(operation, f"more ticks than the {len(cos)} positions of its tables")
    kind = "mac" if operation.x.signal is Signal.VALUES else "ac"
    counting.count_arrivals(batch.count(operation, "spikes"), arrived.arrays, cum, 1)
    counting.count_arrivals(batch.count(operation, kind), arrived.arrays, cum, 2)
    counting.count_tally(batch.counts[operation.name], arrived.arrays, ports.tally(operation.x), 2)
    return Values(rows, packed)


def position(batch: Batch, operation: Position) -> Output:
    """At the steps in which the clock ticks."""
    clock_rows, clock = batch.ports.clock(operation.clock)
    rows = batch.ports.geometry.spanning([(clock_rows, 0, 0)])
    packed = batch.packed(operation, rows)
    if not turning.encode(packed, rows.arrays, clock, operation.table.astype(batch.dtype)):
        raise failure(operation, f"more ticks than the {len(operation.table)} positions of its table")
    return Values(rows, packed)


def attention(batch: Batch, operation: Attention) -> Output:
    """A window after the clock ticked."""
    ports = batch.ports
    q, k, v = (ports.events(port, unique=True) for port in (operation.q, operation.k, operation.v))
    clock_rows, clock = ports.clock(operation.clock)
    late = ports.geometry.spanning([(clock_rows, operation.steps, operation.steps)])
    packed = batch.packed(operation, late)
    for events in (q, k, v):
        counting.count_arrivals(batch.count(operation, "spikes"), events.rows.arrays, events.cum, 1)
    attend(
        packed, late.arrays, q.arrays, k.arrays, v.arrays, clock, operation.heads,
        batch.dtype.type(operation.scale), operation.steps, batch.count(operation, "ac"),
        batch.count(operation, "ac_quadratic"),
    )  # fmt: skip
    return Values(late, packed)


def causal_attention(batch: Batch, operation: CausalAttention) -> Output:
    """At the steps in which the clock ticks."""
    ports = batch.ports
    q, k, v = (ports.events(port, unique=True) for port in (operation.q, operation.k, operation.v))
    clock_rows, clock = ports.clock(operation.clock)
    rows = ports.geometry.spanning([(clock_rows, 0, 0)])
    packed = batch.packed(operation, rows)
    for events in (q, k, v):
        counting.count_arrivals(batch.count(operation, "spikes"), events.rows.arrays, events.cum, 1)
    attend_causally(
        packed, rows.arrays, q.arrays, k.arrays, v.arrays, clock, operation.heads, batch.dtype.type(operation.scale),
        batch.count(operation, "ac"), batch.count(operation, "ac_quadratic"),
    )  # fmt: skip
    return Values(rows, packed)


def token_attention(batch: Batch, operation: TokenAttention) -> Output:
    """Row by row: a step of a sample knows no other."""
    ports, heads, tokens = batch.ports, operation.heads, operation.tokens
    operands = [ports.values(port) for port in (operation.q, operation.k, operation.v)]
    rows = ports.geometry.spanning([(x.rows, 0, 0) for x in operands])
    aligned = []
    for x in operands:
        packed = ports.buffers((rows.count, x.packed.shape[1]), batch.dtype)
        packed[:] = 0
        kernels.add_packed(packed, rows.arrays, x.packed, x.rows.arrays)
        aligned.append(packed.reshape(rows.count, heads, tokens, packed.shape[1] // (heads * tokens)))
    packed, counts = attend_tokens(operation, *aligned)
    for kind, each in counts.items():
        cum = np.concatenate([[0], np.cumsum(each)])
        counting.count_arrivals(batch.count(operation, kind), rows.arrays, cum, 1)
    return Values(rows, packed)
