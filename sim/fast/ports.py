"""What arrives at a port: the sum of its sources, as an event list or as values, made once for all who read it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikescr.sim.fast.kernels import events as kernels
from spikescr.sim.fast.memory import Buffers
from spikescr.sim.fast.signals import NO_INTS, Entries, Events, Geometry, Rows, Values
from spikescr.sim.program import IntArray, Port, Signal, Synapse

NO_PLACES: NDArray[np.int32] = np.empty(0, np.int32)


class Ports:
    """What operations put out in one batch, and what arrives at ports, in the form that is asked for.

    Attributes:
        dtype: of values.
        buffers: where they lie.
        geometry: which rows there are.
        signals: operation -> what it put out.
        ports: sources and form -> what arrives, made once.
    """

    def __init__(self, dtype: np.dtype[Any], buffers: Buffers, geometry: Geometry) -> None:
        self.dtype = dtype
        self.buffers = buffers
        self.geometry = geometry
        self.signals: dict[str, Events | Values] = {}
        self.ports: dict[tuple[Any, ...], Any] = {}

    def forget(self, names: Collection[str]) -> None:
        """Lets go of what operations put out and of all that was made of it: nobody reads it any more."""
        for name in names:
            self.signals.pop(name, None)
        gone = [key for key in self.ports if not set(names).isdisjoint(key[0])]
        for key in gone:
            del self.ports[key]

    def listed(self, x: Values) -> Events:
        """The event list of packed integers."""
        entries = int(np.count_nonzero(x.packed))
        ptr = self.buffers((x.rows.count + 1,), np.int64)
        idx = self.buffers((entries + 1,), np.int32)
        cum, mult = ptr, NO_INTS
        if entries and x.packed.max() > 1:
            mult = self.buffers((entries + 1,), np.int64)
            cum = self.buffers((x.rows.count + 1,), np.int64)
            cum[0] = 0
        kernels.list_events(x.packed, ptr, idx, cum, mult)
        return Events(x.rows, ptr, idx[:entries], cum, mult[:entries], unique=True)

    def events(self, port: Port, *, unique: bool = False) -> Events:
        """The event list of a port of spikes or of a clock."""
        key = (port.sources, "events", unique)
        if key not in self.ports:
            self.ports[key] = self._join_events(port, unique)
        return self.ports[key]

    def entries(self, port: Port) -> Entries:
        """What is not 0 of a port, sorted, with its amounts in the precision of values."""
        key = (port.sources, "entries")
        if key not in self.ports:
            if port.signal is Signal.VALUES:
                x = self.values(port)
                count = int(np.count_nonzero(x.packed))
                ptr = self.buffers((x.rows.count + 1,), np.int64)
                idx = self.buffers((count + 1,), np.int32)
                amounts = self.buffers((count + 1,), self.dtype)
                kernels.list_values(x.packed, ptr, idx, amounts)
                self.ports[key] = Entries(x.rows, ptr, idx[:count], amounts[:count])
            else:
                events = self.events(port, unique=True)
                self.ports[key] = Entries(events.rows, events.ptr, events.idx, events.mult.astype(self.dtype))
        return self.ports[key]

    def _join_events(self, port: Port, unique: bool) -> Events:
        parts = [self.signals[source] for source in port.sources]
        # A sum that was delayed is listed anew for everybody: its rows may be cut off, those of the new list are not,
        # and counts take rows from the one and channels from the other.
        delayed_sum = len(parts) == 1 and isinstance(parts[0], Events) and not parts[0].unique
        if delayed_sum or (unique and len(parts) > 1):
            return self.listed(self.values(port, np.dtype(np.float64)))
        total: Events | None = None
        for part in parts:
            events = part if isinstance(part, Events) else self.listed(part)
            total = events if total is None else self._merged(total, events)
        assert total is not None
        return total

    def _merged(self, a: Events, b: Events) -> Events:
        rows = self.geometry.spanning([(a.rows, 0, 0), (b.rows, 0, 0)])
        entries = len(a.idx) + len(b.idx)
        ptr = self.buffers((rows.count + 1,), np.int64)
        idx = self.buffers((entries,), np.int32)
        cum, mult = ptr, NO_INTS
        if len(a.mult) or len(b.mult):
            cum = self.buffers((rows.count + 1,), np.int64)
            mult = self.buffers((entries,), np.int64)
        kernels.merge_events(rows.arrays, a.arrays, b.arrays, ptr, idx, cum, mult)
        return Events(rows, ptr, idx, cum, mult, unique=False)

    def values(self, port: Port, dtype: np.dtype[Any] | None = None) -> Values:
        """The packed rows of a port, whatever its sources carry."""
        dtype = self.dtype if dtype is None else dtype
        key = (port.sources, dtype)
        if key not in self.ports:
            parts = [self.signals[source] for source in port.sources]
            if len(parts) == 1 and isinstance(parts[0], Values):
                return parts[0]
            rows = self.geometry.spanning([(part.rows, 0, 0) for part in parts])
            packed = self.buffers((rows.count, port.width), dtype)
            packed[:] = 0
            for part in parts:
                if isinstance(part, Values):
                    kernels.add_packed(packed, rows.arrays, part.packed, part.rows.arrays)
                else:
                    kernels.add_events(packed, rows.arrays, part.arrays)
            self.ports[key] = Values(rows, packed)
        return self.ports[key]

    def nonzero(self, port: Port) -> IntArray:
        """Non-zero entries of a port of values up to each row."""
        key = (port.sources, "cum")
        if key not in self.ports:
            values = self.values(port)
            cum = self.buffers((values.rows.count + 1,), np.int64)
            kernels.count_nonzero(values.packed, cum)
            self.ports[key] = cum
        return self.ports[key]

    def know_nonzero(self, name: str, cum: IntArray) -> None:
        """Keeps what `nonzero` is to give of a source of values that was counted already."""
        self.ports[(name,), "cum"] = cum

    def tally(self, port: Port) -> IntArray:
        """Non-zero entries and graded entries that arrive at a port in each of its rows, (rows, 2)."""
        key = (port.sources, "tally")
        if key not in self.ports:
            arrived = self.values(port) if port.signal is Signal.VALUES else self.events(port)
            tally = self.buffers((arrived.rows.count, 2), np.int64)
            if isinstance(arrived, Values):
                kernels.tally_values(arrived.packed, tally)
            else:
                seen = np.zeros(0 if arrived.unique else port.width, np.uint8)
                kernels.tally_events(arrived.ptr, arrived.idx, arrived.mult, seen, tally)
            self.ports[key] = tally
        return self.ports[key]

    def clock(self, port: Port | None) -> tuple[Rows, tuple[IntArray, ...]]:
        """The rows of a clock, and what kernels take of it; no rows where there is none."""
        if port is None:
            rows = self.geometry.none
            return rows, (*rows.arrays, np.zeros(1, np.int64))
        events = self.events(port)
        return events.rows, events.clock

    def bias_clock(self, synapse: Synapse) -> tuple[Rows, tuple[IntArray, ...]]:
        """The clock of a synapse; one that ticks at every step where the bias has none."""
        if synapse.clock is None and synapse.bias is not None:
            rows = self.geometry.all
            return rows, (*rows.arrays, np.arange(rows.count + 1))
        return self.clock(synapse.clock)
