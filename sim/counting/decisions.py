"""When an answer was final: the step from which the running readout names the class that it names at the end."""

from __future__ import annotations

import numpy as np

from spikescr.readouts import SOFTMAX_SUM
from spikescr.sim.program import FloatArray, IntArray
from spikescr.sim.recording import running


def final_steps(outputs: FloatArray, valid: IntArray, readout: str = SOFTMAX_SUM) -> IntArray:
    """The first step of each sample from which the prediction stays what it is after the last valid step.

    The prediction at step t is the largest entry of what the readout gives over steps 0 to t.

    Args:
        outputs: (T, B, K), the sample's own steps.
        valid: valid steps (B,), at least 1.
        readout: of `spikescr.readouts`.

    Returns:
        Steps (B,), from 0 to valid - 1.
    """
    predicted = running(readout, outputs).argmax(axis=-1)
    steps = np.arange(len(outputs))[:, None]
    other = (predicted != predicted[valid - 1, np.arange(len(valid))]) & (steps < valid)
    last: IntArray = np.where(other.any(axis=0), len(outputs) - 1 - other[::-1].argmax(axis=0), -1)
    return last + 1
