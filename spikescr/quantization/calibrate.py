"""Scales of a quantized network, from what its layers receive on recordings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from spikescr.dialect import MESSAGE, REGISTER
from spikescr.errors import ExportError, UsageError
from spikescr.model import Network
from spikescr.model.fixed import GroupScheme, first_current, message
from spikescr.model.recurrent import RecurrentLIF, a_step_late
from spikescr.quantization.scheme import Group, Scheme, groups
from spikescr.training.batches import Split

Criterion = Literal["range", "error"]
CRITERIA: tuple[Criterion, ...] = ("range", "error")
THETA = 4096
"""Units per threshold that are aimed at: finer ones change nothing that 8-bit weights could show."""
HEADROOM = 2.0
"""How much larger a current may become than the largest that was seen, before it wraps around."""
SHARES = tuple(0.2 + 0.8 * i / 24 for i in range(25))
"""Of the largest weight: what the criterion `error` tries as the end of the range."""
INPUT_SHARES = (0.5, 0.7, 0.85, 1.0, 1.5, 2.0, 3.0, 4.0)
"""Of the step with which the largest input is the last message: what it tries as a step of real inputs."""


@dataclass(frozen=True)
class Seen:
    """What a layer received and made of it: inputs x (T, B, in), its mask (T, B, 1), its largest current."""

    x: Tensor
    valid: Tensor
    largest: float


def calibrate(folded: Network, split: Split, *, criterion: Criterion, bits: Mapping[str, int], default: int) -> Scheme:
    """Chooses the scale of every layer.

    "range": the largest weight, and the largest input, are the end of the range. "error": the end, and the step of real
    inputs, are where the mean squared error of the layer's currents is least.

    Args:
        folded: a folded network, not changed.
        split: recordings of the training split.
        criterion: how scales are chosen.
        bits: patterns of layer names ("head" among them), and the bits of their weights.
        default: bits of all others.

    Raises:
        ExportError: the network cannot be quantized, or registers do not hold a layer's currents or biases.
        UsageError: a pattern fits no layer.
    """
    layer_groups = list(groups(folded))
    names = [group.name for group in layer_groups] + ["head"]
    for pattern in bits:
        if not any(fnmatch(name, pattern) for name in names):
            raise UsageError(f"{pattern}: no layer has such a name; there are {', '.join(names)}")

    def bits_of(name: str) -> int:
        return next((number for pattern, number in bits.items() if fnmatch(name, pattern)), default)

    seen = _observe(folded, layer_groups, split)
    first = first_current(folded)
    layers: dict[str, GroupScheme] = {}
    for g in layer_groups:
        if g.neurons is None:
            layers[g.name] = _layer(g, seen[g.name], criterion, bits_of(g.name), g.current is first)
        else:
            layers[g.name] = _among(g, seen[g.name], criterion, bits_of(g.name), layers[g.layer].theta)
    end = _end_of_head(folded.head.weight.detach(), seen["head"].x, bits_of("head"), criterion)
    scale = end / (2 ** (bits_of("head") - 1) - 1) / 2 ** (9 - bits_of("head"))
    return Scheme(layers, scale, bits_of("head"))


def _observe(folded: Network, layer_groups: list[Group], split: Split) -> dict[str, Seen]:
    seen: dict[str, Seen] = {}

    def keep(group: Group) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: tuple[Tensor, Tensor], current: Tensor) -> None:
            x, valid = inputs
            chosen = current[..., slice(*group.channels)]
            seen[group.name] = Seen(x, valid, float(chosen.abs().max()))

        return hook

    def keep_head(_module: nn.Module, inputs: tuple[Tensor], _logits: Tensor) -> None:
        seen["head"] = Seen(inputs[0], torch.ones(()), 0.0)

    def keep_among(group: Group) -> Callable[..., None]:
        def hook(neurons: RecurrentLIF, inputs: tuple[Tensor, Tensor], spikes: Tensor) -> None:
            current, valid = inputs
            largest = float(neurons.arriving(current, valid, spikes).abs().max())
            seen[group.name] = Seen(a_step_late(spikes) * valid, valid, largest)
            seen[group.layer] = replace(seen[group.layer], largest=largest)

        return hook

    handles = [
        group.current.register_forward_hook(keep(group))
        if group.neurons is None
        else group.neurons.register_forward_hook(keep_among(group))
        for group in layer_groups
    ]
    handles.append(folded.head.register_forward_hook(keep_head))
    x, steps, _ = split.batch(torch.arange(len(split)))
    try:
        with torch.inference_mode():
            folded(x.to(folded.head.weight.dtype), steps)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _layer(group: Group, seen: Seen, criterion: Criterion, bits: int, real_input: bool) -> GroupScheme:
    synapse, chosen = group.current.synapse, slice(*group.channels)
    assert synapse.bias is not None
    whole, bias = synapse.weight.detach(), synapse.bias.detach()
    weight, x = whole[chosen], seen.x if type(synapse) is nn.Linear else seen.x * seen.valid
    widest = float(x.abs().max()) / MESSAGE if real_input and bool((x != x.round()).any()) else None

    reach = bias[chosen].abs().max().item()
    room = min(REGISTER / max(HEADROOM * seen.largest, 1.0), MESSAGE * 2**8 / max(reach, 1e-9))
    if room < 2:  # units of a threshold
        raise ExportError(
            f"{group.name}: its currents reach {seen.largest:.3g} thresholds, its biases {reach:.3g}; registers hold "
            f"{REGISTER / (2 * HEADROOM):.3g} and {MESSAGE * 2**8 / 2:.3g}: has the training diverged?"
        )

    def scheme(end: float, step: float | None) -> GroupScheme:
        return _scheme(group.channels, bits, end, step, room, reach)

    largest = max(float(weight.abs().max()), 1e-12)
    if criterion == "range":
        return scheme(largest, widest)

    def currents(values: Tensor, x: Tensor) -> Tensor:
        put = whole.clone()
        put[chosen] = values
        made: Tensor = functional_call(synapse, {"weight": put, "bias": torch.zeros_like(bias)}, (x,))
        return made[..., chosen]

    wanted = currents(weight, x)

    def error(tried: GroupScheme) -> float:
        sent = x if tried.input_step is None else message(x, tried.input_step) * tried.input_step
        return float((currents(tried.weight_levels(weight) * tried.step * tried.scale, sent) - wanted).square().mean())

    steps = [None] if widest is None else [widest * share for share in INPUT_SHARES]
    with torch.inference_mode():
        return min((scheme(largest * share, step) for step in steps for share in SHARES), key=error)


def _among(group: Group, seen: Seen, criterion: Criterion, bits: int, theta: int) -> GroupScheme:
    """Of synapses among neurons, whose units are those of what comes from outside: the exponent alone is free."""
    weight = group.synapse.weight.detach()
    schemes = [GroupScheme(group.channels, bits, exponent, 0, theta) for exponent in range(8)]
    if criterion == "range":
        largest, most = float(weight.abs().max()), 2 ** (bits - 1) - 1
        return next((s for s in schemes if most * s.step * s.scale >= largest), schemes[-1])

    def error(tried: GroupScheme) -> float:
        change = tried.weight_levels(weight) * tried.step * tried.scale - weight
        return float((seen.x @ change.T).square().mean())

    return min(schemes, key=error)


def _scheme(
    channels: tuple[int, int], bits: int, end: float, input_step: float | None, room: float, bias: float
) -> GroupScheme:
    """The finest scheme whose levels reach to `end`, of at most `room` units in a threshold; bias: the largest.

    Where a threshold of fewer units has to do, levels are coarser than `end` asks for.
    """
    level = end / (2 ** (bits - 1) - 1) * (input_step or 1.0)  # of a current, for one unit of input
    exponent = max((e for e in range(8) if 2 ** (9 - bits + e) / level <= min(THETA, room)), default=0)
    theta = max(2, int(min(round(2 ** (9 - bits + exponent) / level), room)))
    bias_exponent = next(e for e in range(8) if round(bias * theta / 2 ** (1 + e)) <= 127)
    return GroupScheme(channels, bits, exponent, bias_exponent, theta, input_step)


def _end_of_head(weight: Tensor, sums: Tensor, bits: int, criterion: Criterion) -> float:
    """The largest weight that the head's levels reach; sums (T, B, N) are what it receives."""
    largest = max(float(weight.abs().max()), 1e-12)
    half = 2 ** (bits - 1)

    def error(end: float) -> float:
        level = end / (half - 1)
        change = (weight / level).round().clamp(-half, half - 1) * level - weight
        return float((sums @ change.T).square().mean())

    return largest if criterion == "range" else min((largest * share for share in SHARES), key=error)
