"""Nodes and edges of a NIR graph as they are made: latencies, delays where they differ, the clock and its gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import nir
import numpy as np

from spikescr import dialect
from spikescr.dialect import LATENCY, PACKED_OPERATIONS, into_slots, packed_node

Shape = tuple[int, ...]


class Wiring:
    """A graph under construction.

    Attributes:
        nodes, edges: so far.
        now: latency of the node that is being made.
    """

    def __init__(self, steps: int, dt: float, clock: str) -> None:
        """steps: of the window; dt: seconds per step; clock: name of its node, which is there once it is asked for."""
        self.steps, self.dt, self._clock = steps, dt, clock
        self.nodes: dict[str, nir.NIRNode] = {}
        self.edges: list[tuple[str, str]] = []
        self.now = 0
        self._delays: dict[tuple[tuple[str, ...], int], tuple[str, ...]] = {}

    def add(self, name: str, made: nir.NIRNode, sources: Sequence[str], stated: Mapping[str, Any] | None = None) -> str:
        """A node with the latency `now`, fed by others; its name."""
        made.metadata = {**made.metadata, LATENCY: self.now, **(stated or {})}
        self.nodes[name] = made
        self.lead(sources, name)
        return name

    def lead(self, sources: Sequence[str], name: str) -> None:
        """Edges from nodes to another."""
        self.edges += [(source, name) for source in sources]

    def delayed(self, sources: tuple[str, ...], shape: Shape, late: int, due: int) -> tuple[str, ...]:
        """What several nodes put out together, at a later latency; one Delay serves all who ask for the same."""
        if late == due:
            return sources
        key = (sources, due)
        if key not in self._delays:
            now, self.now = self.now, due
            name = self.free(f"{sources[-1]}.delay{due}")
            self._delays[key] = (self.add(name, nir.Delay(np.full(shape, (due - late) * self.dt)), sources),)
            self.now = now
        return self._delays[key]

    def clock(self, steps: int) -> tuple[str, ...]:
        """The clock as late as the node that is being made: 1 in its first `steps` steps."""
        if self._clock not in self.nodes:
            late, self.now = self.now, 0
            self.add(self._clock, nir.Input(np.array([1])), ())
            self.nodes[self._clock].metadata[dialect.OP] = dialect.CLOCK
            self.now = late
        whole = self.delayed((self._clock,), (1,), 0, self.now)
        missing = self.steps - steps
        if not missing:
            return whole
        name = f"{self._clock}.first{steps}.at{self.now}"
        if name not in self.nodes:  # both tick: the whole one, and one that is as much earlier as steps are missing
            early = self.delayed((self._clock,), (1,), 0, self.now - missing)
            self.add(name, nir.Threshold(np.full(1, 1.5)), (*whole, *early))
        return (name,)

    def gated(self, name: str, sources: Sequence[str], shape: Shape, steps: int) -> tuple[str, ...]:
        """What passes in the first `steps` steps of a node, and nothing before and behind them."""
        width = int(np.prod(shape, dtype=int))
        parameters = {"width": width, "spike_width": 1}
        value, spike = PACKED_OPERATIONS["gate"].operands(parameters, width)
        wires = [
            self.add(f"{name}.gate.value", into_slots(value, spike.stop, shape), sources),
            self.add(f"{name}.gate.spike", into_slots(spike, spike.stop, (1,)), self.clock(steps)),
        ]
        return (self.add(f"{name}.gate", packed_node("gate", width, self.now, parameters, shape=shape), wires),)

    def free(self, name: str) -> str:
        """The name, with a number where it is taken."""
        number, free = 1, name
        while free in self.nodes:
            number += 1
            free = f"{name}{number}"
        return free
