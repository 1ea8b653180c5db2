"""What the folded PyTorch model does, neuron by neuron: the reference that executed spikes are compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikescr.model import LIF, Network
from spikescr.model.commander import OneStepLIF
from spikescr.model.fixed import FixedRecurrentLIF
from spikescr.model.recurrent import RecurrentLIF


@dataclass(frozen=True)
class Trace:
    """Per LIF module, by its name: spikes bool (T, B, N), currents float64 (T, B, N), itself. logits: (T, B, K)."""

    spikes: dict[str, NDArray[np.bool_]]
    currents: dict[str, NDArray[np.float64]]
    neurons: dict[str, LIF]
    logits: NDArray[np.float64]

    def membrane(self, layer: str, sample: int, neuron: int) -> NDArray[np.float64]:
        """Membrane (T,) of one neuron after the update and before the reset, from its current and spikes."""
        at = (slice(None), sample, neuron)
        return self.neurons[layer].membranes(self.currents[layer][at], self.spikes[layer][at], neuron)


def trace(model: Network, x: NDArray[np.floating], steps: NDArray[np.int64]) -> Trace:
    """Runs the model on a batch and keeps what every LIF received and put out.

    Args:
        model: in eval mode; runs in the precision of its parameters.
        x: input (B, T, C), padded steps are ignored.
        steps: valid steps (B,).
    """
    spikes: dict[str, NDArray[np.bool_]] = {}
    currents: dict[str, NDArray[np.float64]] = {}

    def keep(name: str) -> object:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            arriving = inputs[0]
            if isinstance(module, RecurrentLIF | FixedRecurrentLIF | OneStepLIF):
                arriving = module.arriving(inputs[0], inputs[1], output)
            spikes[name] = output.bool().numpy()
            currents[name] = arriving.double().numpy()

        return hook

    neurons = {name: module for name, module in model.named_modules() if isinstance(module, LIF)}
    handles = [module.register_forward_hook(keep(name)) for name, module in neurons.items()]
    try:
        with torch.inference_mode():
            dtype = next(model.parameters()).dtype
            logits = model(torch.from_numpy(x).to(dtype).transpose(0, 1), torch.from_numpy(steps))
    finally:
        for handle in handles:
            handle.remove()
    return Trace(spikes, currents, neurons, logits.double().numpy())
