"""Layers of LIFs that feed each other one step later."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from spikescr.model.layers import Current, SequenceDropout
from spikescr.model.network import Network
from spikescr.model.neuron import TAU, THRESHOLD
from spikescr.model.parametric import ParametricLIF

if TYPE_CHECKING:
    from spikescr.model.config import RecurrentConfig
    from spikescr.model.fixed import FixedRecurrentLIF


class RecurrentLIF(ParametricLIF):
    """LIFs with weights among them: h[t] = a v[t-1] + x[t] + valid[t] W s[t-1]; reset, surrogate as in LIF.

    What fires at a sample's last step reaches nobody. a = 1/2, or learnt as in ParametricLIF.
    """

    def __init__(self, width: int, *, learn: bool) -> None:
        super().__init__()
        self.recurrent = nn.Linear(width, width, bias=False)
        if not learn:
            self.fix_decay(1.0 - 1.0 / TAU)

    def forward(self, current: Tensor, valid: Tensor) -> Tensor:
        """Spikes (T, B, N) for currents (T, B, N) and the mask (T, B, 1), from a silent state."""
        decay = self._decay() if self.fixed_decay is None else self.fixed_decay
        v = spikes = torch.zeros_like(current[0])
        fired = []
        for x, live in zip(current, valid, strict=True):
            h = v * decay + (x + live * self.recurrent(spikes))
            spikes = self.surrogate_function(h - THRESHOLD)
            v = h * (1.0 - spikes.detach())
            fired.append(spikes)
        return torch.stack(fired)

    def arriving(self, current: Tensor, valid: Tensor, spikes: Tensor) -> Tensor:
        """All that reaches the neurons (T, B, N): currents from outside and, a step later, from each other."""
        arriving: Tensor = current + valid * self.recurrent(a_step_late(spikes))
        return arriving


def a_step_late(spikes: Tensor) -> Tensor:
    """Spikes (T, B, N) as they arrive one step later, nothing at first."""
    return torch.cat([torch.zeros_like(spikes[:1]), spikes[:-1]])


class RecurrentLayer(nn.Module):
    """Dropout(RecurrentLIF(BN(W x))); dropout is not between the layer's own neurons."""

    lif: RecurrentLIF | FixedRecurrentLIF

    def __init__(self, inputs: int, width: int, dropout: float, *, learn: bool) -> None:
        super().__init__()
        self.current = Current(nn.Linear(inputs, width))
        self.lif = RecurrentLIF(width, learn=learn)
        self.dropout = SequenceDropout(dropout)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Spikes (T, B, out) for spikes or values x (T, B, in)."""
        spikes: Tensor = self.dropout(self.lif(self.current(x, valid), valid))
        return spikes


class RecurrentNetwork(Network):
    """Recurrent layers, a linear head at every step."""

    config: RecurrentConfig

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        sizes = [config.inputs, *[config.width] * config.layers]
        self.layers = nn.ModuleList(
            RecurrentLayer(inputs, outputs, config.dropout, learn=config.neuron == "parametric")
            for inputs, outputs in pairwise(sizes)
        )
        self.head = nn.Linear(config.width, config.classes, bias=False)

    def hidden(self, x: Tensor, valid: Tensor) -> Tensor:
        """Spikes (T, B, N) of the last layer."""
        for recurrent in self.layers:
            x = recurrent(x, valid)
        return x
