"""Synapses of one tap of a convolution over the steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray


def synapse(weight: NDArray[np.float64], options: Mapping[str, Any], bias: NDArray[np.float64] | None) -> nir.NIRNode:
    """One tap: (O, C / groups) as Linear, or Scale of single channels, a bias aside; (O, C / groups, K) as Conv1d."""
    groups = int(options["groups"])
    if weight.ndim == 2 and weight.shape[1] == 1 and len(weight) == groups:
        return nir.Scale(weight[:, 0])
    if weight.ndim == 2:
        blocks = weight.reshape(groups, -1, weight.shape[1])
        spread = np.einsum("gh,goi->gohi", np.eye(groups), blocks)
        return nir.Linear(spread.reshape(len(weight), -1))
    geometry = [int(options[name][0]) for name in ("stride", "padding", "dilation")]
    return nir.Conv1d(None, weight, *geometry, groups, np.zeros(len(weight)) if bias is None else bias)
