"""Networks in plain PyTorch around SpikingJelly's stock neurons, which benchmarks measure against."""

from __future__ import annotations

import torch
from einops import rearrange
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor, nn

from spikescr.model import Current, SequenceBatchNorm, SpikeSCR
from spikescr.model.layers import Spiking
from spikescr.model.rotary import Rotary, rotary_table


class StockNorm(SequenceBatchNorm):
    """PyTorch's batch normalisation; recordings are full-length, so there is nothing to mask."""

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Normalises x (T, B, N)."""
        return nn.BatchNorm1d.forward(self, x.flatten(0, 1)).view_as(x)


def stock_neuron(device: torch.device, loop: bool = True) -> neuron.LIFNode:
    """SpikingJelly's neuron as the paper has it; loop: through the steps in PyTorch where there are kernels too."""
    atan = surrogate.ATan(alpha=5.0)

    def unknown(u: Tensor) -> Tensor:
        """The same function; for one that it does not know, SpikingJelly has no kernels."""
        spikes: Tensor = atan(u)
        return spikes

    return neuron.LIFNode(
        tau=2.0,
        decay_input=False,
        v_threshold=1.0,
        v_reset=0.0,
        detach_reset=True,
        step_mode="m",
        surrogate_function=unknown if loop and device.type == "cuda" else atan,
    )


class StockSpiking(nn.Module):
    """SpikingJelly's neuron, and dropout with one mask for all steps."""

    def __init__(self, ours: Spiking, lif: neuron.LIFNode) -> None:
        super().__init__()
        self.lif = lif
        self.dropout = ours.dropout
        self.current = getattr(ours, "current", None)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Spikes (T, B, N) for currents, or for what a synapse receives."""
        spikes: Tensor = self.dropout(self.lif(x if self.current is None else self.current(x, valid)))
        return spikes


class StockRotary(Rotary):
    """The rotation in plain PyTorch."""

    def forward(self, x: Tensor, heads: int) -> Tensor:
        """Rotated x (T, B, N)."""
        tables = rotary_table(len(x), self.head_width)
        cos, sin = (torch.from_numpy(table).to(x)[:, None, None, :] for table in tables)
        even, odd = rearrange(x, "t b (h i p) -> p t b h i", h=heads, p=2)
        turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
        return rearrange(turned, "t b h i p -> t b (h i p)")


def stock(model: SpikeSCR, loop: bool = True) -> SpikeSCR:
    """A copy of the network in plain PyTorch around stock neurons."""
    copy, device = SpikeSCR(model.config), device_of(model)
    for module in list(copy.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Spiking):
                setattr(module, name, StockSpiking(child, stock_neuron(device, loop)))
            elif isinstance(child, Rotary):
                setattr(module, name, StockRotary(child.head_width))
    for module in copy.modules():
        if isinstance(module, Current):
            module.norm = StockNorm(module.norm.num_features)
    copy.load_state_dict(model.state_dict())
    return copy.to(device)


def device_of(model: SpikeSCR) -> torch.device:
    """Where it is."""
    return next(model.parameters()).device
