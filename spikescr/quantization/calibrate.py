"""Scales of a quantised network, from what its layers receive on recordings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from spikescr.errors import UsageError
from spikescr.model import Network, TimeConv
from spikescr.model.fixed import MESSAGE, GroupScheme, message
from spikescr.quantization.scheme import REGISTER, Group, Scheme, groups
from spikescr.training.batches import Split

Criterion = Literal["range", "error"]
CRITERIA: tuple[Criterion, ...] = ("range", "error")
THETA = 4096
"""Units per threshold that are aimed at: finer ones change nothing that 8-bit weights could show."""
HEADROOM = 2.0
"""How much larger a current may become than the largest that was seen, before it wraps around."""
SHARES = torch.linspace(0.2, 1.0, 33).tolist()
"""Of the largest weight: what the criterion `error` tries as the end of the range."""


@dataclass(frozen=True)
class Seen:
    """What a layer received and made of it: inputs x (T, B, in), its mask (T, B, 1), its largest current."""

    x: Tensor
    valid: Tensor
    largest: float


def calibrate(folded: Network, split: Split, *, criterion: Criterion, bits: Mapping[str, int], default: int) -> Scheme:
    """Chooses the scale of every layer.

    "range": the largest weight, and the largest input, are the end of the range. "error": the end is where the mean
    squared error of the layer's currents, of its input, is least.

    Args:
        folded: a folded network, not changed.
        split: recordings of the training split.
        criterion: how scales are chosen.
        bits: patterns of layer names ("head" among them), and the bits of their weights.
        default: bits of all others.

    Raises:
        ExportError: the network cannot be quantised.
        UsageError: a pattern fits no layer.
    """
    found = list(groups(folded))
    names = [group.name for group in found] + ["head"]
    for pattern in bits:
        if not any(fnmatch(name, pattern) for name in names):
            raise UsageError(f"{pattern}: no layer has such a name; there are {', '.join(names)}")

    def bits_of(name: str) -> int:
        return next((number for pattern, number in bits.items() if fnmatch(name, pattern)), default)

    seen = _observe(folded, found, split)
    layers = {g.name: _layer(g, seen[g.name], criterion, bits_of(g.name), g.name == "sem") for g in found}
    head = seen["head"]
    weight = folded.head.weight.detach()
    end = _end(
        weight, bits_of("head"), criterion, lambda error: functional_call(folded.head, {"weight": error}, head.x)
    )
    scale = end / (2 ** (bits_of("head") - 1) - 1) / 2 ** (9 - bits_of("head"))
    return Scheme(layers, scale, bits_of("head"))


def _observe(folded: Network, found: list[Group], split: Split) -> dict[str, Seen]:
    seen: dict[str, Seen] = {}

    def keep(group: Group) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: tuple[Tensor, Tensor], current: Tensor) -> None:
            x, valid = inputs
            chosen = current[..., slice(*group.channels)]
            seen[group.name] = Seen(x, valid, float(chosen.abs().max()))

        return hook

    def keep_head(_module: nn.Module, inputs: tuple[Tensor], _logits: Tensor) -> None:
        seen["head"] = Seen(inputs[0], torch.ones(()), 0.0)

    handles = [group.current.register_forward_hook(keep(group)) for group in found]
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
    weight, assert_bias = synapse.weight.detach(), synapse.bias
    assert assert_bias is not None
    bias = assert_bias.detach()[chosen].abs().max().item()
    x = seen.x * seen.valid if type(synapse) is TimeConv else seen.x
    step = _input_step(x, criterion) if real_input and x.is_floating_point() and bool((x != x.round()).any()) else None
    if step is not None:
        x = message(x, step) * step

    def currents(error: Tensor) -> Tensor:
        whole = torch.zeros_like(weight)
        whole[chosen] = error
        made: Tensor = functional_call(synapse, {"weight": whole, "bias": torch.zeros_like(assert_bias)}, (x,))
        return made[..., chosen]

    end = _end(weight[chosen], bits, criterion, currents)
    level = end / (2 ** (bits - 1) - 1) * (step or 1.0)  # of a current, in thresholds, for one unit of input
    # A current of so many thresholds must not wrap, and a bias must fit into 8 bits with an exponent of at most 7.
    room = min(REGISTER / max(HEADROOM * seen.largest, 1.0), 127 * 2**8 / max(bias, 1e-9))
    exponent = max((e for e in range(8) if 2 ** (9 - bits + e) / level <= min(THETA, room)), default=0)
    theta = max(2, int(min(round(2 ** (9 - bits + exponent) / level), room)))
    bias_exponent = next(e for e in range(8) if round(bias * theta / 2 ** (1 + e)) <= 127)
    return GroupScheme(group.channels, bits, exponent, bias_exponent, theta, step)


def _input_step(x: Tensor, criterion: Criterion) -> float:
    """What one unit of a real input stands for."""
    largest = float(x.abs().max())
    if criterion == "range":
        return largest / MESSAGE
    steps = [largest / MESSAGE * share for share in SHARES]
    return min(steps, key=lambda step: float((message(x, step) * step - x).square().mean()))


def _end(weight: Tensor, bits: int, criterion: Criterion, currents: Callable[[Tensor], Tensor]) -> float:
    """The largest weight that levels reach; `currents` gives what a change of the weights changes in the currents."""
    largest = max(float(weight.abs().max()), 1e-12)
    if criterion == "range":
        return largest
    half = 2 ** (bits - 1)

    def error(end: float) -> float:
        level = end / (half - 1)
        with torch.inference_mode():
            return float(currents((weight / level).round().clamp(-half, half - 1) * level - weight).square().mean())

    return min((largest * share for share in SHARES), key=error)
