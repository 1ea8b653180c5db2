"""Layers of adaptive LIFs (SiLIF, arXiv 2506.06374)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from torch import Tensor, nn

from spikescr.model.adaptive import AdaptiveLIF
from spikescr.model.layers import SpikingLayer
from spikescr.model.network import Network

if TYPE_CHECKING:
    from spikescr.model.config import AdaptiveConfig


class AdaptiveNetwork(Network):
    """Layers of adaptive LIFs behind batch normalisation, a linear head at every step."""

    config: AdaptiveConfig

    def __init__(self, config: AdaptiveConfig) -> None:
        super().__init__(config)
        sizes = [config.inputs, *[config.width] * config.layers]
        self.layers = nn.ModuleList(_layer(inputs, outputs, config.dropout) for inputs, outputs in pairwise(sizes))
        self.head = nn.Linear(config.width, config.classes, bias=False)

    def hidden(self, x: Tensor, valid: Tensor) -> Tensor:
        """Spikes (T, B, N) of the last layer."""
        for layer in self.layers:
            x = layer(x, valid)
        return x


def _layer(inputs: int, width: int, dropout: float) -> SpikingLayer:
    layer = SpikingLayer(nn.Linear(inputs, width), dropout)
    layer.lif = AdaptiveLIF(width)
    return layer
