"""Random numbers of a training as functions of its position: what is drawn at a step never depends on what came before.

So a training that continues from a checkpoint draws what an uninterrupted one would, and so does every one of several
processes.
"""

from __future__ import annotations

import numpy as np
import torch


def derived_seed(seed: int, *position: int) -> int:
    """A seed of 63 bits for a place in a training, as NumPy's SeedSequence mixes it: unrelated at unequal places."""
    (state,) = np.random.SeedSequence(seed, spawn_key=position).generate_state(1, np.uint64)
    return int(state) >> 1


def generator(seed: int, *position: int) -> torch.Generator:
    """A generator on the CPU that is seeded for a place in a training."""
    return torch.Generator().manual_seed(derived_seed(seed, *position))
