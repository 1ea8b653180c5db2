"""LIF layers whose synapses learn a delay each (Hammouamri et al., ICLR 2024, arXiv 2306.17670), or whose axons do."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from spikescr.model.layers import SpikingLayer
from spikescr.model.network import Network
from spikescr.model.spectral import convolution

if TYPE_CHECKING:
    from spikescr.model.config import DelaysConfig

FINAL_SIGMA = 0.5
"""Width of the Gaussians at the end, steps: nearly all of each is on the nearest step."""
ANNEALED = 0.25
"""Share of the training after which the Gaussians are as narrow as that."""


FAINTEST = math.log(1e-20)
"""A Gaussian's logarithm below which it counts as 0, far below what rounding leaves of a sum of 1. Narrow Gaussians
would be full of subnormal numbers else, and products with those take many times as long."""


class Delayed(nn.Linear):
    """Synapses that learn how late they are, 0 to K - 1 steps.

    Training puts a Gaussian around each delay, of width `sigma` and sum 1, so that delays have gradients; evaluation
    rounds them to whole steps. Delays are learnt as `position` in [-1, 1], K // 2 (1 + position) steps: one learning
    rate then moves delays and weights at fitting speed. As for a centred convolution the output is K // 2 steps late
    when it is executed. No bias: a batch normalisation follows.
    """

    def __init__(self, inputs: int, outputs: int, taps: int, *delayed: int) -> None:
        super().__init__(inputs, outputs, bias=False)
        self.taps = taps
        self.sigma = max(taps / 2, FINAL_SIGMA)
        self.settled = False
        self.position = nn.Parameter(torch.empty(*delayed).uniform_(-1, 1))

    def delays(self) -> Tensor:
        """Whole steps, int64, as `position` is laid out; float64 inside: a model in any precision has the same."""
        return (self.taps // 2 * (1 + self.position.detach().double().clamp(-1, 1))).round().long()

    def anneal(self, progress: float) -> None:
        """Narrows the Gaussians exponentially over the share ANNEALED of a training, from half the kernel."""
        start = max(self.taps / 2, FINAL_SIGMA)
        self.sigma = start * (FINAL_SIGMA / start) ** min(1.0, progress / ANNEALED)

    def settle(self) -> None:
        """Ends the learning of delays: whole steps from now on, in training too."""
        self.settled = True

    def take(self, delays: Tensor) -> None:
        """Puts whole steps (as `position` is laid out), 0 to K - 1, in the place of what was learnt."""
        half = self.taps // 2
        with torch.no_grad():
            self.position.copy_(delays / half - 1 if half else torch.zeros_like(self.position))

    @property
    def learns(self) -> bool:
        """Whether delays are Gaussians, that they have gradients."""
        return self.training and not self.settled

    def shares(self) -> Tensor:
        """What of a spike arrives after each delay, (K, *position); sum 1."""
        if not self.learns:
            return functional.one_hot(self.delays(), self.taps).movedim(-1, 0).to(self.position.dtype)
        with torch.no_grad():
            self.position.clamp_(-1, 1)
        return _Gaussians.apply(self.position, self.taps, self.sigma)


class DelayedLinear(Delayed):
    """y[t] = sum_i w_ji x_i[t - d_ji + K // 2]: each synapse has a delay of its own, `position` (out, in)."""

    def __init__(self, inputs: int, outputs: int, taps: int) -> None:
        super().__init__(inputs, outputs, taps, outputs, inputs)

    def kernel(self) -> Tensor:
        """Weights by delay, (K, out, in)."""
        return self.weight * self.shares()

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, in) to (T, B, out); 0 before the first step and after the last."""
        kernel = self.kernel()
        y = convolution(x, kernel) if self.learns else _centred(x, rearrange(kernel, "k o i -> o i k"))
        return y if self.bias is None else y + self.bias


class AxonalLinear(Delayed):
    """y[t] = sum_i w_ji x_i[t - d_i + K // 2]: each neuron that sends has a delay of its own, `position` (in,)."""

    def __init__(self, inputs: int, outputs: int, taps: int) -> None:
        super().__init__(inputs, outputs, taps, inputs)

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, in) to (T, B, out); 0 before the first step and after the last."""
        late = _centred(x, rearrange(self.shares(), "k n -> n 1 k"), groups=self.in_features)
        return functional.linear(late, self.weight, self.bias)


def _centred(x: Tensor, kernel: Tensor, groups: int = 1) -> Tensor:
    """sum_k kernel[..., k] x[t - k + K // 2]; x (T, B, in), kernel (out, in / groups, K)."""
    taps = kernel.shape[-1]
    y = functional.conv1d(rearrange(x, "t b n -> b n t"), kernel.flip(-1), padding=taps // 2, groups=groups)
    return rearrange(y, "b n t -> t b n")


class _Gaussians(torch.autograd.Function):
    """g_k, a Gaussian around K // 2 (1 + position) with sum 1 over the taps, whatever its width.

    With mean m = sum_k k g_k, dg_k / dcentre = g_k (k - m) / sigma^2: two sums over the taps are all that goes back.
    """

    @staticmethod
    def forward(ctx: Any, position: Tensor, taps: int, sigma: float) -> Tensor:
        centre = taps // 2 * (1 + position)
        tap = _taps(taps, position).view(-1, *[1] * position.ndim)
        exponent = (tap - centre).square_().mul_(-0.5 / sigma**2)
        exponent = functional.threshold(exponent, FAINTEST, -math.inf, inplace=True)
        share = torch.softmax(exponent, dim=0)
        ctx.save_for_backward(share)
        ctx.slope = taps // 2 / sigma**2
        return share

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        (share,) = ctx.saved_tensors
        tap = _taps(len(share), share)
        part = (upstream[0] * share).view(len(share), -1)
        mean = tap @ share.view(len(share), -1)
        return (ctx.slope * (tap @ part - mean * part.sum(0))).view(share.shape[1:]), None, None


def _taps(taps: int, like: Tensor) -> Tensor:
    return torch.arange(taps, dtype=like.dtype, device=like.device)


class DelayNetwork(Network):
    """Feed-forward layers of learnable delays, batch normalisation, LIF and dropout; a linear head at every step."""

    config: DelaysConfig

    def __init__(self, config: DelaysConfig) -> None:
        super().__init__(config)
        sizes = [config.inputs, *[config.width] * config.layers]
        synapses = AxonalLinear if config.delays == "axonal" else DelayedLinear
        self.layers = nn.ModuleList(
            SpikingLayer(synapses(inputs, outputs, config.taps), config.dropout) for inputs, outputs in pairwise(sizes)
        )
        self.head = nn.Linear(config.width, config.classes, bias=False)
        self._take_neurons(config.neuron)

    def hidden(self, x: Tensor, valid: Tensor) -> Tensor:
        """Spikes (T, B, N) of the last layer."""
        for layer in self.layers:
            # Silent on padded steps already; the product keeps surrogate gradients from coming back through them.
            x = layer(x, valid) * valid
        return x

    def anneal(self, progress: float) -> None:
        """Narrows the Gaussians of all layers."""
        for module in self.modules():
            if isinstance(module, Delayed):
                module.anneal(progress)
