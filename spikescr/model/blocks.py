"""The parts of an SGLE block: spiking self-attention, MLP, and the separable convolution with its gating unit."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from spikescr.model.attention import CausalProduct
from spikescr.model.config import CommanderConfig, ModelConfig
from spikescr.model.layers import Current, Replaceable, Spiking, SpikingLayer, TimeConv
from spikescr.model.rotary import Rotary


class SpikingSelfAttention(Replaceable):
    """SSA: SN(BN(SN(s Q K^T V) Wo)) with Q = SN(R SN(BN(X Wq))), K alike, V = SN(BN(X Wv)), s = 1 / sqrt(D).

    Without rotary positions Q = SN(BN(X Wq)) and K alike. No softmax, so Q (K^T V) is the same; products of spikes are
    integers and exact in either order. Positions attend to the valid positions of their own sample (padded ones are
    silent): to all of them, or with causal attention to those up to their own.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.scale = (config.width // config.heads) ** -0.5
        self.q, self.k, self.v, self.out = (
            SpikingLayer(nn.Linear(config.width, config.width), config.dropout) for _ in range(4)
        )
        self.rotary: Rotary | None = None
        if config.position == "rotary":
            self.rotary = Rotary(config.width // config.heads)
            self.q_rotated = Spiking(config.dropout)
            self.k_rotated = Spiking(config.dropout)
        self.causal = CausalProduct(config.heads) if config.attention == "causal" else None
        self.attention = Spiking(config.dropout)

    def plain(self, x: Tensor, valid: Tensor) -> Tensor:
        """Spikes (T, B, N) for integer sums of spikes x (T, B, N)."""
        q, k, v = (layer(x, valid) for layer in (self.q, self.k, self.v))
        if self.rotary is not None:
            q, k = self.q_rotated(self.rotary(q, self.heads), valid), self.k_rotated(self.rotary(k, self.heads), valid)
        return self.attend(q, k, v, valid=valid)

    def attend(self, *queries_keys_values: Tensor, valid: Tensor) -> Tensor:
        """Spikes (T, B, N) for spikes Q, K, V (T, B, N)."""
        if self.causal is not None:
            return self._out(self.scale * self.causal(*queries_keys_values), valid)
        q, k, v = (rearrange(spikes, "t b (h d) -> b h t d", h=self.heads) for spikes in queries_keys_values)
        attended = self.scale * (q @ (k.transpose(-1, -2) @ v))
        return self._out(rearrange(attended, "b h t d -> t b (h d)"), valid)

    def _out(self, attended: Tensor, valid: Tensor) -> Tensor:
        out: Tensor = self.out(self.attention(attended, valid), valid)
        return out


class MLP(nn.Module):
    """SN(BN(Linear N -> rN)), SN(BN(Linear rN -> N)), no bias (BN has one)."""

    def __init__(self, config: ModelConfig | CommanderConfig) -> None:
        super().__init__()
        hidden = config.mlp_ratio * config.width
        self.expand = SpikingLayer(nn.Linear(config.width, hidden, bias=False), config.dropout)
        self.contract = SpikingLayer(nn.Linear(hidden, config.width, bias=False), config.dropout)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Spikes (T, B, N) for integer sums of spikes x (T, B, N)."""
        out: Tensor = self.contract(self.expand(x, valid), valid)
        return out


class SpikingGatedConvolution(Replaceable):
    """SGC: pointwise, depthwise over time, pointwise to 2N, then the gating unit and a LIF.

    The gating unit splits the current of 2N into U (value) and G (gate): U * SN(BN(W SN(G))). The gate is binary:
    it passes or blocks a current, nothing is multiplied. Without it the last pointwise layer has N outputs, which go to
    that LIF as they are.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        self.pointwise = SpikingLayer(nn.Linear(width, width), config.dropout)
        self.depthwise = SpikingLayer(TimeConv(width, width, config.kernel, groups=width, bias=False), config.dropout)
        self.gating_unit = config.gating_unit
        self.split = Current(nn.Linear(width, 2 * width if config.gating_unit else width))
        if config.gating_unit:
            self.gate_in = Spiking(config.dropout)
            self.gate = SpikingLayer(nn.Linear(width, width), config.dropout)
        self.gated = Spiking(config.dropout)

    def plain(self, x: Tensor, valid: Tensor) -> Tensor:
        """Spikes (T, B, N) for integer sums of spikes x (T, B, N)."""
        local = self.depthwise(self.pointwise(x, valid), valid)
        value: Tensor = self.split(local, valid)
        if self.gating_unit:
            value, gate = value.chunk(2, dim=-1)
            value = value * self.gate(self.gate_in(gate, valid), valid)
        spikes: Tensor = self.gated(value, valid)
        return spikes


class SGLE(nn.Module):
    """One block: x + SSA(x), + MLP1, + SGC (None: left out), + MLP2; sums of spikes, small integers."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.ssa = SpikingSelfAttention(config)
        self.mlp1 = MLP(config)
        self.sgc = SpikingGatedConvolution(config) if config.separable_convolution else None
        self.mlp2 = MLP(config)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Sums (T, B, N) for sums of spikes x (T, B, N), integers unless position encodings are among them."""
        for part in (self.ssa, self.mlp1, self.sgc, self.mlp2):
            if part is not None:
                x = torch.add(x, part(x, valid))
        return x
