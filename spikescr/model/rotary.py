"""Rotary position: spikes of each head are turned by their time step, pair by pair."""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from spikescr.model.layers import Replaceable

BASE = 10000.0


def rotary_table(steps: int, head_width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cosines and sines of the angles p * 10000^(-2i/D), position p, pair i (RoFormer, arXiv 2104.09864, eq. 15).

    Args:
        steps: number of positions.
        head_width: D, even.

    Returns:
        cos, sin, each (steps, D / 2), float64.
    """
    angles = np.arange(steps)[:, None] * BASE ** (-2.0 * np.arange(head_width // 2) / head_width)
    return np.cos(angles), np.sin(angles)


class Rotary(Replaceable):
    """R: y[2i] = x[2i] cos - x[2i+1] sin, y[2i+1] = x[2i] sin + x[2i+1] cos; position = time step.

    The table is kept in float64 whatever the module's type, so that a model trained in float32 has the exact table
    when it is executed in float64.
    """

    def __init__(self, head_width: int) -> None:
        super().__init__()
        self.head_width = head_width

    def tables(self, steps: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Cosines and sines of so many positions, each (steps, D / 2)."""
        return rotary_table(steps, self.head_width)

    def plain(self, x: Tensor, heads: int) -> Tensor:
        """Rotated x, shape (T, B, heads * D)."""
        cos, sin = (torch.from_numpy(table).to(x)[:, None, None, :] for table in self.tables(len(x)))
        even, odd = rearrange(x, "t b (h i p) -> p t b h i", h=heads, p=2)
        pairs = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
        return rearrange(pairs, "t b h i p -> t b (h i p)")
