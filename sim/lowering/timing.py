"""Delays in steps, and the edges that carry what a neuron put out in the step before."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from spikescr.errors import GraphError
from spikescr.sim.lowering.primitives import Kind, kind_of
from spikescr.sim.lowering.shapes import spread
from spikescr.sim.lowering.topology import Topology
from spikescr.sim.program import FloatArray, IntArray, Operation

WHOLE_STEPS = 1e-6  # how far, in steps, a delay may be from a whole number
MOST_STEPS = 10**9  # that a delay may have


class Timing:
    """What a topology means in steps.

    delays: Delay node -> the delay of every channel in steps, (width,). returning: edges that leave a
    neuron on a cycle without a step of delay -> name of the DelayLine put in for it.
    notes: what was decided that the graph does not say.
    """

    def __init__(self, topology: Topology, dt: float, *, round_delays: bool) -> None:
        """Finds the delays and what breaks the cycles.

        Args:
            topology: the graph.
            dt: seconds per step.
            round_delays: whether a delay that is no whole number of steps is rounded, half a step to the even one.

        Raises:
            GraphError: a delay is negative or not whole steps, or the name of a DelayLine is taken.
        """
        self.top = topology
        self.dt = dt
        self.notes: list[str] = []
        self._round = round_delays
        lines = (name for name, node in topology.nodes.items() if kind_of(node) is Kind.DELAY)
        self.delays: dict[str, IntArray] = {name: self._in_steps(name) for name in lines}
        self.returning = self._find_returning()

    def uniform(self, name: str) -> bool:
        """Whether all channels of a Delay wait the same time."""
        steps = self.delays[name]
        return bool((steps == steps[0]).all())

    def waits(self, name: str) -> bool:
        """Whether a node is a Delay of which every channel waits a step or more."""
        return name in self.delays and bool((self.delays[name] >= 1).all())

    def _in_steps(self, name: str) -> IntArray:
        delay, shape = np.asarray(self.top.nodes[name].delay, np.float64), self.top.shape[name]
        wrong = ~(np.isfinite(delay) & (delay >= -WHOLE_STEPS * self.dt))
        if wrong.any():
            raise GraphError(f"{name}: delay must be 0 or more, found {delay[wrong].flat[0]:g} s")
        every = spread(delay, shape)
        if (every > MOST_STEPS * self.dt).any():
            raise GraphError(f"{name}: delay of {every.max():g} s is more than {MOST_STEPS:,} steps of {self.dt} s")
        steps = delay_steps(every, self.dt)
        odd = np.abs(every / self.dt - steps) > WHOLE_STEPS
        if odd.any() and not self._round:
            raise GraphError(
                f"{name}: delay must be whole steps of {self.dt} s, not {every[odd][0]:g} s; take another step, dt "
                f"(--dt), or let delays be rounded (--round-delays)"
            )
        if odd.any():
            self.notes.append(f"{name}: {int(odd.sum())} delays rounded to whole steps of {self.dt} s")
        return steps

    def _find_returning(self) -> dict[tuple[str, str], str]:
        top = self.top
        waiting = {n for n in top.cyclic if self.waits(n)}
        into = {edge for edge in top.edges if edge[1] in waiting}
        returning: dict[tuple[str, str], str] = {}
        for name in sorted(top.cyclic):
            if kind_of(top.nodes[name]) is not Kind.NEURON:
                continue
            for after in top.after[name]:
                if after not in waiting and top.leads([after], name, into):
                    line = f"{name}.step_before"
                    if line in top.nodes:
                        raise GraphError(f"{line}: this name is needed for the DelayLine behind {name}")
                    self.notes.append(
                        f"{name} -> {after} closes a cycle without a delay: it carries what {name} put out in the step "
                        f"before"
                    )
                    returning[name, after] = line
        return returning


def delay_steps(delay: FloatArray, dt: float) -> IntArray:
    """Delays in steps, half a step to the even one.

    Args:
        delay: in seconds.
        dt: seconds per step.
    """
    steps: IntArray = np.rint(delay / dt).astype(np.int64)
    return steps


def longest_delay(operations: Iterable[Operation]) -> int:
    """Steps of the longest path through the delays of operations, given in the order of a Program."""
    reach: dict[str, int] = {}
    for operation in operations:
        arrivals = (
            max(reach.get(source, 0) for source in port.sources) + operation.longest_delay(name)
            for name, port in operation.ports.items()
        )
        reach[operation.name] = max(arrivals, default=0)
    return max(reach.values(), default=0)
