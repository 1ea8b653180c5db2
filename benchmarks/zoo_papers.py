"""The energy that papers print for their networks: firing rate x T x FLOPs of every layer.

Zhou et al., Spikformer (arXiv 2209.15425), also for SEW ResNet there, and Zhou et al., QKFormer (arXiv 2403.16552):

    SOP(l) = fr(l) T FLOPs(l)
    E = E_MAC FLOPs(first convolution) + E_AC (sum of SOP over the other convolutions, linear layers and attentions)

Yao et al., Spike-driven Transformer (arXiv 2307.01694, table 1): the same of every layer; fr is the share of non-zero
elements of what arrives, and the attention, masks and sums, takes fr N D. FLOPs are multiply-accumulates: k k h w c c'
of a convolution, c c' of a linear layer; N N D of each of the two products of softmax-free attention. E_MAC is 4.6 pJ,
E_AC 0.9 pJ (45 nm). What the papers leave open is chosen so: fr of an attention is the mean over its operands.

Evaluated on the module itself, in PyTorch, with nothing of the simulator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.layer import QKAttention, SpikeDrivenSelfAttention, SpikingSelfAttention
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

E_MAC, E_AC = 4.6e-12, 0.9e-12
PAPERS = {
    "model.spikformer": "Spikformer (Zhou et al. 2023)",
    "model.sew_resnet": "SEW ResNet (as in Zhou et al. 2023)",
    "model.spike_driven_transformer": "Spike-driven Transformer (Yao et al. 2023)",
    "model.qkformer": "QKFormer (Zhou et al. 2024)",
}
"""Origins of networks whose papers print an energy."""


@dataclass
class Formula:
    """What the formula charges, per sample: MAC of the first convolution, and SOP of everything else."""

    mac: float = 0.0
    sop: float = 0.0

    @property
    def joules(self) -> float:
        """Energy per sample."""
        return E_MAC * self.mac + E_AC * self.sop


@dataclass
class _Meter:
    samples: int
    formula: Formula = field(default_factory=Formula)
    started: bool = False

    def synapses(self, module: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> None:
        """A convolution or a linear layer; `result` holds all samples and all steps."""
        (x,) = given
        weight: Any = module.weight
        fan_in = weight[0].numel()
        total = fan_in * result.numel() / self.samples  # T FLOPs
        if not self.started:  # a static image is convolved once for all steps in the formula
            self.started = True
            one = result[0, 0] if result.ndim == 5 else result[0]  # (T, B, C, H, W) or (T B, C, H, W)
            self.formula.mac += fan_in * one.numel()
            return
        self.formula.sop += float((x != 0).float().mean()) * total

    def attention(self, module: nn.Module, spikes: dict[str, Tensor]) -> None:
        rates = float(torch.stack([(s != 0).float().mean() for s in spikes.values()]).mean())
        steps, _, _, *tokens = next(iter(spikes.values())).shape
        n = int(torch.tensor(tokens).prod())
        if isinstance(module, SpikingSelfAttention):
            self.formula.sop += rates * steps * 2 * n * n * module.dim
        else:
            self.formula.sop += rates * steps * n * module.dim


def evaluate(net: nn.Module, run: Callable[[], object], samples: int) -> Formula:
    """The formula on one pass of a network over some samples.

    Args:
        net: in eval mode, multi-step.
        run: the pass.
        samples: how many it takes.
    """
    meter, handles = _Meter(samples), []

    def operands(attention: nn.Module, names: tuple[str, ...]) -> None:
        spikes: dict[str, Tensor] = {}

        def keep(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
            return lambda _module, _given, result: spikes.update({name: result.detach()})

        handles.extend(attention.get_submodule(name).register_forward_hook(keep(name)) for name in names)
        handles.append(attention.register_forward_hook(lambda module, _given, _result: meter.attention(module, spikes)))

    for module in net.modules():
        if isinstance(module, _ConvNd | nn.Linear):
            handles.append(module.register_forward_hook(meter.synapses))
        elif isinstance(module, SpikingSelfAttention):
            operands(module, ("qkv_lif",))
        elif isinstance(module, QKAttention):
            operands(module, ("qk_lif",))
        elif isinstance(module, SpikeDrivenSelfAttention):
            operands(module, ("q_lif", "k_lif", "v_lif"))
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
        functional.reset_net(net)
    return meter.formula
