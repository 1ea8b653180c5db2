"""How much memory the fast backend takes for a batch: what lives at once, operation after operation."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from spikescr.sim.fast.kernels.vectors import BLOCK
from spikescr.sim.fast.plan import Plan
from spikescr.sim.program import Convolution, Neuron, Operation, Port, Role, Select, Signal, Synapse

INDEX = 4
"""Bytes of an entry in an event list."""
COUNT = 8
"""Bytes of how many events an entry stands for."""


def bytes_per_sample(plan: Plan) -> int:
    """The most that lives at once of one sample if every neuron fired at every step, tiles of convolutions aside."""
    program, most = plan.program, 0
    by_name = {operation.name: operation for operation in program.operations}
    living: dict[str, int] = {}
    forms: dict[tuple[str, ...], int] = {}
    cycles = {part[0].name: _cycle(plan, part) for part in plan.components if part[0].name in plan.looped}
    for operation in itertools.chain.from_iterable(plan.components):
        if operation.name in plan.absorbed:
            continue
        most = max(most, sum(living.values()) + sum(forms.values()) + cycles.get(operation.name, 0))
        for reader in _with(plan, operation):
            for port in reader.ports.values():
                forms[port.sources] = max(forms.get(port.sources, 0), _forms(plan, by_name, reader, port))
        living[operation.name] = _output(plan, operation)
        most = max(most, sum(living.values()) + sum(forms.values()) + _own(plan, operation))
        for name in plan.read[operation.name]:
            living.pop(name, None)
            forms = {sources: size for sources, size in forms.items() if name not in sources}
    return program.period * most


def _cycle(plan: Plan, part: Sequence[Operation]) -> int:
    """What a cycle needs while it runs: by step what arrives and what it puts out, and its counts."""
    numbers = sum(o.width + sum(port.width for port in o.ports.values()) for o in part)
    return numbers * plan.dtype.itemsize + 6 * COUNT * len(part)


def _with(plan: Plan, operation: Operation) -> tuple[Operation, ...]:
    """What is evaluated with an operation: a neuron's synapse or convolution."""
    if operation.name in plan.images:
        return plan.images[operation.name].convolution, operation
    if operation.name in plan.windows:
        return (plan.windows[operation.name],)
    if operation.name in plan.drives:
        return (plan.drives[operation.name].synapse,)
    return (operation,)


def _output(plan: Plan, operation: Operation) -> int:
    lists = operation.role is Role.NEURON or (isinstance(operation, Select) and operation.signal is not Signal.VALUES)
    return operation.width * (INDEX if lists else plan.dtype.itemsize)


def _own(plan: Plan, operation: Operation) -> int:
    """What an operation needs while it runs: the products of all taps, or sums in whole blocks of columns."""
    synapses = [o for o in _with(plan, operation) if isinstance(o, Synapse)]
    return sum(
        max(len(s.taps) * s.width * plan.dtype.itemsize, -(-s.width * plan.dtype.itemsize // BLOCK) * BLOCK)
        for s in synapses
    )


def _forms(plan: Plan, by_name: dict[str, Operation], reader: Operation, port: Port) -> int:
    """What a port is made into for those who read it: packed values, lists with counts or amounts."""
    neurons = all(isinstance(by_name[source], Neuron) for source in port.sources)
    alone = len(port.sources) == 1
    if isinstance(reader, Neuron) and reader.name in plan.images:
        image = plan.images[reader.name]
        return 0 if image.other is None else port.width * plan.dtype.itemsize
    if isinstance(reader, Convolution):
        if alone and neurons:
            return 0
        values = 0 if alone else COUNT
        return port.width * (values + INDEX + COUNT + plan.dtype.itemsize)
    if alone and not neurons and port.signal is Signal.VALUES:
        return 0
    return port.width * (plan.dtype.itemsize + INDEX + COUNT)
