"""The process model of neurons in fixed point."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from spikescr.sim import program as ops
from spikescr.sim.lava import processes
from spikescr.sim.lava.base import OperationModel, StepInPort
from spikescr.sim.lowering import fixed


@implements(proc=processes.FixedNeuronProcess, protocol=LoihiProtocol)
@requires(CPU)
class FixedNeuronModel(OperationModel):
    """u = wrap(trunc(u decay_u) + 64 x); v = cut(trunc(v decay) + u + bias); s = v > 64 vth; v = 0 where s."""

    x: PyInPort = LavaPyType(StepInPort, float)
    y: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)

    operation: ops.FixedNeuron

    def _reset(self) -> None:
        self.u = np.zeros((self.batch, self.operation.width))
        self.v = np.zeros((self.batch, self.operation.width))

    def _step(self, n: int) -> None:
        operation, slot = self.operation, self.slot
        self.u, v, saturated = fixed.update(operation, self.u, self.v, self.x.recv())
        if slot.membrane is not None:
            slot.membrane[n] = v
        fired = v > operation.threshold
        slot.record[n] = fired
        self.v = np.where(fired, 0.0, v)
        self.count("fired", n, fired.sum(axis=1))
        self.count("saturated", n, saturated)
        self.count("neuron", n, np.where(self.inside(n), operation.width, 0))
        self.y.send(fired.astype(np.float64))
