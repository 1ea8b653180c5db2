"""Cycles whose operations do not mix channels, in the form that `kernels.cycles` takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikescr.sim.fast.kernels.cycles import DELAY, GATE, NEURON, SCALE, SUM
from spikescr.sim.program import (
    DelayLine,
    Gate,
    IntArray,
    Integrator,
    Neuron,
    Operation,
    Port,
    Signal,
    Synapse,
)
from spikescr.sim.steps.base import threshold_in


@dataclass(frozen=True)
class Elementwise:
    """A cycle's numbers in the precision of the run, see `run_members`.

    Attributes:
        members: its operations.
        kinds: (M,).
        numbers: (M, 5, N).
        options: (M, 2).
        fan_outs: (M, N).
        sources: where those of each member begin (M + 1,), and the sources.
        given: the sources outside, each once.
        clocks: ports of the gates.
        longest: delay, in steps.
    """

    members: tuple[Operation, ...]
    kinds: IntArray
    numbers: NDArray[Any]
    options: IntArray
    fan_outs: IntArray
    sources: tuple[IntArray, IntArray]
    given: tuple[str, ...]
    clocks: tuple[Port, ...]
    longest: int


def elementwise(part: Sequence[Operation], dtype: np.dtype[Any]) -> Elementwise | None:
    """The form of a cycle, None where an operation of it has none."""
    names, width, count = [o.name for o in part], part[0].width, len(part)
    kinds, options = np.zeros(count, np.int64), np.zeros((count, 2), np.int64)
    numbers, fan_outs = np.zeros((count, 5, width), dtype), np.zeros((count, width), np.int64)
    starts, indices = [0], list[int]()
    given, clocks = list[str](), list[Port]()
    for m, operation in enumerate(part):
        port = _main(operation, set(names))
        if port is None or {operation.width, port.width} != {width}:
            return None
        match operation:
            case DelayLine():
                kinds[m], options[m, 0] = DELAY, operation.delay
            case Synapse():
                kinds[m], options[m, 0] = SCALE, port.signal is Signal.VALUES
                numbers[m, 0], fan_outs[m] = operation.taps[0].weight, operation.fan_outs[0]
            case Gate():
                clocks += [] if operation.spike in clocks else [operation.spike]
                kinds[m], options[m] = GATE, (clocks.index(operation.spike), operation.inverted)
            case Integrator():
                kinds[m], numbers[m, :3] = SUM, (operation.decay, operation.gain, operation.drive)
            case Neuron():
                kinds[m], options[m, 0] = NEURON, operation.soft
                numbers[m, :3] = operation.decay, operation.gain, operation.drive
                numbers[m, 3], numbers[m, 4] = threshold_in(operation.threshold, dtype), operation.v_reset
        for source in port.sources:
            if source not in names and source not in given:
                given.append(source)
            indices.append(names.index(source) if source in names else -1 - given.index(source))
        starts.append(len(indices))
    longest = max((o.delay for o in part if isinstance(o, DelayLine)), default=1)
    sources = np.array(starts, np.int64), np.array(indices, np.int64)
    return Elementwise(
        tuple(part), kinds, numbers, options, fan_outs, sources, tuple(given), tuple(clocks), max(longest, 1)
    )


def _main(operation: Operation, own: set[str]) -> Port | None:
    """The port that its output follows, channel by channel; None where there is none, or a step has more to do."""
    port: Port | None = None
    if isinstance(operation, DelayLine) and operation.delay >= 1:
        port = operation.x
    elif isinstance(operation, Synapse) and operation.bias is None and operation.clock is None:
        (tap, *others), signal = operation.taps, operation.x.signal
        if not others and tap.delay == 0 and tap.weight.ndim == 1 and signal is not Signal.CLOCK:
            port = operation.x
    elif isinstance(operation, Gate) and operation.spike.signal is Signal.CLOCK and operation.spike.width == 1:
        port = operation.value if own.isdisjoint(operation.spike.sources) else None
    elif type(operation) in {Integrator, Neuron}:
        port = operation.ports["x"]
    return port
