"""A backend that runs step by step: where a third one starts, with the operations that it does better."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from spikescr.errors import BackendError
from spikescr.sim.backends import Options, check_inputs, check_program
from spikescr.sim.lowering import fixed
from spikescr.sim.program import FloatArray, Program
from spikescr.sim.recording import Recording
from spikescr.sim.steps.evaluation import Evaluation
from spikescr.sim.steps.make import StepTypes


class StepBackend:
    """Runs a Program in this process, by steps of its own and those of `sim.steps` for all other operations.

    Attributes:
        batch: most samples of one run.
        build_seconds: time that building took, once.
    """

    def __init__(self, name: str, program: Program, options: Options, own: StepTypes | None = None) -> None:
        """Nothing is prepared: steps are made for each batch.

        Args:
            name: of the backend, for messages.
            program: what to run.
            options: how.
            own: type of operation -> step, what this backend implements itself.

        Raises:
            ValueError: `options.batch` is not positive.
            BackendError: the program contradicts itself.
        """
        if options.batch < 1:
            raise ValueError(f"batch must be at least 1, got {options.batch}")
        begin = time.perf_counter()
        check_program(program, name)
        self.batch = options.batch
        self._name, self._program, self._options, self._own = name, program, options, own
        self._closed = False
        self.build_seconds = time.perf_counter() - begin

    def run(self, inputs: Mapping[str, FloatArray]) -> Recording:
        """As of all backends, see `sim.backends.Backend`."""
        if self._closed:
            raise BackendError(f"{self._name}: the backend is closed")
        samples = check_inputs(self._program, inputs, self.batch)
        sent, cut = fixed.messages(self._program, inputs)
        batch = Evaluation(
            self._name,
            self._program,
            samples,
            spikes=self._options.spikes,
            membranes=self._options.membranes,
            own=self._own,
            dtype=self._options.dtype,
        )
        return fixed.told(self._program, batch.run(sent), cut)

    def close(self) -> None:
        """Holds nothing; runs no more."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
