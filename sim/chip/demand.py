"""What a layer needs of the cores it is placed on: memory neuron by neuron, memory of each core, and whom it hears.

Everything is stored as follows; what of this is an assumption, docs/chip.md says.

    synapse        its weight; its delay where the layer has delays; its neuron's number where weights are stored as a
                   list of those that are not 0 (whichever is smaller, list or matrix). One list or row serves all
                   source neurons with the same weights, as the sources of a residual sum are.
    unweighted     a connection (to gate, rotary, attention, maximum, relay; clocked bias) is stored like a synapse
    neuron         membrane and input sum; with delays of up to d steps d + 1 input sums
    attention      D sums of up to T of the matrix K^T V for each neuron; on each core T steps of its heads' queries
    over tokens    the scores of all tokens, or a column of K^T V, for each neuron; on each core k and v of its heads
    maximum        the largest entry so far
    rotary         tables of cos and sin in 8 bits on each core, and a count of ticks; position: a column per neuron
    delay          the steps that a relay holds, each as many bits as an entry may have
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from spikescr.errors import GraphError
from spikescr.sim.chip.hearing import Channels, heard, rounded, same, seen_by, single, strided
from spikescr.sim.chip.layers import Emitter, Group, Signals
from spikescr.sim.chip.limits import Chip
from spikescr.sim.chip.parts import Box, Part
from spikescr.sim.program import (
    Attention,
    CausalAttention,
    ChannelDelay,
    Convolution,
    DelayLine,
    Gate,
    IntArray,
    Integrator,
    Maximum,
    Neuron,
    Port,
    Position,
    Rotary,
    Signal,
    Synapse,
    TokenAttention,
)

TABLE_BITS = 8  # of an entry of a rotary or position table
TICK_BITS = 16  # of the count of clock ticks

Shared = Callable[[Part], int]  # neurons -> bits that their core keeps once


@dataclass
class Demand:
    """What a layer needs.

    Attributes:
        name: of the layer.
        operations: of the layer, their names.
        sends: signal that it sends -> the neuron that sends each channel; by the name of the operation, and
            `NAME.links` from one link of a chain of relays to the next.
        neurons: how many.
        weight_bits: of a synapse.
        payload_bits: of a spike that it sends.
        synapse_bits: of each neuron (neurons,), axons left out.
        state_bits: of each neuron (neurons,).
        shared: bits that a core keeps once.
        hears: for each emitter the channels that neurons hear.
        longest: delay, steps.
        soonest: steps after which at least what an emitter sends is used, by its name; 0 where it is not there.
        image: (channels, rows, columns) that the neurons form, where they are placed by boxes of it.
        stored: how the weights of each operation that has some are stored, "dense", "sparse" or "convolution".
        programs: what of it needs programmable neurons; empty where nothing does.
    """

    name: str
    operations: tuple[str, ...]
    sends: dict[str, IntArray]
    neurons: int
    weight_bits: int
    payload_bits: int
    synapse_bits: IntArray
    state_bits: IntArray
    shared: list[Shared] = field(default_factory=list)
    hears: list[tuple[Emitter, Channels]] = field(default_factory=list)
    longest: int = 0
    soonest: dict[str, int] = field(default_factory=dict)
    image: tuple[int, int, int] | None = None
    stored: dict[str, str] = field(default_factory=dict)
    programs: str = ""

    def inputs(self, part: Part) -> dict[str, IntArray]:
        """Channels of each emitter that neurons hear, each once, sorted."""
        by_emitter: dict[str, list[IntArray]] = {}
        for emitter, channels in self.hears:
            heard = channels(part)
            if emitter.index is not None:
                heard = emitter.index[heard]
                heard = heard[heard >= 0]
                heard = np.unique(heard)
            by_emitter.setdefault(emitter.name, []).append(heard)
        merged = {name: np.unique(np.concatenate(parts)) for name, parts in by_emitter.items() if len(parts) > 1}
        return {name: merged.get(name, parts[0]) for name, parts in by_emitter.items()}

    def core_bits(self, part: Part) -> int:
        """Bits that a core with these neurons keeps once."""
        return sum(bits(part) for bits in self.shared)


def demands(group: Group, signals: Signals, chip: Chip, bits: int) -> list[Demand]:
    """What a layer needs; of a layer whose taps reach further back than the chip can delay, its relays first.

    Args:
        group: the layer.
        signals: of its Program.
        chip: whose formats and ranges hold.
        bits: of a weight.
    """
    if group.relays:
        return [_relays(group, signals, chip, bits)]
    return _Building(group, signals, chip, bits).run()


def _relays(group: Group, signals: Signals, chip: Chip, bits: int) -> Demand:
    """Relay neurons of delay lines, each a chain for each channel."""
    reach = chip.whole("delay")
    synapse, state, hears, sends = [], [], list[tuple[Emitter, Channels]](), dict[str, IntArray]()
    first, payload, longest, soonest = 0, 1, 0, dict[str, int]()
    for operation in group.operations:
        assert isinstance(operation, (DelayLine, ChannelDelay))
        delays = np.broadcast_to(operation.delay, operation.width)
        links = np.maximum(-(-delays // reach), 1)  # relays of each channel
        entry = signals.port_bits(operation.x) or chip.whole("membrane_bits")
        payload, longest = max(payload, entry), max(longest, int(delays.max()))
        last = first + np.cumsum(links) - 1
        channel = np.repeat(np.arange(operation.width), links)
        count = len(channel)
        synapse.append(np.full(count, bits))
        state.append(-(-delays * entry // links)[channel])  # spread evenly over a chain: the sum is what counts
        begins = np.full(count, -1)
        begins[last - first - links + 1] = np.arange(operation.width)
        hears += [(emitter, heard(begins, first)) for emitter in signals.emitters(operation.x)]
        for emitter in signals.emitters(operation.x):
            soonest[emitter.name] = min(soonest.get(emitter.name, reach), int(delays.min()))
        sends[operation.name] = last
        if count > operation.width:
            chain = f"{operation.name}.links"
            sends[chain] = first + np.arange(count)
            hears.append((Emitter(chain), heard(np.where(begins < 0, np.arange(count) - 1, -1), first)))
        first += count
    return Demand(
        group.name, tuple(o.name for o in group.operations), sends, first, bits, payload,
        np.concatenate(synapse), np.concatenate(state), hears=hears, longest=longest, soonest=soonest,
    )  # fmt: skip


# What can be placed by boxes of an image: it reads its own channel, or asks where a box lies.
_ON_IMAGES = (Convolution, Synapse, Gate, Maximum, Neuron, Integrator)


class _Building:
    """Adds up what the operations of one layer need."""

    def __init__(self, group: Group, signals: Signals, chip: Chip, bits: int) -> None:
        self.group, self.signals, self.chip, self.bits = group, signals, chip, bits
        self.sum_bits = chip.whole("membrane_bits")
        self.flexible = bool(chip.whole("flexible"))
        self.inside = {o.name for o in group.operations}
        n = group.width
        last = group.operations[-1]
        self.demand = Demand(
            group.name, tuple(o.name for o in group.operations), {last.name: np.arange(n)}, n, bits,
            signals.bits(last) or self.sum_bits, np.zeros(n, np.int64), np.zeros(n, np.int64),
        )  # fmt: skip
        self.before: list[Demand] = []
        self.sums = 1  # input sums of a neuron

    def run(self) -> list[Demand]:  # noqa: PLR0912
        for operation in self.group.operations:
            match operation:
                case Synapse():
                    self._synapse(operation)
                case Convolution():
                    self._convolution(operation)
                case Attention() | CausalAttention():
                    self._attention(operation)
                case Rotary():
                    self._rotary(operation)
                case Position():
                    self._needs_programs("a table of positions")
                    self._hear(operation.clock, single, 1)
                    self.demand.state_bits += TABLE_BITS * len(operation.table)
                    self._share(lambda part: TICK_BITS)
                case TokenAttention():
                    self._token_attention(operation)
                case Maximum():
                    self._maximum(operation)
                case Gate():
                    self.demand.state_bits += 1
                    self._hear(operation.value, same, 1)
                    self._hear(operation.spike, single if operation.spike.width == 1 else same, 1)
                case Neuron():
                    self._neuron(operation)
                case Integrator():
                    self.demand.state_bits += self.sum_bits
                    self._hear(operation.x, same, 1)
                case _:
                    raise GraphError(
                        f"{operation.name}: what a {type(operation).__name__} needs of a chip is not known"
                    )
        if self.flexible:
            self.demand.state_bits += self.sums * self.sum_bits
        kinds = list(self.demand.stored.values())
        for o in self.group.operations:  # a bias is stored beside the weights
            if isinstance(o, Synapse) and o.name not in self.demand.stored:
                self.demand.stored[o.name] = kinds[0] if kinds else "dense"
        images = [o.out_shape for o in self.group.operations if isinstance(o, Convolution)]
        if len(set(images)) == 1 and all(isinstance(o, _ON_IMAGES) for o in self.group.operations):
            self.demand.image = images[0]
        return [*self.before, self.demand]

    def _needs_programs(self, what: str) -> None:
        self.demand.programs = what

    def _share(self, bits: Shared) -> None:
        self.demand.shared.append(bits)

    def _hear(self, port: Port, channels: Channels, connections: int) -> None:
        """Hears those that send what a port carries, by so many connections of each neuron."""
        outside = [e for e in self.signals.emitters(port) if e.name not in self.inside]
        self.demand.hears += [(emitter, channels) for emitter in outside]
        if outside:
            self.demand.synapse_bits += connections * self.bits

    def _synapse(self, operation: Synapse) -> None:
        reach = self.chip.whole("delay")
        longest = max(tap.delay for tap in operation.taps) + self.signals.held(operation.x)
        self.demand.longest = max(self.demand.longest, longest)
        within = min(longest, reach)
        self.sums = max(self.sums, within + 1)
        clock = operation.x.signal is Signal.CLOCK
        dense = operation.taps[0].weight.ndim == 2
        taps = [np.full(t.weight.shape, True) if clock else t.weight != 0 for t in operation.taps]
        live = np.stack(taps)
        kept = live.sum(axis=tuple(a for a in range(live.ndim) if a != 1))  # of each neuron, weights that are not 0
        n = operation.width
        entry = self.bits + (within.bit_length() if longest else 0)
        listed = kept * (entry + (n - 1).bit_length())
        matrix = np.full(n, len(taps) * operation.x.width * entry)
        shorter = bool(listed.sum() < matrix.sum())
        self.demand.synapse_bits += listed if shorter else matrix
        if not clock:
            self.demand.stored[operation.name] = "sparse" if shorter else "dense"
        any_tap = live.any(axis=0)

        def channels(part: Part) -> IntArray:
            if dense:
                return np.flatnonzero(any_tap[part.index].any(axis=0))
            heard: IntArray = part.numbers[any_tap[part.index]]
            return heard

        self.demand.hears += [(emitter, channels) for emitter in self.signals.emitters(operation.x)]
        first = min(tap.delay for tap in operation.taps) + self.signals.held(operation.x, least=True)
        for emitter in self.signals.emitters(operation.x):
            self.demand.soonest[emitter.name] = min(self.demand.soonest.get(emitter.name, reach), first)
        if longest > reach:
            self._taps_beyond(operation, longest, reach, channels)
        if operation.bias is not None:
            if operation.clock is None:
                self.demand.state_bits += self.sum_bits
            else:
                self._hear(operation.clock, single, 1)

    def _taps_beyond(self, operation: Synapse, longest: int, reach: int, channels: Channels) -> None:
        """Relays that hold the inputs of taps that lie further back than the chip delays, a chain for each channel."""
        width, links = operation.x.width, longest // reach
        entry = self.signals.port_bits(operation.x) or self.sum_bits
        name, count = f"{operation.name}.relays", width * links
        begins = np.where(np.arange(count) < width, np.arange(count), -1)
        before = np.where(begins < 0, np.arange(count) - width, -1)
        hears = [(emitter, heard(begins, 0)) for emitter in self.signals.emitters(operation.x)]
        hears.append((Emitter(name), heard(before, 0)))
        self.before.append(
            Demand(
                name, (), {name: np.arange(count)}, count, self.bits, entry,
                np.full(count, self.bits), np.full(count, reach * entry), hears=hears, longest=longest,
            )
        )  # fmt: skip

        def relayed(part: Part) -> IntArray:
            relays: IntArray = (channels(part) + width * np.arange(links)[:, None]).ravel()
            return relays

        self.demand.hears.append((Emitter(name), relayed))

    def _convolution(self, operation: Convolution) -> None:
        places = int(np.prod(operation.weight.shape[1:]))  # weights of one neuron
        self.demand.stored[operation.name] = "convolution"
        if self.chip.whole("shared_convolution"):
            size = operation.weight.size * self.bits
            each = size // len(operation.weight)
            self._share(lambda part: each * (part.channels[1] - part.channels[0]) if isinstance(part, Box) else size)
        else:
            self.demand.synapse_bits += places * (self.bits + (operation.width - 1).bit_length())
        if operation.bias is not None:
            self.demand.state_bits += self.sum_bits
        channels = seen_by(operation)
        self.demand.hears += [(emitter, channels) for emitter in self.signals.emitters(operation.x)]

    def _attention(self, operation: Attention | CausalAttention) -> None:
        """Of its head, a neuron keeps a column of K^T V: D sums of up to T; and where it waits, a core T queries."""
        self._needs_programs("attention (its matrix is a state that grows with every step)")
        D = operation.width // operation.heads

        def of_heads(part: Part) -> IntArray:
            return rounded(part, D)

        steps = operation.steps if isinstance(operation, Attention) else self.signals.steps
        self.demand.state_bits += D * steps.bit_length()
        if isinstance(operation, Attention):
            entry = self.signals.port_bits(operation.q) or self.sum_bits
            self._share(lambda part: len(of_heads(part)) * steps * entry)
        self._hear(operation.q, of_heads, D)
        self._hear(operation.k, of_heads, D)
        self._hear(operation.v, same, 1)
        self._hear(operation.clock, single, 1)

    def _maximum(self, operation: Maximum) -> None:
        self._needs_programs("a maximum of several inputs")
        self.demand.state_bits += self.sum_bits
        self._hear(operation.x, lambda part: strided(part, operation.width, operation.fan), operation.fan)

    def _token_attention(self, operation: TokenAttention) -> None:
        """A neuron keeps what its token needs of its head: scores of all tokens, or a column of K^T V."""
        self._needs_programs("attention (products of what arrives in one step)")
        tokens, depth = operation.tokens, operation.depth

        def of_heads(each: int) -> Channels:
            """Channels of q, k or v in the heads of neurons, `each` of a head."""
            head = tokens * operation.value_depth
            return lambda part: rounded(part, head, each)

        kept = tokens * depth.bit_length() if operation.by_scores else depth * tokens.bit_length()
        self.demand.state_bits += kept
        entries = {port: self.signals.port_bits(port) or self.sum_bits for port in (operation.k, operation.v)}
        count_k, count_v = of_heads(tokens * depth), of_heads(tokens * operation.value_depth)
        self._share(lambda part: len(count_k(part)) * entries[operation.k] + len(count_v(part)) * entries[operation.v])
        self._hear(operation.q, of_heads(tokens * depth), depth)
        self._hear(operation.k, of_heads(tokens * depth), depth)
        self._hear(operation.v, of_heads(tokens * operation.value_depth), 1)

    def _rotary(self, operation: Rotary) -> None:
        self._needs_programs("a rotation by position")
        size = (operation.cos.size + operation.sin.size) * TABLE_BITS + TICK_BITS
        self._share(lambda part: size)
        self._hear(operation.x, lambda part: rounded(part, 2), 2)
        self._hear(operation.clock, single, 1)

    def _neuron(self, operation: Neuron) -> None:
        self.demand.state_bits += self.sum_bits
        rows = np.stack([operation.decay, operation.gain, operation.drive, operation.threshold, operation.v_reset])
        kinds = len(np.unique(rows, axis=1).T)
        size = 8 * self.chip.whole("parameter_bytes")
        self._share(lambda part: min(kinds, part.count) * size)
        self._hear(operation.x, same, 1)
