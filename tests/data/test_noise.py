from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from spikescr.data.noise import COLOURS, MadeNoise, RecordedNoise, coloured, open_noise
from spikescr.errors import DataError

RATE = 16_000


def slope_db_per_octave(waveform: np.ndarray) -> float:
    """Of the power spectrum from 100 Hz to 6.4 kHz, by a line through octave bands."""
    power = np.abs(np.fft.rfft(waveform)) ** 2
    hertz = np.fft.rfftfreq(len(waveform), 1 / RATE)
    edges = 100 * 2.0 ** np.arange(7)
    levels = [10 * np.log10(power[(hertz >= low) & (hertz < high)].mean()) for low, high in pairwise(edges)]
    return float(np.polyfit(np.arange(6), levels, 1)[0])


@pytest.mark.parametrize("exponent", COLOURS)
def test_power_falls_with_frequency_as_the_colour_says(exponent: float) -> None:
    noise = coloured(np.random.default_rng(0), 8 * RATE, RATE, exponent)
    assert slope_db_per_octave(noise) == pytest.approx(-exponent * 10 * np.log10(2), abs=0.3)


@given(st.integers(1, 3000), st.sampled_from(COLOURS), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_noise_of_any_length_has_mean_square_one(samples: int, exponent: float, seed: int) -> None:
    noise = coloured(np.random.default_rng(seed), samples, RATE, exponent)
    assert noise.shape == (samples,)
    assert np.mean(noise**2) == pytest.approx(1)


def test_all_kinds_are_made_and_babble_comes_from_the_utterances() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(5000) / RATE)
    source = MadeNoise(RATE, [tone])
    drawn = [source.draw(np.random.default_rng(seed), RATE) for seed in range(60)]
    assert all(noise.shape == (RATE,) and np.mean(noise**2) == pytest.approx(1) for noise in drawn)
    spectra = [np.abs(np.fft.rfft(noise)) ** 2 for noise in drawn]
    at_tone = [float(spectrum[990:1011].sum() / spectrum.sum()) for spectrum in spectra]
    babble = sum(share > 0.5 for share in at_tone)
    slopes = np.array([slope_db_per_octave(n) for n, share in zip(drawn, at_tone, strict=True) if share <= 0.5])
    near = [int((np.abs(slopes + 3.01 * exponent) < 1).sum()) for exponent in COLOURS]
    assert babble + sum(near) == 60
    assert min(babble, *near) >= 6  # 15 of each are expected


def test_recorded_noise_is_a_stretch_of_a_recording_and_goes_round() -> None:
    recording = np.arange(1.0, 8.0)
    source = RecordedNoise([recording])
    starts = set()
    for seed in range(50):
        drawn = source.draw(np.random.default_rng(seed), 10)
        turns = {i: np.take(recording, range(i, i + 10), mode="wrap") / recording[i] for i in range(7)}
        starts |= {i for i, turn in turns.items() if np.allclose(drawn / drawn[0], turn)}
    assert starts == set(range(7))


def test_folder_of_noise_is_read_whole_and_resampled(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name, rate, hertz in (("a.wav", 8000, 500), ("deep/b.flac", 16000, 2000)):
        soundfile.write(tmp_path / name, 0.3 * np.sin(2 * np.pi * hertz * np.arange(rate) / rate), rate)
    (tmp_path / "README.txt").write_text("not a recording")
    source = open_noise(f"folder:{tmp_path}", RATE)
    peaks = {int(np.abs(np.fft.rfft(source.draw(np.random.default_rng(seed), RATE))).argmax()) for seed in range(20)}
    assert peaks == {500, 2000}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such folder; it shall hold recordings of noise"),
        ({}, r"no recordings \(.wav, .flac and the like\) of noise in it"),
        ({"a.wav": np.zeros(100)}, r"a\.wav: silent, it is no noise"),
    ],
)
def test_folder_without_noise_is_refused(tmp_path: Path, content: dict[str, np.ndarray] | None, message: str) -> None:
    root = tmp_path / "noise"
    if content is not None:
        root.mkdir()
        for name, waveform in content.items():
            soundfile.write(root / name, waveform, 8000)
    with pytest.raises(DataError, match=message):
        open_noise(f"folder:{root}", RATE)
