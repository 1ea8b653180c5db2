"""Memory that the parent shares with the processes of one backend.

Lava pickles Vars element by element and reads them back one number per message, so nothing of size goes that way.
Anonymous shared mappings pass to forked children as they are, need no files, and vanish with the last process.
"""

from __future__ import annotations

import json
import mmap
import traceback
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from spikescr.sim.program import IntArray, Neuron, Operation, Program, Sink, Source
from spikescr.sim.recording import KINDS

# Room for a note of `Slot.report` even if JSON had to escape every character of it (6 bytes each).
_FAILURE_BYTES = 32768


def shared_array(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Zeros in memory that forked children see and write."""
    count = int(np.prod(shape))
    memory = mmap.mmap(-1, max(1, count * np.dtype(dtype).itemsize))
    return np.frombuffer(memory, dtype=dtype, count=count).reshape(shape)


@dataclass(frozen=True)
class Failure:
    """What a process model left behind when it raised."""

    step: int
    reason: str
    trace: str


@dataclass(frozen=True)
class Slot:
    """The part of the shared memory that one operation uses.

    Attributes:
        counts: (kinds, period, batch).
        done: (1,), steps finished since the build.
        valid: (batch,), valid steps of each sample.
        failure: where a model that raises leaves a note.
        record: what the host writes (Source: (steps, batch, width)) or reads (neuron: spikes, Sink: values; (period,
            batch, width)), else empty.
        membrane: (period, batch, width) where asked for.
    """

    counts: IntArray
    done: IntArray
    valid: IntArray
    failure: NDArray[np.uint8]
    record: NDArray[Any]
    membrane: NDArray[np.float64] | None

    def report(self, step: int, error: BaseException) -> None:
        """Leave a note of `error` for the parent (called in the child)."""
        reason = f"{type(error).__name__}: {error}"[:1000]
        trace = traceback.format_exc()[-4000:]
        text = json.dumps({"step": step, "reason": reason, "trace": trace}).encode()
        self.failure[: len(text)] = np.frombuffer(text, np.uint8)

    def failed(self) -> Failure | None:
        """The note that the operation's process left, if any (called in the parent)."""
        text = self.failure.tobytes().rstrip(b"\0")
        return Failure(**json.loads(text)) if text else None


class Board:
    """All slots of a program for a batch size, by operation name, and the counts in one table.

    counts: (operations, kinds, period, batch), as in `recording.Ledger`. done: (operations,). valid: (batch,).
    """

    def __init__(self, program: Program, batch: int, *, membranes: bool) -> None:
        operations = program.operations
        self.counts: IntArray = shared_array((len(operations), len(KINDS), program.period, batch), np.int64)
        self.done: IntArray = shared_array((len(operations),), np.int64)
        self.valid: IntArray = shared_array((batch,), np.int64)
        failures = shared_array((len(operations), _FAILURE_BYTES), np.uint8)
        self.slots: dict[str, Slot] = {}
        for i, operation in enumerate(operations):
            shape = (program.period, batch, operation.width)
            self.slots[operation.name] = Slot(
                counts=self.counts[i],
                done=self.done[i : i + 1],
                valid=self.valid,
                failure=failures[i],
                record=_record(operation, program.steps, shape),
                membrane=shared_array(shape, np.float64) if membranes and operation.has_membrane else None,
            )


def _record(operation: Operation, steps: int, shape: tuple[int, int, int]) -> NDArray[Any]:
    if isinstance(operation, Source):
        return shared_array((steps, *shape[1:]), np.float64)
    if isinstance(operation, Neuron):
        return shared_array(shape, np.bool_)
    if isinstance(operation, Sink):
        return shared_array(shape, np.float64)
    return shared_array((0, *shape[1:]), np.float64)
