"""Augmentation of batches (T, B, C) whose samples end at steps of their own."""

from __future__ import annotations

import torch
from torch import Tensor

from spikescr.training.config import Augmentation


def augment(x: Tensor, steps: Tensor, config: Augmentation, generator: torch.Generator) -> Tensor:
    """Shifts each sample along its bands, then zeroes one run of bands and one run of valid steps.

    Args:
        x: input (T, B, C).
        steps: valid steps (B,).
        config: how far, how wide, how often.
        generator: draws shifts and masks; the same state gives the same.

    Returns:
        The altered input (T, B, C); x is not changed.
    """
    x = _shifted(x, torch.randint(-config.shift, config.shift + 1, (len(steps),), generator=generator))
    bands = torch.full_like(steps, min(config.bands, x.shape[2]))
    longest = (config.time_share * steps).long()
    hidden_bands = _runs(x.shape[2], torch.full_like(steps, x.shape[2]), bands, config.probability, generator)
    hidden_steps = _runs(x.shape[0], steps, longest, config.probability, generator)
    return x.masked_fill(hidden_bands[None] | hidden_steps.T[:, :, None], 0.0)


def _shifted(x: Tensor, by: Tensor) -> Tensor:
    """Sample b of x (T, B, C) moved up by by[b] bands; what leaves is lost, the outermost band is repeated."""
    source = (torch.arange(x.shape[2]) - by[:, None]).clamp(0, x.shape[2] - 1)
    return x.gather(2, source.expand_as(x))


def _runs(size: int, ends: Tensor, longest: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """For each sample a run of True within [0, ends), at most `longest` long; shape (B, size)."""
    chosen, width_draw, start_draw = torch.rand(3, len(ends), generator=generator, dtype=torch.float64)
    width = (width_draw * (longest + 1)).long() * (chosen < probability)
    start = (start_draw * (ends - width + 1)).long()
    position = torch.arange(size)
    hidden: Tensor = (position >= start[:, None]) & (position < (start + width)[:, None])
    return hidden
