"""What a training minimises: a loss per recording, of the readout and of whatever else is known of the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from spikescr.training.config import Loss
from spikescr.training.sources import Source

SMALLEST_SHARE = 1e-6
"""A readout's share for a class counts as this at least: its logarithm stays finite."""


def logits(y: Tensor, loss: Loss) -> Tensor:
    """What a loss has as logits (B, K) of readouts y (B, K), sums of softmax over steps.

    "sum": y (arXiv 2412.12858). "mean": log(y / sum y); the sum of y is the number of valid steps, so what the
    logarithm is of are means over steps of the classes' probabilities.
    """
    return y if loss == "sum" else torch.log(y / y.sum(dim=-1, keepdim=True) + SMALLEST_SHARE)


def label_loss(y: Tensor, labels: Tensor, loss: Loss) -> Tensor:
    """Loss of each recording (B,) for readouts y (B, K) and labels (B,): cross-entropy, of "mean" -log(share)."""
    if loss == "sum":
        return functional.cross_entropy(y, labels, reduction="none")
    return functional.nll_loss(logits(y, loss), labels, reduction="none")


@dataclass(frozen=True, eq=False)
class Batch:
    """What a process trains on in one step.

    epoch: from 1. index: of each recording in the training split (B,). x: input as augmented (T, B, C). steps: valid
    steps (B,). labels: (B,).
    """

    epoch: int
    index: Tensor
    x: Tensor
    steps: Tensor
    labels: Tensor


class Objective(Protocol):
    """A loss with whatever it needs to know besides the batch."""

    def losses(self, y: Tensor, batch: Batch) -> Tensor:
        """Loss of each recording (B,) from the readout y (B, K); the mean over the whole batch is minimised."""
        ...

    def identity(self) -> dict[str, str]:
        """What must be the same, name by name, when a training is resumed."""
        ...

    def require(self, source: Source) -> None:
        """Refuses other training recordings than it knows by their places."""
        ...


class CrossEntropy:
    """The loss of the label, nothing else; see `label_loss`."""

    def __init__(self, loss: Loss = "sum") -> None:
        self.loss: Loss = loss

    def losses(self, y: Tensor, batch: Batch) -> Tensor:
        """Loss of each recording (B,)."""
        return label_loss(y, batch.labels, self.loss)

    def identity(self) -> dict[str, str]:
        """Its name."""
        return {"objective": "cross-entropy"}

    def require(self, source: Source) -> None:
        """Takes any."""
