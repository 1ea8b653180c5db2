"""Neurons, and leaky sums that do not fire. The membrane equation is forward Euler's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from spikescr.sim.operations.base import FloatArray, Operation, Port, Role


@dataclass(frozen=True, kw_only=True)
class Neuron(Operation):
    """LIF by forward Euler, NIR's order: update, compare, reset. All parameters have shape (width,).

        v = v * decay + gain * x + drive;  s = v > threshold;  v = v_reset where s

    Counts: fired, spikes put out; neuron, the width for every step of the sample's window at this latency (every step
    where the latency is None). A membrane that is not finite is an error: NaN would pass for a quiet neuron.

    Attributes:
        x: the current.
        decay: 1 - dt/tau, or as `sim.lowering.neurons` tells for other neurons than LIF.
        gain: r dt/tau.
        drive: v_leak dt/tau.
        threshold: it fires above.
        v_reset: where the membrane is after a spike.
        soft: v = v - threshold where it fired; v_reset is not used.
    """

    counts: ClassVar[tuple[str, ...]] = ("fired", "neuron")
    role = Role.NEURON
    parts = ("neuron",)
    by_channel = ("x",)

    x: Port
    decay: FloatArray
    gain: FloatArray
    drive: FloatArray
    threshold: FloatArray
    v_reset: FloatArray
    soft: bool = False

    @property
    def has_membrane(self) -> bool:
        """Every neuron does."""
        return True


@dataclass(frozen=True, kw_only=True)
class FixedNeuron(Neuron):
    """A LIF in integers, as Lava's `PyLifModelBitAcc` computes it; the input x in units.

        u = trunc(u * current_decay) + 64 x, wrapped into 24 bits: beyond 2^23 less 2^24, from -2^23 down more 2^24
        v = trunc(v * decay) + u + drive, cut to +-(2^23 - 1);  s = v > threshold;  v = 0 where s

    Counts: as of a Neuron; saturated, currents that wrapped and membranes that were cut.

    Attributes:
        current_decay: of u, a multiple of 1 / 4096.
        decay: of v, a multiple of 1 / 4096.
        gain: 64.
        drive: the bias, shifted.
        threshold: 64 times the register.
    """

    counts = (*Neuron.counts, "saturated")

    current_decay: FloatArray


@dataclass(frozen=True, kw_only=True)
class Integrator(Operation):
    """A leaky sum that does not fire: v = v * decay + gain * x + drive; y = v. All parameters have shape (width,).

    `current`: it is the synaptic current of the neuron that reads it. Counts: neuron, the width for every step of the
    sample's window as for a Neuron, nothing for a current, whose update is part of its neuron's. A sum that is not
    finite is an error.
    """

    counts = ("neuron",)
    role = Role.CURRENT
    parts = ()
    by_channel = ("x",)

    x: Port
    decay: FloatArray
    gain: FloatArray
    drive: FloatArray
    current: bool = False

    @property
    def has_membrane(self) -> bool:
        """A current is none."""
        return not self.current
