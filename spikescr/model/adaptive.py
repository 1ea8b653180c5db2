"""Adaptive LIFs: what a neuron did makes it fire less, for a while (SiLIF, arXiv 2506.06374)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikescr.model.neuron import LIF, THRESHOLD

MEMBRANE = (0.6, 0.96)
ADAPTATION = (0.96, 0.99)
"""What is left of either state after a step, drawn between these at the start: the second forgets more slowly."""
LARGEST = {"by_membrane": 1.0, "by_spike": 2.0}
"""Bounds of a and b; both are 0 at least."""


@dataclass(frozen=True)
class Constants:
    """Of every neuron, (N,): what a step leaves of the membrane, what that takes of its input; left of w; a; b."""

    kept: Tensor
    gain: Tensor
    adaptation_kept: Tensor
    by_membrane: Tensor
    by_spike: Tensor


class AdaptiveLIF(LIF):
    """w[t] = b_w w[t-1] + a u[t-1] + b s[t-1]; u[t] = al (u[t-1] - s[t-1]) + (1 - al) (I[t] - w[t]); s = [u >= 1].

    al = exp(-exp(alpha + dt)) and so b_w; alpha, dt, a and b are learnt, for each neuron; both states begin at 0. The
    surrogate is that of LIF, and no gradient goes through the reset, the -al s[t-1] of the membrane. Once the network
    is folded al and b_w are numbers that NIR's forward Euler states exactly. Adaptation that fades would let it
    fire where no current arrives any more: padded steps are masked.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.membrane = nn.Parameter(_rate(width, *MEMBRANE))
        self.adaptation = nn.Parameter(_rate(width, *ADAPTATION))
        self.timestep = nn.Parameter(torch.zeros(width))
        self.by_membrane = nn.Parameter(torch.rand(width) * LARGEST["by_membrane"])
        self.by_spike = nn.Parameter(torch.rand(width) * LARGEST["by_spike"])
        self.tau: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
        self.dt = 0.0

    def fix(self, dt: float) -> None:
        """Time constants of both states in seconds, (N,), from now on; steps of `dt` seconds."""
        learnt = self.constants()
        kept, adaptation = (
            numbers.detach().cpu().double().numpy() for numbers in (learnt.kept, learnt.adaptation_kept)
        )
        self.tau, self.dt = (dt / (1.0 - kept), dt / (1.0 - adaptation)), dt

    def constants(self) -> Constants:
        """As learnt, or as fixed: 1 - dt / tau is kept and dt / tau the gain."""
        with torch.no_grad():
            for name, largest in LARGEST.items():
                self.get_parameter(name).clamp_(0.0, largest)
        if self.tau is None:
            kept, adaptation = (
                torch.exp(-torch.exp(rate + self.timestep)) for rate in (self.membrane, self.adaptation)
            )
            return Constants(kept, 1.0 - kept, adaptation, self.by_membrane, self.by_spike)
        membrane, adaptation = (torch.from_numpy(self.dt / tau).to(self.by_spike) for tau in self.tau)
        return Constants(1.0 - membrane, membrane, 1.0 - adaptation, self.by_membrane, self.by_spike)

    def forward(self, current: Tensor, valid: Tensor) -> Tensor:
        """Spikes (T, B, N) for currents (T, B, N) and the mask (T, B, 1), from silent states."""
        c = self.constants()
        constants = (c.kept, c.gain, c.adaptation_kept, c.by_membrane, c.by_spike)
        spikes: Tensor = _Window.apply(current, *constants, self.alpha)
        return spikes * valid

    def membranes(self, currents: NDArray[np.float64], spikes: NDArray[np.bool_], neuron: int) -> NDArray[np.float64]:
        """As in LIF; a membrane here is not reset, but pulled down in the next step."""
        c = self.constants()
        kept, gain, adaptation_kept, by_membrane, by_spike = (
            float(numbers.detach()[neuron]) for numbers in vars(c).values()
        )
        u = w = before = 0.0
        membranes = []
        for current, spike in zip(currents, spikes, strict=True):
            w = adaptation_kept * w + by_membrane * u + by_spike * before
            u = kept * (u - before) + gain * (float(current) - w)
            membranes.append(u)
            before = float(spike)
        return np.array(membranes)


class _Window(torch.autograd.Function):
    """All steps at once, and backwards, with g(u) the surrogate's slope, k and c what is kept of u and its gain.

    dL/du[t] = g(u[t]) (dL/ds[t] + b dL/dw[t+1]) + k dL/du[t+1] + a dL/dw[t+1], dL/dw[t] = b_w dL/dw[t+1] - c dL/du[t].
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        kept: Tensor,
        gain: Tensor,
        adaptation_kept: Tensor,
        by_membrane: Tensor,
        by_spike: Tensor,
        alpha: float,
    ) -> Tensor:
        us, ws, fired = torch.empty_like(x), torch.empty_like(x), torch.empty_like(x)
        u = w = spikes = torch.zeros_like(x[0])
        for x_t, u_t, w_t, s_t in zip(x.unbind(0), us.unbind(0), ws.unbind(0), fired.unbind(0), strict=True):
            # No fused multiply-add: what executes the network rounds in between.
            torch.mul(w, adaptation_kept, out=w_t).add_(u * by_membrane).add_(spikes * by_spike)
            torch.sub(u, spikes, out=u_t).mul_(kept).add_((x_t - w_t).mul_(gain))
            s_t.copy_(u_t >= THRESHOLD)
            u, w, spikes = u_t, w_t, s_t
        ctx.save_for_backward(x, us, ws, fired, kept, gain, adaptation_kept, by_membrane, by_spike)
        ctx.alpha = alpha
        return fired

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, us, ws, fired, kept, gain, adaptation_kept, by_membrane, by_spike = ctx.saved_tensors
        slope = ((us - THRESHOLD) * (math.pi / 2 * ctx.alpha)).square_().add_(1.0).reciprocal_().mul_(ctx.alpha / 2)
        dus, dws = torch.empty_like(x), torch.empty_like(x)
        du = dw = torch.zeros_like(x[0])
        steps = (array.flip(0).unbind(0) for array in (gradients[0], slope))
        for up, g, du_t, dw_t in zip(*steps, dus.unbind(0)[::-1], dws.unbind(0)[::-1], strict=True):
            torch.addcmul(up, by_spike, dw, out=du_t).mul_(g).addcmul_(kept, du).addcmul_(by_membrane, dw)
            torch.mul(dw, adaptation_kept, out=dw_t).addcmul_(gain, du_t, value=-1.0)
            du, dw = du_t, dw_t

        def over_window(of: Tensor, by: Tensor) -> Tensor:
            return (of * by).sum((0, 1))

        of_constants = (
            over_window(dus[1:], us[:-1] - fired[:-1]),
            over_window(dus, x - ws),
            over_window(dws[1:], ws[:-1]),
            over_window(dws[1:], us[:-1]),
            over_window(dws[1:], fired[:-1]),
        )
        return (dus * gain, *of_constants, None)


def _rate(width: int, least: float, most: float) -> Tensor:
    return torch.empty(width).uniform_(least, most).log().neg().log()
