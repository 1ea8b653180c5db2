"""Neurons over a whole window, together with the synapse that feeds them alone; leaky sums."""

from __future__ import annotations

import numpy as np

from spikescr.sim.fast.batch import Batch, Output, failure
from spikescr.sim.fast.convolutions import image_neuron
from spikescr.sim.fast.currents import count, currents, dense
from spikescr.sim.fast.kernels import neurons as kernels
from spikescr.sim.fast.signals import NO_INTS, Events, Values
from spikescr.sim.program import Integrator, Neuron


def neuron(batch: Batch, operation: Neuron) -> Output:
    """All neurons of a layer."""
    name, width, ports, plan = operation.name, operation.width, batch.ports, batch.plan
    image, drive = plan.images.get(name), plan.drives.get(name)
    if image is not None:
        return image_neuron(batch, operation, image)
    if drive is None:
        arguments, parts = dense(batch, ports.values(operation.x))
        bias, clock, gated = np.zeros(width, batch.dtype), ports.clock(None)[1], False
    else:
        synapse, gated = drive.synapse, drive.gated
        count(batch, synapse)
        arguments, parts = currents(batch, synapse)
        clock_rows, clock = ports.bias_clock(synapse)
        bias = plan.weights[synapse.name].bias
        if gated:
            parts = [(clock_rows, 0, 0)]
        elif synapse.bias is not None:
            parts.append((clock_rows, 0, 0))
    whole = batch.record_membranes or name not in plan.quiet
    rows = ports.geometry.all if whole else ports.geometry.spanning(parts)
    ptr = ports.buffers((rows.count + 1,), np.int64)
    idx = ports.buffers((rows.count * width + 8,), np.int32)
    sample, step = kernels.layer(
        np.empty((0, 0), batch.dtype), ptr, idx, rows.arrays, batch.count(operation, "fired"), *arguments, bias, clock,
        gated, plan.lif[name], batch.spikes_of(operation), batch.membranes_of(operation),
        batch.count(operation, "saturated"),
    )  # fmt: skip
    if sample >= 0:
        raise failure(operation, f"a membrane of sample {sample} is not finite", step)
    batch.count_updates(operation)
    if operation.latency is not None:
        batch.counted_within(operation, rows.span, (operation.latency, operation.latency + batch.plan.program.steps))
    return Events(rows, ptr, idx[: int(ptr[-1])], ptr, NO_INTS, unique=True)


def integrator(batch: Batch, operation: Integrator) -> Output:
    """Leaky sums, at all steps."""
    x, rows = batch.ports.values(operation.x), batch.ports.geometry.all
    packed = batch.packed(operation, rows)
    sample, step = kernels.integrate(
        packed, rows.arrays, x.packed, x.rows.arrays, batch.plan.sums[operation.name], batch.membranes_of(operation)
    )
    if sample >= 0:
        raise failure(operation, f"a membrane of sample {sample} is not finite", step)
    if not operation.current:
        batch.count_updates(operation)
    return Values(rows, packed)
