"""From outputs at every step to one answer per sample."""

from __future__ import annotations

import numpy as np

from spikescr.sim.program import FloatArray, IntArray


def softmax_sum(outputs: FloatArray, valid: IntArray) -> FloatArray:
    """Sums softmax(output) over the valid steps.

    Args:
        outputs: (T, B, K), the sample's own steps.
        valid: valid steps (B,).

    Returns:
        y (B, K); the prediction is its largest entry.
    """
    mask = np.arange(len(outputs))[:, None] < valid[None, :]
    y: FloatArray = (probabilities(outputs) * mask[..., None]).sum(axis=0)
    return y


def probabilities(outputs: FloatArray) -> FloatArray:
    """softmax(output) at every step, (T, B, K)."""
    shifted = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
    found: FloatArray = shifted / shifted.sum(axis=-1, keepdims=True)
    return found
