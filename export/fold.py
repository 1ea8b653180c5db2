"""Folding: batch normalisation becomes part of the Linear or convolution before it."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from spikescr.errors import ExportError
from spikescr.export.membrane import membrane
from spikescr.model import Current, Masked, Network, SequenceBatchNorm
from spikescr.model.adaptive import AdaptiveLIF
from spikescr.model.parametric import ParametricLIF

# The base class of all batch normalisations, also of those that a user may have put into the model.
BATCH_NORM = nn.modules.batchnorm._BatchNorm


AnyNetwork = TypeVar("AnyNetwork", bound=Network)


def fold(model: AnyNetwork, dt: float | None = None) -> AnyNetwork:
    """A copy of the model in float64 and eval mode, without batch normalisation.

    For every Current, BN(W x + b) = gamma (W x + b - mean) / sqrt(var + eps) + beta becomes W' x + b' with
    W' = W gamma / sqrt(var + eps) per output channel and b' = (b - mean) gamma / sqrt(var + eps) + beta. What is
    left of the normalisation is its mask: padded steps stay zero. Membrane constants that were learnt become fixed
    ones, the nearest that NIR can state exactly.

    Args:
        model: in any mode and precision; it is not changed.
        dt: seconds per step of the export; only learnt membrane constants need it.

    Returns:
        The folded model: every Current has a bias and a Masked for a norm; no batch normalisation is anywhere.

    Raises:
        ExportError: a batch normalisation cannot be folded (it has no running statistics, or stands where no Linear
            or convolution precedes it), or dt is needed and not given; the message names the module.
    """
    folded = copy.deepcopy(model).double().eval()
    for name, module in folded.named_modules():
        if isinstance(module, Current) and isinstance(module.norm, BATCH_NORM):
            _fold_current(name, module)
        elif isinstance(module, ParametricLIF) and module.w is not None:
            if dt is None:
                raise ExportError(f"{name}: has learnt its membrane constant; folding it needs dt, seconds per step")
            module.fix_decay(membrane(module.decay, dt).decay)
        elif isinstance(module, AdaptiveLIF) and module.tau is None:
            if dt is None:
                raise ExportError(f"{name}: has learnt its time constants; folding it needs dt, seconds per step")
            module.fix(dt)
    for name, module in folded.named_modules():
        if isinstance(module, BATCH_NORM):
            raise ExportError(
                f"{name}: this {type(module).__name__} cannot be folded, no Linear or convolution of its own precedes "
                "it; put it into a Current"
            )
    return folded


def _fold_current(name: str, current: Current) -> None:
    norm = current.norm
    if not isinstance(norm, SequenceBatchNorm):
        raise ExportError(f"{name}.norm: cannot fold {type(norm).__name__}; use SequenceBatchNorm")
    if norm.running_mean is None or norm.running_var is None:
        raise ExportError(f"{name}.norm: has no running statistics to fold; set track_running_stats=True and train")
    scale: Tensor = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight.detach()
    synapse = current.synapse
    origin = ("batch_norm",) if synapse.bias is None else ("bias", "batch_norm")
    bias = torch.zeros_like(norm.running_mean) if synapse.bias is None else synapse.bias.detach()
    bias = (bias - norm.running_mean) * scale
    if norm.bias is not None:
        bias = bias + norm.bias.detach()
    weight = synapse.weight.detach()
    synapse.weight = nn.Parameter(weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), requires_grad=False)
    synapse.bias = nn.Parameter(bias, requires_grad=False)
    current.norm = Masked(*origin)
