from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import kstest

from spikescr.data.noise import MadeNoise
from spikescr.training.augment_sound import augment_sound, mix
from spikescr.training.config import Augmentation

RATE, WINDOW = 8000, 8000
NOISE = MadeNoise(RATE, [np.sin(np.arange(3000.0))])
TONE = (0.1 * np.sin(2 * np.pi * 440 * np.arange(4000) / RATE)).astype(np.float32)


def heard(waveform: np.ndarray = TONE, place: tuple[int, int, int] = (0, 1, 0), **settings: Any) -> np.ndarray:
    noise = NOISE if "noise" in settings else None
    return augment_sound(waveform, RATE, Augmentation(**settings), noise, window=WINDOW, place=place)


def test_nothing_asked_for_nothing_done() -> None:
    np.testing.assert_array_equal(augment_sound(TONE, RATE, Augmentation(), None, window=WINDOW, place=(0, 1, 0)), TONE)


def test_what_is_heard_follows_from_seed_epoch_and_recording_alone() -> None:
    everything = {"noise": "made", "noise_probability": 1, "speed": 0.1, "time_shift_s": 0.1, "gain_db": 6}
    first = heard(place=(3, 2, 7), **everything)
    np.testing.assert_array_equal(heard(place=(3, 2, 7), **everything), first)
    for other in ((4, 2, 7), (3, 3, 7), (3, 2, 8)):
        again = heard(place=other, **everything)
        assert len(again) != len(first) or not np.array_equal(again, first)


def test_each_alteration_has_numbers_of_its_own() -> None:
    for place in [(0, 1, sample) for sample in range(5)]:
        slower = heard(place=place, speed=0.1)
        louder = heard(place=place, speed=0.1, gain_db=6)
        ratio = louder[101] / slower[101]
        np.testing.assert_allclose(louder, slower * ratio, rtol=1e-5)
        assert heard(place=place, gain_db=6)[101] / TONE[101] == pytest.approx(ratio)


@given(st.floats(-20, 60), st.integers(2, 3000), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_noise_has_the_ratio_that_was_asked_for(snr_db: float, samples: int, seed: int) -> None:
    """As the field defines it: the noise's mean square is 10^(-snr/10) of the recording's."""
    rng = np.random.default_rng(seed)
    waveform = rng.standard_normal(samples) * 10 ** rng.uniform(-4, 0)
    added = mix(waveform, NOISE.draw(rng, samples), snr_db) - waveform
    assert np.mean(added**2) == pytest.approx(10 ** (-snr_db / 10) * np.mean(waveform**2), rel=1e-6)


def test_ratios_are_uniform_and_noise_as_frequent_as_asked_for() -> None:
    ratios = []
    for sample in range(400):
        added = heard(place=(0, 1, sample), noise="made", noise_probability=0.75, noise_snr=(0, 20)) - TONE
        if added.any():
            ratios.append(10 * np.log10(np.mean(np.square(TONE, dtype=float)) / np.mean(added**2)))
    assert len(ratios) == pytest.approx(300, abs=40)
    assert kstest(ratios, "uniform", args=(0, 20)).pvalue > 1e-3


def test_speed_moves_pitch_and_length_together() -> None:
    factors = []
    for sample in range(40):
        played = heard(place=(0, 1, sample), speed=0.2)
        factor = len(TONE) / len(played)
        spectrum = np.abs(np.fft.rfft(played * np.hanning(len(played)), 80_000))
        assert spectrum.argmax() * RATE / 80_000 == pytest.approx(440 * factor, rel=0.01)
        factors.append(factor)
    assert min(factors) >= 0.799
    assert max(factors) <= 1.201
    assert max(factors) - min(factors) > 0.3


def test_slower_than_the_window_keeps_the_loudest_stretch() -> None:
    full = np.concatenate([np.zeros(500), np.ones(WINDOW - 500)])
    slowest = max((heard(full, place=(0, 1, sample), speed=0.5) for sample in range(20)), key=lambda x: (x > 0.9).sum())
    assert len(slowest) == WINDOW
    assert slowest.min() > 0.9  # the silence before is what had to go


def test_shift_puts_silence_before_or_after_and_keeps_the_window() -> None:
    ramp = np.arange(1.0, WINDOW - 99)  # 100 samples shorter than the window
    moves = []
    for sample in range(60):
        moved = heard(ramp, place=(0, 1, sample), time_shift_s=0.05)
        before, after = int((moved > 0).argmax()), int((moved[::-1] > 0).argmax())
        assert min(before, after) == 0
        assert len(moved) == min(WINDOW, len(ramp) + max(before, after))
        kept = moved[before : len(moved) - after]
        expected = ramp[: len(kept)] if before else ramp[len(ramp) - len(kept) :]
        np.testing.assert_array_equal(kept, expected)
        moves.append(before - after)
    assert min(moves) < -200
    assert max(moves) > 200
    assert max(map(abs, moves)) <= 0.05 * RATE


@pytest.mark.parametrize("samples", [1, 2, 7, WINDOW])
def test_recordings_of_any_length_and_silence_come_through(samples: int) -> None:
    everything = {"noise": "made", "noise_probability": 1, "speed": 0.5, "time_shift_s": 0.3, "gain_db": 60}
    for waveform in (np.zeros(samples), np.ones(samples)):
        for sample in range(10):
            altered = heard(waveform, place=(0, 1, sample), **everything)
            assert 1 <= len(altered) <= WINDOW
            assert np.isfinite(altered).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise": "loud"}, "noise"),
        ({"noise": "folder:"}, "noise"),
        ({"noise_snr": (10, 0)}, "two numbers of dB, the lower one first"),
        ({"noise_snr": [1]}, "noise_snr"),
        ({"neighbour_gap_s": (1, 0.2)}, "neighbour_gap_s is two numbers of seconds, the lower one first"),
        ({"neighbours": 1.5}, "neighbours"),
        ({"speed": 1.0}, "speed"),
        ({"time_shift_s": -0.1}, "time_shift_s"),
        ({"gain_db": float("inf")}, "gain_db"),
    ],
)
def test_absurd_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Augmentation(**settings)


@given(st.integers(1, WINDOW), st.integers(1, WINDOW), st.integers(0, 10_000), st.sampled_from([0.0, 0.1, 0.4, 9.0]))
@settings(max_examples=100, deadline=None)
def test_neighbours_stand_before_and_behind_a_gap_away(samples: int, other: int, sample: int, shift_s: float) -> None:
    """Sample by sample: where the recording, its gaps and its neighbours are, and what the window cuts off."""
    own, beside = np.arange(1.0, samples + 1), -np.arange(1.0, other + 1)
    config = Augmentation(neighbours=1, neighbour_gap_s=(0.1, 0.2), time_shift_s=shift_s)
    heard = augment_sound(own, RATE, config, None, window=WINDOW, place=(0, 1, sample), others=[beside])
    assert len(heard) == WINDOW
    (mine,) = np.nonzero(heard > 0)
    begin, first = int(mine[0]), int(heard[mine[0]]) - 1
    np.testing.assert_array_equal(heard[mine], own[first : first + len(mine)])  # one piece of it, in order
    late = begin - first - (WINDOW - samples) // 2
    assert abs(late) <= min(shift_s * RATE + 1, WINDOW // 2)
    for gone, side, expected in (
        (first > 0, heard[:begin][::-1], beside[::-1]),
        (first + len(mine) < samples, heard[mine[-1] + 1 :], beside),
    ):
        if gone:
            assert len(side) == 0
            continue
        gap = int((side < 0).argmax()) if (side < 0).any() else len(side)
        assert gap <= 0.2 * RATE + 1
        if gap < len(side):
            assert gap >= 0.1 * RATE - 1
            told = side[gap : gap + other]
            np.testing.assert_array_equal(told, expected[: len(told)])
            assert not side[gap + other :].any()


def test_neighbours_come_as_often_as_asked_for_and_change_with_the_epoch() -> None:
    config = Augmentation(neighbours=0.25, neighbour_gap_s=(0, 0.1))
    others = [np.full(4000, float(value)) for value in range(1, 9)]
    placed = [
        augment_sound(TONE, RATE, config, None, window=WINDOW, place=(0, epoch, sample), others=others)
        for epoch in (1, 2)
        for sample in range(200)
    ]
    among = [heard for heard in placed if len(heard) == WINDOW]
    assert len(among) == pytest.approx(100, abs=30)
    assert len({(heard[0], heard[-1]) for heard in among}) > 20
    for heard in placed:
        assert len(heard) == WINDOW or np.array_equal(heard, TONE)


def test_among_neighbours_a_recording_moves_both_ways_and_otherwise_in_another_epoch() -> None:
    own, beside = np.ones(2000), -np.ones(WINDOW)

    def windows(epoch: int, shift_s: float) -> list[np.ndarray]:
        config = Augmentation(neighbours=1, neighbour_gap_s=(0, 0.3), time_shift_s=shift_s)
        places = [(0, epoch, sample) for sample in range(40)]
        return [augment_sound(own, RATE, config, None, window=WINDOW, place=p, others=[beside]) for p in places]

    late = [int((heard > 0).argmax()) - (WINDOW - len(own)) // 2 for heard in windows(1, 0.1)]
    assert min(late) < -0.05 * RATE
    assert max(late) > 0.05 * RATE
    first, second = ([int((heard == 0).sum()) for heard in windows(epoch, 0)] for epoch in (1, 2))
    assert first != second
