"""SpikCommander (arXiv 2511.07883): attention as sums over time that gate values, beside a convolution.

Where the equations leave a choice open, the simplest that has the published numbers of parameters (190,664 of
1L-8-128 with 20 classes, 2.13 M of 2L-16-256 with ratio 4 and 35):

- Biases: those of the linear layers of queries, keys and values. The first number leaves room for three of N channels;
  which layers have them changes nothing, for a batch normalisation follows each.
- SCR-MLP: its second linear layer leads from a N channels back to N.
- Convolution of the values: as images of H channels, time by the D positions within a head; no bias, no normalisation.
- T_max is a number of the network (`window`), not the longest recording of a batch: results are not to depend on that.
- Without SEE the embedding is LIF(BN(W x)); without SCR-MLP an MLP as SpikeSCR's takes its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from spikescr.model.blocks import MLP
from spikescr.model.layers import Masked, Spiking, SpikingLayer, TimeConv
from spikescr.model.network import Network
from spikescr.model.neuron import LIF, own_window

if TYPE_CHECKING:
    from spikescr.model.config import CommanderConfig

HALF_THRESHOLD = 0.5
"""Of a LIF with threshold 1 that starts at, decays to and is reset to 0.5, counted from there."""
LOOKAHEAD = 20
"""w, steps that local attention sees of what came and of what comes."""


class ShiftedLIF(LIF):
    """The LIF with threshold 1 and v_reset 0.5, counted from 0.5: threshold 0.5, start and reset 0.

    gain: what its current is multiplied by. Membranes are computed in thresholds: doubled, which rounds nothing.
    """

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.v_threshold = HALF_THRESHOLD
        self.gain = gain

    def multi_step_functional_forward(
        self, inputs: tuple[Tensor, ...], states: tuple[object, ...], **kwargs: object
    ) -> tuple[tuple[Tensor, ...], tuple[object, ...]]:
        """As in LIF; the state is the membrane in thresholds."""
        (x,), (v,) = inputs, states
        assert isinstance(v, Tensor)
        # ATan(alpha) of u is ATan(alpha / 2) of 2 u, gradients included.
        spikes, v = own_window(x * self.gain / HALF_THRESHOLD, v.detach(), self.alpha * HALF_THRESHOLD)
        return (spikes,), (v,)

    def membranes(self, currents: NDArray[np.float64], spikes: NDArray[np.bool_], neuron: int) -> NDArray[np.float64]:
        """As in LIF, of currents before the gain."""
        return super().membranes(currents * self.gain, spikes, neuron)


class OneStepLIF(ShiftedLIF):
    """One step of the ShiftedLIF for a whole sample, which lets its values through or not.

    What a value meets is the sum, and a threshold without memory: g[t] = [gain sum v[t] >= 0.5].
    """

    def forward(self, total: Tensor, values: Tensor) -> Tensor:
        """Spikes (T, B, N) for sums over the recording (B, N) and spikes (T, B, N)."""
        passed: Tensor = self.surrogate_function(total * self.gain - HALF_THRESHOLD) * values
        return passed

    @property
    def decay(self) -> float:
        """Nothing is left: every step has a threshold alone."""
        return 0.0

    def arriving(self, total: Tensor, values: Tensor, _spikes: Tensor) -> Tensor:
        """What a neuron of every step gets (T, B, N)."""
        return total * values


class HeadConvolution(nn.Module):
    """DWConv2d(PWConv2d(v)) of images of H channels, time by D positions within a head; zero-padded, no bias."""

    def __init__(self, heads: int, depth: int, across: int) -> None:
        super().__init__()
        self.heads, self.depth = heads, depth
        self.pointwise = nn.Conv2d(heads, heads, 1, bias=False)
        self.depthwise = nn.Conv2d(heads, heads, (9, across), padding=(4, across // 2), groups=heads, bias=False)

    def forward(self, v: Tensor) -> Tensor:
        """Currents (T, B, N) for spikes (T, B, N)."""
        image = rearrange(v, "t b (h d) -> b h t d", h=self.heads)
        return rearrange(self.depthwise(self.pointwise(image)), "b h t d -> t b (h d)")

    def kernel(self) -> Tensor:
        """Both as one convolution over time: (N, N, 9), as of a Conv1d."""
        depth, reach = self.depth, self.depthwise.kernel_size[1] // 2
        # taps[h, g, k, j]: from position d + j - reach of head g to d of head h.
        taps = self.depthwise.weight[:, 0, None] * self.pointwise.weight
        whole = taps.new_zeros(self.heads, depth, self.heads, depth, 9)
        for to in range(depth):
            for j in range(2 * reach + 1):
                source = to + j - reach
                if 0 <= source < depth:
                    whole[:, to, :, source] = taps[..., j]
        return whole.flatten(2, 3).flatten(0, 1)


class Embedding(nn.Module):
    """SEE: x = SN(BN(DW7(PW(x)))); x + SN(BN(W x))."""

    def __init__(self, config: CommanderConfig) -> None:
        super().__init__()
        self.pointwise = nn.Linear(config.inputs, config.width, bias=False)
        self.depthwise = _layer(TimeConv(config.width, config.width, 7, groups=config.width, bias=False), config)
        self.linear = _linear(config.width, config.width, config)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Sums of spikes (T, B, N) for input (T, B, C)."""
        x = self.depthwise(self.pointwise(x), valid)
        return torch.add(x, self.linear(x, valid))


class MultiScaleAttention(nn.Module):
    """MSTASA: q, k, v = SN(BN(W x)); SN(BN(Wp(SN(BN(Wm(local + global))) + conv))).

    local: SN(s sum over |j| <= w of (q + k)[t + j]) v[t], s = 1 / sqrt(D (2 w + 1)). global: as OneStepLIF, of the sum
    over the recording and s = 1 / sqrt(D T_max). conv: SN(HeadConvolution(v)).
    """

    def __init__(self, config: CommanderConfig) -> None:
        super().__init__()
        width, depth = config.width, config.width // config.heads
        self.first = _neurons(config) if config.spiking_input else None
        summing = config.local_attention or config.global_attention
        self.q = _linear(width, width, config, bias=True) if summing else None
        self.k = _linear(width, width, config, bias=True) if summing else None
        self.v = _linear(width, width, config, bias=True)
        self.masked = Masked()
        self.near = _neurons(config, (depth * (2 * LOOKAHEAD + 1)) ** -0.5) if config.local_attention else None
        self.far = _neurons(config) if config.global_attention else None
        if self.far is not None:
            self.far.lif = OneStepLIF((depth * config.window) ** -0.5)
        self.mixed = _linear(width, width, config) if summing else None
        self.filter = HeadConvolution(config.heads, depth, config.across) if config.convolution else None
        self.filtered = _neurons(config) if config.convolution else None
        self.out = _linear(width, width, config)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Spikes (T, B, N) for integer sums of spikes x (T, B, N)."""
        if self.first is not None:
            x = self.first(x, valid)
        v = self.v(x, valid)
        parts = []
        if self.q is not None and self.k is not None and self.mixed is not None:
            # Silent on padded steps already; masked, so that gradients do not come back through them.
            both, passed = self.masked(self.q(x, valid) + self.k(x, valid), valid), []
            if self.near is not None:
                passed.append(self.near(self.masked(moving_sum(both), valid), valid) * v)
            if self.far is not None:
                passed.append(self.far.dropout(self.far.lif(both.sum(0), v)))
            parts.append(self.mixed(sum(passed), valid))
        if self.filter is not None:
            assert self.filtered is not None
            parts.append(self.filtered(self.masked(self.filter(v * valid), valid), valid))
        out: Tensor = self.out(sum(parts), valid)
        return out


def moving_sum(x: Tensor) -> Tensor:
    """Sum over |j| <= w of x[t + j], (T, B, N), 0 outside; exact for whole numbers."""
    until = functional.pad(x, (0, 0, 0, 0, LOOKAHEAD + 1, LOOKAHEAD)).cumsum(0)
    return until[2 * LOOKAHEAD + 1 :] - until[: len(x)]


class RefinementMLP(nn.Module):
    """SCR-MLP: SN(BN(PW)), SN(BN(W)) to a N; half of that through SN(BN(DW31)); SN(BN(W)) back to N, SN(BN(PW))."""

    def __init__(self, config: CommanderConfig) -> None:
        super().__init__()
        width, hidden = config.width, config.mlp_ratio * config.width
        half = hidden // 2
        self.enter = _linear(width, width, config)
        self.expand = _linear(width, hidden, config)
        self.depthwise = _layer(TimeConv(half, half, config.kernel, groups=half, bias=False), config)
        self.contract = _linear(hidden, width, config)
        self.leave = _linear(width, width, config)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Spikes (T, B, N) for integer sums of spikes x (T, B, N)."""
        first, second = self.expand(self.enter(x, valid), valid).chunk(2, dim=-1)
        x = torch.cat([self.depthwise(first, valid), second], dim=-1)
        out: Tensor = self.leave(self.contract(x, valid), valid)
        return out


class CommanderBlock(nn.Module):
    """x + MSTASA(x), + SCR-MLP(x); sums of spikes."""

    def __init__(self, config: CommanderConfig) -> None:
        super().__init__()
        self.attention = MultiScaleAttention(config)
        self.mlp = RefinementMLP(config) if config.refinement else MLP(config)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Sums (T, B, N) for sums of spikes x (T, B, N)."""
        x = torch.add(x, self.attention(x, valid))
        return torch.add(x, self.mlp(x, valid))


class SpikCommander(Network):
    """Embedding, blocks, a linear head at every step."""

    config: CommanderConfig

    def __init__(self, config: CommanderConfig) -> None:
        super().__init__(config)
        self.embedding = Embedding(config) if config.embedding else _linear(config.inputs, config.width, config)
        self.blocks = nn.ModuleList(CommanderBlock(config) for _ in range(config.layers))
        self.head = nn.Linear(config.width, config.classes, bias=False)
        for module in self.modules():
            if isinstance(module, Spiking) and type(module.lif) is LIF:
                module.lif = ShiftedLIF()

    def hidden(self, x: Tensor, valid: Tensor) -> Tensor:
        """Sums of spikes (T, B, N)."""
        x = self.embedding(x, valid)
        for block in self.blocks:
            x = cast("Tensor", block(x, valid))
        return x


def _layer(synapse: nn.Linear | TimeConv, config: CommanderConfig) -> SpikingLayer:
    return SpikingLayer(synapse, config.dropout)


def _linear(inputs: int, outputs: int, config: CommanderConfig, *, bias: bool = False) -> SpikingLayer:
    return _layer(nn.Linear(inputs, outputs, bias=bias), config)


def _neurons(config: CommanderConfig, gain: float = 1.0) -> Spiking:
    spiking = Spiking(config.dropout)
    spiking.lif = ShiftedLIF(gain)
    return spiking
