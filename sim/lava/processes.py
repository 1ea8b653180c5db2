"""Lava Processes, one class per type of Operation: ports only, the arithmetic is in `models`."""

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


class SynapseProcess(OperationProcess):
    """A Synapse; `clock` stays unconnected where the operation has none."""

    def __init__(self, operation: ops.Operation, slot: Slot, *, batch: int, period: int) -> None:
        super().__init__(operation, slot, batch=batch, period=period)
        if "clock" not in operation.ports:
            self.clock = InPort((batch, 1))


class DelayLineProcess(OperationProcess):
    """A DelayLine."""


class ChannelDelayProcess(OperationProcess):
    """A ChannelDelay."""


class ConvolutionProcess(OperationProcess):
    """A Convolution."""


class SelectProcess(OperationProcess):
    """A Select."""


class NeuronProcess(OperationProcess):
    """A Neuron."""


class FixedNeuronProcess(OperationProcess):
    """A FixedNeuron."""


class IntegratorProcess(OperationProcess):
    """An Integrator."""


class RotaryProcess(OperationProcess):
    """A Rotary."""


class PositionProcess(OperationProcess):
    """A Position."""


class AttentionProcess(OperationProcess):
    """An Attention."""


class GateProcess(OperationProcess):
    """A Gate."""
