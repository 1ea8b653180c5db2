"""Spikes between cores, and what a run would take on the chip by published figures: an estimate, and called so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from spikescr.sim.chip.layers import Emitter, Signals
from spikescr.sim.chip.mapper import Placed, Placement
from spikescr.sim.counting.energy import PICO, EnergyCost
from spikescr.sim.counting.saved import Audit
from spikescr.sim.program import FloatArray, Program, Role, Signal, Source, Synapse

Rate: TypeAlias = float | FloatArray
"""Messages per step of each channel: one number for all of them, or (channels,)."""


@dataclass(frozen=True)
class Activity:
    """What a simulation counted, means over its recordings.

    Attributes:
        fired: spikes per step of each neuron operation, all together, or of each neuron (width,).
        synaptic: accumulations, multiply-accumulates and bias additions per step of each operation.
        steps: executed for one recording.
        entered: messages per step and channel of what the host sends, where that is known.
        over_time: of what fires, is sent or accumulates, by operation: what each executed step has of it, over the mean
            of all steps, (steps,); 1 at every step of what is not there.
    """

    fired: Mapping[str, Rate]
    synaptic: Mapping[str, float]
    steps: int
    entered: Mapping[str, Rate] = field(default_factory=dict)
    over_time: Mapping[str, FloatArray] = field(default_factory=dict)

    @staticmethod
    def from_audit(audit: Audit, program: Program) -> Activity:
        """What a run's audit tells of its Program."""
        per_step = audit.samples * audit.period

        def counted(*columns: str) -> dict[str, FloatArray]:
            sums = sum(audit.counts[column] for column in columns)
            return dict(zip(audit.operations, np.asarray(sums, np.float64), strict=True))

        fired, synaptic = counted("fired"), counted("ac", "mac", "bias")
        arrived = counted("entries") if "entries" in audit.columns else {}
        over_time = {name: profile(fired[name] if fired[name].any() else counts) for name, counts in synaptic.items()}
        entered: dict[str, Rate] = {}
        sources = {o.name for o in program.of_type(Source) if o.signal is not Signal.CLOCK}
        for operation in program.operations:
            for port in operation.ports.values():
                alone = len(port.sources) == 1 and port.sources[0] in sources
                if alone and "entries" in operation.counts and operation.name in arrived:
                    entered[port.sources[0]] = float(arrived[operation.name].sum()) / per_step / port.width
                    over_time[port.sources[0]] = profile(arrived[operation.name])
        return Activity(
            {name: float(counts.sum()) / per_step for name, counts in fired.items()},
            {name: float(counts.sum()) / per_step for name, counts in synaptic.items()},
            audit.period, entered, over_time,
        )  # fmt: skip


def profile(counts: FloatArray) -> FloatArray:
    """Counts of each step over their mean, (steps,); 1 where there are none."""
    mean = counts.mean()
    over: FloatArray = counts / mean if mean else np.ones(len(counts))
    return over


def channel_rates(program: Program, activity: Activity | None) -> dict[str, Rate]:
    """Messages per step and channel of everything that sends; 1, the upper bound, of what was not measured.

    Args:
        program: whose operations send.
        activity: what was counted, None for the bound.
    """
    signals, rates = Signals(program), dict[str, Rate]()
    for operation in program.operations:
        rate: Rate = 1.0
        if isinstance(operation, Source) and activity is not None:
            rate = activity.entered.get(operation.name, 1.0)
        elif activity is not None and operation.role is Role.NEURON:
            fired = activity.fired[operation.name]
            rate = fired / operation.width if np.ndim(fired) == 0 else fired
        elif operation.role is Role.DELAY:
            rate = _joined(signals.emitters(operation.ports["x"]), rates)
        elif isinstance(operation, Synapse):
            rates[f"{operation.name}.relays"] = float(np.mean(_joined(signals.emitters(operation.x), rates)))
        rates[operation.name] = rate
        rates[f"{operation.name}.links"] = float(np.mean(rate))  # of a chain all links alike
    return rates


def _joined(emitters: Sequence[Emitter], rates: Mapping[str, Rate]) -> Rate:
    """Messages of a sum: it is one message. What comes later in a cycle is not known yet and counts as 1."""
    total: Rate = 0.0
    for emitter in emitters:
        rate = rates.get(emitter.name, 1.0)
        if np.ndim(rate) and emitter.index is not None:
            rate = np.where(emitter.index >= 0, np.asarray(rate)[emitter.index], 0.0)
        total = total + rate
    joined: Rate = np.minimum(1.0, total)
    return joined


def sent_by(layer: Placed, rates: Mapping[str, Rate]) -> FloatArray:
    """Messages per step that each neuron of a layer puts out, whoever hears them, (neurons,)."""
    each = np.zeros(layer.demand.neurons)
    for name, neurons in layer.demand.sends.items():
        each[neurons] = rates[name]
    return each


def between_cores(layer: Placed, rates: Mapping[str, Rate]) -> float:
    """Messages per step that a layer sends to cores other than the sender's own."""
    return float(sent_by(layer, rates) @ layer.abroad)


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
    rates = channel_rates(program, activity)
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
