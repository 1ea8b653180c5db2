"""What a training minimises: a loss per recording, of the readout and of whatever else is known of the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn import functional

from spikescr.training.sources import Source


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
    """Cross-entropy of the readout, which the paper uses as logits."""

    def losses(self, y: Tensor, batch: Batch) -> Tensor:
        """Loss of each recording (B,)."""
        return functional.cross_entropy(y, batch.labels, reduction="none")

    def identity(self) -> dict[str, str]:
        """Its name."""
        return {"objective": "cross-entropy"}

    def require(self, source: Source) -> None:
        """Takes any."""
