"""Sinusoidal position encoding, added to a stream at every valid step."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikescr.model.rotary import BASE


def sinusoidal_table(steps: int, width: int) -> NDArray[np.float64]:
    """Encodings (steps, width): sin(p * 10000^(-2i/N)) in channel 2i, the cosine in 2i + 1 (arXiv 1706.03762, 3.5)."""
    channels = np.arange(width)
    angles = np.arange(steps)[:, None] * BASE ** (-2.0 * (channels // 2) / width)
    return np.where(channels % 2 == 0, np.sin(angles), np.cos(angles))


class Sinusoidal(nn.Module):
    """x + table[t] on valid steps; position = time step. The table is float64 whatever the module's type."""

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Real values (T, B, N) for x (T, B, N)."""
        table = torch.from_numpy(sinusoidal_table(x.shape[0], x.shape[2])).to(x)
        return torch.add(x, table[:, None] * valid)
