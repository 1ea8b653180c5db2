"""What synaptic operations cost in a training, so that a network learns to do with fewer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from spikescr.model import Current


@dataclass(frozen=True, eq=False)
class Penalty:
    """A weight, times synaptic operations over synapses and steps.

    noted: of each product of spikes and weights, its operations of each sample (B,) and its weights' number.
    """

    weight: float
    noted: list[tuple[Tensor, int]] = field(default_factory=list)

    def of(self, steps: Tensor) -> Tensor:
        """What it adds to the loss of each sample (B,) of so many valid steps (B,)."""
        if not self.noted:
            return torch.zeros_like(steps, dtype=torch.float32)
        operations = torch.stack([of_one for of_one, _ in self.noted]).sum(dim=0)
        return self.weight * operations / (steps * sum(synapses for _, synapses in self.noted))


@contextmanager
def noting(model: nn.Module, weight: float) -> Iterator[Penalty]:
    """Notes the synaptic operations of a network while the block lasts, where they have a weight."""
    penalty = Penalty(weight)
    layers = [module for module in model.modules() if isinstance(module, Current)] if weight else []
    for layer in layers:
        layer.operations = penalty.noted
    try:
        yield penalty
    finally:
        for layer in layers:
            layer.operations = None
