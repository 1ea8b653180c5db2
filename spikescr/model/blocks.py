"""The parts of an SGLE block: spiking self-attention, MLP, and the separable convolution with its gating unit."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from spikescr.model.config import ModelConfig
from spikescr.model.layers import Current, Spiking, SpikingLayer, TimeConv
from spikescr.model.rotary import Rotary


class SpikingSelfAttention(nn.Module):
    """SSA: SN(BN(SN(s Q K^T V) Wo)) with Q = SN(R SN(BN(X Wq))), K alike, V = SN(BN(X Wv)), s = 1 / sqrt(D).

    No softmax, so Q (K^T V) is the same; products of spikes are integers and exact in either order. Positions attend
    to the valid positions of their own sample (padded ones are silent).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.scale = (config.width // config.heads) ** -0.5
        self.q, self.k, self.v, self.out = (
            SpikingLayer(nn.Linear(config.width, config.width), config.dropout) for _ in range(4)
        )
        self.rotary = Rotary(config.width // config.heads)
        self.q_rotated = Spiking(config.dropout)
        self.k_rotated = Spiking(config.dropout)
        self.attention = Spiking(config.dropout)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Spikes (T, B, N) for integer sums of spikes x (T, B, N)."""

        def by_head(spikes: Tensor) -> Tensor:
            return rearrange(spikes, "t b (h d) -> b h t d", h=self.heads)

        q = by_head(self.q_rotated(self.rotary(self.q(x, valid), self.heads)))
        k = by_head(self.k_rotated(self.rotary(self.k(x, valid), self.heads)))
        v = by_head(self.v(x, valid))
        attended = self.scale * (q @ (k.transpose(-1, -2) @ v))
        spikes: Tensor = self.attention(rearrange(attended, "b h t d -> t b (h d)"))
        out: Tensor = self.out(spikes, valid)
        return out


class MLP(nn.Module):
    """SN(BN(Linear N -> rN)), SN(BN(Linear rN -> N)), no bias (BN has one)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden = config.mlp_ratio * config.width
        self.expand = SpikingLayer(nn.Linear(config.width, hidden, bias=False), config.dropout)
        self.contract = SpikingLayer(nn.Linear(hidden, config.width, bias=False), config.dropout)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Spikes (T, B, N) for integer sums of spikes x (T, B, N)."""
        out: Tensor = self.contract(self.expand(x, valid), valid)
        return out


class SpikingGatedConvolution(nn.Module):
    """SGC: pointwise, depthwise over time, pointwise to 2N, then the gating unit and a LIF.

    The gating unit splits the current of 2N into U (value) and G (gate): U * SN(BN(W SN(G))). The gate is binary:
    it passes or blocks a current, nothing is multiplied.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        self.pointwise = SpikingLayer(nn.Linear(width, width), config.dropout)
        self.depthwise = SpikingLayer(TimeConv(width, width, config.kernel, groups=width, bias=False), config.dropout)
        self.split = Current(nn.Linear(width, 2 * width))
        self.gate_in = Spiking(config.dropout)
        self.gate = SpikingLayer(nn.Linear(width, width), config.dropout)
        self.gated = Spiking(config.dropout)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Spikes (T, B, N) for integer sums of spikes x (T, B, N)."""
        local = self.depthwise(self.pointwise(x, valid), valid)
        if self.gated.is_fused(local, self.split.norm) and self.gate_in.is_fused(local):
            width = local.shape[-1]
            opened = self.gate(self.gate_in.of(self.split, local, valid, slice(width, None)), valid)
            return self.gated.of(self.split, local, valid, slice(0, width), gate=opened)
        value, gate = self.split(local, valid).chunk(2, dim=-1)
        spikes: Tensor = self.gated(value * self.gate(self.gate_in(gate), valid))
        return spikes


class SGLE(nn.Module):
    """One block: x + SSA(x), + MLP1, + SGC, + MLP2; sums of spikes, small integers."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.ssa = SpikingSelfAttention(config)
        self.mlp1 = MLP(config)
        self.sgc = SpikingGatedConvolution(config)
        self.mlp2 = MLP(config)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Integer sums of spikes (T, B, N) for such sums x (T, B, N)."""
        for part in (self.ssa, self.mlp1, self.sgc, self.mlp2):
            x = torch.add(x, part(x, valid))
        return x
