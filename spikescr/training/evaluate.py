"""Loss, accuracy and firing rate of a network on a split."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikescr.model import LIF, Network, readout
from spikescr.training.batches import Split, by_length


@dataclass(frozen=True)
class Evaluation:
    """loss: mean cross-entropy. accuracy: share of right answers. firing_rate: spikes per neuron and valid step."""

    loss: float
    accuracy: float
    firing_rate: float


def evaluate(model: Network, split: Split, batch_size: int) -> Evaluation:
    """Runs the network in eval mode over a split and leaves it in eval mode."""
    model.eval()
    loss = correct = 0.0
    with torch.no_grad(), _counting_spikes(model) as counts:
        for chosen in by_length(split.steps, batch_size):
            x, steps, labels = split.batch(chosen)
            y = readout(model(x, steps), steps)
            loss += float(functional.cross_entropy(y, labels, reduction="sum"))
            correct += int((y.argmax(dim=-1) == labels).sum())
    neurons = sum(width for _, width in counts.values())
    spikes = sum(spikes for spikes, _ in counts.values())
    return Evaluation(loss / len(split), correct / len(split), spikes / (neurons * int(split.steps.sum())))


@contextmanager
def _counting_spikes(model: nn.Module) -> Iterator[dict[nn.Module, tuple[float, int]]]:
    """Spikes so far and width of every LIF layer; padded steps are silent and need no mask."""
    counts: dict[nn.Module, tuple[float, int]] = {}

    def count(module: nn.Module, _inputs: tuple[Tensor, ...], spikes: Tensor) -> None:
        counts[module] = (counts.get(module, (0.0, 0))[0] + float(spikes.sum()), spikes.shape[-1])

    hooks = [module.register_forward_hook(count) for module in model.modules() if isinstance(module, LIF)]
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()
