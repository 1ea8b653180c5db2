"""What the folded PyTorch model does, neuron by neuron: the reference that executed spikes are compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikescr.model import LIF, SpikeSCR


@dataclass(frozen=True)
class Trace:
    """Per LIF module, by its name: spikes bool (T, B, N), currents float64 (T, B, N). logits: (T, B, K)."""

    spikes: dict[str, NDArray[np.bool_]]
    currents: dict[str, NDArray[np.float64]]
    logits: NDArray[np.float64]

    def membrane(self, layer: str, sample: int, neuron: int) -> NDArray[np.float64]:
        """Membrane (T,) of one neuron after the update and before the reset, from its current and spikes."""
        v, membranes = 0.0, []
        for current, spike in zip(
            self.currents[layer][:, sample, neuron], self.spikes[layer][:, sample, neuron], strict=True
        ):
            v = v * 0.5 + current
            membranes.append(v)
            v = 0.0 if spike else v
        return np.array(membranes)


def trace(model: SpikeSCR, x: NDArray[np.floating], steps: NDArray[np.int64]) -> Trace:
    """Runs the model on a batch and keeps what every LIF received and put out.

    Args:
        model: in eval mode; runs in the precision of its parameters.
        x: input (B, T, C), padded steps are ignored.
        steps: valid steps (B,).
    """
    spikes: dict[str, NDArray[np.bool_]] = {}
    currents: dict[str, NDArray[np.float64]] = {}

    def keep(name: str) -> object:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            spikes[name] = output.bool().numpy()
            currents[name] = inputs[0].double().numpy()

        return hook

    handles = [m.register_forward_hook(keep(name)) for name, m in model.named_modules() if isinstance(m, LIF)]
    try:
        with torch.inference_mode():
            dtype = next(model.parameters()).dtype
            logits = model(torch.from_numpy(x).to(dtype).transpose(0, 1), torch.from_numpy(steps))
    finally:
        for handle in handles:
            handle.remove()
    return Trace(spikes, currents, logits.double().numpy())
