"""Loss, accuracy and firing rate of a network on a split."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikescr.model import LIF, Network, readout
from spikescr.training.batches import Split, by_length
from spikescr.training.config import Loss
from spikescr.training.devices import Devices
from spikescr.training.objective import label_loss


@dataclass(frozen=True)
class Evaluation:
    """loss: mean loss of the label. accuracy: share of right answers. firing_rate: spikes per neuron and valid step."""

    loss: float
    accuracy: float
    firing_rate: float


def evaluate(
    model: Network, split: Split, batch_size: int, devices: Devices | None = None, *, loss: Loss = "sum"
) -> Evaluation:
    """Runs the network in eval mode over a split and leaves it in eval mode.

    With `devices`, each of several processes takes its share of the batches; all get the same result, which is that of
    one process: sums are taken batch by batch, in the order of the batches.
    """
    model.eval()
    device = next(model.parameters()).device
    batches = by_length(split.steps, batch_size)
    sums = torch.zeros(len(batches), 3, dtype=torch.float64)  # loss, right answers, spikes per neuron
    with torch.no_grad(), _counting_spikes(model) as counts:
        for i in range(len(batches))[devices.share(len(batches)) if devices else slice(None)]:
            counts.clear()
            x, steps, labels = (part.to(device) for part in split.batch(batches[i]))
            y = readout(model(x, steps), steps)
            sums[i, 0] = label_loss(y, labels, loss).sum()
            sums[i, 1] = (y.argmax(dim=-1) == labels).sum()
            sums[i, 2] = sum(spikes for spikes, _ in counts.values()) / sum(width for _, width in counts.values())
    summed, correct, spikes = (float(column.sum()) for column in (devices.sum(sums) if devices else sums).T)
    return Evaluation(summed / len(split), correct / len(split), spikes / int(split.steps.sum()))


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
