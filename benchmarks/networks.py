"""An untrained SpikeSCR in which every layer fires, and recordings to run it on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikescr.export.fold import fold
from spikescr.export.to_nir import to_nir
from spikescr.model import ModelConfig, SequenceBatchNorm, SpikeSCR
from spikescr.sim.lowering.lower import lower
from spikescr.sim.program import Program

CALIBRATED_ON = 32  # samples whose statistics the batch normalisations take


@dataclass(frozen=True)
class FiringNetwork:
    """A network and its input: model (not folded), x (T, B, C), valid steps (B,) of each sample."""

    model: SpikeSCR
    x: Tensor
    valid: Tensor

    @property
    def values(self) -> NDArray[np.float32]:
        """The input as the simulator takes it, (B, T, C), zero on padded steps."""
        steps = np.arange(len(self.x))[:, None] < self.valid.numpy()[:, None, None]
        padded: NDArray[np.float32] = self.x.transpose(0, 1).numpy() * steps
        return padded

    def program(self, folded: SpikeSCR | None = None) -> Program:
        """The network folded, exported and lowered; `folded`: where that is done already."""
        steps = len(self.x)
        return lower(to_nir(fold(self.model) if folded is None else folded, steps=steps, dt=1 / steps))


def firing_network(
    config: ModelConfig, *, steps: int, samples: int, seed: int, shortest: int | None = None
) -> FiringNetwork:
    """Draws a network and recordings of normal values, and calibrates its batch normalisation on the first of them.

    Gains and shifts are random as well, so that layers fire at 5 to 50 % as in a trained network.

    Args:
        config: sizes; without dropout, which would make the calibration random.
        steps: T.
        samples: B.
        seed: of everything that is drawn.
        shortest: valid steps of the shortest sample. Default: half of T.
    """
    torch.manual_seed(seed)
    model = SpikeSCR(config).train()
    for norm in model.modules():
        if isinstance(norm, SequenceBatchNorm):
            nn.init.uniform_(norm.weight, 0.6, 1.4)
            nn.init.uniform_(norm.bias, 0.0, 0.6)
            norm.momentum = 1.0
    x = torch.randn(steps, samples, config.inputs)
    valid = torch.randint(steps // 2 if shortest is None else shortest, steps + 1, (samples,))
    with torch.no_grad():  # in training mode, so that every layer sees what the ones before it calibrated
        model(x[:, :CALIBRATED_ON], valid[:CALIBRATED_ON])
    return FiringNetwork(model.eval(), x, valid)
