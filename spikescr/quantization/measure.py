"""What quantizing does to a network, layer by layer: rounding, clipping, saturation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from spikescr.model import Network
from spikescr.model.fixed import FixedHead, FixedLIF
from spikescr.quantization.scheme import Scheme, groups


@dataclass(frozen=True)
class LayerReport:
    """A layer's weights in integers.

    Attributes:
        layer: Its name.
        weights: How many.
        bits: Of a weight.
        exponent: Of its scheme.
        theta: Of its scheme; None for the head.
        clipped: Weights beyond the range.
        zeroed: Weights other than 0 that became 0.
        error: Root mean square of what rounding and clipping change, as a share of that of the weights.
    """

    layer: str
    weights: int
    bits: int
    exponent: int
    theta: int | None
    clipped: int
    zeroed: int
    error: float


def layer_reports(folded: Network, scheme: Scheme) -> list[LayerReport]:
    """Of every layer, the head last; `folded` holds the weights before quantizing."""
    reports = []
    for group in groups(folded):
        s, weight = scheme.layers[group.name], group.synapse.weight.detach()[slice(*group.channels)]
        levels, level = s.weight_levels(weight), s.scale * s.step
        reports.append(_report(group.name, weight, levels, level, s.bits, s.exponent, s.theta))
    head = FixedHead(folded.head, scheme.head_scale, scheme.head_bits)
    level = scheme.head_scale * head.step
    reports.append(_report("head", folded.head.weight.detach(), head.levels().detach(), level, head.bits, 0, None))
    return reports


def _report(
    name: str, weight: Tensor, levels: Tensor, level: float, bits: int, exponent: int, theta: int | None
) -> LayerReport:
    half = 2 ** (bits - 1)
    unclipped = (weight / level).round()
    return LayerReport(
        layer=name,
        weights=weight.numel(),
        bits=bits,
        exponent=exponent,
        theta=theta,
        clipped=int(((unclipped < -half) | (unclipped > half - 1)).sum()),
        zeroed=int(((levels == 0) & (weight != 0)).sum()),
        error=float(torch.linalg.vector_norm(levels * level - weight) / torch.linalg.vector_norm(weight)),
    )


def saturations(model: Network) -> Mapping[str, int]:
    """Of every layer of neurons: currents that wrapped and membranes that were cut since the network was made."""
    return {name: module.saturated for name, module in model.named_modules() if isinstance(module, FixedLIF)}
