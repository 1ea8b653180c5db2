"""What the fast backend computes itself where it goes step by step, in cycles."""

from __future__ import annotations

import numpy as np

from spikescr.sim.fast.convolutions import convolve
from spikescr.sim.fast.kernels.events import list_values
from spikescr.sim.fast.memory import Buffers
from spikescr.sim.fast.plan import kernel_of
from spikescr.sim.fast.signals import Entries, Rows
from spikescr.sim.program import Convolution
from spikescr.sim.steps.base import Array, Step
from spikescr.sim.steps.make import StepTypes
from spikescr.sim.steps.synapses import convolution_counts


class CompiledConvolution(Step):
    """One step as the window that the kernels take: a row of each sample, at step 0."""

    operation: Convolution

    def prepare(self) -> None:
        """Numbers as the kernel takes them."""
        self.kernel = kernel_of(self.operation, self.dtype)
        self.rows = Rows.between(np.zeros(self.samples, np.int64), np.ones(self.samples, np.int64))
        self.buffers = Buffers()

    def __call__(self, n: int, *arriving: Array) -> Array:
        """Convolves."""
        x, y = np.ascontiguousarray(arriving[0], self.dtype), self.zeros(self.samples, self.operation.width)
        count = int(np.count_nonzero(x))
        ptr, idx = np.empty(self.samples + 1, np.int64), np.empty(count + 1, np.int32)
        amounts = np.empty(count + 1, self.dtype)
        list_values(x, ptr, idx, amounts)
        convolve(self.kernel, self.buffers, y, self.rows, Entries(self.rows, ptr, idx[:count], amounts[:count]))
        self.counts = convolution_counts(self.operation, x)
        return y


OWN: StepTypes = {Convolution: CompiledConvolution}
