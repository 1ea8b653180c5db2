"""Quantization-aware fine-tuning: the forward pass is the integers', gradients are straight-through."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from spikescr.errors import SpikescrError
from spikescr.model import Network, readout
from spikescr.training.augment import augment
from spikescr.training.batches import Split, shuffled
from spikescr.training.config import TrainConfig
from spikescr.training.draws import generator
from spikescr.training.evaluate import Evaluation, evaluate

ORDER = 2
"""What random numbers are for: those of training itself are other ones."""


@dataclass(frozen=True)
class Tuned:
    """After an epoch, 0 before the first: its number, mean training loss, validation."""

    epoch: int
    train_loss: float | None
    valid: Evaluation


def finetune(
    model: Network,
    train: Split,
    valid: Split,
    config: TrainConfig,
    *,
    epochs: int,
    lr: float,
    on_step: Callable[[int], None] = lambda samples: None,
    on_epoch: Callable[[Tuned], None] = lambda tuned: None,
) -> list[Tuned]:
    """Trains a network in integers (`scheme.in_integers`) and leaves its best weights in it, by validation.

    Scales stay as they are; what changes is which integers weights and biases are. The learning rate falls from `lr`
    to 0 as a cosine. No dropout: what is tuned is the network that will run.

    Args:
        model: float32, changed in place.
        train: recordings that are trained on.
        valid: recordings that choose among the epochs; the network as it came is among them.
        config: of the first training; its seed, batch size, weight decay and augmentation are used.
        epochs: how many.
        lr: of AdamW, in units of the real weights.
        on_step: called after every optimisation step with its number of samples.
        on_epoch: called with every result.

    Returns:
        A result for the network as it came and for every epoch.

    Raises:
        SpikescrError: the loss is no number any more.
    """
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=config.weight_decay, foreach=True)
    found = [Tuned(0, None, evaluate(model, valid, config.batch_size))]
    on_epoch(found[0])
    best, weights = found[0], _copy(model)
    for epoch in range(1, epochs + 1):
        batches = shuffled(train.steps, config.batch_size, generator(config.seed, ORDER, epoch))
        losses = 0.0
        for i, chosen in enumerate(batches):
            done = (epoch - 1 + i / len(batches)) / epochs
            for group in optimizer.param_groups:
                group["lr"] = lr * (1 + math.cos(math.pi * done)) / 2
            losses += _step(model, optimizer, train, chosen, config, epoch) * len(chosen)
            on_step(len(chosen))
        if not math.isfinite(losses):
            raise SpikescrError(
                f"the loss is {losses} in epoch {epoch} of fine-tuning: give a lower lr (--lr) than {lr:g}"
            )
        found.append(Tuned(epoch, losses / len(train), evaluate(model, valid, config.batch_size)))
        on_epoch(found[-1])
        if _rank(found[-1]) > _rank(best):
            best, weights = found[-1], _copy(model)
    model.load_state_dict(weights)
    return found


def best_of(found: list[Tuned]) -> Tuned:
    """The one whose weights are kept: highest accuracy, then lowest loss, then first."""
    return max(found, key=_rank)


def _rank(tuned: Tuned) -> tuple[float, float]:
    return tuned.valid.accuracy, -tuned.valid.loss


def _copy(model: Network) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _step(
    model: Network, optimizer: torch.optim.Optimizer, train: Split, chosen: Tensor, config: TrainConfig, epoch: int
) -> float:
    """One optimisation step; its mean loss."""
    x, steps, labels = train.batch(chosen)
    if config.augmentation is not None:
        x = augment(x, steps, config.augmentation, seed=config.seed, epoch=epoch, samples=chosen)
    loss = functional.cross_entropy(readout(model(x, steps), steps), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())
