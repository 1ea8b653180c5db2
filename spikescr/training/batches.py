"""Splits as tensors in memory, and batches of them that are no longer than their longest sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spikescr.data import Features

POOL = 8
"""Batches among which samples are sorted by length: little padding, yet other company in every epoch."""


@dataclass(frozen=True, eq=False)
class Split:
    """Recordings ready for the network.

    values: (n, T, C), zero on padded steps; real numbers, or counts of an integer type. steps: valid steps (n,).
    labels: (n,).
    """

    values: Tensor
    steps: Tensor
    labels: Tensor

    @staticmethod
    def from_features(features: Features) -> Split:
        """The same arrays as tensors, without a copy."""
        return Split(*map(torch.from_numpy, (features.values, features.steps, features.labels)))

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Input x (T, B, C) with T the longest of the chosen samples, steps (B,), labels (B,)."""
        steps = self.steps[chosen]
        values = self.values[chosen, : int(steps.max())]
        if not values.is_floating_point():
            values = values.to(torch.get_default_dtype())
        return values.transpose(0, 1).contiguous(), steps, self.labels[chosen]


def shuffled(steps: Tensor, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """Indices of the batches of one epoch: every sample once, batches of nearly equal size and of similar lengths.

    Args:
        steps: valid steps (n,).
        batch_size: at most; all batches are as large as each other or one smaller, so that none has only a few samples.
        generator: draws the order.
    """
    order = torch.randperm(len(steps), generator=generator)
    count = -(-len(order) // batch_size)
    pools = [pool[steps[pool].argsort(stable=True)] for pool in order.tensor_split(-(-count // POOL))]
    batches = [batch for pool in pools for batch in pool.tensor_split(-(-len(pool) // batch_size))]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator)]


def by_length(steps: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    """Indices of batches for evaluation: every sample once, shortest first."""
    return steps.argsort(stable=True).tensor_split(-(-len(steps) // batch_size))
