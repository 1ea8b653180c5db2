"""Layers of SpikeSCR over windows (T, B, N) whose samples end at steps of their own.

Every current is zero on padded steps, so that no layer sees what follows a sample: neither batch statistics, nor
membranes, nor attention, nor convolutions (the public reference masks attention alone, and its predictions change
with the padding).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from spikescr.model import fused
from spikescr.model.neuron import LIF
from spikescr.model.statistics import Normalise, Statistics

EVERY = slice(None)


def _of(parameter: Tensor, channels: slice) -> Tensor:
    """Some channels of a parameter; itself where it is all of them, for a slice costs a copy going backward."""
    return parameter if channels == EVERY else parameter[channels]


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
        found = Statistics.of(x, steps, self.running_mean[channels], self.eps, self.over_processes)
        self.follow(found, EVERY, channels)
        return found

    def follow(self, found: Statistics, part: slice, channels: slice = EVERY) -> None:
        """Moves the running statistics of some channels towards a part of what a batch has."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        unbiased = found.variance[part] * (found.count / max(found.count - 1, 1))
        with torch.no_grad():
            self.running_mean[channels].lerp_(found.mean[part].to(self.running_mean), self.momentum)
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

    bf16: whether W x, where it is a matrix product, is computed in bfloat16 and cast back.
    """

    bf16 = False

    def __init__(self, synapse: nn.Linear | TimeConv) -> None:
        super().__init__()
        features = synapse.out_features if isinstance(synapse, nn.Linear) else synapse.out_channels
        self.synapse = synapse
        self.norm: SequenceBatchNorm | Masked = SequenceBatchNorm(features)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Currents (T, B, out) for spikes or values x (T, B, in)."""
        if type(self.synapse) is not nn.Linear:  # it reaches over steps
            x = x * valid  # silent there already; this keeps gradients from coming back through padded steps
        current: Tensor = self.norm(self._through_synapse(x), valid)
        return current

    def _through_synapse(self, x: Tensor) -> Tensor:
        """W x (T, B, out) for x (T, B, in)."""
        if not self.bf16 or getattr(self.synapse, "groups", 1) > 1:
            plain: Tensor = self.synapse(x)
            return plain
        with torch.autocast(x.device.type, torch.bfloat16):
            product: Tensor = self.synapse(x)
        return product.to(x.dtype)

    def product(self, x: Tensor, channels: slice = EVERY) -> Tensor:
        """W x of some output channels, (T, B, n); for a batch normalisation to follow, on a CPU."""
        synapse, weight = self.synapse, _of(self.synapse.weight, channels)
        bias = None if synapse.bias is None else _of(synapse.bias, channels)
        if type(synapse) is nn.Linear:
            product: Tensor = fused.Product.apply(x, weight, bias, self.bf16)
        elif type(synapse) is TimeConv and synapse.groups == 1:
            side = synapse.kernel_size[0] // 2
            padded = functional.pad(x, (0, 0, 0, 0, side, side))
            taps = torch.cat([padded[k : k + len(x)] for k in range(synapse.kernel_size[0])], dim=-1)
            product = fused.Product.apply(taps, rearrange(weight, "n c k -> n (k c)"), bias, self.bf16)
        elif (
            type(synapse) is TimeConv and synapse.groups == synapse.in_channels == synapse.out_channels and bias is None
        ):
            product = fused.Depthwise.apply(x[..., channels], weight)
        else:
            product = self._through_synapse(x)[..., channels]
        return product


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


class Spiking(nn.Module):
    """SN: a LIF over the window, dropout after it (one mask for all steps of a sample, as in SpikingJelly)."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.lif = LIF()
        self.dropout = SequenceDropout(dropout)

    def forward(self, current: Tensor) -> Tensor:
        """Spikes (T, B, N) for currents (T, B, N)."""
        if self.is_fused(current):
            return fire_together((self,), current)
        spikes: Tensor = self.dropout(self.lif(current))
        return spikes

    def is_fused(self, x: Tensor, *norms: nn.Module) -> bool:
        """Whether neurons, and what comes before them with these normalisations, are computed in one go."""
        plain = type(self.lif) is LIF and all(type(norm) is SequenceBatchNorm for norm in norms)
        return self.training and plain and fused.usable(x)

    def of(
        self, current: Current, x: Tensor, valid: Tensor, channels: slice = EVERY, gate: Tensor | None = None
    ) -> Tensor:
        """SN(BN(W x) gate) of some channels of W, fused: (T, B, n) for x (T, B, in) and a gate (T, B, n)."""
        norm, steps = current.norm, valid_steps(valid)
        assert isinstance(norm, SequenceBatchNorm)
        y = current.product(x, channels)
        statistics = norm.take_statistics(y, steps, channels)
        gamma, beta, mask = _of(norm.weight, channels), _of(norm.bias, channels), self.dropout.mask(y)
        spikes: Tensor = fused.Fire.apply(y, gamma, beta, gate, mask, steps, statistics)
        return spikes


def fire_together(neurons: Sequence[Spiking], current: Tensor) -> Tensor:
    """SN of neurons of equal width side by side, fused: spikes (T, B, n) for currents (T, B, n)."""
    steps = torch.full((current.shape[1],), len(current))
    spikes: Tensor = fused.Fire.apply(current, None, None, None, _masks(neurons, current), steps, None)
    return spikes


def _masks(neurons: Sequence[Spiking], x: Tensor) -> Tensor | None:
    """Masks of dropout (B, n), drawn one after the other; None where nothing is dropped."""
    masks = [one.dropout.mask(part) for one, part in zip(neurons, x.chunk(len(neurons), dim=-1), strict=True)]
    drawn = [mask for mask in masks if mask is not None]
    assert len(drawn) in {0, len(masks)}
    return torch.cat(drawn, dim=-1) if drawn else None


class SpikingLayer(Spiking):
    """SN(BN(W x))."""

    def __init__(self, synapse: nn.Linear | TimeConv, dropout: float) -> None:
        super().__init__(dropout)
        self.current = Current(synapse)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:  # type: ignore[override]
        """Spikes (T, B, out) for spikes or values x (T, B, in)."""
        if self.is_fused(x, self.current.norm):
            return self.of(self.current, x, valid)
        return super().forward(self.current(x, valid))


def layers_together(layers: Sequence[SpikingLayer], x: Tensor, valid: Tensor) -> Tensor:
    """SN(BN(W x)) of linear layers of equal width and input, side by side, fused: (T, B, n) for x (T, B, in)."""
    steps, currents = valid_steps(valid), [layer.current for layer in layers]
    norms = [current.norm for current in currents if isinstance(current.norm, SequenceBatchNorm)]
    means = [norm.running_mean for norm in norms if norm.running_mean is not None]
    assert len(means) == len(layers)
    weight, bias, gamma, beta = (
        torch.cat(parameters)
        for parameters in zip(
            *((c.synapse.weight, c.synapse.bias, n.weight, n.bias) for c, n in zip(currents, norms, strict=True)),
            strict=True,
        )
    )
    y = fused.Product.apply(x, weight, bias, currents[0].bf16)
    statistics = Statistics.of(y, steps, torch.cat(means), norms[0].eps, norms[0].over_processes)
    for i, norm in enumerate(norms):
        norm.follow(statistics, slice(i * norm.num_features, (i + 1) * norm.num_features))
    spikes: Tensor = fused.Fire.apply(y, gamma, beta, None, _masks(layers, y), steps, statistics)
    return spikes
