"""One batch of the fast backend: what is recorded and counted of it, and the signals between its operations."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from spikescr.errors import BackendError
from spikescr.sim.fast.kernels import counts as kernels
from spikescr.sim.fast.memory import Buffers, Spans
from spikescr.sim.fast.plan import KIND, Plan
from spikescr.sim.fast.ports import Ports
from spikescr.sim.fast.signals import Events, Geometry, Rows, Values
from spikescr.sim.program import FloatArray, IntArray, Operation, Role, Signal
from spikescr.sim.recording import Ledger, Recording

NO_MEMBRANES: FloatArray = np.empty((0, 0, 0))
NO_SPIKES: NDArray[np.bool_] = np.empty((0, 0, 0), np.bool_)

Output: TypeAlias = Events | Values
"""What an operation puts out over the whole window."""


class Batch:
    """One batch in evaluation.

    Attributes:
        plan: of the Program.
        dtype: of currents and membranes.
        ports: signals between operations, and what arrives at ports.
        shape: executed steps and samples (P, B).
        valid: valid steps of each sample (B,).
        record_membranes: whether membranes are kept.
        recording: what was recorded so far.
        counts: operation -> its counts (kinds, P, B).
    """

    def __init__(
        self, plan: Plan, buffers: Buffers, table: IntArray, spans: Spans, *, spikes: bool, membranes: bool
    ) -> None:
        """A batch of which nothing is known yet.

        Args:
            plan: of the Program.
            buffers: for what no recording keeps.
            table: zeros (operations, kinds, P, B), filled with the counts.
            spans: steps at which each operation may set counts, all of them; narrowed where fewer are known.
            spikes: keep the spikes.
            membranes: keep every membrane before its reset.
        """
        program, samples = plan.program, table.shape[-1]
        self.plan, self.dtype = plan, plan.dtype
        self.ports = Ports(plan.dtype, buffers, Geometry(samples, program.period))
        self.shape = (program.period, samples)
        self.valid: IntArray = np.full(samples, program.steps)
        self.record_membranes, self._record_spikes = membranes, spikes
        names = tuple(o.name for o in program.operations)
        self.recording = Recording({}, {}, {}, Ledger(names, table))
        self.counts = dict(zip(names, table, strict=True))
        self._spans, self._place = spans, {name: place for place, name in enumerate(names)}

    def count(self, operation: Operation, kind: str) -> IntArray:
        """Counts of one kind to fill, (P, B)."""
        counts: IntArray = self.counts[operation.name][KIND[kind]]
        return counts

    def counted_within(self, operation: Operation, *spans: tuple[int, int]) -> None:
        """Tells that an operation has set no counts but at these steps, each from a first to one past a last."""
        some = [span for span in spans if span[1] > span[0]]
        first, stop = min((span[0] for span in some), default=0), max((span[1] for span in some), default=0)
        self._spans[self._place[operation.name]] = first, min(stop, self.shape[0])

    def count_updates(self, operation: Operation) -> None:
        """Counts membrane updates: the width within each sample's window, or at all steps where there is no latency."""
        counts = self.count(operation, "neuron")
        if operation.latency is None:
            counts[:] = operation.width
        else:
            kernels.count_window(counts, operation.latency, self.valid, operation.width)

    def packed(self, operation: Operation, rows: Rows, dtype: Any = None) -> NDArray[Any]:
        """Memory for what an operation puts out, (rows, N), with any contents."""
        dtype = self.dtype if dtype is None else dtype
        return self.ports.buffers((rows.count, operation.width), dtype)

    def spikes_of(self, operation: Operation) -> NDArray[np.bool_]:
        """Spikes to record, (P, B, N), zeros; of size 0 where they are not kept."""
        if not self._record_spikes or operation.role is not Role.NEURON:
            return NO_SPIKES
        spikes = self.recording.spikes[operation.name] = np.zeros((*self.shape, operation.width), np.bool_)
        return spikes

    def membranes_of(self, operation: Operation) -> FloatArray:
        """Membranes to record, (P, B, N), zeros; of size 0 where they are not kept."""
        if not self.record_membranes or not operation.has_membrane:
            return NO_MEMBRANES
        membranes = self.recording.membranes[operation.name] = np.zeros((*self.shape, operation.width))
        return membranes

    def as_carried(self, operation: Operation, values: Values) -> Output:
        """Values as the operation's signal says: events are listed."""
        return values if operation.signal is Signal.VALUES else self.ports.listed(values)


def failure(operation: Operation, reason: str, step: int | None = None) -> BackendError:
    """The error of an operation, at a step where that is known."""
    at = "" if step is None else f" at step {step}"
    return BackendError(f"fast: {operation.name}{at}: {reason}")
