"""Whole-window evaluation: every operation over all steps and samples at once, in topological order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikescr.errors import BackendError
from spikescr.sim.fast.batch import NO_MEMBRANES, Evaluation
from spikescr.sim.fast.kernels import counts as operations
from spikescr.sim.fast.kernels import events as routing
from spikescr.sim.fast.kernels import neurons as kernels
from spikescr.sim.fast.kernels import rotary as position
from spikescr.sim.fast.plan import KIND, Weights
from spikescr.sim.fast.ports import NO_PLACES
from spikescr.sim.fast.signals import NO_INTS, Events, Rows, Values
from spikescr.sim.program import (
    Attention,
    ChannelDelay,
    Convolution,
    DelayLine,
    FloatArray,
    Gate,
    IntArray,
    Integrator,
    Neuron,
    Operation,
    Position,
    Rotary,
    Select,
    Signal,
    Sink,
    Source,
    Synapse,
)
from spikescr.sim.recording import Recording

NO_COUNTS: IntArray = np.empty((0, 0), np.int64)
NO_TALLY: IntArray = np.empty((0, 2), np.int64)
NO_SPIKES: NDArray[np.bool_] = np.empty((0, 0, 0), np.bool_)
# From this share of events to (rows x inputs) on, a dense product is faster than adding a row of weights per event.
# Time of events over time of the product, 1600 rows, one core of an EPYC (AVX-512, 1 MB of L2), for 128 x 128,
# 256 x 256, 256 x 1024 and 1024 x 256 synapses in float64: at 0.1 0.38, 0.35, 0.28, 0.23; at 0.3 0.67, 0.58, 0.76,
# 0.70; at 0.4 0.88, 0.78, 0.99, 0.81; at 0.5 1.00, 1.00, 1.24, 1.05. In float32: at 0.3 0.70, 0.76, 0.65, 0.77; at 0.4
# 0.86, 0.97, 1.01, 1.10; at 0.5 1.13, 1.15, 1.23, 1.35.
DENSE_FROM = {np.dtype(np.float64): 0.45, np.dtype(np.float32): 0.4}


class Window(Evaluation):
    """A batch, operation by operation, in the order of the Program."""

    def run(self, inputs: Mapping[str, FloatArray]) -> Recording:
        """Everything over the period; inputs: source -> (T, B, N)."""
        for operation in self.program.operations:
            if isinstance(operation, Source):
                self._source(operation, inputs[operation.name])
            elif operation.name not in self.plan.absorbed:
                self._evaluate(operation)
        return Recording(self.spikes, self.membranes, self.outputs, self.ledger)

    def _evaluate(self, operation: Operation) -> None:
        match operation:
            case Neuron():
                self._neuron(operation)
            case Synapse():
                self._synapse(operation)
            case DelayLine():
                self._delay(operation)
            case ChannelDelay() | Convolution() | Integrator():
                self._standard(operation)
            case Gate():
                self._gate(operation)
            case Rotary():
                self._rotary(operation)
            case Position():
                self._position(operation)
            case Attention():
                self._attention(operation)
            case Select():
                self._select(operation)
            case Sink():
                self._sink(operation)
            case _:
                raise BackendError(f"fast: {operation.name}: cannot run a {type(operation).__name__}")

    def _source(self, source: Source, x: FloatArray) -> None:
        name = source.name
        lo, hi = np.empty(x.shape[1], np.int64), np.empty(x.shape[1], np.int64)
        x = np.ascontiguousarray(x, np.float64)
        routing.nonzero_span(x, lo, hi)
        rows = Rows.between(lo, hi)
        cum = self.buffers(f"{name} cum", (rows.count + 1,), np.int64)
        dtype = self.dtype if source.signal is Signal.VALUES else np.dtype(np.float64)
        packed = self.buffers(f"{name} rows", (rows.count, source.width), dtype)
        routing.pack(x, rows.arrays, packed, cum)
        if source.signal is Signal.VALUES:
            self.signals[name] = Values(rows, packed)
            self.ports[(name,), "cum"] = cum
        else:
            self.signals[name] = self._listed(name, Values(rows, packed))
        if source.signal is Signal.CLOCK:
            self.valid = np.count_nonzero(x[..., 0], axis=0)

    def _count(self, synapse: Synapse) -> None:
        weights = self.plan.weights[synapse.name]
        counts = self.counts[synapse.name]
        signal = synapse.x.signal
        if signal is Signal.VALUES:
            rows, cum = self._values(synapse.x).rows, self._nonzero(synapse.x)
        else:
            events = self._events(synapse.x)
            rows, cum = events.rows, events.cum
        kind = {Signal.SPIKES: "ac", Signal.VALUES: "mac", Signal.CLOCK: "bias"}[signal]
        _, clock = self._bias_clock(synapse)
        tally = NO_TALLY if signal is Signal.CLOCK else self._tally(synapse.x)
        operations.count_synapse(
            counts, KIND[kind], rows.arrays, cum, tally, weights.delays, self._reach(synapse, rows, cum, tally), clock,
            synapse.width,
            synapse.bias is not None, synapse.gated and kind != "bias",
        )  # fmt: skip

    def _reach(self, synapse: Synapse, rows: Rows, cum: IntArray, tally: IntArray) -> IntArray:
        """Synapses that are reached in each row by each tap: by events, entries, graded entries; (rows, taps, 3)."""
        fan_outs = self.plan.weights[synapse.name].fan_outs
        reach = self.buffers("reach", (rows.count, len(fan_outs), 3), np.int64)
        if fan_outs.shape[1] == 1:
            operations.reach_of_rows(reach, cum, tally, fan_outs)
        elif synapse.x.signal is Signal.VALUES:
            operations.reach_of_values(reach, self._values(synapse.x).packed, fan_outs)
        else:
            _, _, _, ptr, idx, mult = self._events(synapse.x, unique=True).arrays
            operations.reach_of_events(reach, ptr, idx, mult, fan_outs)
        return reach

    def _currents(self, synapse: Synapse) -> tuple[tuple[Any, ...], list[tuple[Rows, int, int]]]:
        """What the kernels take for the arriving currents, and the rows in which some arrive."""
        weights = self.plan.weights[synapse.name]
        first, last = int(weights.delays.min()), int(weights.delays.max())
        if weights.channels is not None and synapse.x.signal is not Signal.VALUES:
            values = self._depthwise(synapse, weights)
            return self._dense(values), [(values.rows, 0, 0)]
        if synapse.x.signal is not Signal.VALUES:
            events = self._events(synapse.x)
            limit = DENSE_FROM[self.dtype] * events.rows.count * synapse.x.width
            if int(events.ptr[events.rows.count]) < limit or synapse.x.signal is Signal.CLOCK:
                none = np.empty((0, 0), self.dtype)
                return (
                    (none, self.geometry.none.arrays, NO_INTS, events.arrays, weights.rows, weights.delays),
                    [(events.rows, first, last)],
                )
        x = self._values(synapse.x)
        product = self.buffers(
            f"{synapse.name} product", (x.rows.count, len(weights.delays) * synapse.width), self.dtype
        )
        if weights.columns is not None:
            np.matmul(x.packed, weights.columns, out=product)
        else:
            for k, tap in enumerate(synapse.taps):
                np.multiply(
                    x.packed, tap.weight.astype(self.dtype), out=product[:, k * synapse.width : (k + 1) * synapse.width]
                )
        return self._dense(Values(x.rows, product), weights.delays), [(x.rows, first, last)]

    def _dense(self, values: Values, delays: IntArray | None = None) -> tuple[Any, ...]:
        """Kernel arguments for packed currents without events."""
        none = (*self.geometry.none.arrays, NO_INTS, NO_PLACES, NO_INTS)
        delays = np.zeros(1, np.int64) if delays is None else delays
        return values.packed, values.rows.arrays, delays, none, np.empty((0, 0), self.dtype), NO_INTS

    def _depthwise(self, synapse: Synapse, weights: Weights) -> Values:
        events = self._events(synapse.x)
        assert weights.channels is not None
        taps = weights.channels.shape[1]
        parts = [(events.rows, int(weights.delays.min()), int(weights.delays.max()))]
        if synapse.gated:
            parts = [(self._clock(synapse.clock)[0], 0, 0)]
        rows = self.geometry.spanning(parts)
        packed = self.buffers(f"{synapse.name} rows", (rows.count, synapse.width), self.dtype)
        longest = int((events.rows.hi - events.rows.lo).max())
        scratch = self.buffers("taps", (synapse.width, longest + taps), self.dtype)
        operations.depthwise(packed, rows.arrays, events.arrays, weights.channels, scratch)
        return Values(rows, packed)

    def _synapse(self, synapse: Synapse) -> None:
        self._count(synapse)
        arguments, parts = self._currents(synapse)
        clock_rows, clock = self._bias_clock(synapse)
        bias = self.plan.weights[synapse.name].bias
        if synapse.bias is not None:
            parts.append((clock_rows, 0, 0))
        rows = self.geometry.spanning(parts)
        packed = self.buffers(f"{synapse.name} out", (rows.count, synapse.width), self.dtype)
        if synapse.bias is None:  # it is zero; there is no need to look for ticks
            clock = self._clock(None)[1]
        kernels.layer(
            packed, NO_INTS, NO_PLACES, rows.arrays, NO_COUNTS, *arguments, bias, clock, False,
            np.empty((0, 0), self.dtype), NO_SPIKES, NO_MEMBRANES, NO_COUNTS,
        )  # fmt: skip
        self.signals[synapse.name] = Values(rows, packed)

    def _neuron(self, neuron: Neuron) -> None:
        name, width = neuron.name, neuron.width
        drive = self.plan.drives.get(name)
        if drive is None:
            x = self._values(neuron.x)
            arguments, parts = self._dense(x), [(x.rows, 0, 0)]
            bias, clock, gated = np.zeros(width, self.dtype), self._clock(None)[1], False
        else:
            synapse, gated = drive.synapse, drive.gated
            self._count(synapse)
            arguments, parts = self._currents(synapse)
            clock_rows, clock = self._bias_clock(synapse)
            bias = self.plan.weights[synapse.name].bias
            if gated:
                parts = [(clock_rows, 0, 0)]
            elif synapse.bias is not None:
                parts.append((clock_rows, 0, 0))
        whole = self.record_membranes or name not in self.plan.quiet
        rows = self.geometry.all if whole else self.geometry.spanning(parts)
        ptr = self.buffers(f"{name} ptr", (rows.count + 1,), np.int64)
        idx = self.buffers(f"{name} idx", (rows.count * width + 8,), np.int32)
        spikes, membranes = NO_SPIKES, NO_MEMBRANES
        if self.record_spikes:
            spikes = self.spikes[name] = np.zeros((*self.shape, width), np.bool_)
        if self.record_membranes:
            membranes = self.membranes[name] = np.zeros((*self.shape, width))
        counts = self.counts[name]
        sample, step = kernels.layer(
            np.empty((0, 0), self.dtype), ptr, idx, rows.arrays, counts[KIND["fired"]], *arguments, bias, clock, gated,
            self.plan.lif[name], spikes, membranes, counts[KIND["saturated"]],
        )  # fmt: skip
        if sample >= 0:
            raise BackendError(f"fast: {name} at step {step}: a membrane of sample {sample} is not finite")
        self.signals[name] = Events(rows, ptr, idx[: int(ptr[-1])], ptr, NO_INTS, unique=True)
        self._count_updates(neuron)

    def _delay(self, line: DelayLine) -> None:
        signals = [self.signals[source] for source in line.x.sources]
        if line.signal is Signal.VALUES:
            values = self._values(line.x)
            self.signals[line.name] = Values(self.geometry.late(values.rows, line.delay), values.packed)
            return
        events = self._events(line.x) if len(signals) > 1 or isinstance(signals[0], Values) else signals[0]
        assert isinstance(events, Events)
        rows = self.geometry.late(events.rows, line.delay)
        self.signals[line.name] = Events(rows, events.ptr, events.idx, events.cum, events.mult, events.unique)

    def _gate(self, operation: Gate) -> None:
        spikes, value = self._events(operation.spike, unique=True), self._values(operation.value)
        if operation.spike.signal is not Signal.CLOCK:
            out = self.counts[operation.name][KIND["spikes"]]
            operations.count_arrivals(out, spikes.rows.arrays, spikes.cum, 1)
        rows = self.geometry.spanning([(spikes.rows, 0, 0)])
        packed = self.buffers(f"{operation.name} out", (rows.count, operation.width), value.packed.dtype)
        whole = operation.spike.width == 1
        strange = routing.gate(packed, rows.arrays, value.packed, value.rows.arrays, spikes.arrays, whole)
        if strange != 1:
            raise BackendError(f"fast: {operation.name}: a gate opens on 1 and closes on 0, got {strange}")
        self.signals[operation.name] = Values(rows, packed)

    def _rotary(self, operation: Rotary) -> None:
        head = operation.width // operation.heads
        cos, sin = operation.cos.astype(self.dtype), operation.sin.astype(self.dtype)
        clock_rows, clock = self._clock(operation.clock)
        rows = self.geometry.spanning([(clock_rows, 0, 0)])
        packed = self.buffers(f"{operation.name} out", (rows.count, operation.width), self.dtype)
        if operation.x.signal is Signal.SPIKES:
            events = self._events(operation.x, unique=True)
            arrived, cum = events.rows, events.cum
            enough = operations.rotary_events(packed, rows.arrays, events.arrays, clock, cos, sin, head)
        else:
            x = self._values(operation.x)
            arrived, cum = x.rows, self._nonzero(operation.x)
            enough = operations.rotary_values(packed, rows.arrays, x.packed, x.rows.arrays, clock, cos, sin, head)
        if not enough:
            raise BackendError(f"fast: {operation.name}: more ticks than the {len(cos)} positions of its tables")
        counts = self.counts[operation.name]
        operations.count_arrivals(counts[KIND["spikes"]], arrived.arrays, cum, 1)
        kind = KIND["mac" if operation.x.signal is Signal.VALUES else "ac"]
        operations.count_arrivals(counts[kind], arrived.arrays, cum, 2)
        operations.count_tally(counts, arrived.arrays, self._tally(operation.x), 2)
        self.signals[operation.name] = Values(rows, packed)

    def _position(self, operation: Position) -> None:
        clock_rows, clock = self._clock(operation.clock)
        rows = self.geometry.spanning([(clock_rows, 0, 0)])
        packed = self.buffers(f"{operation.name} out", (rows.count, operation.width), self.dtype)
        if not position.encode(packed, rows.arrays, clock, operation.table.astype(self.dtype)):
            length = len(operation.table)
            raise BackendError(f"fast: {operation.name}: more ticks than the {length} positions of its table")
        self.signals[operation.name] = Values(rows, packed)

    def _attention(self, operation: Attention) -> None:
        q, k, v = (self._events(p, unique=True) for p in (operation.q, operation.k, operation.v))
        clock_rows, clock = self._clock(operation.clock)
        late = self.geometry.spanning([(clock_rows, operation.steps, operation.steps)])
        packed = self.buffers(f"{operation.name} out", (late.count, operation.width), self.dtype)
        counts = self.counts[operation.name]
        for events in (q, k, v):
            operations.count_arrivals(counts[KIND["spikes"]], events.rows.arrays, events.cum, 1)
        operations.attention(
            packed, late.arrays, q.arrays, k.arrays, v.arrays, clock, operation.heads,
            self.dtype.type(operation.scale), operation.steps, counts[KIND["ac"]], counts[KIND["ac_quadratic"]],
        )  # fmt: skip
        self.signals[operation.name] = Values(late, packed)

    def _select(self, operation: Select) -> None:
        x = self._values(operation.x)
        packed = np.where(operation.index >= 0, x.packed[:, operation.index], x.packed.dtype.type(0))
        values = Values(x.rows, np.ascontiguousarray(packed))
        self.signals[operation.name] = (
            values if operation.signal is Signal.VALUES else self._listed(operation.name, values)
        )

    def _sink(self, sink: Sink) -> None:
        x = self._values(sink.x)
        out = self.outputs[sink.name] = np.empty((*self.shape, sink.width))
        routing.unpack(out, x.packed, x.rows.arrays)
        self.signals[sink.name] = x
