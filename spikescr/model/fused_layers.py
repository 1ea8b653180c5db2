"""Layers whose training a CPU computes in one go; their plain equations are in `layers`, `blocks` and `rotary`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from spikescr.model.adaptive import AdaptiveLIF
from spikescr.model.attention import CausalProduct
from spikescr.model.blocks import SpikingGatedConvolution, SpikingSelfAttention
from spikescr.model.fused import Adapt, Depthwise, Fire, Product, Rotation, Streaming
from spikescr.model.layers import EVERY, Current, SequenceBatchNorm, Spiking, SpikingLayer, TimeConv, valid_steps
from spikescr.model.neuron import LIF
from spikescr.model.rotary import Rotary
from spikescr.model.statistics import Statistics


def fused(module: nn.Module) -> Callable[..., Any] | None:
    """What computes a module's training in one go (`Replaceable.trained_by`), None where nothing does.

    Layers of plain or adaptive LIFs behind plain batch normalisation alone: no learnt membranes, nothing folded, no
    integers.
    """
    kind = type(module)
    if isinstance(module, Spiking) and type(module.lif) is AdaptiveLIF:
        if kind is Spiking:
            return adaptive_neurons
        return adaptive_layer if isinstance(module, SpikingLayer) and _is_plain(module.current.norm) else None
    if kind not in _LAYERS or not all(map(_is_plain, _needed(module))):
        return None
    return _LAYERS[kind]


def _needed(module: nn.Module) -> list[nn.Module | None]:
    """What must be plain for a module to be fused: neurons, normalisations, a rotation."""
    needed: list[nn.Module | None] = []
    if isinstance(module, Spiking):
        needed = [module.lif]
        if isinstance(module, SpikingLayer):
            needed.append(module.current.norm)
    elif isinstance(module, SpikingSelfAttention):
        needed = [module.rotary]
        if module.rotary is not None:
            for layer in (module.q, module.k, module.v, module.q_rotated, module.k_rotated):
                needed += _needed(layer)
    elif isinstance(module, SpikingGatedConvolution):
        needed = [module.gated.lif, module.split.norm, *([module.gate_in.lif] if module.gating_unit else [])]
    return needed


def _is_plain(module: nn.Module | None) -> bool:
    return type(module) in {LIF, SequenceBatchNorm, Rotary}


def neurons(spiking: Spiking, current: Tensor, _valid: Tensor) -> Tensor:
    """SN: spikes (T, B, N) for currents (T, B, N), zero on padded steps."""
    return _fire((spiking,), current)


def layer(spiking: SpikingLayer, x: Tensor, valid: Tensor) -> Tensor:
    """SN(BN(W x)), (T, B, out) for x (T, B, in)."""
    return _normalised(spiking, spiking.current, x, valid)


def adaptive_neurons(spiking: Spiking, current: Tensor, valid: Tensor) -> Tensor:
    """SN with adaptive LIFs."""
    lif = spiking.lif
    assert isinstance(lif, AdaptiveLIF)
    spikes: Tensor = Adapt.apply(current, valid_steps(valid), lif.alpha, *vars(lif.constants()).values())
    dropped: Tensor = spiking.dropout(spikes)
    return dropped


def adaptive_layer(spiking: SpikingLayer, x: Tensor, valid: Tensor) -> Tensor:
    """SN(BN(W x)) with adaptive LIFs."""
    current = spiking.current
    current.note(x, valid, current.synapse.weight)
    return adaptive_neurons(spiking, current.norm(product(current, x), valid), valid)


def rotate(rotary: Rotary, x: Tensor, heads: int) -> Tensor:
    """R x (T, B, heads * D)."""
    return _rotate_first(rotary, x, heads)[0]


def attention(ssa: SpikingSelfAttention, x: Tensor, valid: Tensor) -> Tensor:
    """SSA with rotary positions; queries, keys and values are one product and one LIF."""
    assert ssa.rotary is not None
    spikes = _side_by_side((ssa.q, ssa.k, ssa.v), x, valid)
    turned, v = _rotate_first(ssa.rotary, spikes, 2 * ssa.heads)
    rotated = _fire((ssa.q_rotated, ssa.k_rotated), turned)
    return ssa.attend(*rotated.unflatten(-1, (2, -1)).unbind(-2), v, valid=valid)


def causal_product(module: CausalProduct, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Q (K^T V) of what came until then, (T, B, N)."""
    product: Tensor = Streaming.apply(q, k, v, module.heads)
    return product


def convolution(sgc: SpikingGatedConvolution, x: Tensor, valid: Tensor) -> Tensor:
    """SGC; the gating unit's two halves of a product are never put together."""
    local = sgc.depthwise(sgc.pointwise(x, valid), valid)
    if not sgc.gating_unit:
        return _normalised(sgc.gated, sgc.split, local, valid)
    width = local.shape[-1]
    gate = sgc.gate(_normalised(sgc.gate_in, sgc.split, local, valid, slice(width, None)), valid)
    return _normalised(sgc.gated, sgc.split, local, valid, slice(0, width), gate)


def product(current: Current, x: Tensor, channels: slice = EVERY) -> Tensor:
    """W x of some output channels, (T, B, n), for a batch normalisation to follow: the gradient of a bias is 0."""
    synapse, weight = current.synapse, _share(current.synapse.weight, channels)
    bias = None if synapse.bias is None else _share(synapse.bias, channels)
    if type(synapse) is nn.Linear:
        result: Tensor = Product.apply(x, weight, bias, current.bf16)
    elif type(synapse) is TimeConv and synapse.groups == 1:
        side = synapse.kernel_size[0] // 2
        padded = functional.pad(x, (0, 0, 0, 0, side, side))
        taps = torch.cat([padded[k : k + len(x)] for k in range(synapse.kernel_size[0])], dim=-1)
        result = Product.apply(taps, rearrange(weight, "n c k -> n (k c)"), bias, current.bf16)
    elif type(synapse) is TimeConv and synapse.groups == synapse.in_channels == synapse.out_channels and bias is None:
        result = Depthwise.apply(x[..., channels], weight)
    else:
        result = current.through_synapse(x)[..., channels]
    return result


def _share(parameter: Tensor, channels: slice) -> Tensor:
    """Some channels of a parameter; itself where it is all of them, for a slice costs a copy going backward."""
    return parameter if channels == EVERY else parameter[channels]


def _normalised(
    spiking: Spiking, current: Current, x: Tensor, valid: Tensor, channels: slice = EVERY, gate: Tensor | None = None
) -> Tensor:
    """SN(BN(W x) gate) of some channels of W: (T, B, n) for x (T, B, in) and a gate (T, B, n)."""
    norm, steps = current.norm, valid_steps(valid)
    assert isinstance(norm, SequenceBatchNorm)
    current.note(x, valid, _share(current.synapse.weight, channels))
    y = product(current, x, channels)
    statistics = norm.take_statistics(y, steps, channels)
    gamma, beta, mask = _share(norm.weight, channels), _share(norm.bias, channels), spiking.dropout.mask(y)
    spikes: Tensor = Fire.apply(y, gamma, beta, gate, mask, steps, statistics, spiking.lif.alpha)
    return spikes


def _fire(layers: Sequence[Spiking], current: Tensor) -> Tensor:
    """SN of neurons of equal width side by side: spikes (T, B, n) for currents (T, B, n)."""
    steps = torch.full((current.shape[1],), len(current))
    spikes: Tensor = Fire.apply(current, None, None, None, _masks(layers, current), steps, None, layers[0].lif.alpha)
    return spikes


def _side_by_side(layers: Sequence[SpikingLayer], x: Tensor, valid: Tensor) -> Tensor:
    """SN(BN(W x)) of linear layers of equal width and input, side by side: (T, B, n) for x (T, B, in)."""
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
    currents[0].note(x, valid, weight)
    y = Product.apply(x, weight, bias, currents[0].bf16)
    statistics = Statistics.from_batch(y, steps, torch.cat(means), norms[0].eps, norms[0].over_processes)
    for i, norm in enumerate(norms):
        norm.follow(statistics, slice(i * norm.num_features, (i + 1) * norm.num_features))
    spikes: Tensor = Fire.apply(y, gamma, beta, None, _masks(layers, y), steps, statistics, layers[0].lif.alpha)
    return spikes


def _masks(layers: Sequence[Spiking], x: Tensor) -> Tensor | None:
    """Masks of dropout (B, n), drawn one after the other; None where nothing is dropped."""
    masks = [one.dropout.mask(part) for one, part in zip(layers, x.chunk(len(layers), dim=-1), strict=True)]
    drawn = [mask for mask in masks if mask is not None]
    assert len(drawn) in {0, len(masks)}
    return torch.cat(drawn, dim=-1) if drawn else None


def _rotate_first(rotary: Rotary, x: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """The first heads of x (T, B, N) rotated, shape (T, B, heads * D), and what is left of x."""
    by_step = (torch.from_numpy(table).to(x).repeat(1, heads) for table in rotary.tables(len(x)))
    turned, rest = Rotation.apply(x, *by_step)
    return turned, rest


_LAYERS: dict[type[nn.Module], Callable[..., Any]] = {
    Spiking: neurons,
    SpikingLayer: layer,
    Rotary: rotate,
    CausalProduct: causal_product,
    SpikingSelfAttention: attention,
    SpikingGatedConvolution: convolution,
}
