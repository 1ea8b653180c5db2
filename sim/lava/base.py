"""What all process models share: the step loop, reset at the start of a batch, reporting of failures."""

from __future__ import annotations

import os
from typing import Any

from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPortVectorDense

from spikescr.sim.backends import quiet
from spikescr.sim.lava.shared import Slot
from spikescr.sim.program import FloatArray, Operation


class StepInPort(PyInPortVectorDense):
    """An input port that sums its sources without a start at zeros and a copy for each."""

    def recv(self) -> FloatArray:
        """The sum over sources for this step, an array of the caller's own."""
        first, *others = self.csp_ports
        total: FloatArray = first.recv()
        for port in others:
            total += port.recv()
        return total


class OperationModel(PyLoihiProcessModel):
    """One Operation: receives, computes and sends in the same step.

    Subclasses define `_step` and, where they keep state, `_reset`, which runs before the first step of every batch.
    """

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params=proc_params)
        self.operation: Operation = proc_params["operation"]
        self.slot: Slot = proc_params["slot"]
        self.period: int = proc_params["period"]
        self.batch: int = self.slot.counts.shape[-1]

    def run(self) -> None:
        """Obey the runtime service until the end.

        In Lava's own loop a selector waits on the command channel and on VarPorts, at the cost of a condition
        variable per step; these models have no VarPorts.
        """
        with quiet():
            while True:
                self._cmd_handlers[self.service_to_process.recv()[0]]()

    def run_spk(self) -> None:
        """One step; a failure is noted for the parent and ends this process, since Lava would hang."""
        n = (self.time_step - 1) % self.period
        try:
            if n == 0:
                self._reset()
            self._step(n)
        except Exception as error:
            self.slot.report(n, error)
            os._exit(1)
        self.slot.done[0] = self.time_step

    def _reset(self) -> None:
        """Set all state to zero."""

    def _step(self, n: int) -> None:
        """Receive from all ports, compute step n of the batch, send."""
        raise NotImplementedError
