"""What a run takes by costs that were fitted on a chip: every term of its energy, and the term that decides its time.

The time of a step is that of the busiest core or of the heaviest link, whichever takes longer, and a barrier: a maximum
and no sum, as on Loihi 2 (J. Timcheck et al., arXiv 2601.10035). A core's neurons and the synapses that its messages
reach work side by side. How unequal the cores are is what time follows (J. Yik et al., arXiv 2511.21549). Every layer
works a step later than what it hears: a recording takes its own steps and one for each layer of the longest way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spikescr.sim.chip.costs import FITTED, ChipCost, chip_costs
from spikescr.sim.chip.mapper import Placed, Placement
from spikescr.sim.chip.mesh import Link, Mesh, depths, on_mesh
from spikescr.sim.chip.traffic import Activity, Rate, channel_rates, sent_by
from spikescr.sim.counting.energy import PICO
from spikescr.sim.program import FloatArray, IntArray, Program, Role

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
        steps: of the chip, those executed and one for each layer of the longest way.
        times: of a step, s, means over the steps: the busiest core's neurons, the busiest core's synapses, the heaviest
            link, the host's input, the barrier.
        deciding: which of these takes longest, and in which layer.
        step_seconds: mean over the steps of the longest but the barrier, and the barrier.
        seconds: of all steps.
        imbalance: work of the busiest core over the mean of all cores, of a recording.
        tiles: in use.
        hops: tiles passed per recording to the east, west, north and south.
        heaviest: the link with most to carry, messages per executed step.
    """

    constants: str
    terms: Mapping[str, Amount]
    joules: tuple[float, float]
    steps: int
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
    which have no weights, as of a matrix. Events of a layer are spread over its cores by the messages that they get and
    the synapses that each reaches, and over the steps as they were counted. Left out are the embedded processors,
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
    deep = depths(placement)
    steps = activity.steps + int(deep.max(initial=0))
    spikes = [_spikes(layer, program, rates) for layer in placement.layers]
    terms = _energies(placement, activity, mesh, float(sum(each.sum() for each in spikes)), steps, cost)
    most = sum(amount.joules for amount in terms.values())
    neurons, synapses, link, host = _over_time(placement, activity, mesh, spikes, deep, steps, cost)
    busy = {"neurons": neurons.max(axis=0), "synapses": synapses.max(axis=0), "link": link, "input": host}
    barrier = cost.barrier(mesh.tiles)
    each_step = NANO * np.max(list(busy.values()), axis=0) + barrier
    times = {name: NANO * float(work.mean()) for name, work in busy.items()} | {"barrier": barrier}
    longest = max(times, key=lambda name: times[name])
    of_core = [layer.name for layer in placement.layers for _ in layer.cores]
    where = {name: of_core[_busiest(work)] for name, work in (("neurons", neurons), ("synapses", synapses))}
    work = (neurons + synapses).sum(axis=1)
    return FittedEstimate(
        constants=constants,
        terms=terms,
        joules=(most - terms["neuron_update"].joules, most),
        steps=steps,
        times=times,
        deciding=f"{longest} of {where[longest]}" if longest in where else longest,
        step_seconds=float(each_step.mean()),
        seconds=float(each_step.sum()),
        imbalance=float(work.max() / work.mean()) if work.any() else 1.0,
        tiles=mesh.tiles,
        hops={name: activity.steps * count for name, count in mesh.hops.items()},
        heaviest=mesh.heaviest,
    )


def _spikes(layer: Placed, program: Program, rates: Mapping[str, Rate]) -> FloatArray:
    """Spikes per step of each neuron; a sum that the host alone reads is none."""
    last = layer.demand.operations[-1:]
    fires = bool(last) and program[last[0]].role is Role.NEURON
    spikes: FloatArray = np.where(fires | (layer.reached > 0), sent_by(layer, rates), 0.0)
    return spikes


def _busiest(work: FloatArray) -> int:
    """The core that is the busiest of most of the time, of (cores, steps)."""
    return int(np.bincount(work.argmax(axis=0), work.max(axis=0), len(work)).argmax())


def _energies(
    placement: Placement, activity: Activity, mesh: Mesh, spikes: float, steps: int, cost: ChipCost
) -> dict[str, Amount]:
    """Terms of the energy of a recording; spikes per executed step."""
    counts = dict.fromkeys(cost.terms, 0.0)
    kinds = {name: kind for layer in placement.layers for name, kind in layer.demand.stored.items()}
    for name, events in activity.synaptic.items():
        counts[f"synapse_{kinds.get(name, 'dense')}"] += activity.steps * events
    counts["neuron_access"] = counts["neuron_update"] = steps * placement.neurons
    counts["spike_out"] = activity.steps * spikes
    counts["message_out"] = counts["message_in"] = activity.steps * float(mesh.messages.sum())
    counts["hop_east_west"] = activity.steps * (mesh.hops["east"] + mesh.hops["west"])
    counts["hop_north_south"] = activity.steps * (mesh.hops["north"] + mesh.hops["south"])
    return {name: Amount(count, PICO * count * cost.terms[name].pj) for name, count in counts.items()}


def _over_time(
    placement: Placement,
    activity: Activity,
    mesh: Mesh,
    spikes: Sequence[FloatArray],
    deep: IntArray,
    steps: int,
    cost: ChipCost,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Nanoseconds at every step of the chip.

    Returns:
        Neurons of each core with what they send (cores, steps); synapses of each core with what arrives (cores, steps);
        the heaviest link (steps,); the host's input (steps,).
    """

    def shifted(name: str, late: int) -> FloatArray:
        course = np.zeros(steps)
        course[late : late + activity.steps] = activity.over_time.get(name, np.ones(activity.steps))
        return course

    sender = {name: row for row, layer in enumerate(placement.layers) for name in layer.demand.sends}
    plain = {name: name.removesuffix(".links").removesuffix(".relays") for name in mesh.signals}
    course = np.array(
        [shifted(plain[name], int(deep[sender[name]]) if name in sender else 0) for name in mesh.signals]
    ).reshape(-1, steps)
    received = mesh.received()
    neurons = mesh.sent() * cost.message_out.ns @ course
    synapses = received * cost.message_in.ns @ course
    core = 0
    for layer, fired, late in zip(placement.layers, spikes, deep.tolist(), strict=True):
        own = slice(core, core + len(layer.cores))
        core = own.stop
        each = cost.neuron_access.ns + cost.neuron_update.ns
        neurons[own] += np.array([held.neurons * each for held in layer.cores])[:, None]
        out = np.array([float(fired[held.part.index].sum()) for held in layer.cores]) * cost.spike_out.ns
        neurons[own] += out[:, None] * shifted(layer.demand.operations[-1] if layer.demand.operations else "", late)
        share = _shares(layer, received[own].sum(axis=1))
        for name in layer.demand.operations:
            if events := activity.synaptic.get(name, 0.0):
                of_one = cost.terms[f"synapse_{layer.demand.stored.get(name, 'dense')}"].ns
                synapses[own] += share[:, None] * (events * of_one * shifted(name, late - 1))
    hop = [(cost.hop_east_west if way in ("east", "west") else cost.hop_north_south).ns for _, _, way in mesh.links]
    links = np.array(hop).reshape(-1, 1) * (mesh.carried @ course)
    return neurons, synapses, links.max(axis=0, initial=0.0), mesh.from_host() * cost.message_out.ns @ course


def _shares(layer: Placed, received: FloatArray) -> FloatArray:
    """Share of a layer's synaptic operations on each of its cores, by messages that come and synapses they reach."""
    reached = np.array([core.neurons / max(core.input_axons, 1) for core in layer.cores])
    weights = received * reached
    if not weights.any():
        weights = np.array([float(core.neurons) for core in layer.cores])
    shares: FloatArray = weights / weights.sum()
    return shares
