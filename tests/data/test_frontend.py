import math

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from spikescr.data.frontend import FrontEnd, mel_filters
from spikescr.data.preprocessing import Normaliser, Preprocessing, RecordingNormaliser
from spikescr.errors import UsageError
from spikescr.sizes import memory_limited


def speechlike(seconds: float, rate: int, seed: int = 0) -> np.ndarray:
    """Harmonics of 150 Hz below 3 kHz, swelling and fading, and a little noise."""
    t = np.arange(round(seconds * rate)) / rate
    tones = sum(np.sin(2 * np.pi * 150 * k * t + k) / k for k in range(1, 20))
    noise = np.random.default_rng(seed).standard_normal(len(t))
    return 0.1 * tones * (1 + np.sin(2 * np.pi * 3 * t)) + 0.001 * noise


def identity(front_end: FrontEnd) -> Preprocessing:
    ones = (1.0,) * front_end.bands
    return Preprocessing(front_end=front_end, normaliser=Normaliser(mean=(0.0,) * front_end.bands, std=ones))


def mel_of(hertz: float) -> float:
    """Slaney's scale, from the Auditory Toolbox: 200/3 Hz per mel below 1 kHz, then 27 mel per factor 6.4."""
    return hertz / (200 / 3) if hertz <= 1000 else 15 + math.log(hertz / 1000) / (math.log(6.4) / 27)


def test_frames_follow_the_definition() -> None:
    """An oracle from the definition: window, Fourier sum, triangles with corners equidistant in mel, decibels."""
    front_end = FrontEnd.design(8000, steps=100, window_s=0.05, bands=12)
    waveform = speechlike(0.043, 8000)
    hop, win, n_fft = 80, 200, front_end.n_fft
    assert (front_end.hop, front_end.win_length) == (hop, win)

    grid = np.arange(0, 4000.5, 0.5)
    corners = np.interp([mel_of(4000) * i / 13 for i in range(14)], [mel_of(f) for f in grid], grid)
    window = np.array([0.5 - 0.5 * math.cos(2 * math.pi * n / win) for n in range(win)])
    bins = np.arange(n_fft // 2 + 1)
    fourier = np.exp(-2j * np.pi * np.outer(bins, np.arange(win)) / n_fft)

    expected = np.zeros((5, 12))  # 0.043 s are 4.3 steps
    for t in range(5):
        first = t * hop + hop // 2 - win // 2
        piece = np.array([waveform[i] if 0 <= i < len(waveform) else 0.0 for i in range(first, first + win)])
        power = np.abs(fourier @ (window * piece)) ** 2 / window.sum() ** 2
        for band in range(12):
            low, top, high = corners[band : band + 3]
            energy = 0.0
            for hertz, p in zip(bins * 8000 / n_fft, power, strict=True):
                energy += max(0.0, min((hertz - low) / (top - low), (high - hertz) / (high - top))) * p
            expected[t, band] = 10 * math.log10(max(energy, 1e-10))
    np.testing.assert_allclose(front_end.log_mel(waveform, 8000), expected, atol=1e-3)


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("steps", [1, 7, 40, 100, 200, 400, 500])
def test_no_mel_filter_is_empty(rate: int, steps: int) -> None:
    front_end = FrontEnd.design(rate, steps=steps)
    filters = mel_filters(front_end)
    assert filters.shape == (140, front_end.n_fft // 2 + 1)
    assert filters.max(axis=1).min() >= 0.5  # a Fourier frequency near the top of each triangle
    assert front_end.fmax <= rate / 2
    assert front_end.fmax <= front_end.resampled_rate / 2


@pytest.mark.parametrize("steps", [40, 100, 500])
@pytest.mark.parametrize("band", [20, 70, 120])
def test_pure_tone_peaks_in_its_band(steps: int, band: int) -> None:
    front_end = FrontEnd.design(16000, steps=steps)
    frequencies = np.arange(front_end.n_fft // 2 + 1) * front_end.resampled_rate / front_end.n_fft
    tone_hz = frequencies[mel_filters(front_end)[band].argmax()]
    tone = 0.5 * np.sin(2 * np.pi * tone_hz * np.arange(16000) / 16000)
    frames = front_end.log_mel(tone, 16000)[2:-2]
    assert set(frames.argmax(axis=1)) <= {band - 1, band, band + 1}
    # At its own frequency the tone has a^2 / 4 = -12.04 dB. A Hann window spreads it over neighbours, 1.5 n_fft / win
    # times as much in all; the triangle takes between half of the peak and everything.
    everything = 10 * np.log10(0.5**2 / 4 * 1.5 * front_end.n_fft / front_end.win_length)
    assert np.all(frames.max(axis=1) > -12.05 - 3.01)
    assert np.all(frames.max(axis=1) < everything + 0.05)


def test_click_is_loudest_in_the_step_that_contains_it() -> None:
    front_end = FrontEnd.design(16000, steps=40)
    for sample in (600, 5000, 9999, 15900):
        click = np.zeros(16000)
        click[sample] = 1.0
        frames = front_end.log_mel(click, 16000)
        assert frames.mean(axis=1).argmax() == sample // 400


@given(st.integers(1, 500), st.integers(1, 9000), st.sampled_from([8000, 11025, 16000]))
@settings(max_examples=60)
def test_valid_steps_are_the_begun_steps(steps: int, samples: int, rate: int) -> None:
    front_end = FrontEnd.design(8000, steps=steps)
    assert front_end.resampled_rate == steps * front_end.hop
    frames = front_end.log_mel(np.full(samples, 0.1), rate)
    kept = min(samples, rate)  # a window of 1 s
    expected = next(count for count in range(1, steps + 1) if count * rate >= kept * steps)
    assert frames.shape == (expected, 140)
    assert np.isfinite(frames).all()


@pytest.mark.parametrize(
    ("window_s", "steps", "expected"), [(0.1, 30, 3), (1.0, 40, 40), (0.7, 10, 7), (1.4, 100, 140), (0.51, 10, 6)]
)
def test_window_steps_are_free_of_rounding(window_s: float, steps: int, expected: int) -> None:
    # 0.1 * 30 = 3.0000000000000004 in floating point
    assert FrontEnd.design(8000, steps=steps, window_s=window_s).window_steps == expected


@pytest.mark.parametrize("other", [11025, 16000, 44100, 48000])
def test_rate_of_the_recording_hardly_matters(other: int) -> None:
    front_end = FrontEnd.design(8000, steps=100)
    waveform = speechlike(0.6, 8000)
    same = front_end.log_mel(waveform, 8000)
    resampled = front_end.log_mel(soxr.resample(waveform, 8000, other, quality="VHQ"), other)
    assert same.shape == resampled.shape == (60, 140)
    below = slice(0, 120)  # the top bands lie in the transition band of the resamplers
    assert np.median(np.abs(same - resampled)[:, below]) < 0.05
    assert np.quantile(np.abs(same - resampled)[:, below], 0.99) < 1.0


def test_steps_change_the_grid_and_not_the_levels() -> None:
    waveform = 0.1 * np.random.default_rng(0).standard_normal(16000)
    levels = [FrontEnd.design(16000, steps=steps).log_mel(waveform, 16000).mean() for steps in (80, 100, 200)]
    assert max(levels) - min(levels) < 0.5  # all three analyse 25 ms


def test_longer_recording_is_cut_to_its_loudest_stretch() -> None:
    front_end = FrontEnd.design(8000, steps=40, window_s=0.5)
    quiet = 1e-3 * np.random.default_rng(0).standard_normal(8000)
    word = 0.2 * np.random.default_rng(1).standard_normal(4000)
    frames = front_end.log_mel(np.concatenate([quiet, word, quiet]), 8000)
    np.testing.assert_array_equal(frames, front_end.log_mel(word, 8000))


def test_silence_is_at_the_floor() -> None:
    front_end = FrontEnd.design(8000, steps=40)
    np.testing.assert_array_equal(front_end.log_mel(np.zeros(4000), 8000), np.full((20, 140), -100, np.float32))


@pytest.mark.parametrize("rate", [1, 500, 8000, 192000])
def test_one_sample_makes_one_step(rate: int) -> None:
    frames = FrontEnd.design(8000, steps=40).log_mel(np.array([1.0]), rate)
    assert frames.shape[0] == max(1, 40 // rate)
    assert np.isfinite(frames).all()


def test_padded_steps_are_exact_zeros_and_valid_ones_are_normalised() -> None:
    front_end = FrontEnd.design(8000, steps=40)
    normaliser = Normaliser(mean=tuple(np.linspace(-60, -50, 140)), std=tuple(np.linspace(5, 9, 140)))
    values, steps = Preprocessing(front_end=front_end, normaliser=normaliser)(speechlike(0.3, 8000), 8000)
    assert (values.shape, values.dtype, steps) == ((40, 140), np.float32, 12)
    frames = front_end.log_mel(speechlike(0.3, 8000), 8000).astype(np.float64)
    expected = (frames - np.linspace(-60, -50, 140)) / np.linspace(5, 9, 140)
    np.testing.assert_allclose(values[:12], expected, rtol=1e-6, atol=1e-6)
    assert not values[12:].any()


def test_appended_zeros_change_only_steps_that_touch_them() -> None:
    preprocessing = identity(FrontEnd.design(8000, steps=40))
    waveform = speechlike(0.5, 8000)
    short, short_steps = preprocessing(waveform, 8000)
    long, long_steps = preprocessing(np.pad(waveform, (0, 2000)), 8000)
    assert (short_steps, long_steps) == (20, 30)
    np.testing.assert_array_equal(short[:20], long[:20])


def test_normaliser_measures_valid_frames_only() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(5, 3, (6, 10, 4)).astype(np.float32)
    steps = np.array([1, 10, 4, 7, 2, 9])
    frames = np.concatenate([v[:s] for v, s in zip(values, steps, strict=True)]).astype(np.float64)
    for v, s in zip(values, steps, strict=True):
        v[s:] = 1e6
    normaliser = Normaliser.fit(values, steps)
    np.testing.assert_allclose(normaliser.mean, frames.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(normaliser.std, frames.std(axis=0), rtol=1e-10)


def test_constant_band_does_not_explode() -> None:
    normaliser = Normaliser.fit(np.full((2, 5, 3), -70, np.float32), np.array([5, 5]))
    assert normaliser.std == (1.0, 1.0, 1.0)  # the floor, 1 dB
    assert normaliser(np.array([[-70, -60, -80]], np.float32)).tolist() == [[0.0, 10.0, -10.0]]


def test_preprocessing_survives_json() -> None:
    front_end = FrontEnd.design(16000, steps=37, window_s=1.3)
    rng = np.random.default_rng(0)
    normaliser = Normaliser(mean=tuple(rng.normal(size=140)), std=tuple(rng.uniform(1, 2, 140)))
    preprocessing = Preprocessing(front_end=front_end, normaliser=normaliser)
    assert Preprocessing.model_validate_json(preprocessing.model_dump_json()) == preprocessing


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_fft": 256}, "n_fft=256 is too short for 140 mel bands"),
        ({"n_fft": 128}, "expected hop <= win_length <= n_fft. Got 80, 200, 128"),
        ({"fmax": 14000.0}, r"expected fmin < fmax <= 4000.0 Hz. Got 0.0, 14000.0"),
        ({"hops": 3}, "Extra inputs are not permitted"),
        ({"steps": 0}, "greater than 0"),
        ({"window_s": math.inf}, "finite"),
    ],
)
def test_impossible_front_end_is_refused(change: dict[str, float], message: str) -> None:
    fields = FrontEnd.design(8000, steps=100).model_dump() | change
    with pytest.raises(ValidationError, match=message):
        FrontEnd.model_validate(fields)


def test_impossible_normaliser_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"same length. Got 2 and 1"):
        Normaliser(mean=(0.0, 0.0), std=(1.0,))
    with pytest.raises(ValidationError, match="greater than 0"):
        Normaliser(mean=(0.0,), std=(0.0,))
    with pytest.raises(ValidationError, match=r"must have 140 bands. Got 1"):
        Preprocessing(front_end=FrontEnd.design(8000, steps=40), normaliser=Normaliser(mean=(0.0,), std=(1.0,)))


@pytest.mark.parametrize(
    "change", [{"steps": 0}, {"steps": -3}, {"window_s": 0.0}, {"window_s": math.nan}, {"bands": 0}]
)
def test_design_refuses_what_is_not_positive(change: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(change))} must be a positive number. Got"):
        FrontEnd.design(8000, **({"steps": 40} | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 8001}, "steps must be at most 8000, the data's samples per second. Got 8001"),
        ({"steps": 100_000_000}, "steps must be at most 8000, .* Got 100000000"),
        ({"window_s": 60.1}, "window_s must be at most 60. Got 60.1"),
        ({"window_s": 1e300}, r"window_s must be at most 60. Got 1e\+300"),
        ({"bands": 10**9}, "bands must be at most 1000. Got 1000000000"),
    ],
)
def test_design_refuses_what_is_absurd(change: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}$"):
        FrontEnd.design(8000, **({"steps": 40} | change))


def test_design_takes_as_many_steps_as_samples() -> None:
    front_end = FrontEnd.design(8000, steps=8000, window_s=0.01)
    assert (front_end.hop, front_end.window_steps) == (1, 80)
    assert front_end.log_mel(speechlike(0.01, 8000), 8000).shape == (80, 140)


def test_transform_that_does_not_fit_the_memory_is_refused() -> None:
    front_end = FrontEnd.design(2**31 - 1, steps=1, bands=77)  # a header that lies about its rate
    with (
        memory_limited(10**9),
        pytest.raises(UsageError, match=r"^a log-mel spectrogram of 1 steps of .* takes .*TB of mem"),
    ):
        front_end.log_mel(np.zeros(10), 8000)


@given(st.floats(-60, 20))
@settings(max_examples=20, deadline=None)
def test_by_its_own_levels_a_recording_is_the_same_however_loud(gain_db: float) -> None:
    front_end = FrontEnd.design(8000, steps=40, bands=40, floor_db=-200)
    preprocessing = Preprocessing(front_end=front_end, normaliser=RecordingNormaliser())
    loud, steps = preprocessing(speechlike(0.5, 8000), 8000)
    other, _ = preprocessing(10 ** (gain_db / 20) * speechlike(0.5, 8000), 8000)
    np.testing.assert_allclose(other, loud, atol=1e-4)
    assert loud[:steps].mean() == pytest.approx(0, abs=1e-4)
    assert loud[:steps].std() == pytest.approx(1, abs=1e-4)


def test_by_its_own_levels_follows_the_definition() -> None:
    frames = np.array([[0.0, -20.0], [-59.0, -90.0]], np.float32)
    raised = np.array([[0.0, -20.0], [-59.0, -60.0]])
    np.testing.assert_allclose(RecordingNormaliser()(frames), (raised - raised.mean()) / raised.std(), rtol=1e-6)
    assert not RecordingNormaliser()(np.full((3, 2), -200, np.float32)).any()  # silence


def test_kinds_of_normalisation_are_told_apart_in_json() -> None:
    front_end = FrontEnd.design(16000, steps=40, bands=20, frames_per_step=3)
    assert front_end.channels == 60
    for normaliser in (RecordingNormaliser(range_db=50), Normaliser(mean=(0.0,) * 60, std=(1.0,) * 60)):
        preprocessing = Preprocessing(front_end=front_end, normaliser=normaliser)
        assert Preprocessing.model_validate_json(preprocessing.model_dump_json()) == preprocessing


@pytest.mark.parametrize("frames", [0, 201])
def test_a_step_has_a_frame_and_no_more_than_samples(frames: int) -> None:
    with pytest.raises(UsageError, match=f"frames_per_step must be from 1 to 200, a step's samples. Got {frames}"):
        FrontEnd.design(8000, steps=40, frames_per_step=frames)
