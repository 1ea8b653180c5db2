"""Fusing: which Linear and Scale nodes of a graph are one temporal synapse, and which are its bias."""

from __future__ import annotations

import itertools

from spikescr.sim.lowering.timing import Timing
from spikescr.sim.program import Signal


class Fused:
    """Groups of Linear and Scale nodes that become one operation each.

    Nodes that share a source, each behind a Delay of its own or none, and a destination are the taps of one synapse;
    a single node from the clock that shares the destination is its bias.

    groups: name of the operation -> its nodes, biases last. The name is what the nodes' names have in common, or the
    first node's where that name is taken.
    """

    def __init__(self, timing: Timing) -> None:
        topology = timing.top
        self.top, self.timing = topology, timing
        groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
        for name in topology.synapses:
            # One that leads nowhere shares nothing with another that does.
            groups.setdefault((self.source(name), topology.after[name] or (name,)), []).append(name)
        by_target: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
        for (_, target), names in groups.items():
            by_target.setdefault(target, []).append(tuple(names))
        self.groups: dict[str, tuple[str, ...]] = {}
        for members in by_target.values():
            weighted = [m for m in members if not self.is_bias(m)]
            biases = [m for m in members if self.is_bias(m)]
            if len(weighted) == 1 and len(biases) == 1 and len(biases[0]) == 1:
                self.groups[self._name(weighted[0])] = weighted[0] + biases[0]
            else:
                for group in members:
                    self.groups[self._name(group)] = group

    def is_bias(self, members: tuple[str, ...]) -> bool:
        """Whether all that these nodes get is the clock."""
        return all(self.top.signal[name] is Signal.CLOCK for m in members for name in self.top.before[m])

    def source(self, name: str) -> tuple[str, ...]:
        """What feeds a node, looking through the Delay that it may have of its own."""
        delay = self.own_delay(name)
        return self.top.before[name if delay is None else delay]

    def own_delay(self, name: str) -> str | None:
        """The Delay that feeds this node alone and is its only input.

        Not one that carries the clock (shared wiring), not one on a cycle, which only a DelayLine can break, and not
        one whose channels differ.
        """
        before = self.top.before[name]
        if len(before) != 1 or before[0] not in self.timing.delays:
            return None
        delay = before[0]
        if delay in self.top.cyclic or not self.timing.uniform(delay):
            return None
        alone = self.top.after[delay] == (name,) and self.top.signal[delay] is not Signal.CLOCK
        return delay if alone else None

    def _name(self, members: tuple[str, ...]) -> str:
        words = zip(*(name.split(".") for name in members), strict=False)
        common = ".".join(same[0] for same in itertools.takewhile(lambda w: len(set(w)) == 1, words))
        taken = common in self.groups or (common in self.top.nodes and common not in members)
        return members[0] if taken or not common else common
