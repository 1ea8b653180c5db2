"""Steps of neurons and of leaky sums."""

from __future__ import annotations

import numpy as np

from spikescr.sim.lowering import fixed
from spikescr.sim.program import FixedNeuron, Integrator, Neuron
from spikescr.sim.steps.base import Array, Step, check_finite, threshold_in


class NeuronStep(Step):
    """v = v * decay + gain * x + drive;  s = v > threshold;  v = v_reset, or v - threshold, where s.

    A membrane that is not finite is an error; it would be silent from then on and look like a quiet layer.
    """

    operation: Neuron

    def prepare(self) -> None:
        """Parameters in the precision of the run."""
        it = self.operation
        self.decay, self.gain, self.drive, self.v_reset = map(self.cast, (it.decay, it.gain, it.drive, it.v_reset))
        self.threshold = threshold_in(it.threshold, self.dtype)

    def reset(self) -> None:
        """At rest."""
        self.v = self.zeros(self.samples, self.operation.width)

    def __call__(self, n: int, *arriving: Array) -> Array:
        """Updates, compares, resets."""
        v = self.v * self.decay + self.gain * arriving[0] + self.drive
        check_finite(v)
        self.membrane = v
        fired = v > self.threshold
        self.v = np.where(fired, v - self.threshold if self.operation.soft else self.v_reset, v)
        self.counts = {"fired": fired.sum(axis=1), "neuron": self.updates(n)}
        return fired.astype(self.dtype)


class FixedNeuronStep(Step):
    """u = wrap(trunc(u decay_u) + 64 x); v = cut(trunc(v decay) + u + bias); s = v > 64 vth; v = 0 where s."""

    operation: FixedNeuron

    def reset(self) -> None:
        """At rest, without current."""
        self.u = np.zeros((self.samples, self.operation.width))
        self.v = np.zeros((self.samples, self.operation.width))

    def __call__(self, n: int, *arriving: Array) -> Array:
        """Updates in integers, compares, resets."""
        self.u, v, saturated = fixed.update(self.operation, self.u, self.v, arriving[0])
        self.membrane = v
        fired = v > self.operation.threshold
        self.v = np.where(fired, 0.0, v)
        self.counts = {"fired": fired.sum(axis=1), "saturated": saturated, "neuron": self.updates(n)}
        return fired.astype(self.dtype)


class IntegratorStep(Step):
    """v = v * decay + gain * x + drive;  y = v. A sum that is not finite is an error."""

    operation: Integrator

    def prepare(self) -> None:
        """Parameters in the precision of the run."""
        self.decay, self.gain, self.drive = (
            self.cast(numbers) for numbers in (self.operation.decay, self.operation.gain, self.operation.drive)
        )

    def reset(self) -> None:
        """At rest."""
        self.v = self.zeros(self.samples, self.operation.width)

    def __call__(self, n: int, *arriving: Array) -> Array:
        """Updates."""
        self.v = self.v * self.decay + self.gain * arriving[0] + self.drive
        check_finite(self.v)
        if not self.operation.current:
            self.membrane = self.v
            self.counts = {"neuron": self.updates(n)}
        return self.v
