"""When an answer was final: the step from which the running readout names the class that it names at the end."""

from __future__ import annotations

import numpy as np

from spikescr.sim.program import FloatArray, IntArray
from spikescr.sim.recording import probabilities


def final_steps(outputs: FloatArray, valid: IntArray) -> IntArray:
    """The first step of each sample from which the prediction stays what it is after the last valid step.

    The prediction at step t is the largest entry of the sum of softmax(output) over steps 0 to t.

    Args:
        outputs: (T, B, K), the sample's own steps.
        valid: valid steps (B,), at least 1.

    Returns:
        Steps (B,), from 0 to valid - 1.
    """
    running = np.cumsum(probabilities(outputs), axis=0).argmax(axis=-1)
    steps = np.arange(len(outputs))[:, None]
    other = (running != running[valid - 1, np.arange(len(valid))]) & (steps < valid)
    last: IntArray = np.where(other.any(axis=0), len(outputs) - 1 - other[::-1].argmax(axis=0), -1)
    return last + 1
