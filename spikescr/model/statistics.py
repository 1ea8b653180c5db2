"""Statistics of a batch over its valid steps, in one process or over all that share the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

from spikescr.model import kernels


@dataclass(frozen=True, eq=False)
class Statistics:
    """count: valid steps, M. mean, rate: of the channels (N,), rate = 1 / sqrt(var + eps). variance: float64."""

    count: float
    mean: Tensor
    variance: Tensor
    rate: Tensor
    over_processes: bool

    @staticmethod
    def from_batch(x: Tensor, lengths: Tensor, centre: Tensor, eps: float, over_processes: bool) -> Statistics:
        """Of x (T, B, N), steps before each sample's length (B,).

        Sums are taken in float64 of the distance from `centre` (N,), which must be the same in all processes and
        better be near the mean; one sum over processes is all that they exchange.
        """
        centre = centre.to(x.dtype)
        if x.device.type == "cpu":
            arguments = (x.contiguous(), centre, lengths)
            sums = torch.from_numpy(kernels.run(kernels.moments, x.shape[1], *arguments, sums=(2, x.shape[2])))
        else:
            valid = torch.arange(len(x), device=x.device)[:, None, None] < lengths[:, None]
            distance = torch.where(valid, x.detach() - centre, 0.0)
            sums = torch.stack([part.sum((0, 1), dtype=torch.float64) for part in (distance, distance.square())])
        count = lengths.sum()
        if over_processes:
            exchanged = torch.cat((sums.flatten(), count[None].double()))
            distributed.all_reduce(exchanged)
            sums, count = exchanged[:-1].view(2, -1), exchanged[-1]
        total = float(count)
        first, second = sums / total
        variance = (second - first.square()).clamp_(min=0.0)
        mean, rate = centre.double() + first, torch.rsqrt(variance + eps)
        return Statistics(total, mean.to(x.dtype), variance, rate.to(x.dtype), over_processes)

    def affine(self, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        """a, b with which a x + b is the normalised x."""
        scale = gamma.detach() * self.rate
        return scale, beta.detach() - self.mean * scale

    def over_all(self, sums: Tensor) -> Tensor:
        """Sums (2, N) of all processes."""
        if self.over_processes:
            sums = sums.clone()
            distributed.all_reduce(sums)
        return sums

    def backward_affine(self, scale: Tensor, sums: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """a, b, c with which a dc + b x + c is the gradient of x; sums (2, N): of dc, and of dc (x - mean) rate."""
        dbeta, dgamma = sums.to(scale.device) / self.count
        wide, mean, rate = scale.double(), self.mean.double(), self.rate.double()
        b = -wide * rate * dgamma
        return scale, b.to(scale.dtype), (-wide * dbeta - b * mean).to(scale.dtype)


class Normalise(torch.autograd.Function):
    """BN(x) = gamma (x - mean) r + beta on valid steps, 0 after them; the backward equations are `fused.Fire`'s."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, valid: Tensor, statistics: Statistics) -> Tensor:
        """x (T, B, N), valid (T, B, 1)."""
        scale, shift = statistics.affine(gamma, beta)
        ctx.save_for_backward(x, scale, valid)
        ctx.statistics = statistics
        return (x * scale).add_(shift).mul_(valid)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, gamma, beta."""
        x, scale, valid = ctx.saved_tensors
        statistics: Statistics = ctx.statistics
        dc = upstream * valid
        normalised = (x - statistics.mean).mul_(statistics.rate)
        own = torch.stack([part.sum((0, 1), dtype=torch.float64) for part in (dc, normalised.mul_(dc))])
        a, b, c = statistics.backward_affine(scale, statistics.over_all(own))
        dbeta, dgamma = own.to(x.dtype)
        return (dc * a).add_(x * b).add_(c).mul_(valid), dgamma, dbeta, None, None
