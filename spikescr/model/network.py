"""Networks: what all families share, the readout, and SpikeSCR itself (arXiv 2412.12858)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from spikescr.model.adaptive import AdaptiveLIF
from spikescr.model.blocks import SGLE, SpikingGatedConvolution
from spikescr.model.layers import Spiking, SpikingLayer, TimeConv, valid_mask
from spikescr.model.parametric import ParametricLIF
from spikescr.model.position import Sinusoidal

if TYPE_CHECKING:
    from spikescr.model.config import AnyModelConfig, ModelConfig, NeuronKind


class Network(nn.Module):
    """A network of any family; a sample's output depends on its own valid steps alone, not on its batch or padding.

    Subclasses build `head`, a Linear without bias at every step, and define `hidden`.
    """

    head: nn.Linear
    info: Any = None
    """Of a network that was loaded: its `checkpoint.CheckpointInfo`."""
    source: str = ""
    """Of a network that was loaded: SHA-256 of its file."""
    multiple = 16
    """Windows on CUDA are padded to a multiple of so many steps: kernels are compiled for every length anew."""

    def __init__(self, config: AnyModelConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        """Logits at every step.

        Args:
            x: input (T, B, C), real values or spike counts; padded steps are ignored.
            steps: valid steps of each sample (B,), integers, at most T.

        Returns:
            Logits (T, B, K), zero on padded steps.
        """
        functional.reset_net(self)
        window, added = len(x), -len(x) % self.multiple if x.is_cuda else 0
        if added:
            x = torch.cat((x, x.new_zeros(added, *x.shape[1:])))
        valid = valid_mask(steps, len(x), x.dtype)
        logits: Tensor = self.head(self.hidden(x * valid, valid))
        return logits[:window]

    def hidden(self, x: Tensor, valid: Tensor) -> Tensor:
        """What the head gets (T, B, N), zero on padded steps, for input x (T, B, C), zero there too."""
        raise NotImplementedError

    def anneal(self, progress: float) -> None:
        """Told before every optimisation step which share of the training is done, 0 to 1; most networks do nothing."""

    def _take_neurons(self, kind: NeuronKind) -> None:
        """Puts the neurons that a configuration asks for in the place of LIFs.

        ParametricLIFs everywhere. AdaptiveLIFs behind batch normalisation alone: they take a small share of their
        current, and where nothing learnt scales that (rotated queries and keys, attention) they would hardly ever fire.
        """
        for module in self.modules():
            if isinstance(module, Spiking) and kind == "parametric":
                module.lif = ParametricLIF()
            elif isinstance(module, SpikingLayer) and kind == "adaptive":
                module.lif = AdaptiveLIF(len(module.current.synapse.weight))
            elif isinstance(module, SpikingGatedConvolution) and kind == "adaptive":
                for spiking in (module.gated, *([module.gate_in] if module.gating_unit else [])):
                    spiking.lif = AdaptiveLIF(len(module.pointwise.current.synapse.weight))


class SpikeSCR(Network):
    """Embedding of the input, SGLE blocks, a linear head at every step."""

    config: ModelConfig

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.sem = SpikingLayer(TimeConv(config.inputs, config.width, 3), config.dropout)
        self.position = Sinusoidal() if config.position in ("sinusoidal", "sinusoidal_lif") else None
        self.positioned = Spiking(config.dropout) if config.position == "sinusoidal_lif" else None
        self.blocks = nn.ModuleList(SGLE(config) for _ in range(config.layers))
        self.head = nn.Linear(config.width, config.classes, bias=False)
        self._take_neurons(config.neuron)

    def hidden(self, x: Tensor, valid: Tensor) -> Tensor:
        """Sums of spikes (T, B, N), with sinusoidal positions real values."""
        x = self.sem(x, valid)
        if self.position is not None:
            x = self.position(x, valid)
        if self.positioned is not None:
            x = self.positioned(x, valid)
        for block in self.blocks:
            x = block(x, valid)
        return x


def readout(logits: Tensor, steps: Tensor) -> Tensor:
    """Sum over valid steps, y = sum softmax(logits); the prediction is its largest entry.

    Args:
        logits: (T, B, K).
        steps: valid steps (B,).

    Returns:
        y (B, K); used as logits by the training loss, as in the paper.
    """
    return (torch.softmax(logits, dim=-1) * valid_mask(steps, logits.shape[0], logits.dtype)).sum(dim=0)
