"""Places the layers of a Program on cores: greedily, each layer on cores of its own, as many neurons as a core takes.

Neurons that form an image are placed by boxes of it (`tiling`), all others in the order of their numbers. How many a
core takes depends on how many cores its neurons send to, and these on the placement of other layers: the placement is
repeated until nothing changes, or so many chips are full that it does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from spikescr.sim.chip.demand import Demand, demands
from spikescr.sim.chip.layers import Signals, groups, held_delays
from spikescr.sim.chip.limits import Chip
from spikescr.sim.chip.parts import Part, Range
from spikescr.sim.chip.tiling import middle, tiled
from spikescr.sim.program import IntArray, Program, Signal, Source

WEIGHT_BITS = 8
_LIMITS = ("memory", "input_axons", "output_axons")
_TOO_MANY = 32  # chips, beyond which a placement is not made better
_ROUNDS = 20  # of placement; one or two more than layers in a loop are enough in practice


@dataclass(frozen=True)
class Core:
    """Neurons of a layer on one core, and what they use of it.

    memory: bytes, of a chip with one memory for everything all of them, else synapses alone. input_axons: source
    neurons. output_axons: pairs of a neuron and a core that it sends to.
    """

    part: Part
    memory: int
    input_axons: int
    output_axons: int

    @property
    def neurons(self) -> int:
        """How many neurons."""
        return self.part.count


@dataclass(frozen=True)
class Placed:
    """A layer on its cores.

    reached: cores that each neuron sends to, (neurons,); abroad: those of them that are not its own. state: bytes of
    the neuron that needs most.
    """

    demand: Demand
    cores: tuple[Core, ...]
    reached: IntArray
    abroad: IntArray

    @property
    def name(self) -> str:
        """Of the layer."""
        return self.demand.name

    @property
    def memory(self) -> int:
        """Bytes on all its cores."""
        return sum(core.memory for core in self.cores)

    @property
    def state(self) -> int:
        """Bytes of state of the neuron that needs most."""
        return _bytes(int(self.demand.state_bits.max(initial=0)))


@dataclass(frozen=True)
class Placement:
    """All layers on cores of a chip. inputs: bits of an entry of what the host sends, the clock aside."""

    chip_name: str
    chip: Chip
    layers: tuple[Placed, ...]
    inputs: Mapping[str, int]

    @property
    def cores(self) -> int:
        """Cores in use."""
        return sum(len(layer.cores) for layer in self.layers)

    @property
    def neurons(self) -> int:
        """Neurons, relays included."""
        return sum(layer.demand.neurons for layer in self.layers)

    @property
    def memory(self) -> int:
        """Bytes in use."""
        return sum(layer.memory for layer in self.layers)

    @property
    def chips(self) -> int:
        """Chips that it takes."""
        by_cores = -(-self.cores // self.chip.whole("cores"))
        return max(by_cores, -(-self.neurons // self.chip.whole("chip_neurons")))


def place(
    program: Program, chip_name: str, chip: Chip, bits: Mapping[str, int], default: int = WEIGHT_BITS
) -> Placement:
    """Places a Program on cores.

    Args:
        program: any.
        chip_name: as in limits.toml.
        chip: its limits.
        bits: of the weights of a layer, by its name.
        default: bits of the weights of all other layers.

    Returns:
        The placement. A neuron that alone needs more than a core has is on a core alone, beyond its limits; of an image
        that limit does not count, as no placement would keep it. `rules` tells.
    """
    held = held_delays(program, chip.whole("delay"))
    signals = Signals(program, held)
    layers = [
        demand
        for group in groups(program, held)
        for demand in demands(group, signals, chip, bits.get(group.name, default))
    ]
    hosts = program.of_type(Source)
    inputs = {o.name: signals.bits(o) or 1 for o in hosts if o.signal is not Signal.CLOCK}
    placed = _Placing(layers, chip, {o.name for o in hosts}).run()
    return Placement(chip_name, chip, placed, inputs)


@dataclass
class _Placing:
    layers: list[Demand]
    chip: Chip
    hosts: set[str]
    parts: list[list[Part]] = field(default_factory=list)
    alone: dict[tuple[int, Part], tuple[int, int]] = field(default_factory=dict)  # inputs, bits but of outputs

    def __post_init__(self) -> None:
        self.flexible = bool(self.chip.whole("flexible"))
        self.reached = [np.zeros(d.neurons, np.int64) for d in self.layers]
        self.abroad = [np.zeros(d.neurons, np.int64) for d in self.layers]
        self.sender = {name: row for row, demand in enumerate(self.layers) for name in demand.sends}

    def run(self) -> tuple[Placed, ...]:
        for _ in range(_ROUNDS):
            parts = [self._fill(row) for row in range(len(self.layers))]
            if parts == self.parts:
                break
            self.parts = parts
            self._reach()
            if sum(map(len, parts)) > _TOO_MANY * self.chip.whole("cores"):
                break
        cores = [tuple(self._core(row, part) for part in parts) for row, parts in enumerate(self.parts)]
        return tuple(map(Placed, self.layers, cores, self.reached, self.abroad))

    def _fill(self, row: int) -> list[Part]:
        """Cores of a layer, each as full as it gets, at least one neuron."""
        image = self.layers[row].image
        if image is not None:
            needs, axons = partial(self._core, row), self.chip.whole("output_axons")
            alone = needs(middle(image, (1, 1, 1)))
            limits = [name for name in _LIMITS if getattr(alone, name) <= self.chip.whole(name)]
            return list(tiled(image, self.chip.whole("neurons"), axons, needs, partial(self._fits, limits=limits)))
        parts, start, end = list[Part](), 0, self.layers[row].neurons
        size = most = self.chip.whole("neurons")
        while start < end:
            size = self._fill_one(row, start, min(end - start, most), size)
            parts.append(Range(start, start + size))
            start += size
        return parts

    def _fill_one(self, row: int, start: int, most: int, guess: int) -> int:
        """Neurons from `start` on that fit onto a core; needs grow with their number, and most cores have as many."""
        low, high = 1, most
        size, step = max(min(guess, most), 2), 1
        while low < high:
            if not low < size <= high:
                size = (low + high + 1) // 2
            if self._fits(self._core(row, Range(start, start + size))):
                low, size = size, size + step
            else:
                high, size = size - 1, size - step
            step *= 2
        return low

    def _fits(self, core: Core, limits: Sequence[str] = _LIMITS) -> bool:
        return all(getattr(core, name) <= self.chip.whole(name) for name in limits)

    def _core(self, row: int, part: Part) -> Core:
        if (row, part) not in self.alone:
            self.alone[row, part] = self._without_outputs(self.layers[row], part)
        inputs, bits = self.alone[row, part]
        outputs = int(self.reached[row][part.index].sum())
        if self.flexible:
            bits += 8 * self.chip.whole("axon_bytes") * (inputs + outputs)
        return Core(part, _bytes(bits), inputs, outputs)

    def _without_outputs(self, demand: Demand, part: Part) -> tuple[int, int]:
        inputs = sum(len(channels) for channels in demand.inputs(part).values())
        bits = int(demand.synapse_bits[part.index].sum())
        if self.flexible:
            bits += int(demand.state_bits[part.index].sum()) + demand.core_bits(part)
        return inputs, bits

    def _reach(self) -> None:
        """Counts for every neuron the cores that it sends to."""
        for counts in (*self.reached, *self.abroad):
            counts[:] = 0
        for row, demand in enumerate(self.layers):
            for part in self.parts[row]:
                for name, channels in demand.inputs(part).items():
                    if name in self.hosts:
                        continue
                    source = self.sender[name]
                    neurons = self.layers[source].sends[name][channels]
                    self.reached[source][neurons] += 1
                    others = neurons[~np.isin(neurons, part.numbers)] if source == row else neurons
                    self.abroad[source][others] += 1


def _bytes(bits: int) -> int:
    return -(-bits // 8)
