"""The Program: what all backends execute, a list of operations in topological order.

Every operation has one output of shape (B, width) per step and reads the outputs of earlier operations of the
same step (delays and neurons keep state between steps). Cycles: only an operation that `sends_first` (a DelayLine or a
ChannelDelay whose delays are all at least one step) may read operations that come after it in the list, since it puts
out a step before it takes one in. A *port* is the sum of the outputs of its sources, as edges that join in NIR are.
Nothing here computes; `sim.lowering` makes Programs, the backends run them.

Steps are counted from 0, the step in which the sources put out the first bin of a sample. An operation with latency
d shows the sample's step t at executed step t + d. Before a sample all state is zero (membranes, delay lines,
attention states, clock counts).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import TypeVar

from spikescr.sim.operations.base import FloatArray, IntArray, Operation, Port, Role, Signal, operation_types
from spikescr.sim.operations.moving import ChannelDelay, DelayLine, Select, Sink, Source
from spikescr.sim.operations.neurons import FixedNeuron, Integrator, Neuron
from spikescr.sim.operations.packed import Attention, CausalAttention, Gate, Maximum, Position, Rotary, TokenAttention
from spikescr.sim.operations.synapses import Convolution, Synapse, Tap

__all__ = [
    "AnyOperation", "Attention", "CausalAttention", "ChannelDelay", "Convolution", "DelayLine", "FixedNeuron",
    "FloatArray", "Gate", "IntArray", "Integrator", "Maximum", "Neuron", "Operation", "Port", "Position", "Program",
    "Role", "Rotary", "Select", "Signal", "Sink", "Source", "Synapse", "Tap", "TokenAttention", "operation_types",
]  # fmt: skip

AnyOperation = TypeVar("AnyOperation", bound="Operation")


@dataclass(frozen=True)
class Program:
    """Operations in topological order, the window and the step. At most one Source is a clock.

    Attributes:
        operations: in topological order.
        steps: T, the window of a sample in steps.
        dt: seconds.
        period: steps until all is quiet again after a sample's first step, the longest path through delays included;
            or steps where these were given instead of a window.
        metadata: the graph's own, as read.
        notes: what lowering decided and the graph does not say, one line each.
        nested: operation made of a nested graph's node -> names of the graphs around it, and its own.
    """

    operations: tuple[Operation, ...]
    steps: int
    dt: float
    period: int
    metadata: dict[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    nested: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Operation:
        for operation in self.operations:
            if operation.name == name:
                return operation
        raise KeyError(name)

    @property
    def fixed(self) -> bool:
        """Whether its numbers are integers, in fixed point."""
        return bool(self.of_type(FixedNeuron))

    @property
    def cyclic(self) -> bool:
        """Whether an operation reads one that comes after it."""
        seen: set[str] = set()
        for operation in self.operations:
            seen.add(operation.name)
            if any(source not in seen for port in operation.ports.values() for source in port.sources):
                return True
        return False

    @property
    def components(self) -> tuple[tuple[Operation, ...], ...]:
        """The operations, cycles together, in an order in which each part reads nothing of a later one.

        Without cycles that is one by one as they are listed; a cycle's operations are in the order of the list.
        """
        if not self.cyclic:
            return tuple((operation,) for operation in self.operations)
        place = {operation.name: number for number, operation in enumerate(self.operations)}
        reads = [
            sorted({place[source] for port in operation.ports.values() for source in port.sources})
            for operation in self.operations
        ]
        part = _strongly_connected(reads)
        members: dict[int, list[int]] = {}
        for number, own in enumerate(part):
            members.setdefault(own, []).append(number)
        order = TopologicalSorter({own: {part[r] for m in ms for r in reads[m]} - {own} for own, ms in members.items()})
        return tuple(tuple(self.operations[m] for m in members[own]) for own in order.static_order())

    def of_type(self, kind: type[AnyOperation]) -> tuple[AnyOperation, ...]:
        """The operations of one type, in order."""
        return tuple(o for o in self.operations if isinstance(o, kind))


def _strongly_connected(reads: Sequence[Sequence[int]]) -> list[int]:
    """Of every number the least one that it leads to and that leads back (R. Tarjan, SIAM J. Comput. 1(2), 1972)."""
    found, low, part = ([-1] * len(reads) for _ in range(3))
    open_: list[int] = []
    count = 0
    for root in range(len(reads)):
        path = [(root, iter(reads[root]))] if found[root] < 0 else []
        while path:
            here, left = path[-1]
            if found[here] < 0:
                found[here] = low[here] = count
                count += 1
                open_.append(here)
            following = next((r for r in left if part[r] < 0), None)
            if following is None:
                path.pop()
                if low[here] == found[here]:
                    own = open_[open_.index(here) :]
                    del open_[-len(own) :]
                    for member in own:
                        part[member] = min(own)
                if path:
                    low[path[-1][0]] = min(low[path[-1][0]], low[here])
            elif found[following] < 0:
                path.append((following, iter(reads[following])))
            else:
                low[here] = min(low[here], found[following])
    return part
