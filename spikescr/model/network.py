"""SpikeSCR: embedding of the input, SGLE blocks, a linear head at every step (arXiv 2412.12858)."""

from __future__ import annotations

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from spikescr.model.blocks import SGLE
from spikescr.model.config import ModelConfig
from spikescr.model.layers import SpikingLayer, TimeConv, valid_mask


class SpikeSCR(nn.Module):
    """The network; a sample's output depends on that sample's valid steps alone, not on its batch or padding."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.sem = SpikingLayer(TimeConv(config.inputs, config.width, 3), config.dropout)
        self.blocks = nn.ModuleList(SGLE(config) for _ in range(config.layers))
        self.head = nn.Linear(config.width, config.classes, bias=False)

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        """Logits at every step.

        Args:
            x: input (T, B, C), real values or spike counts; padded steps are ignored.
            steps: valid steps of each sample (B,), integers, at most T.

        Returns:
            Logits (T, B, K), zero on padded steps.
        """
        functional.reset_net(self)
        valid = valid_mask(steps, x.shape[0], x.dtype)
        x = self.sem(x * valid, valid)
        for block in self.blocks:
            x = block(x, valid)
        logits: Tensor = self.head(x)
        return logits


def readout(logits: Tensor, steps: Tensor) -> Tensor:
    """Sum over valid steps, y = sum softmax(logits); the prediction is its largest entry.

    Args:
        logits: (T, B, K).
        steps: valid steps (B,).

    Returns:
        y (B, K); used as logits by the training loss, as in the paper.
    """
    return (torch.softmax(logits, dim=-1) * valid_mask(steps, logits.shape[0], logits.dtype)).sum(dim=0)
