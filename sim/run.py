"""Runs a Program over recordings, batch by batch, on any backend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spikescr.errors import GraphError
from spikescr.sim.program import AnyOperation, FloatArray, IntArray, Program, Signal, Sink, Source
from spikescr.sim.recording import Recording


class Backend(Protocol):
    """What executes a Program. One compile, then any number of batches."""

    batch: int

    def run(self, inputs: Mapping[str, FloatArray]) -> Recording:
        """Executes one batch of at most `batch` samples; inputs: source -> (T, B, width)."""


@dataclass(frozen=True)
class Batch:
    """One executed batch: which samples (positions), what they did, the outputs (T, B, K) at the samples' own steps."""

    samples: slice
    valid: IntArray
    recording: Recording
    outputs: FloatArray


def run_batches(program: Program, backend: Backend, values: NDArray[np.floating], valid: IntArray) -> Iterator[Batch]:
    """Streams samples through a backend.

    Args:
        program: with one data source, one sink, and possibly a clock.
        backend: built for this program.
        values: (samples, T, C), zero on padded steps.
        valid: valid steps of each sample (samples,).

    Raises:
        GraphError: the program has other inputs or outputs, or the data does not fit it.
    """
    data = _one([o for o in program.of_type(Source) if o.signal is not Signal.CLOCK], "data input")
    sink = _one(program.of_type(Sink), "output")
    clocks = [o.name for o in program.of_type(Source) if o.signal is Signal.CLOCK]
    if values.shape[1:] != (program.steps, data.width):
        raise GraphError(
            f"{data.name}: takes ({program.steps} steps, {data.width} channels), the data has {values.shape[1:]}"
        )
    for start in range(0, len(values), backend.batch):
        samples = slice(start, min(start + backend.batch, len(values)))
        steps = valid[samples]
        ticks = (np.arange(program.steps)[:, None] < steps).astype(np.float64)[..., None]
        inputs = {data.name: np.ascontiguousarray(values[samples].transpose(1, 0, 2), np.float64)}
        yield _executed(backend.run(inputs | dict.fromkeys(clocks, ticks)), samples, steps, sink, program.steps)


def _executed(recording: Recording, samples: slice, valid: IntArray, sink: Sink, window: int) -> Batch:
    late = sink.latency or 0
    return Batch(samples, valid, recording, recording.outputs[sink.name][late : late + window])


def _one(found: Sequence[AnyOperation], what: str) -> AnyOperation:
    if len(found) != 1:
        names = ", ".join(o.name for o in found) or "none"
        raise GraphError(f"the graph must have one {what}, found: {names}")
    return found[0]
