"""SANA-FE's files of a placed Program: architecture, network and mapping, in YAML as its documentation tells.

SANA-FE (J. Boyle et al., IEEE TCAD 44(8), 2025) simulates spiking chips with their energy and time. Its Loihi has
neurons of one equation, spikes without a number, and a step from every layer to the next; what a Program has beyond is
refused by name. A neuron of layer n shows the Program's step t at its step t + n. Version 2.2.9 keeps membranes in
multiples of 1/64: all of a neuron's numbers are multiplied by a power of two, as large as its membrane allows, so that
less than 2^-20 of it is cut. Nothing of SANA-FE is needed to write its files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spikescr.errors import ExportError
from spikescr.files import replacing_together, write_text
from spikescr.sim.chip.costs import FITTED, ChipCost, chip_costs
from spikescr.sim.chip.mapper import Placement
from spikescr.sim.chip.wiring import Group, groups_of
from spikescr.sim.program import FloatArray, IntArray, Program, Signal, Source

ARCHITECTURE, NETWORK = "arch.yaml", "network.yaml"
CORE_NEURONS = 1024  # of its Loihi's units
LARGEST = 2.0**24  # of a membrane: 64 times it, and a sum of two, are within 32 bits
FINEST = 40  # powers of two by which numbers are multiplied, at most


@dataclass(frozen=True)
class SanaFile:
    """What was written. steps: to simulate, until the last layer has shown the window. depth: layer of each group."""

    steps: int
    depth: Mapping[str, int]


def write_sanafe(
    folder: Path,
    program: Program,
    placement: Placement,
    inputs: Mapping[str, NDArray[np.bool_]],
    constants: str = FITTED,
) -> SanaFile:
    """Writes arch.yaml and network.yaml.

    Args:
        folder: to write to; made where it is not there.
        program: its biases clocked, see `clocked.with_clocked_biases`.
        placement: of this Program.
        inputs: spikes of each input but the clock, (T, N).
        constants: of the chip, see `costs.chip_costs`.

    Returns:
        Steps and layers; groups of neurons are named after the layers' operations, signs that YAML reads replaced.

    Raises:
        ExportError: SANA-FE cannot say what the Program does, or cores hold more than its own do; the message names the
            operation.
    """
    groups = groups_of(program, placement)
    cost = chip_costs()[constants]
    full = max((core.neurons for layer in placement.layers for core in layer.cores), default=0)
    if full > CORE_NEURONS:
        raise ExportError(f"{full:,} neurons on a core; SANA-FE's Loihi holds {CORE_NEURONS:,}: place it on loihi1")
    window = next(iter(inputs.values())).shape[0] if inputs else program.steps
    trains = _trains(program, groups, inputs, window)
    steps = window + max(group.depth for group in groups)
    texts = {
        ARCHITECTURE: "\n".join(_architecture(placement.cores, sum(t.shape[1] for t in trains.values()), cost)) + "\n",
        NETWORK: "\n".join(_network(groups, trains, placement, steps)) + "\n",
    }
    folder.mkdir(parents=True, exist_ok=True)
    with replacing_together(folder, list(texts)) as stage:
        for name, text in texts.items():
            write_text(stage / name, text)
    return SanaFile(steps, {group.name: group.depth for group in groups})


def _trains(
    program: Program, groups: tuple[Group, ...], inputs: Mapping[str, NDArray[np.bool_]], window: int
) -> dict[tuple[str, int], NDArray[np.bool_]]:
    """Spikes of what the host sends, (T, N), by name and the steps that they come late, for deeper layers."""
    given = dict(inputs)
    for source in program.of_type(Source):
        if source.signal is Signal.CLOCK:
            given[source.name] = np.ones((window, 1), np.bool_)
        elif source.name not in given:
            raise ExportError(f"{source.name}: no spikes are given for it")
    wanted = sorted({(wire.source, wire.late) for group in groups for wire in group.wires if wire.source in given})
    return {(name, late): np.pad(given[name], ((late, 0), (0, 0))) for name, late in wanted}


def _architecture(cores: int, inputs: int, cost: ChipCost) -> Iterator[str]:
    """Lines of the chip: its mesh, its tiles; on the first tile one core more, where the host's spikes come from."""
    tiles = max(-(-cores // cost.tile_cores), 1)
    wide = max(cost.tiles_wide, -(-tiles // cost.tiles_high))
    barrier = ", ".join(f"{count}: {ns / 1e9!r}" for count, ns in cost.barrier_ns.items())
    yield from ("architecture:", "  name: loihi", "  attributes:", "    topology: mesh", f"    width: {wide}")
    yield from (f"    height: {cost.tiles_high}", "    link_buffer_size: 16", "    sync_model: table")
    yield f"    latency_sync: {{{barrier}}}"
    yield "  tile:"
    last = tiles - 1
    for name, hosts in [("first_tile", inputs)] + [(f"tile[1..{last}]" if last > 1 else "tile", 0)] * (last > 0):
        yield from (f"    - name: {name}", "      attributes:")
        for directions, term in ((("east", "west"), cost.hop_east_west), (("north", "south"), cost.hop_north_south)):
            for direction in directions:
                yield f"        energy_{direction}_hop: {term.pj / 1e12!r}"
                yield f"        latency_{direction}_hop: {term.ns / 1e9!r}"
        yield "      core:"
        yield from _core(f"core[0..{cost.tile_cores - 1}]", CORE_NEURONS, 0, cost)
        if hosts:
            yield from _core("host", hosts, hosts, cost)


def _core(name: str, neurons: int, hosts: int, cost: ChipCost) -> Iterator[str]:
    """Lines of a core with LIF neurons and synapses of three kinds, or of one that only has the host's inputs."""
    free = {
        f"{what}_{of}": 0.0 for of in ("access_neuron", "update_neuron", "spike_out") for what in ("energy", "latency")
    }

    def unit(unit_name: str, model: str, fields: Mapping[str, float]) -> Iterator[str]:
        yield from (f"            - name: {unit_name}", "              attributes:", f"                model: {model}")
        yield from (f"                {key}: {value!r}" for key, value in fields.items())

    def costs(of: str, term: str) -> dict[str, float]:
        return {f"energy_{of}": cost.terms[term].pj / 1e12, f"latency_{of}": cost.terms[term].ns / 1e9}

    yield from (f"        - name: {name}", "          attributes:", "            buffer_position: soma")
    yield from ("            buffer_inside_unit: false", f"            max_neurons_supported: {neurons}")
    yield from ("          axon_in:", "            - name: axons_in", "              attributes:")
    yield from (f"                {key}: {value!r}" for key, value in costs("message_in", "message_in").items())
    yield "          soma:"
    soma = costs("access_neuron", "neuron_access") | costs("update_neuron", "neuron_update")
    yield from unit("lif", "leaky_integrate_fire", soma | costs("spike_out", "spike_out"))
    if hosts:
        yield from unit(f"inputs[0..{hosts - 1}]" if hosts > 1 else "inputs", "input", free)
    yield "          dendrite:"
    yield from unit("sum", "accumulator", {"energy_update": 0.0, "latency_update": 0.0})
    yield "          synapse:"
    for kind in ("dense", "sparse", "convolution"):
        yield from unit(kind, "current_based", costs("process_spike", f"synapse_{kind}"))
    yield from ("          axon_out:", "            - name: axons_out", "              attributes:")
    yield from (f"                {key}: {value!r}" for key, value in costs("message_out", "message_out").items())


def _network(
    groups: tuple[Group, ...],
    trains: Mapping[tuple[str, int], NDArray[np.bool_]],
    placement: Placement,
    steps: int,
) -> Iterator[str]:
    tile_cores = chip_costs()[FITTED].tile_cores
    yield from ("network:", "  name: spikescr", "  groups:")
    for (name, late), train in trains.items():
        yield from (f"    - name: {_input(name, late)}", "      attributes: []", "      neurons:")
        for number, spikes in enumerate(train.T):
            yield f"        - {number}: [spikes: [{', '.join('1' if fired else '0' for fired in spikes)}]]"
    scales = {group.name: _scale(group, steps) for group in groups}
    for group in groups:
        yield f"    - name: {word(group.name)}"
        units = f"synapse_hw_name: {group.stored}, dendrite_hw_name: sum, soma_hw_name: lif"
        yield f"      attributes: [{units}, log_spikes: true]"
        yield "      neurons:"
        yield from _neurons(group, scales[group.name])
    yield "  edges:"
    for group in groups:
        for wire in group.wires:
            name = _input(wire.source, wire.late) if (wire.source, wire.late) in trains else word(wire.source)
            pairs = np.stack([wire.before, wire.after], axis=1).tolist()
            weights = (wire.weight * scales[group.name][wire.after]).tolist()
            content = f"type: sparse, source_target_pairs: {json.dumps(pairs)}, weight: {json.dumps(weights)}"
            yield f"    - {name} -> {word(group.name)}: [{content}]"
    yield "mappings:"
    first = 0
    for (name, late), train in trains.items():
        for number in range(train.shape[1]):
            index = f"[{first + number}]" if sum(t.shape[1] for t in trains.values()) > 1 else ""
            yield f'  - {_input(name, late)}.{number}: [core: 0.{tile_cores}, soma: "inputs{index}"]'
        first += train.shape[1]
    core_number = 0
    by_layer = {group.layer: group for group in groups}
    for layer in placement.layers:
        for core in layer.cores:
            tile, offset = divmod(core_number, tile_cores)
            core_number += 1
            for start, stop in _runs(core.part.numbers):
                yield f"  - {word(by_layer[layer.name].name)}.{start}..{stop}: [core: {tile}.{offset}]"


def _neurons(group: Group, scale: FloatArray) -> Iterator[str]:
    """Lines of a group's neurons, equal ones together."""
    rows = np.stack([group.threshold * scale, group.reset * scale, group.decay], axis=1)
    starts = np.flatnonzero(np.r_[True, (rows[1:] != rows[:-1]).any(axis=1)])
    for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
        threshold, reset, decay = rows[start].tolist()
        mode = "soft" if group.soft else "hard"
        yield (
            f"        - {start}..{stop - 1}: [soma: {{threshold: {threshold!r}, reset: {reset!r}, reset_mode: {mode}, "
            f"leak_decay: {decay!r}, force_update: true}}]"
        )


def _scale(group: Group, steps: int) -> FloatArray:
    """The power of two that each neuron's numbers are multiplied by, (neurons,)."""
    arriving = np.zeros(len(group.decay))
    for wire in group.wires:
        np.add.at(arriving, wire.after, np.abs(wire.weight))
    kept = np.abs(group.decay)
    leaking = np.divide(1.0, 1.0 - kept, out=np.full(len(kept), float(steps)), where=kept < 1)
    most = (arriving + np.abs(group.reset)) * np.minimum(leaking, steps) + np.abs(
        np.where(group.fires, group.threshold, 0)
    )
    exponent = np.floor(np.log2(LARGEST / np.maximum(most, 1e-300)))
    scale: FloatArray = np.exp2(np.clip(exponent, -FINEST, FINEST))
    return scale


def _runs(numbers: IntArray) -> Iterator[tuple[int, int]]:
    """First and last of each run of numbers without a gap."""
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    for run in np.split(numbers, breaks):
        yield int(run[0]), int(run[-1])


def word(name: str) -> str:
    """A name without what SANA-FE's addresses and YAML read as signs."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def _input(name: str, late: int) -> str:
    return f"{word(name)}__{late}"
