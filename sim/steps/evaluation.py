"""A whole Program by steps: every operation at one step, all samples at once; cycles are no hindrance."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import DTypeLike

from spikescr.errors import BackendError
from spikescr.sim.program import FloatArray, IntArray, Operation, Port, Program, Role, Signal, Sink, Source
from spikescr.sim.recording import KINDS, Ledger, Recording
from spikescr.sim.steps.base import Array, Step
from spikescr.sim.steps.make import StepTypes, make

KIND = {name: row for row, name in enumerate(KINDS)}
RAISED = (ValueError, IndexError, FloatingPointError)
"""By steps, for what they do not take."""


def valid_steps(program: Program, inputs: Mapping[str, FloatArray], samples: int) -> IntArray:
    """Valid steps of each sample (B,): the ticks of the clock, all steps where there is none."""
    clocks = [o.name for o in program.of_type(Source) if o.signal is Signal.CLOCK]
    return np.count_nonzero(inputs[clocks[-1]][..., 0], axis=0) if clocks else np.full(samples, program.steps)


class Evaluation:
    """One batch in evaluation.

    Attributes:
        program: what is run.
        samples: of the batch, B.
        now: what every operation put out in the step that runs, (B, N).
        recording: what was recorded so far.
    """

    def __init__(
        self,
        backend: str,
        program: Program,
        samples: int,
        *,
        spikes: bool = True,
        membranes: bool = False,
        own: StepTypes | None = None,
        dtype: DTypeLike = np.float64,
    ) -> None:
        """Reserves what is recorded.

        Args:
            backend: whose it is, for messages.
            program: what to run.
            samples: B.
            spikes: keep the spikes of neurons.
            membranes: keep every membrane before its reset.
            own: steps that the backend has of its own, instead of those of `make.STEPS`.
            dtype: of signals and state, float64 or float32.
        """
        self.program, self.samples = program, samples
        self.now: dict[str, Array] = {}
        self._backend, self._own, self._dtype = backend, own, np.dtype(dtype)
        names = tuple(o.name for o in program.operations)
        table: IntArray = np.zeros((len(names), len(KINDS), program.period, samples), np.int64)
        self._counts = dict(zip(names, table, strict=True))
        firing = [o for o in program.operations if o.role is Role.NEURON] if spikes else []
        kept = [o for o in program.operations if o.has_membrane] if membranes else []
        self.recording = Recording(
            {o.name: np.zeros(self._shape(o), np.bool_) for o in firing},
            {o.name: np.zeros(self._shape(o)) for o in kept},
            {o.name: np.zeros(self._shape(o)) for o in program.of_type(Sink)},
            Ledger(names, table),
        )

    def run(self, inputs: Mapping[str, FloatArray]) -> Recording:
        """Everything over the period; inputs: source -> (T, B, N), zero after T.

        Raises:
            BackendError: an operation has no step, or its step failed; the message names backend, operation and step.
        """
        given = {name: array.astype(self._dtype, copy=False) for name, array in inputs.items()}
        silence = {name: np.zeros(array.shape[1:], self._dtype) for name, array in given.items()}
        steps = self._steps(valid_steps(self.program, inputs, self.samples))
        ahead = {o.name: steps[o.name] for o in self.program.operations if o.sends_first}
        for n in range(self.program.period):
            for name, array in given.items():
                self.now[name] = array[n] if n < len(array) else silence[name]
            for name, step in ahead.items():
                self.now[name] = step.put_out(n)
            for operation in self.program.operations:
                if isinstance(operation, Sink):
                    self.now[operation.name] = self.arriving(operation.x)
                    self.recording.outputs[operation.name][n] = self.now[operation.name]
                elif operation.name in steps and operation.name not in ahead:
                    self._step(operation, steps[operation.name], n)
            for operation in self.program.operations:
                if operation.name in ahead:
                    self._step(operation, ahead[operation.name], n)
        return self.recording

    def arriving(self, port: Port) -> Array:
        """The sum over the sources of a port in the step that runs."""
        first, *others = port.sources
        total = self.now[first]
        for name in others:
            total = total + self.now[name]
        return total

    def _steps(self, valid: IntArray) -> dict[str, Step]:
        try:
            return {
                o.name: make(o, self.samples, valid, self._own, self._dtype)
                for o in self.program.operations
                if o.role is not Role.HOST
            }
        except BackendError as error:
            raise BackendError(f"{self._backend}: {error}") from error

    def _step(self, operation: Operation, step: Step, n: int) -> None:
        name = operation.name
        try:
            y = step(n, *map(self.arriving, operation.ports.values()))
        except RAISED as error:
            raise BackendError(f"{self._backend}: {name} at step {n}: {error}") from error
        if not operation.sends_first:  # its output of this step is there already
            self.now[name] = y
        for kind, amount in step.counts.items():
            self._counts[name][KIND[kind], n] = amount
        if name in self.recording.membranes and step.membrane is not None:
            self.recording.membranes[name][n] = step.membrane
        if name in self.recording.spikes:
            self.recording.spikes[name][n] = y

    def _shape(self, operation: Operation) -> tuple[int, int, int]:
        return self.program.period, self.samples, operation.width
