"""What the fast backend computes itself where it goes step by step, for Programs with cycles."""

from __future__ import annotations

import numpy as np

from spikescr.sim.fast.kernels.convolution import convolve_values
from spikescr.sim.fast.plan import KIND, kernel_of
from spikescr.sim.fast.signals import Rows
from spikescr.sim.program import Convolution
from spikescr.sim.recording import KINDS
from spikescr.sim.steps.base import Array, Step
from spikescr.sim.steps.make import StepTypes
from spikescr.sim.steps.synapses import convolution_counts


class CompiledConvolution(Step):
    """One step as the window that the kernels take: a row of each sample, at step 0."""

    operation: Convolution

    def prepare(self) -> None:
        """Numbers as the kernel takes them, and a table for its counts, which take real values for events."""
        self.numbers = kernel_of(self.operation, self.dtype).numbers
        self.rows = Rows.between(np.zeros(self.samples, np.int64), np.ones(self.samples, np.int64)).arrays
        self.unused = np.zeros((len(KINDS), 1, self.samples), np.int64)

    def __call__(self, n: int, *arriving: Array) -> Array:
        """Convolves."""
        x, y = np.ascontiguousarray(arriving[0], self.dtype), self.zeros(self.samples, self.operation.width)
        convolve_values(y, self.rows, x, self.rows, *self.numbers, self.unused, KIND["mac"])
        self.counts = convolution_counts(self.operation, x)
        return y


OWN: StepTypes = {Convolution: CompiledConvolution}
