"""What arrives at a port: the sum of its sources, as an event list or as values, made once for all who read it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikescr.sim.fast.kernels import events as kernels
from spikescr.sim.fast.memory import Buffers
from spikescr.sim.fast.signals import NO_INTS, Events, Geometry, Rows, Values
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

    def listed(self, name: str, x: Values) -> Events:
        """The event list of packed integers."""
        entries = int(np.count_nonzero(x.packed))
        ptr = self.buffers(f"{name} ptr", (x.rows.count + 1,), np.int64)
        idx = self.buffers(f"{name} idx", (entries + 1,), np.int32)
        cum, mult = ptr, NO_INTS
        if entries and x.packed.max() > 1:
            mult = self.buffers(f"{name} mult", (entries,), np.int64)
            cum = self.buffers(f"{name} cum", (x.rows.count + 1,), np.int64)
            cum[0] = 0
        kernels.list_events(x.packed, ptr, idx, cum, mult)
        return Events(x.rows, ptr, idx, cum, mult, unique=True)

    def events(self, port: Port, *, unique: bool = False) -> Events:
        """The event list of a port of spikes or of a clock."""
        key = (port.sources, "events", unique)
        if key not in self.ports:
            self.ports[key] = self._join_events(port, unique)
        return self.ports[key]

    def _join_events(self, port: Port, unique: bool) -> Events:
        name = "+".join(port.sources)
        parts = [self.signals[source] for source in port.sources]
        # A sum that was delayed is listed anew for everybody: its rows may be cut off, those of the new list are not,
        # and counts take rows from the one and channels from the other.
        delayed_sum = len(parts) == 1 and isinstance(parts[0], Events) and not parts[0].unique
        if delayed_sum or (unique and len(parts) > 1):
            return self.listed(f"{name} unique", self.values(port, np.dtype(np.float64)))
        total: Events | None = None
        for i, part in enumerate(parts):
            events = part if isinstance(part, Events) else self.listed(f"{port.sources[i]} list", part)
            total = events if total is None else self._merged(f"{name} {i}", total, events)
        assert total is not None
        return total

    def _merged(self, name: str, a: Events, b: Events) -> Events:
        rows = self.geometry.spanning([(a.rows, 0, 0), (b.rows, 0, 0)])
        entries = len(a.idx) + len(b.idx)
        ptr = self.buffers(f"{name} ptr", (rows.count + 1,), np.int64)
        idx = self.buffers(f"{name} idx", (entries,), np.int32)
        cum, mult = ptr, NO_INTS
        if len(a.mult) or len(b.mult):
            cum = self.buffers(f"{name} cum", (rows.count + 1,), np.int64)
            mult = self.buffers(f"{name} mult", (entries,), np.int64)
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
            packed = self.buffers(f"{'+'.join(port.sources)} {dtype}", (rows.count, port.width), dtype)
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
            cum = self.buffers(f"{'+'.join(port.sources)} nonzero", (values.rows.count + 1,), np.int64)
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
            tally = self.buffers(f"{'+'.join(port.sources)} tally", (arrived.rows.count, 2), np.int64)
            if isinstance(arrived, Values):
                kernels.tally_values(arrived.packed, tally)
            else:
                seen = np.zeros(0 if arrived.unique else port.width, np.int64)
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
