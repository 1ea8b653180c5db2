"""Lava Processes: ports only, the arithmetic is in `sim.steps`."""

from __future__ import annotations

from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess

from spikescr.sim import program as ops
from spikescr.sim.lava.shared import Slot


class OperationProcess(AbstractProcess):
    """An Operation with its input ports (batch, width) by name and its output port `y` (batch, width).

    The process model gets `operation`, `slot` and `period` (steps of a batch) as parameters. No Vars: Lava moves them
    one number at a time.
    """

    def __init__(self, operation: ops.Operation, slot: Slot, *, batch: int, period: int) -> None:
        super().__init__(name=operation.name, operation=operation, slot=slot, period=period)
        for name, port in operation.ports.items():
            setattr(self, name, InPort((batch, port.width)))
        self.y = OutPort((batch, operation.width))


class SourceProcess(OperationProcess):
    """A Source. `link_out` -> `link_in` ties all Sources together and never carries a message.

    Lava compiles what is connected to one Process; a program may fall into parts (a clock that nobody reads).
    """

    def __init__(self, operation: ops.Operation, slot: Slot, *, batch: int, period: int) -> None:
        super().__init__(operation, slot, batch=batch, period=period)
        self.link_in = InPort((1,))
        self.link_out = OutPort((1,))


class SinkProcess(OperationProcess):
    """A Sink."""
