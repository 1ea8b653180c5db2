"""What a run takes by costs that were fitted on a chip: every term of its energy, and the term that decides its time.

The time of a step is that of the busiest core or of the heaviest link, whichever takes longer, and a barrier: a maximum
and no sum, as on Loihi 2 (J. Timcheck et al., arXiv 2601.10035). A core's neurons and the synapses that its messages
reach work side by side. How unequal the cores are is what time follows (J. Yik et al., arXiv 2511.21549).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from spikescr.sim.chip.costs import FITTED, ChipCost, chip_costs
from spikescr.sim.chip.mapper import Placement
from spikescr.sim.chip.mesh import Link, Mesh, on_mesh
from spikescr.sim.chip.traffic import Activity, channel_rates, sent_by
from spikescr.sim.counting.energy import PICO
from spikescr.sim.program import FloatArray, Program

NANO = 1e-9


@dataclass(frozen=True)
class Amount:
    """How often something happens in a recording, and the energy of all of it, J."""

    count: float
    joules: float


@dataclass(frozen=True)
class FittedEstimate:
    """What one recording takes on a mesh of cores by fitted costs. Not measured.

    Attributes:
        constants: name of the costs.
        terms: of the energy, by name; neuron_update as if every membrane moved at every step.
        joules: least and most: without neuron_update and with it.
        times: of a step, s: busiest core's neurons and synapses, heaviest link, the host's input, barrier.
        deciding: which of these takes longest, and where.
        step_seconds: the longest but the barrier, and the barrier.
        seconds: of all executed steps.
        imbalance: work of the busiest core over the mean of all cores.
        tiles: in use.
        hops: tiles passed per recording to the east, west, north and south.
        heaviest: the link with most to carry, messages per step.
    """

    constants: str
    terms: Mapping[str, Amount]
    joules: tuple[float, float]
    times: Mapping[str, float]
    deciding: str
    step_seconds: float
    seconds: float
    imbalance: float
    tiles: int
    hops: Mapping[str, float]
    heaviest: Link | None


def estimate_fitted(
    placement: Placement, program: Program, activity: Activity, constants: str = FITTED
) -> FittedEstimate:
    """What a recording takes.

    A synaptic operation costs what its layer's way to store weights costs; those of attention and rotary positions,
    which have no weights, as of a matrix. Events of a layer are spread over its cores by neurons, and all counts over
    the steps: the busiest core of a mean step is not the mean of the busiest. Left out are the embedded processors,
    leakage, and what brings inputs to the chip.

    Args:
        placement: of the Program.
        program: what was simulated.
        activity: what was counted.
        constants: name of the costs, see `costs.chip_costs`.
    """
    cost = chip_costs()[constants]
    rates = channel_rates(program, activity)
    mesh = on_mesh(placement, rates, cost)
    spikes = np.concatenate([sent_by(layer, rates) for layer in placement.layers])
    terms = _energies(placement, activity, mesh, float(spikes.sum()), cost)
    most = sum(amount.joules for amount in terms.values())
    neurons, synapses = _work(placement, activity, mesh, spikes, cost)
    times = {
        "neurons": NANO * neurons.max(),
        "synapses": NANO * synapses.max(),
        "link": NANO * _link(mesh.heaviest, cost),
        "input": NANO * mesh.from_host * cost.message_out.ns,
        "barrier": cost.barrier(mesh.tiles),
    }
    of_core = [layer.name for layer in placement.layers for _ in layer.cores]
    longest = max(times, key=lambda name: times[name])
    step = max(time for name, time in times.items() if name != "barrier") + times["barrier"]
    where = {"neurons": of_core[int(neurons.argmax())], "synapses": of_core[int(synapses.argmax())]}
    work = neurons + synapses
    return FittedEstimate(
        constants=constants,
        terms=terms,
        joules=(most - terms["neuron_update"].joules, most),
        times={name: float(time) for name, time in times.items()},
        deciding=f"{longest} of {where[longest]}" if longest in where else longest,
        step_seconds=float(step),
        seconds=float(step) * activity.steps,
        imbalance=float(work.max() / work.mean()) if work.any() else 1.0,
        tiles=mesh.tiles,
        hops={name: activity.steps * count for name, count in mesh.hops.items()},
        heaviest=mesh.heaviest,
    )


def _energies(placement: Placement, activity: Activity, mesh: Mesh, spikes: float, cost: ChipCost) -> dict[str, Amount]:
    """Terms of the energy of a recording."""
    stored = {name: kind for layer in placement.layers for name, kind in layer.demand.stored.items()}
    counts = dict.fromkeys(cost.terms, 0.0)
    for name, events in activity.synaptic.items():
        counts[f"synapse_{stored.get(name, 'dense')}"] += events
    counts["neuron_access"] = counts["neuron_update"] = placement.neurons
    counts["spike_out"] = spikes
    counts["message_out"] = counts["message_in"] = float(mesh.messages.sum())
    counts["hop_east_west"] = mesh.hops["east"] + mesh.hops["west"]
    counts["hop_north_south"] = mesh.hops["north"] + mesh.hops["south"]
    per_recording = {name: activity.steps * count for name, count in counts.items()}
    return {name: Amount(count, PICO * count * cost.terms[name].pj) for name, count in per_recording.items()}


def _work(
    placement: Placement, activity: Activity, mesh: Mesh, spikes: FloatArray, cost: ChipCost
) -> tuple[FloatArray, FloatArray]:
    """Nanoseconds per step of each core's neurons, with what they send, and of the synapses that its messages reach."""
    neurons, synapses = [], []
    first = 0
    for layer in placement.layers:
        of_layer = spikes[first : first + layer.demand.neurons]
        first += layer.demand.neurons
        events = sum(
            activity.synaptic.get(name, 0.0) * cost.terms[f"synapse_{layer.demand.stored.get(name, 'dense')}"].ns
            for name in layer.demand.operations
        )
        for core in layer.cores:
            fired = float(of_layer[core.part.index].sum())
            each = cost.neuron_access.ns + cost.neuron_update.ns
            neurons.append(core.neurons * each + fired * cost.spike_out.ns)
            synapses.append(events * core.neurons / layer.demand.neurons)
    out, into = mesh.sent() * cost.message_out.ns, mesh.received() * cost.message_in.ns
    return np.array(neurons) + out, np.array(synapses) + into


def _link(link: Link | None, cost: ChipCost) -> float:
    """Nanoseconds per step in which a link carries its messages."""
    if link is None:
        return 0.0
    return link.messages * (cost.hop_east_west if link.direction in ("east", "west") else cost.hop_north_south).ns
