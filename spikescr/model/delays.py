"""LIF layers whose synapses learn a delay each (Hammouamri et al., ICLR 2024, arXiv 2306.17670)."""

from __future__ import annotations

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


class DelayedLinear(nn.Linear):
    """y[t] = sum_i w_ji x_i[t - d_ji + K // 2], each synapse with a delay d_ji of 0 to K - 1 steps.

    Training puts a Gaussian around each delay, of width `sigma` and sum 1, so that delays have gradients; evaluation
    rounds them to whole steps. Delays are learnt as `position` in [-1, 1], K // 2 (1 + position) steps: one learning
    rate then moves delays and weights at fitting speed. As for a centred convolution the output is K // 2 steps late
    when it is executed. No bias: a batch normalisation follows.
    """

    def __init__(self, inputs: int, outputs: int, taps: int) -> None:
        super().__init__(inputs, outputs, bias=False)
        self.taps = taps
        self.sigma = max(taps / 2, FINAL_SIGMA)
        self.position = nn.Parameter(torch.empty(outputs, inputs).uniform_(-1, 1))

    def delays(self) -> Tensor:
        """Whole steps (out, in), int64; float64 inside, so that a model in any precision has the same."""
        return (self.taps // 2 * (1 + self.position.detach().double().clamp(-1, 1))).round().long()

    def kernel(self) -> Tensor:
        """Weights by delay, (K, out, in)."""
        if not self.training:
            return self.weight * functional.one_hot(self.delays(), self.taps).movedim(-1, 0)
        with torch.no_grad():
            self.position.clamp_(-1, 1)
        return _Gaussians.apply(self.weight, self.position, self.taps, self.sigma)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, in) to (T, B, out); 0 before the first step and after the last."""
        if self.training:
            y = convolution(x, self.kernel())
        else:
            kernel = rearrange(self.kernel().flip(0), "k o i -> o i k")
            y = functional.conv1d(rearrange(x, "t b n -> b n t"), kernel, padding=self.taps // 2)
            y = rearrange(y, "b n t -> t b n")
        return y if self.bias is None else y + self.bias


class _Gaussians(torch.autograd.Function):
    """w_k = w g_k, where g_k is a Gaussian around K // 2 (1 + position) with sum 1 over the taps, whatever its width.

    With mean m = sum_k k g_k, dg_k / dcentre = g_k (k - m) / sigma^2: two sums over the taps are all that goes back.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, position: Tensor, taps: int, sigma: float) -> Tensor:
        half = taps // 2
        tap = torch.arange(taps, dtype=position.dtype, device=position.device)
        share = torch.softmax((tap[:, None, None] - half * (1 + position)).square_().mul_(-0.5 / sigma**2), dim=0)
        ctx.save_for_backward(weight, share)
        ctx.slope = half / sigma**2
        return weight * share

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor, None, None]:
        weight, share = ctx.saved_tensors
        taps = len(share)
        tap = torch.arange(taps, dtype=weight.dtype, device=weight.device)
        moments = torch.stack([torch.ones_like(tap), tap])
        by_weight, by_place = (moments @ (upstream[0] * share).view(taps, -1)).view(2, *weight.shape)
        mean = (tap @ share.view(taps, -1)).view_as(weight)
        return by_weight, ctx.slope * weight * (by_place - mean * by_weight), None, None


class DelayNetwork(Network):
    """Feed-forward layers of learnable delays, batch normalisation, LIF and dropout; a linear head at every step."""

    config: DelaysConfig

    def __init__(self, config: DelaysConfig) -> None:
        super().__init__(config)
        sizes = [config.inputs, *[config.width] * config.layers]
        self.layers = nn.ModuleList(
            SpikingLayer(DelayedLinear(inputs, outputs, config.taps), config.dropout)
            for inputs, outputs in pairwise(sizes)
        )
        self.head = nn.Linear(config.width, config.classes, bias=False)
        if config.neuron == "parametric":
            self._learn_membranes()

    def hidden(self, x: Tensor, valid: Tensor) -> Tensor:
        """Spikes (T, B, N) of the last layer."""
        for layer in self.layers:
            # Silent on padded steps already; the product keeps surrogate gradients from coming back through them.
            x = layer(x, valid) * valid
        return x

    def anneal(self, progress: float) -> None:
        """Narrows the Gaussians exponentially, from half the kernel to FINAL_SIGMA."""
        for module in self.modules():
            if isinstance(module, DelayedLinear):
                start = max(module.taps / 2, FINAL_SIGMA)
                module.sigma = start * (FINAL_SIGMA / start) ** min(1.0, progress / ANNEALED)
