"""Which operations of a Program share cores: layers, and the relays that hold what is delayed.

A layer is a neuron operation with all that feeds it alone, channel by channel: its synapse, and rotary, gate or
attention between the two. What feeds others too, or is not read channel by channel, is a layer of its own and sends its
sums as graded spikes. A delay that synapses alone read is theirs, within the range that the chip can delay a spike. Any
other is a layer of relay neurons, one for each channel and each `delay` steps of that range; all relays of the clock
are one layer. Inputs, outputs and routing are no layers.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

import numpy as np

from spikescr.sim.counting.account import layer_of
from spikescr.sim.program import (
    IntArray,
    Integrator,
    Maximum,
    Operation,
    Port,
    Program,
    Role,
    Select,
    Signal,
    Source,
    Synapse,
)

CLOCK_LAYER = "clock"
INPUT_BITS = 8  # of a number that the host sends, as the weights


@dataclass(frozen=True)
class Group:
    """A layer's operations, the last of which puts out what the layer sends.

    name: of the layer. operations: in the Program's order. relays: whether it only delays.
    """

    name: str
    operations: tuple[Operation, ...]
    relays: bool = False

    @property
    def width(self) -> int:
        """Channels that it sends; of relays, of all its operations."""
        return sum(o.width for o in self.operations) if self.relays else self.operations[-1].width


def held_delays(program: Program, reach: int) -> frozenset[str]:
    """Delays that need no relays: all that reads them are synapses, which get nothing else and delay it themselves.

    Args:
        program: any.
        reach: steps that a synapse of the chip can delay a spike.
    """
    readers = _readers(program)
    lines = (o for o in program.operations if o.role is Role.DELAY and o.signal is not Signal.CLOCK)
    return frozenset(
        line.name
        for line in lines
        if line.name in readers and all(_holds(reader, line, reach) for reader in readers[line.name])
    )


def _holds(reader: Operation, line: Operation, reach: int) -> bool:
    if not isinstance(reader, Synapse) or reader.x.sources != (line.name,):
        return False
    return line.longest_delay("x") + reader.longest_delay("x") <= reach


def groups(program: Program, held: Container[str] = ()) -> tuple[Group, ...]:
    """The layers of a Program, in the order of what they put out; without the delays that synapses hold."""
    heads: dict[str, str] = {}
    readers = _readers(program)
    for operation in reversed(program.operations):
        after = readers.get(operation.name, [])
        into = heads.get(after[0].name) if len(after) == 1 else None
        alone = _feeds(operation) and into is not None and _by_channel(operation, after[0])
        heads[operation.name] = into if alone and into is not None else operation.name
    by_head: dict[str, list[Operation]] = {}
    clocks = []
    for operation in program.operations:
        if operation.role is Role.DELAY and operation.signal is Signal.CLOCK:
            clocks.append(operation)
        elif operation.role not in (Role.HOST, Role.ROUTING) and operation.name not in held:
            by_head.setdefault(heads[operation.name], []).append(operation)
    layers = [Group(name, tuple(members), members[-1].role is Role.DELAY) for name, members in _named(by_head).items()]
    if not clocks:
        return tuple(layers)
    taken = any(layer.name == CLOCK_LAYER for layer in layers)
    return Group(f"{CLOCK_LAYER}.delays" if taken else CLOCK_LAYER, tuple(clocks), relays=True), *layers


def _feeds(operation: Operation) -> bool:
    """Whether an operation can be part of the neuron that it feeds alone; a leaky sum is a neuron of its own."""
    return operation.role is Role.CURRENT and not (isinstance(operation, Integrator) and not operation.current)


def _readers(program: Program) -> dict[str, list[Operation]]:
    """Operations that read each operation; one that reads it at two ports is there twice."""
    readers: dict[str, list[Operation]] = {}
    for operation in program.operations:
        for port in operation.ports.values():
            for source in port.sources:
                readers.setdefault(source, []).append(operation)
    return readers


def _by_channel(operation: Operation, reader: Operation) -> bool:
    """Whether the reader's channel i reads this operation's channel i and no other."""
    if reader.width != operation.width or reader.role not in (Role.CURRENT, Role.NEURON):
        return False
    return any(operation.name in reader.ports[port].sources for port in reader.by_channel)


def _named(by_head: dict[str, list[Operation]]) -> dict[str, list[Operation]]:
    """The same by names that people know: that of the trained layer where one operation alone has it."""
    short = {head: head if ops[-1].role is Role.DELAY else layer_of(head) for head, ops in by_head.items()}
    names = list(short.values())
    return {head if names.count(short[head]) > 1 else short[head]: ops for head, ops in by_head.items()}


@dataclass(frozen=True)
class Emitter:
    """A signal as it reaches a port: the operation that sends it and which of its channels the port's channels are.

    index: None where they are the same; -1 where nothing is.
    """

    name: str
    index: IntArray | None = None


class Signals:
    """Who sends what a port carries, through routing and delays that synapses hold; and how large an entry may be."""

    def __init__(self, program: Program, held: Container[str] = ()) -> None:
        self._held = held
        self.steps = program.steps
        self._operations = {o.name: o for o in program.operations}
        self._largest: dict[str, int | None] = {}
        for operation in program.operations:
            self._largest[operation.name] = self._most(operation)

    def emitters(self, port: Port) -> tuple[Emitter, ...]:
        """The operations whose spikes a port gets."""
        emitters: list[Emitter] = []
        for name in port.sources:
            operation = self._operations[name]
            if name in self._held:
                emitters += self.emitters(operation.ports["x"])
            elif isinstance(operation, Select):
                emitters += [_selected(emitter, operation.index) for emitter in self.emitters(operation.x)]
            else:
                emitters.append(Emitter(name))
        return tuple(emitters)

    def held(self, port: Port, *, least: bool = False) -> int:
        """Steps, at most or at least, of the delays that a synapse holds of what a port carries."""
        delays = [self._operations[n].longest_delay("x") if n in self._held else 0 for n in port.sources]
        return (min if least else max)(delays, default=0)

    def port_bits(self, port: Port) -> int | None:
        """Bits of an entry of a port, None where it carries sums of weights."""
        most = self._sum(port)
        return None if most is None else most.bit_length()

    def bits(self, operation: Operation) -> int | None:
        """Bits of an entry that an operation puts out, None where these are sums of weights."""
        most = self._largest[operation.name]
        return None if most is None else most.bit_length()

    def _sum(self, port: Port) -> int | None:
        # A source that comes later closes a cycle, through a delay: what it puts out are spikes.
        largest = [self._largest.get(source, 1) for source in port.sources]
        return None if None in largest else sum(n for n in largest if n is not None)

    def _most(self, operation: Operation) -> int | None:
        if isinstance(operation, Source):
            return 1 if operation.signal is Signal.CLOCK else 2**INPUT_BITS - 1
        if operation.role is Role.NEURON:
            return 1
        if operation.role in (Role.DELAY, Role.ROUTING) or isinstance(operation, Maximum):
            return self._sum(operation.ports["x"])
        return None


def _selected(emitter: Emitter, index: IntArray) -> Emitter:
    """A signal of which a Select takes its channels."""
    if emitter.index is not None:
        index = np.where(index >= 0, emitter.index[index], -1)
    return Emitter(emitter.name, index)
