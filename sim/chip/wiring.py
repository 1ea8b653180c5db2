"""A Program as groups of neurons with weighted wires between them, one step from each layer to the next, or refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikescr.errors import ExportError
from spikescr.sim.chip.layers import held_delays
from spikescr.sim.chip.mapper import Placed, Placement
from spikescr.sim.program import (
    Convolution,
    DelayLine,
    FloatArray,
    IntArray,
    Neuron,
    Operation,
    Port,
    Program,
    Role,
    Select,
    Signal,
    Sink,
    Source,
    Synapse,
)

NEVER = 2.0**60  # threshold of what is read out and does not fire


@dataclass(frozen=True)
class Wire:
    """Synapses from one group or input to another group, one by one.

    source: group or input. late: steps that an input's spikes are to come later. before, after: neurons of both
    (synapses,). weight: (synapses,), the neuron's gain in it.
    """

    source: str
    late: int
    before: IntArray
    after: IntArray
    weight: FloatArray


@dataclass(frozen=True)
class Group:
    """Neurons v = v * decay + sum of weights; fire where v > threshold; then reset.

    Attributes:
        name: of the operation.
        layer: of the placement.
        depth: steps that it shows a step of the inputs later than they do.
        wires: what it hears.
        stored: how its weights are stored, see `Demand.stored`.
        decay: (neurons,).
        threshold: (neurons,).
        reset: (neurons,).
        soft: the threshold is subtracted instead.
        fires: whether it is a neuron, else a sum that the host reads, (neurons,).
    """

    name: str
    layer: str
    depth: int
    wires: tuple[Wire, ...]
    stored: str
    decay: FloatArray
    threshold: FloatArray
    reset: FloatArray
    soft: bool
    fires: NDArray[np.bool_]


@dataclass(frozen=True)
class _Arrival:
    """What reaches a port: channel i is channel index[i] of the operation, -1 where nothing is; steps later."""

    name: str
    index: IntArray
    delay: int


@dataclass(frozen=True)
class _Loose:
    """Synapses before it is known how deep their neurons lie; delay: of the Program, steps."""

    source: str
    delay: int
    before: IntArray
    after: IntArray
    weight: FloatArray


def groups_of(program: Program, placement: Placement) -> tuple[Group, ...]:
    """A placed Program as groups of neurons.

    Args:
        program: its biases clocked, see `clocked.with_clocked_biases`.
        placement: of this Program.

    Raises:
        ExportError: it does something else than LIF neurons behind synapses and convolutions, each a step after what it
            hears; the message names the operation.
    """
    wiring = _Wiring(program, placement)
    loose = {layer.name: wiring.synapses(layer) for layer in placement.layers}
    heads = {layer.name: wiring.operations[layer.demand.operations[-1]] for layer in placement.layers}
    depths = _depths({heads[name].name: synapses for name, synapses in loose.items()})
    return tuple(_group(layer, heads[layer.name], loose[layer.name], depths) for layer in placement.layers)


def _group(layer: Placed, head: Operation, synapses: list[_Loose], depths: Mapping[str, int]) -> Group:
    wires = tuple(
        Wire(s.source, 0 if s.source in depths else depths[head.name] + s.delay - 1, s.before, s.after, s.weight)
        for s in synapses
    )
    kinds = set(layer.demand.stored.values())
    if len(kinds) > 1:
        raise ExportError(f"{layer.name}: its weights are stored in several ways, {' and '.join(sorted(kinds))}")
    stored = kinds.pop() if kinds else "dense"
    neuron = isinstance(head, Neuron)
    none = np.zeros(head.width)
    return Group(
        name=head.name, layer=layer.name, depth=depths[head.name], wires=wires, stored=stored,
        decay=head.decay if isinstance(head, Neuron) else none,
        threshold=head.threshold if isinstance(head, Neuron) else none + NEVER,
        reset=head.v_reset if isinstance(head, Neuron) else none,
        soft=isinstance(head, Neuron) and head.soft,
        fires=np.full(head.width, neuron),
    )  # fmt: skip


def _depths(loose: Mapping[str, list[_Loose]]) -> dict[str, int]:
    """The layer of each group: 1 of those that hear the host alone; each a step after all that it hears."""
    depths = dict.fromkeys(loose, 1)
    edges = {(s.source, name, s.delay) for name, synapses in loose.items() for s in synapses if s.source in depths}
    for _ in range(len(depths) + 1):
        moved = False
        for before, after, delay in sorted(edges):
            least = depths[before] + 1 - delay
            if depths[after] < least:
                depths[after], moved = least, True
        if not moved:
            break
    else:
        names = ", ".join(sorted({name for edge in edges for name in edge[:2]}))
        raise ExportError(f"{names}: a loop of more layers than steps; on a chip each layer takes a step")
    for before, after, delay in sorted(edges):
        waits = depths[after] + delay - depths[before] - 1
        if waits:
            raise ExportError(
                f"{after}: hears {before} {waits + 1} steps later, by a delay or past layers; SANA-FE is told one step"
            )
    return depths


def _foreign(operation: Operation) -> ExportError:
    return ExportError(f"{operation.name}: {type(operation).__name__} is nothing that SANA-FE's Loihi does")


class _Wiring:
    """Finds the synapses of each layer, or what of it has no place."""

    def __init__(self, program: Program, placement: Placement) -> None:
        self.operations = {o.name: o for o in program.operations}
        self.held = held_delays(program, placement.chip.whole("delay"))
        self.readers: dict[str, list[Operation]] = {}
        for operation in program.operations:
            for port in operation.ports.values():
                for source in port.sources:
                    self.readers.setdefault(source, []).append(operation)

    def synapses(self, layer: Placed) -> list[_Loose]:
        """All of a layer's.

        Raises:
            ExportError: the layer is something else.
        """
        if not layer.demand.operations:
            raise ExportError(f"{layer.name}: relays that hold what lies further back than a chip delays")
        operations = [self.operations[name] for name in layer.demand.operations]
        for operation in operations:
            if type(operation) not in (Synapse, Convolution, Neuron):
                raise _foreign(operation)
        head, gain = operations[-1], np.ones(operations[-1].width)
        if isinstance(head, Neuron):
            if (head.threshold < 0).any() or head.drive.any():
                raise ExportError(f"{head.name}: fires or moves without input")
            inside = {operation.name for operation in operations}
            if foreign := [name for name in head.x.sources if name not in inside]:
                raise ExportError(f"{head.name}: hears {foreign[0]} without a synapse of its own")
            gain = head.gain
        elif any(not isinstance(reader, Sink) for reader in self.readers.get(head.name, [])):
            raise ExportError(f"{head.name}: sends sums to other layers; SANA-FE's spikes carry no numbers")
        return [loose for o in operations if isinstance(o, (Synapse, Convolution)) for loose in self._of(o, gain)]

    def _of(self, operation: Synapse | Convolution, gain: FloatArray) -> Iterator[_Loose]:
        if isinstance(operation, Convolution):
            kernels = [(0, *unrolled(operation))]
        else:
            clock = operation.x.signal is Signal.CLOCK
            kernels = [(tap.delay, *_live(tap.weight, clock)) for tap in operation.taps]
        for arrival in self._arrivals(operation.x):
            for delay, after, before, weight in kernels:
                there = arrival.index[before] >= 0
                yield _Loose(
                    arrival.name, arrival.delay + delay, arrival.index[before[there]], after[there],
                    weight[there] * gain[after[there]],
                )  # fmt: skip

    def _arrivals(self, port: Port) -> Iterator[_Arrival]:
        """The neurons and inputs behind a port, through routing and delays that synapses hold."""
        for name in port.sources:
            operation = self.operations[name]
            if isinstance(operation, Select):
                for arrival in self._arrivals(operation.x):
                    index = np.where(operation.index >= 0, arrival.index[operation.index], -1)
                    yield _Arrival(arrival.name, index, arrival.delay)
            elif isinstance(operation, DelayLine) and name in self.held:
                for arrival in self._arrivals(operation.x):
                    yield _Arrival(arrival.name, arrival.index, arrival.delay + operation.delay)
            elif isinstance(operation, Source) or operation.role is Role.NEURON:
                yield _Arrival(name, np.arange(operation.width), 0)
            else:
                raise _foreign(operation)


def _live(weight: FloatArray, clock: bool) -> tuple[IntArray, IntArray, FloatArray]:
    """Neuron, channel and weight of each synapse of a tap; a clock's additions are all there."""
    if weight.ndim == 1:
        (same,) = np.nonzero(weight)
        return same, same, weight[same]
    after, before = np.nonzero(np.ones_like(weight) if clock else weight)
    return after, before, weight[after, before]


def unrolled(operation: Convolution) -> tuple[IntArray, IntArray, FloatArray]:
    """Output, input and weight of each synapse of a convolution, by the equation of `Convolution`."""
    out, inside, *kernel = operation.weight.shape
    first = np.arange(out) // (out // operation.groups) * inside  # input channel of each output channel
    parts = []
    for k in range(kernel[0]):
        for m in range(kernel[1]):
            reads = []
            for axis, place in enumerate((k, m)):
                at = np.arange(operation.out_shape[axis + 1])
                read = at * operation.stride[axis] + place * operation.dilation[axis] - operation.padding[axis]
                within = (read >= 0) & (read < operation.in_shape[axis + 1])
                reads.append((at[within], read[within]))
            (i, y), (j, x) = reads
            o, c = np.nonzero(operation.weight[:, :, k, m])
            after = (o[:, None, None] * operation.out_shape[1] + i[:, None]) * operation.out_shape[2] + j
            before = ((first[o] + c)[:, None, None] * operation.in_shape[1] + y[:, None]) * operation.in_shape[2] + x
            weight = np.broadcast_to(operation.weight[o, c, k, m][:, None, None], after.shape)
            parts.append((after.ravel(), before.ravel(), weight.ravel()))
    after, before, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
    return after, before, weight
