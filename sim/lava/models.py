"""Process models: one that hands what arrives to a step of `sim.steps`, and those of a graph's ends.

Lava wants the ports of a model in its class, so there is a class of models, and of processes, for each set of ports.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeAlias

from lava.magma.core.decorator import implements, requires
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from spikescr.sim.lava import processes
from spikescr.sim.lava.base import OperationModel, StepInPort
from spikescr.sim.program import Operation, Sink, Source
from spikescr.sim.recording import KINDS
from spikescr.sim.steps.make import make

KIND = {name: row for row, name in enumerate(KINDS)}
Pair: TypeAlias = tuple[type[processes.OperationProcess], type[OperationModel]]


@implements(proc=processes.SourceProcess, protocol=LoihiProtocol)
@requires(CPU)
class SourceModel(OperationModel):
    """y = what the host wrote for this step; zero after the window."""

    y: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    link_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    link_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)

    def _step(self, n: int) -> None:
        inputs = self.slot.record
        self.y.send(inputs[n] if n < len(inputs) else 0 * inputs[0])


@implements(proc=processes.SinkProcess, protocol=LoihiProtocol)
@requires(CPU)
class SinkModel(OperationModel):
    """Writes its input down for the host."""

    x: PyInPort = LavaPyType(StepInPort, float)
    y: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)

    def _step(self, n: int) -> None:
        self.slot.record[n] = self.x.recv()
        self.y.send(self.slot.record[n])


class StepModel(OperationModel):
    """One Operation by its step; what sends first does so: on a cycle its input comes from those who wait for it."""

    y: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.step = make(self.operation, self.batch, self.slot.valid)
        self.sends_first = self.operation.sends_first
        self.fires = self.slot.record.size > 0

    def _reset(self) -> None:
        self.inputs = [getattr(self, name) for name in self.operation.ports]
        self.step.reset()

    def _step(self, n: int) -> None:
        if self.sends_first:
            self.y.send(self.step.put_out(n))
            self.step(n, *(port.recv() for port in self.inputs))
        else:
            y = self.step(n, *(port.recv() for port in self.inputs))
            self.y.send(y)
            if self.fires:
                self.slot.record[n] = y
        if self.slot.membrane is not None:
            self.slot.membrane[n] = self.step.membrane
        for kind, amount in self.step.counts.items():
            self.slot.counts[KIND[kind], n] = amount


@cache
def _by_steps(ports: tuple[str, ...]) -> Pair:
    """Process and model with these input ports."""
    process = type(f"Process_{'_'.join(ports)}", (processes.OperationProcess,), {})
    model = type(f"Model_{'_'.join(ports)}", (StepModel,), {name: LavaPyType(StepInPort, float) for name in ports})
    return process, implements(proc=process, protocol=LoihiProtocol)(requires(CPU)(model))


def pair_for(operation: Operation) -> Pair:
    """The process and the model that execute an operation."""
    ends: dict[type[Operation], Pair] = {
        Source: (processes.SourceProcess, SourceModel),
        Sink: (processes.SinkProcess, SinkModel),
    }
    return ends.get(type(operation)) or _by_steps(tuple(operation.ports))
