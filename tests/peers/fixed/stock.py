"""Lava's own Dense and LIF in fixed point, as they ship, for one sample of a case."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import RunConfig
from lava.proc.dense.models import PyDenseModelBitAcc
from lava.proc.dense.process import Dense
from lava.proc.io.source import PySendModelFixed
from lava.proc.io.source import RingBuffer as Sender
from lava.proc.lif.models import PyLifModelBitAcc
from lava.proc.lif.process import LIF
from lava.proc.monitor.models import PyMonitorModel
from lava.proc.monitor.process import Monitor
from lava.utils.weightutils import SignMode
from numpy.typing import NDArray

from fixed.cases import Case

SIGNS = {"mixed": SignMode.MIXED, "excitatory": SignMode.EXCITATORY, "inhibitory": SignMode.INHIBITORY}


class _Chosen(RunConfig):
    """The model of each process by name, which spares Lava the search."""

    def __init__(self, chosen: dict[Any, Any]) -> None:
        super().__init__()
        self.exception_proc_model_map = chosen


@contextmanager
def _quiet() -> Iterator[None]:
    """Takes off the handlers that Lava's processes add to the root logger."""
    root = logging.getLogger()
    before = list(root.handlers)
    try:
        yield
    finally:
        root.handlers[:] = before


def run(case: Case, sample: int) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Spikes and membranes after the reset, both (T, N), at the layer's own steps.

    Lava's Dense puts out at a step what it accumulated in the step before, which is taken off here; synapses from the
    neurons themselves are late by just that step.
    """
    with _quiet():
        return _run(case, sample)


def _run(case: Case, sample: int) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    registers, steps = case.registers, case.steps + 1
    lif = LIF(
        shape=(case.neurons,), du=registers.get("du", 4095), dv=registers["dv"], vth=registers["vth"],
        bias_mant=registers.get("bias_mant", 0), bias_exp=registers.get("bias_exp", 0),
    )  # fmt: skip
    models: dict[Any, Any] = {lif: PyLifModelBitAcc}
    for path in case.paths:
        dense = Dense(
            weights=path.mantissa, weight_exp=path.exponent, num_weight_bits=path.bits, sign_mode=SIGNS[path.sign_mode],
            num_message_bits=0 if path.source is None else 8,
        )  # fmt: skip
        models[dense] = PyDenseModelBitAcc
        dense.a_out.connect(lif.a_in)
        if path.source is None:
            lif.s_out.connect(dense.s_in)
            continue
        x = case.inputs[path.source][:, sample].astype(np.int32)
        late = np.concatenate([np.zeros((path.delay, x.shape[1]), np.int32), x])[: case.steps]
        sender = Sender(data=np.concatenate([late, np.zeros((1, x.shape[1]), np.int32)]).T)
        sender.s_out.connect(dense.s_in)
        models[sender] = PySendModelFixed
    monitors = []
    for variable in (lif.v, lif.s_out):
        monitor = Monitor()
        monitor.probe(variable, steps)
        models[monitor] = PyMonitorModel
        monitors.append(monitor)
    try:
        lif.run(RunSteps(steps), _Chosen(models))
        v, s = (next(iter(next(iter(m.get_data().values())).values())) for m in monitors)
    finally:
        lif.stop()
    own = slice(1 - case.late, 1 - case.late + case.steps)
    return np.asarray(s)[own] == 1, np.asarray(v)[own].astype(np.int64)
