"""The running mean of a network's weights over optimisation steps: smoother than any of them, and often better."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor

from spikescr.model import Network

BEGINNING = 10
"""The first steps count alike, so that the mean does not remember where the weights came from."""


class Average:
    """The mean of weights and of running statistics (B. Polyak, A. Juditsky, SIAM J. Control Optim. 30, 838, 1992).

    network: that has them, to be evaluated.
    """

    def __init__(self, network: Network, share: float) -> None:
        """Network: as it begins, copied. share: of the mean before, in each step."""
        self.network = deepcopy(network).requires_grad_(False)
        self._share = share

    def follow(self, network: Network, step: int) -> None:
        """Moves the mean towards the weights after an optimisation step, numbered from 1 over the whole training."""
        rest = 1 - min(self._share, step / (step + BEGINNING))
        means: list[Tensor] = []
        values: list[Tensor] = []
        for mean, value in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if mean.is_floating_point():
                means.append(mean)
                values.append(value)
            else:
                mean.copy_(value)
        with torch.no_grad():
            torch._foreach_lerp_(means, values, rest)
