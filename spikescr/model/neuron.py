"""The LIF neuron of SpikeSCR over a whole window, lean: SpikingJelly's spikes and gradients in one autograd step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor, nn

from spikescr.model import kernels

TAU = 2.0
THRESHOLD = 1.0
ALPHA = 5.0  # sharpness of the arc tangent surrogate, where a training chooses no other


class Window(Protocol):
    """Computes a LIF over a window; gradients flow through the spikes to the currents, not through the membranes."""

    def __call__(self, x: Tensor, v: Tensor, alpha: float = ALPHA) -> tuple[Tensor, Tensor]:
        """Spikes (T, B, N), membrane (B, N) for currents (T, B, N), the membrane before (B, N), sharpness."""
        ...


def through_window(
    away: Tensor, fired: Tensor, decay: float | Tensor, upstream: Tensor, alpha: float = ALPHA
) -> Tensor:
    """Gradients of currents back through the steps of a window, reset detached.

    dL/dx[t] = dL/ds[t] g(u[t]) + decay (1 - s[t]) dL/dx[t+1], with g(u) = alpha / 2 / (1 + (pi / 2 alpha u)^2), the
    derivative of SpikingJelly's ATan.

    Args:
        away: u, membranes before the reset less the threshold (T, B, N), in thresholds; is overwritten.
        fired: s (T, B, N), bool.
        decay: what a step leaves of a membrane.
        upstream: dL/ds (T, B, N).
        alpha: sharpness of the surrogate.

    Returns:
        dL/dx (T, B, N), in the memory of `away`.
    """
    slope = away.mul_(math.pi / 2 * alpha).square_().add_(1.0).reciprocal_().mul_(alpha / 2)
    gradient = slope.mul_(upstream)
    keep = (~fired).to(gradient.dtype).mul_(decay)
    by_step = gradient.unbind(0)
    for earlier, later, kept in zip(by_step[-2::-1], by_step[:0:-1], keep.unbind(0)[-2::-1], strict=True):
        earlier.addcmul_(kept, later)
    return gradient


class _WindowLIF(torch.autograd.Function):
    """All steps at once: h[t] = v[t-1] / 2 + x[t]; s[t] = h[t] >= 1; v[t] = h[t] (1 - s[t])."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, v: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
        h = torch.empty_like(x)
        decay = 1.0 - 1.0 / TAU
        for x_t, h_t in zip(x.unbind(0), h.unbind(0), strict=True):
            torch.add(x_t, v, alpha=decay, out=h_t)
            v = h_t.masked_fill(h_t >= THRESHOLD, 0.0)
        fired = h >= THRESHOLD
        ctx.save_for_backward(h, fired)
        ctx.alpha = alpha
        ctx.mark_non_differentiable(v)
        return fired.to(x.dtype), v

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        h, fired = ctx.saved_tensors
        return through_window(h - THRESHOLD, fired, 1.0 - 1.0 / TAU, gradients[0], ctx.alpha), None, None


class _CompiledLIF(torch.autograd.Function):
    """The same on a CPU, compiled; h is computed again when going backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, v: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
        x, before = x.contiguous(), v.contiguous()
        v, spikes, lengths = before.clone(), torch.empty_like(x), _whole(x)
        kernels.run(kernels.fire_forward, x.shape[1], x, None, None, None, v, None, lengths, spikes)
        ctx.save_for_backward(x, before)
        ctx.alpha = alpha
        ctx.mark_non_differentiable(v)
        return spikes, v

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        x, v = ctx.saved_tensors
        out, sums = torch.empty_like(x), (2, x.shape[2])
        arguments = (
            x,
            None,
            None,
            None,
            v,
            None,
            _whole(x),
            None,
            None,
            ctx.alpha,
            gradients[0].contiguous(),
            out,
            None,
        )
        kernels.run(kernels.fire_backward, x.shape[1], *arguments, sums=sums)
        return out, None, None


def _whole(x: Tensor) -> Tensor:
    return torch.full((x.shape[1],), len(x))


def own_window(x: Tensor, v: Tensor, alpha: float = ALPHA) -> tuple[Tensor, Tensor]:
    """Ours, a `Window`: compiled on a CPU, else step by step."""
    compiled = x.device.type == "cpu" and x.dtype in {torch.float32, torch.float64} and x.ndim == 3
    spikes, v = (_CompiledLIF if compiled else _WindowLIF).apply(x, v.detach(), alpha)
    return spikes, v


def soften(model: nn.Module, alpha: float) -> None:
    """Sets the sharpness of all surrogates in a network; its spikes stay what they are."""
    for module in model.modules():
        if isinstance(module, LIF):
            module.alpha = alpha
            module.surrogate_function = surrogate.ATan(alpha=alpha)


class LIF(neuron.LIFNode):
    """Multi-step LIF, hard reset: tau 2, no input decay, threshold 1, ATan(5) surrogate, reset detached.

    The same neuron as SpikingJelly's LIFNode with these arguments (spikes identical, gradients equal up to rounding),
    without its per-step Python overhead. Input current (T, B, N), output spikes (T, B, N). The state `v` (B, N)
    carries over between calls until `reset()`, but gradients do not flow through it.
    window: what computes it in float32, with its own sharpness; `backends` chooses. alpha: sharpness of the surrogate,
    for training alone.
    """

    window: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    alpha: float = ALPHA

    def __init__(self) -> None:
        super().__init__(
            tau=TAU,
            decay_input=False,
            v_threshold=THRESHOLD,
            v_reset=0.0,
            surrogate_function=surrogate.ATan(alpha=ALPHA),
            detach_reset=True,
            step_mode="m",
        )
        self.window = own_window

    @property
    def decay(self) -> float:
        """What is left of the membrane after a step."""
        return 1.0 - 1.0 / TAU

    def membranes(self, currents: NDArray[np.float64], spikes: NDArray[np.bool_], neuron: int) -> NDArray[np.float64]:
        """Membrane (T,) of one neuron in float64, after each update and before the reset, from what it got and did.

        Args:
            currents: what it received (T,).
            spikes: whether it fired (T,).
            neuron: its number; neurons of a layer may differ.
        """
        v, membranes = 0.0, []
        for current, spike in zip(currents, spikes, strict=True):
            v = v * self.decay + float(current)
            membranes.append(v)
            v = 0.0 if spike else v
        return np.array(membranes)

    def multi_step_functional_forward(
        self, inputs: tuple[Tensor, ...], states: tuple[object, ...], **kwargs: object
    ) -> tuple[tuple[Tensor, ...], tuple[object, ...]]:
        """Spikes and last membrane for a window of currents, without side effects.

        Args:
            inputs: currents (T, B, N), alone.
            states: membrane before the window (B, N), alone.
            kwargs: none; the signature is SpikingJelly's.

        Returns:
            Spikes, 0 or 1, (T, B, N); membrane after the window (B, N).
        """
        (x_seq,), (v,) = inputs, states
        assert isinstance(v, Tensor)
        if self.window is own_window or x_seq.dtype != torch.float32:
            spikes, v = own_window(x_seq, v.detach(), self.alpha)
        else:
            spikes, v = self.window(x_seq, v.detach())
        return (spikes,), (v,)
