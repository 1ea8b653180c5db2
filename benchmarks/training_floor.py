"""Below what a training step cannot come on a machine: its products and what must move, at rates measured there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from spikescr.model import SequenceBatchNorm

NEURON_COPIES = 3.0
"""Of a layer's activations: forward the current is read, spikes and membranes are written; backward the gradient and
the membranes are read, and a gradient is written. Six accesses; a copy is two."""
NORM_COPIES = 1.5
"""Its moments read the input once, their gradients the input and the gradient; all else can go with the neurons."""


@dataclass(frozen=True)
class Floor:
    """What a step needs, and what the machine does in a second.

    Attributes:
        macs: Multiply-accumulates of all products, forward and backward (counted by torch).
        moved: Bytes, read or written.
        macs_per_s: At which a layer's product goes.
        bytes_per_s: At which a copy goes, read plus written.
    """

    macs: int
    moved: float
    macs_per_s: float
    bytes_per_s: float

    @property
    def seconds(self) -> float:
        """One after the other."""
        return self.macs / self.macs_per_s + self.moved / self.bytes_per_s


def floor(plain: nn.Module, step: Callable[[], None], rows: int, width: int, device: torch.device) -> Floor:
    """The floor of a step of a network in plain PyTorch, by its threads.

    Args:
        plain: with SpikingJelly's neurons, and PyTorch's own products.
        step: of it, forward and backward.
        rows: steps times samples.
        width: channels of its layers.
        device: of both.
    """
    entries = {neuron.LIFNode: 0, SequenceBatchNorm: 0}

    def count(module: nn.Module, _inputs: object, output: Tensor) -> None:
        entries[next(kind for kind in entries if isinstance(module, kind))] += output.numel()

    hooks = [m.register_forward_hook(count) for m in plain.modules() if isinstance(m, tuple(entries))]
    with FlopCounterMode(display=False) as counter:
        step()
    for hook in hooks:
        hook.remove()
    counts = {str(operation): flops for operation, flops in counter.get_flop_counts()["Global"].items()}
    # Of grouped convolutions torch counts the way back as if they had no groups; it is twice the way forward.
    backward = counts.pop("aten.convolution_backward", None)
    flops = sum(counts.values()) + (0 if backward is None else 2 * counts["aten.convolution"])
    copies = NEURON_COPIES * entries[neuron.LIFNode] + NORM_COPIES * entries[SequenceBatchNorm]
    x, weight = torch.randn(rows, width, device=device), torch.randn(width, width, device=device)
    y = torch.empty_like(x)
    product = _fastest(lambda: torch.mm(x, weight, out=y), device)
    copied = _fastest(lambda: y.copy_(x), device)
    return Floor(flops // 2, 8 * copies, x.numel() * width / product, 8 * x.numel() / copied)


def _fastest(work: Callable[[], object], device: torch.device) -> float:
    times = []
    for _ in range(10):
        begin = _now(device)
        work()
        times.append(_now(device) - begin)
    return min(times)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
