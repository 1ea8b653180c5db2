"""Spikes between cores, and what a run would take on the chip by published figures: an estimate, and called so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from spikescr.sim.chip.layers import Signals
from spikescr.sim.chip.mapper import Placed, Placement
from spikescr.sim.counting.energy import PICO, EnergyCost
from spikescr.sim.counting.saved import Audit
from spikescr.sim.program import Program, Role, Synapse


@dataclass(frozen=True)
class Activity:
    """What a simulation counted, means over its recordings and executed steps.

    fired: spikes per step that each neuron operation put out. synaptic: accumulations, multiply-accumulates and bias
    additions per step of each operation. steps: executed for one recording.
    """

    fired: Mapping[str, float]
    synaptic: Mapping[str, float]
    steps: int

    @staticmethod
    def from_audit(audit: Audit) -> Activity:
        """What a run's audit tells."""

        def mean(*columns: str) -> dict[str, float]:
            sums = sum(audit.counts[column].sum(axis=1) for column in columns)
            return dict(zip(audit.operations, (sums / (audit.samples * audit.period)).tolist(), strict=True))

        return Activity(mean("fired"), mean("ac", "mac", "bias"), audit.period)


def channel_rates(program: Program, fired: Mapping[str, float] | None) -> dict[str, float]:
    """Messages per step and channel of everything that cores send; 1, the upper bound, of what was not measured.

    Args:
        program: whose operations send.
        fired: spikes per step of its neuron operations, None for the bound.
    """
    signals, rates = Signals(program), dict[str, float]()
    for operation in program.operations:
        rate = 1.0
        if fired is not None and operation.role is Role.NEURON:
            rate = fired[operation.name] / operation.width
        elif operation.role is Role.DELAY:
            # A sum is one message; what comes later in a cycle is not known yet and counts as 1.
            rate = min(1.0, sum(rates.get(e.name, 1.0) for e in signals.emitters(operation.ports["x"])))
        elif isinstance(operation, Synapse):
            sources = signals.emitters(operation.x)
            rates[f"{operation.name}.relays"] = min(1.0, sum(rates.get(e.name, 1.0) for e in sources))
        rates[operation.name] = rates[f"{operation.name}.links"] = rate
    return rates


def between_cores(layer: Placed, rates: Mapping[str, float]) -> float:
    """Messages per step that a layer sends to cores other than the sender's own."""
    each = np.zeros(layer.demand.neurons)
    for name, neurons in layer.demand.sends.items():
        each[neurons] = rates[name]
    return float(each @ layer.abroad)


@dataclass(frozen=True)
class Estimate:
    """What one recording takes on a chip by published figures of single operations. Not measured.

    Attributes:
        joules: least and most, by the figures for neurons without and with activity.
        step_seconds: the busiest core's work and the chip's shortest step.
        seconds: of all executed steps.
        synaptic: synaptic operations per recording.
        updates: membrane updates per recording.
        messages: spikes between cores per recording.
        layer: the busiest core's.
    """

    joules: tuple[float, float]
    step_seconds: float
    seconds: float
    synaptic: float
    updates: float
    messages: float
    layer: str


def estimate(placement: Placement, program: Program, activity: Activity, cost: EnergyCost) -> Estimate:
    """What a recording takes.

    Synaptic operations count alike whether they add or multiply, as on a chip whose weights meet graded spikes. Every
    neuron is updated at every executed step. A message costs one spike within a tile; the way over the mesh, deliveries
    to gates and relays, embedded processors, leakage and input and output are left out. Work of a layer is spread over
    its cores by neurons.

    Args:
        placement: of the Program.
        program: what was simulated.
        activity: what was counted.
        cost: with energies of synaptic operations, neurons and spikes.
    """
    rates = channel_rates(program, activity.fired)
    messages = activity.steps * sum(between_cores(layer, rates) for layer in placement.layers)
    synaptic = activity.steps * sum(activity.synaptic.values())
    updates = activity.steps * placement.neurons
    busy: dict[str, float] = {}
    for layer in placement.layers:
        share = max(core.neurons for core in layer.cores) / layer.demand.neurons
        work = share * sum(activity.synaptic.get(name, 0.0) for name in layer.demand.operations)
        neurons = share * layer.demand.neurons
        busy[layer.name] = neurons * placement.chip.neuron_ns.value + work * placement.chip.synapse_ns.value
    busiest = max(busy, key=lambda name: busy[name])
    step = 1e-9 * (placement.chip.step_ns.value + busy[busiest])
    rest = synaptic * cost.ac_pj + messages * (cost.spike_pj or 0.0)
    idle, active = (updates * (each or 0.0) for each in (cost.neuron_idle_pj, cost.neuron_pj))
    return Estimate(
        joules=(PICO * (rest + idle), PICO * (rest + active)),
        step_seconds=step,
        seconds=step * activity.steps,
        synaptic=synaptic,
        updates=updates,
        messages=messages,
        layer=busiest,
    )
