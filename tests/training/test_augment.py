from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency, chisquare
from torch import Tensor

from spikescr.training.augment import Layout, augment
from spikescr.training.config import Augmentation

WINDOW, SAMPLES, BANDS = 40, 400, 30


@pytest.fixture
def steps() -> Tensor:
    return torch.randint(4, WINDOW + 1, (SAMPLES,), generator=torch.Generator().manual_seed(0))


def masks(steps: Tensor, config: Augmentation, seed: int = 1) -> Tensor:
    """True where input was hidden, (T, B, C)."""
    x = torch.ones(WINDOW, len(steps), BANDS)
    out = augment(x, steps, config, seed=seed, epoch=1, samples=range(len(steps)))
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
    out = augment(x, steps, Augmentation(probability=0, shift=3), seed=1, epoch=1, samples=range(SAMPLES))
    found = {tuple(out[t, b].tolist()) for t in (0, WINDOW - 1) for b in range(SAMPLES)}
    expected = {tuple(min(max(c - by, 0), BANDS - 1) for c in range(BANDS)) for by in range(-3, 4)}
    assert found == expected
    assert torch.equal(out, out[:1].expand_as(out))


def test_channels_of_a_band_are_altered_alike(steps: Tensor) -> None:
    """Every frame and plane as if it were alone, frames one after the other in time."""
    config = Augmentation(probability=1, bands=4, time_share=0.25, shift=2)
    frames, planes, bands = 2, 3, 10
    x = torch.rand(WINDOW, SAMPLES, frames * planes * bands, generator=torch.Generator().manual_seed(1))
    how = {"seed": 1, "epoch": 2, "samples": range(SAMPLES)}
    out = augment(x, steps, config, layout=Layout(frames, planes), **how)
    cut, found = (each.reshape(WINDOW, SAMPLES, frames, planes, bands) for each in (x, out))
    for plane in range(planes):
        in_time = cut[:, :, :, plane].transpose(1, 2).reshape(WINDOW * frames, SAMPLES, bands)
        alone = augment(in_time, steps * frames, config, **how)
        kept = found[:, :, :, plane].transpose(1, 2).reshape(WINDOW * frames, SAMPLES, bands)
        assert torch.equal(kept, alone)


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


def test_what_happens_to_a_sample_depends_on_seed_epoch_and_sample_alone(steps: Tensor) -> None:
    x = torch.rand(WINDOW, SAMPLES, BANDS, generator=torch.Generator().manual_seed(3))
    config = Augmentation(kind="drop", bands=20, time_share=0.2, shift=2)
    whole = augment(x, steps, config, seed=4, epoch=9, samples=range(SAMPLES))
    order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(5))
    for chosen in order.split(7):  # other batches, another order, windows that end with their longest sample
        longest = int(steps[chosen].max())
        part = augment(x[:longest, chosen], steps[chosen], config, seed=4, epoch=9, samples=chosen)
        assert torch.equal(part, whole[:longest, chosen])
    for other in ({"seed": 5, "epoch": 9}, {"seed": 4, "epoch": 10}):
        changed = augment(x, steps, config, samples=range(SAMPLES), **other)
        assert (changed != whole).any(dim=0).any(dim=-1).float().mean() > 0.8


def test_no_two_epochs_or_samples_share_draws() -> None:
    x = torch.arange(1000.0).expand(1, 50, 1000)
    config = Augmentation(probability=0, shift=499)
    found = torch.stack(
        [augment(x, torch.ones(50).long(), config, seed=0, epoch=e, samples=range(50))[0, :, 500] for e in range(40)]
    )
    assert len(found.unique()) > 800  # 2,000 draws of 999 values: 865 different ones expected


def test_drop_by_time_has_exactly_its_share_and_drop_by_neuron_up_to_its_width(steps: Tensor) -> None:
    hidden = masks(steps, Augmentation(kind="drop", probability=1, bands=0, time_share=0.2, shift=0))[..., 0].T
    assert all(is_one_run(sample) for sample in hidden)
    assert hidden.sum(-1).tolist() == [length * 2 // 10 for length in steps.tolist()]
    channels = masks(steps, Augmentation(kind="drop", probability=1, bands=20, time_share=0, shift=0))[0]
    assert all(is_one_run(sample) for sample in channels)
    assert channels.sum(-1).unique().tolist() == list(range(21))


def test_counts_are_shifted_without_inventing_spikes() -> None:
    x = torch.full((4, SAMPLES, BANDS), 3.0)
    out = augment(
        x,
        torch.full((SAMPLES,), 4),
        Augmentation(kind="drop", probability=0, shift=3),
        seed=1,
        epoch=1,
        samples=range(SAMPLES),
    )
    lost = {int((out[0, b] == 0).sum()) for b in range(SAMPLES)}
    assert lost == {0, 1, 2, 3}
    assert all(is_one_run(out[0, b] == 0) for b in range(SAMPLES))


def oracle(config: Augmentation, length: int, channels: int) -> Counter[tuple[int, int, int, int]]:
    """How probable each (first step, width, first channel, width) is, by enumeration of the paper's description."""
    runs = []
    for size, share, exact in (
        (length, int(length * config.time_share), config.kind == "drop"),
        (channels, config.bands, False),
    ):
        widths = [share] if exact else list(range(share + 1))
        found: Counter[tuple[int, int]] = Counter({(0, 0): 1 - config.probability})
        for width in widths:
            for start in range(size - width + 1):
                place = (start, width) if width else (0, 0)
                found[place] += config.probability / len(widths) / (size - width + 1)
        runs.append(found)
    return Counter({(*t, *c): p * q for t, p in runs[0].items() for c, q in runs[1].items()})


@pytest.mark.parametrize("kind", ["mask", "drop"])
def test_runs_are_distributed_as_described(kind: str) -> None:
    length, channels, count = 10, 5, 40_000
    config = Augmentation.model_validate({"kind": kind, "bands": 2, "time_share": 0.3, "shift": 0})
    out = augment(
        torch.ones(length + 2, count, channels),
        torch.full((count,), length),
        config,
        seed=8,
        epoch=3,
        samples=range(count),
    ).numpy()
    steps, bands = (out == 0).all(axis=2)[:length].T, (out == 0).all(axis=0)

    def run(hidden: np.ndarray) -> tuple[int, int]:
        where = np.flatnonzero(hidden)
        return (int(where[0]), len(where)) if len(where) else (0, 0)

    found = Counter((*run(s), *run(b)) for s, b in zip(steps, bands, strict=True))
    expected = oracle(config, length, channels)
    assert found.keys() <= expected.keys()
    keys = sorted(expected)
    assert chisquare([found[k] for k in keys], [expected[k] * count for k in keys]).pvalue > 1e-3


def test_same_recording_at_other_steps_loses_the_same_part() -> None:
    config = Augmentation(kind="drop", probability=1, bands=20, time_share=0.2, shift=0)
    coarse, fine = (
        augment(torch.ones(n, 50, 140), torch.full((50,), n), config, seed=2, epoch=1, samples=range(50)) == 0
        for n in (40, 200)
    )
    assert torch.equal(coarse.all(0), fine.all(0))
    starts = [hidden.all(-1).float().argmax(0) / len(hidden) for hidden in (coarse, fine)]
    assert (starts[0] - starts[1]).abs().max() <= 1 / 40


def test_shift_and_runs_are_drawn_independently() -> None:
    count, channels = 20_000, 12
    config = Augmentation(probability=0.5, bands=2, time_share=0.3, shift=1)
    x = torch.arange(1.0, channels + 1).expand(10, count, channels)
    out = augment(x, torch.full((count,), 10), config, seed=6, epoch=1, samples=range(count))
    moved = (out - torch.arange(1, channels + 1)).masked_fill(out == 0, 9)[:, :, 1:-1].transpose(0, 1).flatten(1)
    shifts = moved.mode(dim=1).values.long()
    shifts[shifts == 9] = moved.masked_fill(moved == 9, -9).max(dim=1).values.long()[shifts == 9]
    hidden = out == 0
    for run in (hidden.all(0).any(-1), hidden.all(-1).any(0)):
        table = [[int(((shifts == shift) & (run == there)).sum()) for shift in (-1, 0, 1)] for there in (False, True)]
        assert sum(map(sum, table)) == count
        assert chi2_contingency(table).pvalue > 1e-3
