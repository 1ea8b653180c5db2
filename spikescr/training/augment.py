"""Augmentation of batches (T, B, C) whose samples end at steps of their own.

What happens to a sample follows from the seed, the epoch and the sample's place in its data set, from nothing else: not
from its batch, the order, the number of loader workers or of devices. The random numbers are those of Philox, a
generator that is a function of key and counter (J. Salmon et al., SC 2011): key = seed, counter = epoch and sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spikescr.training.config import Augmentation

PURPOSE = int.from_bytes(b"augment")
"""Second half of the key: other draws from the same seed are other numbers."""


@dataclass(frozen=True)
class Layout:
    """How the channels of a step follow from bands.

    frames: F, in each step, one behind the other. planes: P, channels of a band in a frame, all bands of one before
    those of the next: C = F P bands.
    """

    frames: int = 1
    planes: int = 1


PLAIN = Layout()


def augment(
    x: Tensor,
    steps: Tensor,
    config: Augmentation,
    *,
    seed: int,
    epoch: int,
    samples: Tensor | Sequence[int],
    layout: Layout = PLAIN,
) -> Tensor:
    """Shifts each sample along its channels, then zeroes one run of channels and one run of valid steps.

    The three are relative to the sample's own size: the same recording at other steps per second loses the same part.
    Where a step holds several frames, channels are those of a frame, and runs are of frames; where a band has several
    channels, they are altered alike.

    Args:
        x: input (T, B, C), real numbers or counts, on any device.
        steps: valid steps (B,).
        config: how far, how wide, how often.
        seed: of the training.
        epoch: from 1.
        samples: place of each in its data set (B,).
        layout: what the channels are.

    Returns:
        The altered input (T, B, C); x is not changed.
    """
    if layout != PLAIN:
        frames, planes = layout.frames, layout.planes
        # Planes as samples of their own: what happens to one follows from its place, so that all planes have the same.
        parts = x.unflatten(2, (frames, planes, -1)).permute(0, 2, 1, 3, 4).flatten(2, 3).flatten(0, 1)
        each = np.repeat(np.asarray(samples), planes).tolist()
        altered = augment(
            parts, (steps * frames).repeat_interleave(planes), config, seed=seed, epoch=epoch, samples=each
        )
        return altered.unflatten(1, (-1, planes)).unflatten(0, (-1, frames)).permute(0, 2, 1, 3, 4).flatten(2)
    draws = _uniform(seed, epoch, np.asarray(samples))
    ends = steps.cpu().numpy()
    dropping = config.kind == "drop"
    shifts = np.floor(draws[0] * (2 * config.shift + 1)).astype(np.int64) - config.shift
    x = _shifted(x, torch.from_numpy(shifts).to(x.device), repeat=not dropping)
    channels = np.full(len(ends), x.shape[2])
    widest = np.full(len(ends), min(config.bands, x.shape[2]))
    hidden_channels = _runs(x.shape[2], channels, widest, draws[1:4], config.probability)
    longest = np.floor(config.time_share * ends).astype(np.int64)
    hidden_steps = _runs(x.shape[0], ends, longest, draws[4:7], config.probability, whole=dropping)
    hidden = torch.from_numpy(hidden_channels[None] | hidden_steps.T[:, :, None])
    return x.masked_fill(hidden.to(x.device), 0.0)


def _uniform(seed: int, epoch: int, samples: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Seven numbers in [0, 1) for each sample, shape (7, B)."""
    rows = [
        np.random.Generator(np.random.Philox(key=[seed, PURPOSE], counter=[0, 0, epoch, int(sample)])).random(7)
        for sample in samples
    ]
    return np.array(rows).reshape(-1, 7).T


def _shifted(x: Tensor, by: Tensor, *, repeat: bool) -> Tensor:
    """Sample b of x (T, B, C) moved up by by[b] channels; what leaves is lost.

    The outermost channel is repeated, as a spectrum would go on; or none comes in, for counts: no spike is invented.
    """
    source = torch.arange(x.shape[2], device=x.device) - by[:, None]
    moved = x.gather(2, source.clamp(0, x.shape[2] - 1).expand_as(x))
    return moved if repeat else moved.masked_fill((source < 0) | (source >= x.shape[2]), 0.0)


def _runs(
    size: int,
    ends: npt.NDArray[np.int64],
    longest: npt.NDArray[np.int64],
    draws: npt.NDArray[np.float64],
    probability: float,
    *,
    whole: bool = False,
) -> npt.NDArray[np.bool_]:
    """For each sample a run of True within [0, ends): at most, or `whole`, exactly `longest` long; shape (B, size)."""
    chosen, width_draw, start_draw = draws
    width = longest if whole else np.floor(width_draw * (longest + 1)).astype(np.int64)
    width = width * (chosen < probability)
    start = np.floor(start_draw * (ends - width + 1)).astype(np.int64)
    position = np.arange(size)
    hidden: npt.NDArray[np.bool_] = (position >= start[:, None]) & (position < (start + width)[:, None])
    return hidden
