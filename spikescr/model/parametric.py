"""A LIF that learns its membrane constant, one per layer (parametric LIF, arXiv 2007.05785)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from spikescr.model.neuron import LIF, TAU, THRESHOLD, through_window


class _WindowParametricLIF(torch.autograd.Function):
    """All steps at once: h[t] = a v[t-1] + x[t]; s[t] = h[t] >= 1; v[t] = h[t] (1 - s[t]).

    Backward as that of the LIF, and dL/da = sum over t of dL/dh[t] v[t-1].
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, v: Tensor, decay: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
        h, before = torch.empty_like(x), torch.empty_like(x)
        for x_t, h_t, before_t in zip(x.unbind(0), h.unbind(0), before.unbind(0), strict=True):
            before_t.copy_(v)
            torch.mul(v, decay, out=h_t)  # not one fused multiply-add: what executes the network rounds in between
            h_t.add_(x_t)
            v = h_t.masked_fill(h_t >= THRESHOLD, 0.0)
        fired = h >= THRESHOLD
        ctx.save_for_backward(h, before, fired, decay)
        ctx.alpha = alpha
        ctx.mark_non_differentiable(v)
        return fired.to(x.dtype), v

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor, None]:
        h, before, fired, decay = ctx.saved_tensors
        gradient = through_window(h - THRESHOLD, fired, decay, gradients[0], ctx.alpha)
        return gradient, None, (gradient * before).sum(), None


class ParametricLIF(LIF):
    """Multi-step LIF with tau = 1 / sigmoid(w), w learnt: h[t] = (1 - sigmoid(w)) v[t-1] + x[t]; else as LIF.

    The same neuron as SpikingJelly's ParametricLIFNode(init_tau=2, decay_input=False). Once the network is folded a
    fixed coefficient takes the place of 1 - sigmoid(w), one that a NIR file can state.
    """

    def __init__(self) -> None:
        super().__init__()
        self.w: nn.Parameter | None = nn.Parameter(torch.tensor(-math.log(TAU - 1.0)))
        self.fixed_decay: float | None = None

    @property
    def decay(self) -> float:
        """What is left of the membrane after a step."""
        return float(self._decay().detach()) if self.fixed_decay is None else self.fixed_decay

    def fix_decay(self, decay: float) -> None:
        """Ends the learning: `decay` from now on."""
        self.fixed_decay = decay
        self.w = None

    def multi_step_functional_forward(
        self, inputs: tuple[Tensor, ...], states: tuple[object, ...], **kwargs: object
    ) -> tuple[tuple[Tensor, ...], tuple[object, ...]]:
        """Spikes (T, B, N) and last membrane (B, N) for currents (T, B, N) and the membrane before; as in LIF."""
        (x_seq,), (v,) = inputs, states
        assert isinstance(v, Tensor)
        decay = self._decay() if self.fixed_decay is None else x_seq.new_tensor(self.fixed_decay)
        spikes, v = _WindowParametricLIF.apply(x_seq, v.detach(), decay, self.alpha)
        return (spikes,), (v,)

    def _decay(self) -> Tensor:
        assert self.w is not None
        return 1.0 - torch.sigmoid(self.w)
