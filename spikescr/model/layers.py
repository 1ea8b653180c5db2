"""Layers of SpikeSCR over windows (T, B, N) whose samples end at steps of their own.

Every current is zero on padded steps, so that no layer sees what follows a sample: neither batch statistics, nor
membranes, nor attention, nor convolutions (the public reference masks attention alone, and its predictions change
with the padding).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from spikescr.model.adaptive import AdaptiveLIF
from spikescr.model.neuron import LIF
from spikescr.model.statistics import Normalise, Statistics

EVERY = slice(None)


def valid_mask(steps: Tensor, window: int, dtype: torch.dtype) -> Tensor:
    """1 on the valid steps of each sample, else 0.

    Args:
        steps: valid steps of each sample (B,).
        window: T.
        dtype: of the result.

    Returns:
        Mask (T, B, 1).
    """
    return (torch.arange(window, device=steps.device)[:, None] < steps[None, :]).unsqueeze(-1).to(dtype)


def valid_steps(valid: Tensor) -> Tensor:
    """Valid steps of each sample (B,) for a mask (T, B, 1)."""
    return valid.sum((0, 2)).long()


class Masked(nn.Module):
    """Zeroes padded steps; what is left of a batch normalisation once it is folded away.

    origin: what the bias of the synapse before it came from, of "bias" (the synapse's own) and "batch_norm".
    """

    def __init__(self, *origin: str) -> None:
        super().__init__()
        self.origin = origin

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Returns x (T, B, N) times valid (T, B, 1)."""
        return x * valid


class SequenceBatchNorm(nn.BatchNorm1d):
    """Batch normalisation over the valid steps of all samples; zero on padded steps.

    over_processes: statistics are those of all processes together, which train on one batch.
    """

    over_processes = False

    def take_statistics(self, x: Tensor, steps: Tensor, channels: slice = EVERY) -> Statistics:
        """Statistics of x (T, B, n), of some channels, over valid steps (B,); moves the running ones towards them."""
        assert self.running_mean is not None
        statistics = Statistics.from_batch(x, steps, self.running_mean[channels], self.eps, self.over_processes)
        self.follow(statistics, EVERY, channels)
        return statistics

    def follow(self, statistics: Statistics, part: slice, channels: slice = EVERY) -> None:
        """Moves the running statistics of some channels towards a part of what a batch has."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        unbiased = statistics.variance[part] * (statistics.count / max(statistics.count - 1, 1))
        with torch.no_grad():
            self.running_mean[channels].lerp_(statistics.mean[part].to(self.running_mean), self.momentum)
            self.running_var[channels].lerp_(unbiased.to(self.running_var), self.momentum)
            if not channels.start:  # a batch is counted once
                self.num_batches_tracked += 1

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:  # type: ignore[override]
        """Normalises x (T, B, N) with the statistics of the steps where valid (T, B, 1) is 1."""
        if not self.training:
            return super().forward(rearrange(x, "t b n -> (t b) n")).view_as(x) * valid
        statistics = self.take_statistics(x, valid_steps(valid))
        normalised: Tensor = Normalise.apply(x, self.weight, self.bias, valid, statistics)
        return normalised


class TimeConv(nn.Conv1d):
    """Convolution over time, centred and zero-padded, on (T, B, N)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int = 1, bias: bool = True) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """y[t] = sum_k W_k x[t + k - kernel // 2], (T, B, inputs) to (T, B, outputs)."""
        return rearrange(super().forward(rearrange(x, "t b n -> b n t")), "b n t -> t b n")


class Current(nn.Module):
    """BN(W x): what a layer's neurons receive; zero on padded steps. `synapse` is a Linear or a TimeConv.

    bf16: whether W x, where it is a matrix product, is computed in bfloat16 and cast back. operations: where a training
    wants to know them, a product's synaptic operations of each sample (B,) and its weights' number are added to it.
    """

    bf16 = False
    operations: list[tuple[Tensor, int]] | None = None

    def __init__(self, synapse: nn.Linear | TimeConv) -> None:
        super().__init__()
        features = synapse.out_features if isinstance(synapse, nn.Linear) else synapse.out_channels
        self.synapse = synapse
        self.norm: SequenceBatchNorm | Masked = SequenceBatchNorm(features)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Currents (T, B, out) for spikes or values x (T, B, in)."""
        if type(self.synapse) is not nn.Linear:  # it reaches over steps
            x = x * valid  # silent there already; this keeps gradients from coming back through padded steps
        self.note(x, valid, self.synapse.weight)
        current: Tensor = self.norm(self.through_synapse(x), valid)
        return current

    def through_synapse(self, x: Tensor) -> Tensor:
        """W x (T, B, out) for x (T, B, in)."""
        if not self.bf16 or getattr(self.synapse, "groups", 1) > 1:
            plain: Tensor = self.synapse(x)
            return plain
        with torch.autocast(x.device.type, torch.bfloat16):
            product: Tensor = self.synapse(x)
        return product.to(x.dtype)

    def note(self, x: Tensor, valid: Tensor, weight: Tensor) -> None:
        """Notes what spikes x (T, B, in) cause in weights, all of them or some outputs': each reaches its fan-out."""
        if self.operations is not None and x.requires_grad:  # what nothing is learnt before is the recording itself
            spikes = (x.sum(2) * valid[..., 0]).sum(0)
            self.operations.append((spikes * (weight.numel() / x.shape[-1]), weight.numel()))


class SequenceDropout(nn.Module):
    """Dropout with one mask for all steps of a sample, as in SpikingJelly.

    share: where several processes share a batch, its size, and which of its samples are here: the first, and every
    how many. The mask is drawn for the whole batch, so that every sample gets the one that it would get in one process.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self.share: tuple[int, int, int] | None = None

    def mask(self, x: Tensor) -> Tensor | None:
        """0 or 1 / (1 - p), shape (B, N), for x (T, B, N); None where nothing is dropped."""
        if not self.training or self.probability == 0:
            return None
        keep = 1.0 - self.probability
        count, first, stride = self.share or (x.shape[1], 0, 1)
        return x.new_empty(count, x.shape[2]).bernoulli_(keep).div_(keep)[first::stride].contiguous()

    def forward(self, x: Tensor) -> Tensor:
        """Returns x (T, B, N), whole neurons of a sample zeroed, the others scaled up."""
        mask = self.mask(x)
        return x if mask is None else x * mask


class Replaceable(nn.Module):
    """A module whose training another function may compute, one that `backends` has proved equal; plain otherwise.

    trained_by: called with the module and its inputs while it trains; None: `plain`, as in eval mode.
    """

    trained_by: Callable[..., Any] | None = None

    def forward(self, *inputs: Any) -> Any:
        """What `plain` gives."""
        if self.training and self.trained_by is not None:
            return self.trained_by(self, *inputs)
        return self.plain(*inputs)

    def plain(self, *inputs: Any) -> Any:
        """The module's equations."""
        raise NotImplementedError


class Spiking(Replaceable):
    """SN: a LIF over the window, dropout after it (one mask for all steps of a sample, as in SpikingJelly).

    Silent on padded steps: no current arrives there, and neurons that would fire even so are told which these are.
    """

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.lif = LIF()
        self.dropout = SequenceDropout(dropout)

    def plain(self, current: Tensor, valid: Tensor) -> Tensor:
        """Spikes (T, B, N) for currents (T, B, N), zero on padded steps."""
        fired = self.lif(current, valid) if isinstance(self.lif, AdaptiveLIF) else self.lif(current)
        spikes: Tensor = self.dropout(fired)
        return spikes


class SpikingLayer(Spiking):
    """SN(BN(W x))."""

    def __init__(self, synapse: nn.Linear | TimeConv, dropout: float) -> None:
        super().__init__(dropout)
        self.current = Current(synapse)

    def plain(self, x: Tensor, valid: Tensor) -> Tensor:
        """Spikes (T, B, out) for spikes or values x (T, B, in)."""
        return super().plain(self.current(x, valid), valid)
