"""A Program in which every bias comes from the clock, as one synapse for each neuron.

A bias that acts from the first step on would move membranes before the first input reaches them, where every layer is a
step later than the one before. What the clock sends comes when the layer's first step does.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from spikescr.sim.program import (
    Convolution,
    FloatArray,
    Neuron,
    Operation,
    Port,
    Program,
    Signal,
    Source,
    Synapse,
    Tap,
)

CLOCK = "clock"


def with_clocked_biases(program: Program) -> Program:
    """The same network, its biases and constant currents synapses of the clock; the clock is there where any is.

    Sums are taken in another order, so that membranes may differ by rounding.

    Args:
        program: any.

    Returns:
        The Program itself where it has no biases.
    """
    found = {o.name: bias for o in program.operations if (bias := _bias(o)) is not None}
    if not found:
        return program
    clocks = [o.name for o in program.of_type(Source) if o.signal is Signal.CLOCK]
    taken = {o.name for o in program.operations}
    clock = clocks[0] if clocks else next(n for n in (CLOCK, *(f"{CLOCK}.{i}" for i in range(99))) if n not in taken)
    operations: list[Operation] = [] if clocks else [Source(name=clock, width=1, signal=Signal.CLOCK)]
    port = Port((clock,), 1, Signal.CLOCK)
    joined = {o.name for o in program.operations if o.name in found and not isinstance(o, Neuron)}
    for operation in program.operations:
        ports: dict[str, Any] = {name: _with(p, joined) for name, p in operation.ports.items()}
        here = replace(operation, **ports)
        bias = found.get(operation.name)
        if bias is not None:
            ticking = Synapse(
                name=f"{operation.name}.bias", width=operation.width, signal=Signal.VALUES, x=port,
                taps=(Tap(0, bias[:, None]),),
            )  # fmt: skip
            operations.append(ticking)
            if isinstance(here, Neuron):
                both = Port((*here.x.sources, ticking.name), here.width, Signal.VALUES)
                here = replace(here, x=both, drive=np.zeros(here.width))
            elif isinstance(here, Synapse):
                here = replace(here, bias=None, clock=here.clock if here.gated else None)
            else:
                assert isinstance(here, Convolution)
                here = replace(here, bias=None)
        operations.append(here)
    return replace(program, operations=tuple(operations))


def _bias(operation: Operation) -> FloatArray | None:
    """What an operation adds at every step, (width,)."""
    if isinstance(operation, Neuron) and operation.drive.any():
        current: FloatArray = operation.drive / operation.gain
        return current
    if isinstance(operation, Convolution) and operation.bias is not None:
        each: FloatArray = np.repeat(operation.bias, operation.width // len(operation.bias))
        return each
    if isinstance(operation, Synapse) and operation.bias is not None:
        return operation.bias
    return None


def _with(port: Port, biased: Container[str]) -> Port:
    """A port that also gets the biases of what it reads; a neuron's own goes to the neuron."""
    pairs = ((name, f"{name}.bias") if name in biased else (name,) for name in port.sources)
    return replace(port, sources=tuple(chain.from_iterable(pairs)))
