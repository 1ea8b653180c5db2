"""Whole-window evaluation: every operation, or cycle of them, over all steps and samples, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from spikescr.sim.fast import convolutions, currents, neurons, operations
from spikescr.sim.fast.batch import Batch, Output, failure
from spikescr.sim.fast.cycles import cycle
from spikescr.sim.fast.kernels import events as kernels
from spikescr.sim.fast.plan import KIND
from spikescr.sim.fast.signals import Rows, Values
from spikescr.sim.program import (
    Attention,
    CausalAttention,
    ChannelDelay,
    Convolution,
    DelayLine,
    FixedNeuron,
    FloatArray,
    Gate,
    Integrator,
    Maximum,
    Neuron,
    Operation,
    Position,
    Rotary,
    Select,
    Signal,
    Sink,
    Source,
    Synapse,
    TokenAttention,
)
from spikescr.sim.recording import Recording
from spikescr.sim.steps.evaluation import RAISED
from spikescr.sim.steps.make import make

# Types that have kernels; all others but the ends of a graph go step by step. An operation gives what it puts out.
KERNELS: Mapping[type[Operation], Callable[[Batch, Any], Output]] = {
    Synapse: currents.synapse,
    Neuron: neurons.neuron,
    FixedNeuron: neurons.neuron,
    Integrator: neurons.integrator,
    Convolution: convolutions.convolution,
    DelayLine: operations.delay_line,
    ChannelDelay: operations.channel_delay,
    Select: operations.select,
    Gate: operations.gate,
    Rotary: operations.rotary,
    Position: operations.position,
    Attention: operations.attention,
    CausalAttention: operations.causal_attention,
    TokenAttention: operations.token_attention,
    Maximum: operations.maximum,
}


def run(batch: Batch, inputs: Mapping[str, FloatArray]) -> Recording:
    """Everything over the period, operation by operation.

    Args:
        batch: of which nothing is known yet.
        inputs: source -> (T, B, N).

    Raises:
        BackendError: an operation takes what arrives for wrong, or a membrane is not finite.
    """
    plan, signals = batch.plan, batch.ports.signals
    for part in plan.components:
        if part[0].name in plan.absorbed:
            continue
        if part[0].name in plan.looped:
            signals |= cycle(batch, part)
        else:
            signals[part[0].name] = _evaluate(batch, part[0], inputs)
        batch.ports.forget([name for operation in part for name in plan.read[operation.name]])
    return batch.recording


def _evaluate(batch: Batch, operation: Operation, inputs: Mapping[str, FloatArray]) -> Output:
    if isinstance(operation, Source):
        return _source(batch, operation, inputs[operation.name])
    if isinstance(operation, Sink):
        return _sink(batch, operation)
    return KERNELS.get(type(operation), by_steps)(batch, operation)


def _source(batch: Batch, source: Source, x: FloatArray) -> Output:
    name, ports = source.name, batch.ports
    lo, hi = np.empty(x.shape[1], np.int64), np.empty(x.shape[1], np.int64)
    x = np.ascontiguousarray(x, np.float64)
    kernels.nonzero_span(x, lo, hi)
    rows = Rows.between(lo, hi)
    cum = ports.buffers((rows.count + 1,), np.int64)
    dtype = batch.dtype if source.signal is Signal.VALUES else np.dtype(np.float64)
    packed = ports.buffers((rows.count, source.width), dtype)
    kernels.pack(x, rows.arrays, packed, cum)
    if source.signal is Signal.CLOCK:
        batch.valid = np.count_nonzero(x[..., 0], axis=0)
    if source.signal is Signal.VALUES:
        ports.know_nonzero(name, cum)
        return Values(rows, packed)
    return ports.listed(Values(rows, packed))


def _sink(batch: Batch, sink: Sink) -> Output:
    x = batch.ports.values(sink.x)
    out = batch.recording.outputs[sink.name] = np.empty((*batch.shape, sink.width))
    kernels.unpack(out, x.packed, x.rows.arrays)
    return x


def by_steps(batch: Batch, operation: Operation) -> Output:
    """An operation without kernels, by its step in NumPy, over the whole period."""
    period, samples = batch.shape
    step = make(operation, samples, batch.valid, dtype=batch.dtype)
    arriving = []
    for port in operation.ports.values():
        x = batch.ports.values(port)
        arriving.append(np.empty((period, samples, port.width), x.packed.dtype))
        kernels.unpack(arriving[-1], x.packed, x.rows.arrays)
    rows = batch.ports.geometry.all  # those of a sample follow each other
    packed = batch.packed(operation, rows)
    spikes, membranes = batch.spikes_of(operation), batch.membranes_of(operation)
    for n in range(period):
        try:
            y = step(n, *(x[n] for x in arriving))
        except RAISED as error:
            raise failure(operation, str(error), n) from error
        packed.reshape(samples, period, operation.width)[:, n] = y
        for kind, amount in step.counts.items():
            batch.counts[operation.name][KIND[kind], n] = amount
        if membranes.size:
            membranes[n] = step.membrane
        if spikes.size:
            spikes[n] = y
    return batch.as_carried(operation, Values(rows, packed))
