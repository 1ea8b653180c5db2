"""Operations that lead back to themselves, compiled where they do not mix channels, else step by step.

What leads to them and from them is evaluated as windows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spikescr.sim.fast.batch import Batch, Output, failure
from spikescr.sim.fast.elementwise import Elementwise
from spikescr.sim.fast.kernels import cycles as looping
from spikescr.sim.fast.kernels import events as kernels
from spikescr.sim.fast.plan import KIND
from spikescr.sim.fast.signals import Values
from spikescr.sim.fast.stepwise import OWN
from spikescr.sim.program import FloatArray, Operation, Port, Role, Synapse
from spikescr.sim.steps.base import Array, Step
from spikescr.sim.steps.evaluation import RAISED
from spikescr.sim.steps.make import make
from spikescr.sim.steps.synapses import KIND as KIND_OF

COUNTED = {
    "spikes": looping.EVENTS,
    "entries": looping.ENTRIES,
    "graded": looping.GRADED,
    "synops": looping.SYNOPS,
    "synops_graded": looping.SYNOPS_GRADED,
}
"""Kinds of a Synapse, and where `run_members` has them; its operations are counted by what arrives."""


class _Member:
    """An operation of a cycle: its step, and what is kept of it."""

    def __init__(self, batch: Batch, operation: Operation, read: bool) -> None:
        """Takes the batch, the operation, and whether anything outside of the cycle reads it."""
        self.operation = operation
        self.step: Step = make(operation, batch.shape[1], batch.valid, OWN, batch.dtype)
        self.ports = [port.sources for port in operation.ports.values()]
        self.counts = batch.counts[operation.name]
        self.spikes, self.membranes = batch.spikes_of(operation), batch.membranes_of(operation)
        self.rows = batch.ports.geometry.all  # those of a sample follow each other
        self.packed = batch.packed(operation, self.rows) if read else None
        self._by_step = None if self.packed is None else self.packed.reshape(batch.shape[1], batch.shape[0], -1)

    def run(self, n: int, now: dict[str, Array]) -> Array:
        """Takes what arrives in step n, gives what it puts out."""
        try:
            y = self.step(n, *(_sum(now, sources) for sources in self.ports))
        except RAISED as error:
            raise failure(self.operation, str(error), n) from error
        for kind, amount in self.step.counts.items():
            self.counts[KIND[kind], n] = amount
        if self.membranes.size:
            self.membranes[n] = self.step.membrane
        return y

    def keep(self, n: int, y: Array) -> None:
        """Keeps what it put out in step n."""
        if self._by_step is not None:
            self._by_step[:, n] = y
        if self.spikes.size:
            self.spikes[n] = y


def cycle(batch: Batch, part: Sequence[Operation]) -> dict[str, Output]:
    """What the operations of a cycle put out over the period, of those that others read."""
    readers, own = batch.plan.readers, {operation.name for operation in part}
    form = batch.plan.elementwise.get(part[0].name)
    if form is not None and not batch.record_membranes:
        clocks = [_by_step(batch, port, port.sources) for port in form.clocks]
        if all(((ticks == 0) | (ticks == 1)).all() for ticks in clocks):  # others are told by the steps
            return _compiled(batch, form, own, clocks)
    members = [_Member(batch, operation, bool(set(readers[operation.name]) - own)) for operation in part]
    given = {
        source: _by_step(batch, port, (source,))
        for operation in part
        for port in operation.ports.values()
        for source in port.sources
        if source not in own
    }
    ahead = [member for member in members if member.operation.sends_first]
    others = [member for member in members if not member.operation.sends_first]
    now: dict[str, Array] = {}
    for n in range(batch.shape[0]):
        now |= {name: values[n] for name, values in given.items()}
        for member in ahead:
            now[member.operation.name] = member.step.put_out(n)
            member.keep(n, now[member.operation.name])
        for member in others:
            now[member.operation.name] = member.run(n, now)
            member.keep(n, now[member.operation.name])
        for member in ahead:
            member.run(n, now)
    return {
        member.operation.name: batch.as_carried(member.operation, Values(member.rows, member.packed))
        for member in members
        if member.packed is not None
    }


def _sum(now: dict[str, Array], sources: Sequence[str]) -> Array:
    total = now[sources[0]]
    for name in sources[1:]:
        total = total + now[name]
    return total


def _by_step(batch: Batch, port: Port, sources: tuple[str, ...]) -> FloatArray:
    """What sources outside of the cycle put out together, (P, B, N)."""
    x = batch.ports.values(Port(sources, port.width, port.signal))
    values = np.empty((*batch.shape, port.width), batch.dtype)
    kernels.unpack(values, x.packed, x.rows.arrays)
    return values


def _compiled(batch: Batch, form: Elementwise, own: set[str], clocks: Sequence[FloatArray]) -> dict[str, Output]:
    """As `cycle`, in one compiled loop."""
    (period, samples), width = batch.shape, form.members[0].width
    spikes = {operation.name: batch.spikes_of(operation) for operation in form.members}
    wanted = [
        operation
        for operation in form.members
        if spikes[operation.name].size or not own.issuperset(batch.plan.readers[operation.name])
    ]
    kept = {operation.name: number for number, operation in enumerate(wanted)}
    places = np.array([kept.get(operation.name, -1) for operation in form.members], np.int64)
    ports = {source: port for o in form.members for port in o.ports.values() for source in port.sources}
    given = np.zeros((len(form.given), period, samples, width), batch.dtype)
    for values, source in zip(given, form.given, strict=True):
        values[:] = _by_step(batch, ports[source], (source,))
    ticks = np.zeros((len(clocks), period, samples), batch.dtype)
    for ticking, clock in zip(ticks, clocks, strict=True):
        ticking[:] = clock[..., 0]
    counts = np.zeros((len(form.members), 6, period, samples), np.int64)
    outs = np.zeros((len(wanted), samples, period, width), batch.dtype)
    ring = np.zeros((len(form.members), form.longest, width), batch.dtype)
    sample, step, member = looping.run_members(
        form.kinds, form.numbers, form.options, form.fan_outs, form.sources, given, ticks, counts, outs, places, ring
    )
    if sample >= 0:
        raise failure(form.members[member], f"a membrane of sample {sample} is not finite", step)
    for operation, counted in zip(form.members, counts, strict=True):
        if isinstance(operation, Synapse):
            for kind, place in COUNTED.items():
                batch.count(operation, kind)[:] = counted[place]
            batch.count(operation, KIND_OF[operation.x.signal])[:] = counted[looping.COST]
        elif operation.role is Role.NEURON:
            batch.count(operation, "fired")[:] = counted[looping.EVENTS]
        if operation.has_membrane:
            batch.count_updates(operation)
    rows, outputs = batch.ports.geometry.all, dict[str, Output]()
    for operation, put_out in zip(wanted, outs, strict=True):
        if spikes[operation.name].size:
            spikes[operation.name][:] = put_out.transpose(1, 0, 2)
        packed = put_out.reshape(period * samples, width)
        outputs[operation.name] = batch.as_carried(operation, Values(rows, packed))
    return outputs
