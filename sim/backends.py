"""What backends share: the protocol, the registry by name, two of them as one, and what all refuse in the same words.

A third backend is one entry of REGISTRY: a function that builds it from a Program and Options.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from spikescr.errors import BackendError, UsageError
from spikescr.extras import naming_extras
from spikescr.sim.program import FloatArray, IntArray, Program, Signal, Source
from spikescr.sim.recording import Recording

BOTH = "both"
"""Name under which `build` gives a CrossCheck of the first two backends of the registry."""


class Backend(Protocol):
    """What executes a Program. Built once, then any number of batches, then closed, best by `with`.

    Its Recordings hold outputs and counts always; spikes and membranes as the Options asked, spikes possibly unasked.

    Attributes:
        batch: most samples of one run.
        build_seconds: time that building took, once.
    """

    @property
    def batch(self) -> int: ...  # noqa: D102
    @property
    def build_seconds(self) -> float: ...  # noqa: D102

    def run(self, inputs: Mapping[str, FloatArray]) -> Recording:
        """Executes one batch from a silent state.

        Args:
            inputs: for every Source its values, (T, B, width) with T = program.steps and 1 <= B <= batch.

        Returns:
            Everything over `program.period` steps; after T steps the inputs are zero. Its arrays may be used again
            by the next run, where nothing refers to them any more.

        Raises:
            ValueError: an input is missing, unknown, of the wrong shape or not what its signal says.
            BackendError: the run failed, or the backend is closed.
        """

    def close(self) -> None:
        """Ends what it started and lets go of memory; a second call does nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True)
class Options:
    """How a backend is to be built.

    Attributes:
        batch: most samples of one run.
        spikes: keep the spikes of every neuron.
        membranes: keep every membrane before its reset.
        dtype: of currents and membranes where the backend has a choice, "float64" or "float32".
        stall_seconds: without progress for so long a backend of several processes gives up.
    """

    batch: int
    spikes: bool = True
    membranes: bool = False
    dtype: str = "float64"
    stall_seconds: float = 60.0


def _fast(program: Program, options: Options) -> Backend:
    from spikescr.sim.fast.backend import FastBackend

    return FastBackend(
        program,
        options.batch,
        record_membranes=options.membranes,
        record_spikes=options.spikes,
        dtype=options.dtype,
    )


def _lava(program: Program, options: Options) -> Backend:
    with naming_extras("backend 'lava'"):
        from spikescr.sim.lava.backend import LavaBackend

    return LavaBackend(program, options.batch, record_membranes=options.membranes, stall_seconds=options.stall_seconds)


REGISTRY: Mapping[str, Callable[[Program, Options], Backend]] = {"fast": _fast, "lava": _lava}
NAMES = (*REGISTRY, BOTH)


def build(name: str, program: Program, options: Options) -> Backend:
    """A backend by its name.

    Args:
        name: of REGISTRY, or "both": Lava and the fast one run every batch and are compared, see CrossCheck.
        program: what to run.
        options: how.

    Raises:
        UsageError: there is no backend of that name.
        ValueError: an option is out of range.
        BackendError: the program has what the backend cannot run, or it does not start.
    """
    if name == BOTH:
        options = replace(options, spikes=True)  # which are compared
        first = build("lava", program, options)
        try:
            return CrossCheck(first, build("fast", program, options))
        except BaseException:
            first.close()
            raise
    if name not in REGISTRY:
        raise UsageError(f"there is no backend {name!r}; these are: {', '.join(NAMES)}")
    return REGISTRY[name](program, options)


class CrossCheck:
    """Two backends as one: both run every batch, spikes and counts are compared, the first one's recording is given.

    Attributes:
        batch: most samples of one run.
        build_seconds: time that building both took.
    """

    def __init__(self, first: Backend, second: Backend) -> None:
        self.batch = min(first.batch, second.batch)
        self.build_seconds = first.build_seconds + second.build_seconds
        self._backends = first, second
        self._compared: IntArray = np.zeros(2, np.int64)
        self._differing: IntArray = np.zeros(2, np.int64)

    def run(self, inputs: Mapping[str, FloatArray]) -> Recording:
        """Executes one batch on both backends."""
        one, other = (backend.run(inputs) for backend in self._backends)
        for name, spikes in one.spikes.items():
            self._compared[0] += spikes.size
            self._differing[0] += np.count_nonzero(spikes != other.spikes[name])
        self._compared[1] += one.counts.table.size
        self._differing[1] += np.count_nonzero(one.counts.table != other.counts.table)
        return one

    def take(self) -> tuple[IntArray, IntArray]:
        """Spikes and counts (2,) compared, and those that differ, since the last call."""
        taken = self._compared, self._differing
        self._compared, self._differing = np.zeros(2, np.int64), np.zeros(2, np.int64)
        return taken

    def close(self) -> None:
        """Closes both."""
        for backend in self._backends:
            backend.close()

    def __enter__(self) -> CrossCheck:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def compared(backend: Backend) -> tuple[IntArray, IntArray]:
    """What a CrossCheck compared and found differing since the last call, (2,) each; zeros of any other backend."""
    return backend.take() if isinstance(backend, CrossCheck) else (np.zeros(2, np.int64), np.zeros(2, np.int64))


def quiet() -> np.errstate:
    """NumPy says nothing of overflow while the block lasts: what is not finite is an error, which names the place."""
    return np.errstate(over="ignore", invalid="ignore")


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
