"""Step-by-step evaluation, for Programs with cycles: every operation at one step, all samples at once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from spikescr.errors import BackendError
from spikescr.sim.fast.plan import KIND
from spikescr.sim.fast.steps import Array, Step, Steps, check_finite, events, read, tally
from spikescr.sim.lowering import fixed
from spikescr.sim.program import (
    Attention,
    ChannelDelay,
    Convolution,
    DelayLine,
    FixedNeuron,
    FloatArray,
    Gate,
    IntArray,
    Integrator,
    Neuron,
    Operation,
    Port,
    Position,
    Rotary,
    Select,
    Signal,
    Sink,
    Source,
    Synapse,
)
from spikescr.sim.recording import Recording

TALLIED = [KIND["entries"], KIND["graded"]]
SYNOPS = [KIND["synops"], KIND["synops_graded"]]


class Stepwise(Steps):
    """A batch, step by step, every operation in the order of the Program."""

    def run(self, inputs: Mapping[str, FloatArray]) -> Recording:
        """Everything over the period; inputs: source -> (T, B, N)."""
        for source in self.program.of_type(Source):
            if source.signal is Signal.CLOCK:
                self.valid = np.count_nonzero(inputs[source.name][..., 0], axis=0)
        steps = {o.name: self._operation(o, inputs) for o in self.program.operations}
        delays = [o for o in self.program.operations if isinstance(o, (DelayLine, ChannelDelay))]
        before = [line for line in delays if line.sends_first]
        lines = {line.name: self._zeros(line.width, depth=int(np.max(line.delay)) + 1) for line in before}
        for n in range(self.program.period):
            for line in before:
                self.now[line.name] = read(lines[line.name], n, line)
            for name, step in steps.items():
                if name not in lines:
                    self.now[name] = step(n)
            for line in before:
                lines[line.name][n % len(lines[line.name])] = self._port(line.x)
        return Recording(self.spikes, self.membranes, self.sinks, self.ledger)

    def _ticks(self, port: Port) -> IntArray:
        return self._port(port)[:, 0].astype(np.int64)

    def _operation(self, operation: Operation, inputs: Mapping[str, FloatArray]) -> Step:  # noqa: PLR0911
        match operation:
            case Source():
                return self._source(operation, inputs[operation.name])
            case Synapse():
                return self._synapse(operation)
            case DelayLine():
                return lambda n: self._port(operation.x)
            case ChannelDelay() | Convolution() | Integrator():
                return self._standard(operation)
            case Neuron():
                neuron = self._fixed_neuron if isinstance(operation, FixedNeuron) else self._neuron
                return neuron(operation)
            case Gate():
                return self._gate(operation)
            case Rotary():
                return self._rotary(operation)
            case Position():
                return self._position(operation)
            case Attention():
                return self._attention(operation)
            case Select():
                index, zero = operation.index, self.dtype.type(0)
                return lambda n: np.where(index >= 0, self._port(operation.x)[:, index], zero)
            case Sink():
                return self._sink(operation)
            case _:
                raise BackendError(f"fast: {operation.name}: cannot run a {type(operation).__name__}")

    def _source(self, source: Source, x: FloatArray) -> Step:
        x, quiet = x.astype(self.dtype), self._zeros(source.width)
        return lambda n: x[n] if n < len(x) else quiet

    def _sink(self, sink: Sink) -> Step:
        def step(n: int) -> Array:
            self.sinks[sink.name][n] = self._port(sink.x)
            return self.now[sink.x.sources[0]]

        return step

    def _synapse(self, synapse: Synapse) -> Step:
        counts, weights = self.counts[synapse.name], self.plan.weights[synapse.name]
        depth = int(weights.delays.max()) + 1
        history = self._zeros(synapse.x.width, depth=depth)
        reached = np.zeros((depth, 3, self.samples, len(synapse.taps)), np.int64)
        kernels = [np.ascontiguousarray(tap.weight.T, self.dtype) for tap in synapse.taps]
        kind = KIND[{Signal.SPIKES: "ac", Signal.VALUES: "mac", Signal.CLOCK: "bias"}[synapse.x.signal]]

        def step(n: int) -> Array:
            x = history[n % depth] = self._port(synapse.x)
            counts[KIND["spikes"], n] = events(x, synapse.x.signal)
            if synapse.x.signal is not Signal.CLOCK:
                counts[TALLIED, n] = tally(x)
            live = x != 0
            each = np.stack([live if synapse.x.signal is Signal.VALUES else x, live, live & (x != 1)])
            reached[n % depth] = each.astype(np.int64) @ synapse.fan_outs.T
            y = self._zeros(synapse.width)
            for k, (tap, kernel) in enumerate(zip(synapse.taps, kernels, strict=True)):
                past = (n - tap.delay) % depth
                y += history[past] * kernel if kernel.ndim == 1 else history[past] @ kernel
                counts[kind, n] += reached[past, 0, :, k]
                if synapse.x.signal is not Signal.CLOCK:
                    counts[SYNOPS, n] += reached[past, 1:, :, k]
            if synapse.clock is not None:
                ticks = self._ticks(synapse.clock)
                if synapse.bias is not None:
                    y += weights.bias * ticks[:, None].astype(self.dtype)
                    counts[KIND["bias"], n] += synapse.width * ticks
                if synapse.gated and synapse.x.signal is not Signal.CLOCK:
                    counts[KIND["synops_discarded"], n] = np.where(ticks == 0, counts[KIND["synops"], n], 0)
                    if synapse.x.signal is Signal.SPIKES:
                        counts[KIND["discarded"], n] = np.where(ticks == 0, counts[kind, n], 0)
            elif synapse.bias is not None:
                y += weights.bias
                counts[KIND["bias"], n] += synapse.width
            return y

        return step

    def _neuron(self, neuron: Neuron) -> Step:
        counts, v = self.counts[neuron.name], self._zeros(neuron.width)
        decay, gain, drive, threshold, *reset = self.plan.lif[neuron.name]

        def step(n: int) -> Array:
            u = v * decay + gain * self._port(neuron.x) + drive
            check_finite(u, neuron.name, n)
            fired = u > threshold
            v[:] = np.where(fired, u - threshold if neuron.soft else reset[0], u)
            if neuron.name in self.membranes:
                self.membranes[neuron.name][n] = u
            if neuron.name in self.spikes:
                self.spikes[neuron.name][n] = fired
            counts[KIND["fired"], n] = fired.sum(axis=1)
            self._count_updates(neuron, n)
            return fired.astype(self.dtype)

        return step

    def _fixed_neuron(self, neuron: Neuron) -> Step:
        assert isinstance(neuron, FixedNeuron)
        counts, u, v = self.counts[neuron.name], self._zeros(neuron.width), self._zeros(neuron.width)

        def step(n: int) -> Array:
            u[:], membrane, counts[KIND["saturated"], n] = fixed.update(neuron, u, v, self._port(neuron.x))
            fired = membrane > neuron.threshold
            v[:] = np.where(fired, 0, membrane)
            if neuron.name in self.membranes:
                self.membranes[neuron.name][n] = membrane
            if neuron.name in self.spikes:
                self.spikes[neuron.name][n] = fired
            counts[KIND["fired"], n] = fired.sum(axis=1)
            self._count_updates(neuron, n)
            return fired.astype(self.dtype)

        return step

    def _gate(self, gate: Gate) -> Step:
        def step(n: int) -> Array:
            value, spike = self._port(gate.value), self._port(gate.spike)
            strange = spike[(spike != 0) & (spike != 1)]
            if strange.size:
                raise BackendError(
                    f"fast: {gate.name} at step {n}: a gate opens on 1 and closes on 0, got {strange[0]:g}"
                )
            if gate.spike.signal is not Signal.CLOCK:
                self.counts[gate.name][KIND["spikes"], n] = spike.sum(axis=1).astype(np.int64)
            return np.where(spike == 1, value, self.dtype.type(0))

        return step

    def _rotary(self, rotary: Rotary) -> Step:
        counts, position = self.counts[rotary.name], np.zeros(self.samples, np.int64)
        tables = rotary.cos.astype(self.dtype), rotary.sin.astype(self.dtype)

        def step(n: int) -> Array:
            x, ticking = self._port(rotary.x), np.flatnonzero(self._ticks(rotary.clock))
            if (position[ticking] >= len(tables[0])).any():
                raise BackendError(
                    f"fast: {rotary.name} at step {n}: more ticks than the {len(tables[0])} positions of its tables"
                )
            cos, sin = (np.tile(table[position[ticking]], rotary.heads) for table in tables)
            even, odd = x[ticking, 0::2], x[ticking, 1::2]
            y = self._zeros(rotary.width)
            y[ticking, 0::2] = even * cos - odd * sin
            y[ticking, 1::2] = even * sin + odd * cos
            position[ticking] += 1
            counts[KIND["spikes"], n] = events(x, rotary.x.signal)
            kind = KIND["mac" if rotary.x.signal is Signal.VALUES else "ac"]
            counts[kind, n] = 2 * counts[KIND["spikes"], n]
            counts[TALLIED, n] = tally(x)
            counts[SYNOPS, n] = 2 * counts[TALLIED, n]
            return y

        return step

    def _position(self, operation: Position) -> Step:
        position, table = np.zeros(self.samples, np.int64), operation.table.astype(self.dtype)

        def step(n: int) -> Array:
            ticking = np.flatnonzero(self._ticks(operation.clock))
            if (position[ticking] >= len(table)).any():
                raise BackendError(
                    f"fast: {operation.name} at step {n}: more ticks than the {len(table)} positions of its table"
                )
            y = self._zeros(operation.width)
            y[ticking] = table[position[ticking]]
            position[ticking] += 1
            return y

        return step

    def _attention(self, attention: Attention) -> Step:
        counts, heads, window = self.counts[attention.name], attention.heads, attention.steps
        depth = attention.width // heads
        state, keys = self._zeros(heads, depth, depth), self._zeros(heads, depth)
        queries, ticked = self._zeros(heads, depth, depth=window), np.zeros((window, self.samples), np.bool_)
        values = np.zeros(self.samples, np.int64)

        def step(n: int) -> Array:
            q, k, v = (self._port(port) for port in (attention.q, attention.k, attention.v))
            ticks = self._ticks(attention.clock) != 0
            counts[KIND["spikes"], n] = sum(events(x, Signal.SPIKES) for x in (q, k, v))
            q, k, v = (np.where(ticks[:, None], x, 0).reshape(-1, heads, depth) for x in (q, k, v))
            past, read = queries[n % window].copy(), ticked[n % window].copy()
            queries[n % window], ticked[n % window] = q, ticks
            state[:] += k[..., :, None] * v[..., None, :]
            keys[:] += k != 0
            values[:] += np.count_nonzero(v, axis=(1, 2))
            live = past != 0
            written = (np.count_nonzero(k, axis=2) * np.count_nonzero(v, axis=2)).sum(axis=1)
            counts[KIND["ac"], n] = written + depth * live.sum(axis=(1, 2))
            met = (live * keys).sum(axis=(1, 2)).astype(np.int64)
            counts[KIND["ac_quadratic"], n] = read * (met + values)
            y = np.matmul(past[:, :, None, :], state)[:, :, 0] * self.dtype.type(attention.scale)
            return y.reshape(self.samples, attention.width)

        return step
