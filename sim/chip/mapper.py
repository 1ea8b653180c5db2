"""Places the layers of a Program on cores: greedily, each layer on cores of its own, as many neurons as a core takes.

How many a core takes depends on how many cores its neurons send to, and these on the placement of other layers: the
placement is repeated until nothing changes, or so many chips are full that it does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from spikescr.sim.chip.demand import Demand, demands
from spikescr.sim.chip.layers import Signals, groups, held_delays
from spikescr.sim.chip.limits import Chip
from spikescr.sim.program import IntArray, Program, Signal, Source

WEIGHT_BITS = 8
_TOO_MANY = 32  # chips, beyond which a placement is not made better
_ROUNDS = 20  # of placement; one or two more than layers in a loop are enough in practice


@dataclass(frozen=True)
class Core:
    """Neurons [start, stop) of a layer on one core, and what they use of it.

    memory: bytes, of a chip with one memory for everything all of them, else synapses alone. input_axons: source
    neurons. output_axons: pairs of a neuron and a core that it sends to.
    """

    start: int
    stop: int
    memory: int
    input_axons: int
    output_axons: int

    @property
    def neurons(self) -> int:
        """How many neurons."""
        return self.stop - self.start


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
        The placement. A neuron that alone needs more than a core has is on a core alone, beyond its limits; `rules`
        tells.
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
    ranges: list[list[tuple[int, int]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.flexible = bool(self.chip.whole("flexible"))
        self.reached = [np.zeros(d.neurons, np.int64) for d in self.layers]
        self.abroad = [np.zeros(d.neurons, np.int64) for d in self.layers]
        self.sender = {name: row for row, demand in enumerate(self.layers) for name in demand.sends}

    def run(self) -> tuple[Placed, ...]:
        for _ in range(_ROUNDS):
            ranges = [self._fill(row) for row in range(len(self.layers))]
            if ranges == self.ranges:
                break
            self.ranges = ranges
            self._reach()
            if sum(map(len, ranges)) > _TOO_MANY * self.chip.whole("cores"):
                break
        return tuple(
            Placed(demand, tuple(self._core(row, *r) for r in self.ranges[row]), self.reached[row], self.abroad[row])
            for row, demand in enumerate(self.layers)
        )

    def _fill(self, row: int) -> list[tuple[int, int]]:
        """Cores of a layer one after the other, each as full as it gets, at least one neuron."""
        cores, start, end = [], 0, self.layers[row].neurons
        size = most = self.chip.whole("neurons")
        while start < end:
            size = self._fill_one(row, start, min(end - start, most), size)
            cores.append((start, start + size))
            start += size
        return cores

    def _fill_one(self, row: int, start: int, most: int, guess: int) -> int:
        """Neurons from `start` on that fit onto a core; needs grow with their number, and most cores have as many."""
        low, high = 1, most
        size, step = max(min(guess, most), 2), 1
        while low < high:
            if not low < size <= high:
                size = (low + high + 1) // 2
            if self._fits(row, start, start + size):
                low, size = size, size + step
            else:
                high, size = size - 1, size - step
            step *= 2
        return low

    def _fits(self, row: int, start: int, stop: int) -> bool:
        core = self._core(row, start, stop)
        return all(getattr(core, name) <= self.chip.whole(name) for name in ("memory", "input_axons", "output_axons"))

    def _core(self, row: int, start: int, stop: int) -> Core:
        demand = self.layers[row]
        inputs = sum(len(channels) for channels in demand.inputs(start, stop).values())
        outputs = int(self.reached[row][start:stop].sum())
        bits = int(demand.synapse_bits[start:stop].sum())
        if self.flexible:
            bits += int(demand.state_bits[start:stop].sum()) + demand.core_bits(start, stop)
            bits += 8 * self.chip.whole("axon_bytes") * (inputs + outputs)
        return Core(start, stop, _bytes(bits), inputs, outputs)

    def _reach(self) -> None:
        """Counts for every neuron the cores that it sends to."""
        for counts in (*self.reached, *self.abroad):
            counts[:] = 0
        for row, demand in enumerate(self.layers):
            for start, stop in self.ranges[row]:
                for name, channels in demand.inputs(start, stop).items():
                    if name in self.hosts:
                        continue
                    source = self.sender[name]
                    neurons = self.layers[source].sends[name][channels]
                    self.reached[source][neurons] += 1
                    own = (neurons >= start) & (neurons < stop) & (source == row)
                    self.abroad[source][neurons[~own]] += 1


def _bytes(bits: int) -> int:
    return -(-bits // 8)
