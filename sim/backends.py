"""What both backends refuse, in the same words: programs that contradict themselves, inputs that do not fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from spikescr.errors import BackendError
from spikescr.sim.program import FloatArray, Program, Signal, Source


def check_program(program: Program, backend: str) -> None:
    """Refuses two operations of one name, and a port that reads one source twice.

    Raises:
        BackendError: the message begins with the backend's name.
    """
    names = Counter(operation.name for operation in program.operations)
    for operation in program.operations:
        if names[operation.name] > 1:
            raise BackendError(f"{backend}: two operations are called {operation.name!r}")
        for name, port in operation.ports.items():
            if len(set(port.sources)) < len(port.sources):
                raise BackendError(f"{backend}: {operation.name}: port {name!r} reads one source twice: {port.sources}")


def check_inputs(program: Program, inputs: Mapping[str, FloatArray], batch: int) -> int:
    """The number of samples of a batch, once it is found to fit.

    Args:
        program: what is to be run.
        inputs: for every Source its values, (T, B, width) with T = program.steps and 1 <= B <= batch.
        batch: most samples of one run.

    Raises:
        ValueError: an input is missing, unknown, of the wrong shape or not what its signal says.
    """
    sources = program.of_type(Source)
    if set(inputs) != {source.name for source in sources}:
        raise ValueError(f"inputs must be {sorted(s.name for s in sources)}, got {sorted(inputs)}")
    samples = {array.shape[1] for array in inputs.values() if array.ndim == 3}
    count = max(samples, default=0)
    if len(samples) != 1 or not 1 <= count <= batch:
        raise ValueError(f"inputs must have the same 1 to {batch} samples, got {sorted(samples)}")
    for source in sources:
        array, expected = inputs[source.name], (program.steps, count, source.width)
        if array.shape != expected:
            raise ValueError(f"input {source.name!r} must have shape (T, B, N) = {expected}, got {array.shape}")
        if source.signal is Signal.SPIKES and not ((array >= 0) & (array == np.floor(array)) & (array < np.inf)).all():
            raise ValueError(f"input {source.name!r} carries spikes: its values must be integers >= 0")
        if source.signal is Signal.CLOCK and not ((array == 0) | (array == 1)).all():
            raise ValueError(f"input {source.name!r} is a clock: its values must be 0 or 1")
    return count
