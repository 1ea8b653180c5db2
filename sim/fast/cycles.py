"""Operations that lead back to themselves, step by step; what leads to them and from them is evaluated as windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spikescr.sim.fast.batch import Batch, Output, failure
from spikescr.sim.fast.kernels import events as kernels
from spikescr.sim.fast.plan import KIND
from spikescr.sim.fast.signals import Values
from spikescr.sim.fast.stepwise import OWN
from spikescr.sim.program import FloatArray, Operation, Port
from spikescr.sim.steps.base import Array, Step
from spikescr.sim.steps.evaluation import RAISED
from spikescr.sim.steps.make import make


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
    members = [_Member(batch, operation, bool(set(readers[operation.name]) - own)) for operation in part]
    given = {
        source: _by_step(batch, port, source)
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


def _by_step(batch: Batch, port: Port, source: str) -> FloatArray:
    """What a source outside of the cycle puts out, (P, B, N)."""
    x = batch.ports.values(Port((source,), port.width, port.signal))
    values = np.empty((*batch.shape, port.width), x.packed.dtype)
    kernels.unpack(values, x.packed, x.rows.arrays)
    return values
