from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spikescr.training.augment import augment
from spikescr.training.config import Augmentation

WINDOW, SAMPLES, BANDS = 40, 400, 30


@pytest.fixture
def steps() -> Tensor:
    return torch.randint(4, WINDOW + 1, (SAMPLES,), generator=torch.Generator().manual_seed(0))


def masks(steps: Tensor, config: Augmentation, seed: int = 1) -> Tensor:
    """True where input was hidden, (T, B, C)."""
    x = torch.ones(WINDOW, len(steps), BANDS)
    out = augment(x, steps, config, torch.Generator().manual_seed(seed))
    assert (x == 1).all(), "the input was changed"
    assert set(out.unique().tolist()) <= {0.0, 1.0}
    return out == 0


def is_one_run(hidden: Tensor) -> bool:
    """Whether the True values of a vector are adjacent."""
    where = hidden.nonzero().squeeze(1)
    return len(where) == 0 or int(where[-1] - where[0]) == len(where) - 1


def test_bands_alone(steps: Tensor) -> None:
    hidden = masks(steps, Augmentation(probability=1, bands=10, time_share=0))
    assert torch.equal(hidden, hidden[:1].expand_as(hidden))
    widths = hidden[0].sum(-1)
    assert all(is_one_run(sample) for sample in hidden[0])
    assert widths.unique().tolist() == list(range(11))
    assert hidden[0].any(0).all(), "some band is never hidden"


def test_steps_alone(steps: Tensor) -> None:
    hidden = masks(steps, Augmentation(probability=1, bands=0, time_share=0.25))[..., 0].T
    assert all(is_one_run(sample) for sample in hidden)
    assert (hidden.sum(-1) <= steps // 4).all()
    assert not any(sample[length:].any() for sample, length in zip(hidden, steps, strict=True))
    longest = steps >= 36
    assert hidden[longest].sum(-1).max() >= 9
    assert hidden[:, 0].any(), "the first step is never hidden"
    assert any(sample[length - 1] for sample, length in zip(hidden, steps, strict=True)), "the last never is"


def test_shift_moves_whole_samples_and_repeats_the_outermost_band() -> None:
    steps = torch.full((SAMPLES,), WINDOW)
    x = torch.arange(BANDS, dtype=torch.float32).expand(WINDOW, SAMPLES, BANDS)
    out = augment(x, steps, Augmentation(probability=0, shift=3), torch.Generator().manual_seed(1))
    found = {tuple(out[t, b].tolist()) for t in (0, WINDOW - 1) for b in range(SAMPLES)}
    expected = {tuple(min(max(c - by, 0), BANDS - 1) for c in range(BANDS)) for by in range(-3, 4)}
    assert found == expected
    assert torch.equal(out, out[:1].expand_as(out))


def test_probability_is_of_each_mask(steps: Tensor) -> None:
    hidden = masks(steps, Augmentation(probability=0.5, bands=30, time_share=1))
    bands, time = hidden.all(0).any(-1), hidden.all(-1).any(0)
    # 1 in 31 masks has no width; a mask over everything counts as both.
    assert bands.float().mean() == pytest.approx(0.5, abs=0.08)
    assert time.float().mean() == pytest.approx(0.5, abs=0.08)
    assert (bands & time).float().mean() == pytest.approx(0.25, abs=0.08)
    assert not masks(steps, Augmentation(probability=0)).any()


def test_same_seed_same_masks(steps: Tensor) -> None:
    assert torch.equal(masks(steps, Augmentation(), 7), masks(steps, Augmentation(), 7))
    assert not torch.equal(masks(steps, Augmentation(), 7), masks(steps, Augmentation(), 8))
