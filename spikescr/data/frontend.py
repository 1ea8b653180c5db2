"""From a waveform to a log-mel spectrogram of a whole number of frames for each step.

Axes: T steps of the window, L <= T valid steps of a recording, C = frames_per_step * bands channels.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PositiveInt, model_validator

from spikescr.data.audio import Waveform, loudest_stretch
from spikescr.data.timing import exact, require_window, window_steps
from spikescr.errors import UsageError
from spikescr.sizes import require_memory

Frames = npt.NDArray[np.float32]
Positive = Annotated[FiniteFloat, Field(gt=0)]

ANALYSIS_S = 0.025
"""Shortest analysis window."""
MOST_BANDS = 1000

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class FrontEnd(BaseModel):
    """Log-mel spectrogram for any whole number of steps per second, F = `frames_per_step` frames in each.

    The audio is resampled to `steps * F * hop` Hz, so that the hop is a whole number of samples. Frame t is the power
    spectrum of `win_length` samples under a Hann window centred on the middle of the t-th part of 1 / (F steps) seconds
    (zeros outside the recording), relative to full scale (a sine of amplitude a has a^2 / 4), summed under triangles of
    height 1, in dB:

        frame[t, c] = 10 log10(max(sum_f mel[c, f] |STFT[t, f]|^2 / (sum of the window)^2, 10^(floor_db / 10)))

    A step's channels are its F frames, one behind the other. Mel scale: Slaney's (librosa's default).

    Attributes:
        sample_rate: Rate of the data in Hz; nothing is to be expected above half of it.
        steps: Steps per second.
        window_s: Length in seconds of what the network sees; longer recordings are cut to their loudest stretch.
        bands: Mel bands.
        frames_per_step: F; with more than one, a step tells how the spectrum moves within it.
        win_length: Analysis window, samples at `resampled_rate`.
        n_fft: Length of the Fourier transform; so long that no mel filter falls between two of its frequencies.
        fmin: Lower end of the lowest filter in Hz.
        fmax: Upper end of the highest filter in Hz, at most half of either rate.
        floor_db: Powers below are raised to it; above the noise of 16-bit samples.
    """

    model_config = _FROZEN

    sample_rate: PositiveInt
    steps: PositiveInt
    window_s: Positive = 1.0
    bands: PositiveInt = 140
    frames_per_step: PositiveInt = 1
    win_length: PositiveInt
    n_fft: PositiveInt
    fmin: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    fmax: Positive
    floor_db: FiniteFloat = -100.0

    @classmethod
    def design(
        cls,
        sample_rate: int,
        *,
        steps: int,
        window_s: float = 1.0,
        bands: int = 140,
        frames_per_step: int = 1,
        floor_db: float = -100.0,
    ) -> Self:
        """Choose the analysis for data of `sample_rate` Hz: windows of 25 ms or 2 hops, whichever is longer.

        Raises:
            UsageError: A number is not positive, or so large that only a slip explains it.
        """
        for name, value in {"steps": steps, "window_s": window_s, "bands": bands}.items():
            if not 0 < value < math.inf:
                raise UsageError(f"{name} must be a positive number. Got {value}")
        if steps > sample_rate:
            raise UsageError(f"steps must be at most {sample_rate}, the data's samples per second. Got {steps}")
        if not 0 < frames_per_step <= sample_rate // steps:
            raise UsageError(
                f"frames_per_step must be from 1 to {sample_rate // steps}, a step's samples. Got {frames_per_step}"
            )
        require_window(window_s)
        if bands > MOST_BANDS:
            raise UsageError(f"bands must be at most {MOST_BANDS}. Got {bands}")
        hop = _hop(sample_rate, steps * frames_per_step)
        rate = steps * frames_per_step * hop
        win_length = max(round(ANALYSIS_S * rate), 2 * hop)
        fmax = min(sample_rate, rate) / 2
        shortest = max(win_length, rate / _narrowest_interval_hz(bands, 0.0, fmax))
        return cls(
            sample_rate=sample_rate,
            steps=steps,
            window_s=window_s,
            bands=bands,
            frames_per_step=frames_per_step,
            win_length=win_length,
            n_fft=2 ** math.ceil(math.log2(shortest)),
            fmax=fmax,
            floor_db=floor_db,
        )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.hop <= self.win_length <= self.n_fft:
            raise ValueError(f"expected hop <= win_length <= n_fft. Got {self.hop}, {self.win_length}, {self.n_fft}")
        nyquist = min(self.sample_rate, self.resampled_rate) / 2
        if not self.fmin < self.fmax <= nyquist:
            raise ValueError(f"expected fmin < fmax <= {nyquist} Hz. Got {self.fmin}, {self.fmax}")
        if self.resampled_rate > self.n_fft * _narrowest_interval_hz(self.bands, self.fmin, self.fmax):
            raise ValueError(f"n_fft={self.n_fft} is too short for {self.bands} mel bands: filters would be empty")
        return self

    @property
    def channels(self) -> int:
        """C, numbers that a step of the input holds."""
        return self.frames_per_step * self.bands

    @property
    def hop(self) -> int:
        """Samples per frame at `resampled_rate`."""
        return _hop(self.sample_rate, self.steps * self.frames_per_step)

    @property
    def resampled_rate(self) -> int:
        """Rate in Hz to which all audio is brought."""
        return self.steps * self.frames_per_step * self.hop

    @property
    def window_steps(self) -> int:
        """T, the steps of the window: window_s * steps, rounded up."""
        return window_steps(self.window_s, self.steps)

    def window_samples(self, rate: int) -> int:
        """Return the number of samples at `rate` Hz that fit the window, at least 1."""
        return max(1, math.floor(exact(self.window_s) * rate))

    def valid_steps(self, samples: int, rate: int) -> int:
        """Return the number of steps that `samples` samples at `rate` Hz last: rounded up, at least 1, at most T."""
        return max(1, min(self.window_steps, -(-samples * self.steps // rate)))

    def log_mel(self, waveform: Waveform, rate: int) -> Frames:
        """Compute the log-mel spectrogram of a recording.

        Args:
            waveform: Shape (n,), full scale = 1.
            rate: Its rate in Hz, any.

        Returns:
            Shape (L, C), dB relative to full scale.
        """
        filters = mel_filters(self)
        waveform = loudest_stretch(np.asarray(waveform, dtype=np.float64), self.window_samples(rate))
        length = self.valid_steps(len(waveform), rate)
        if rate != self.resampled_rate:
            import librosa

            waveform = librosa.resample(waveform, orig_sr=rate, target_sr=self.resampled_rate)
        padded = np.zeros((length * self.frames_per_step - 1) * self.hop + self.n_fft)
        begin = self.n_fft // 2 - self.hop // 2  # puts the middle of the first hop into the middle of frame 0
        waveform = waveform[: len(padded) - begin]
        padded[begin : begin + len(waveform)] = waveform
        # librosa.stft's numbers, without its checks, which take as long as the transform of a word.
        parts = np.lib.stride_tricks.sliding_window_view(padded, self.n_fft)[:: self.hop]
        spectrum = np.fft.rfft(parts * _taper(self)).T
        power = filters @ (spectrum.real**2 + spectrum.imag**2) / (self.win_length / 2) ** 2
        frames: Frames = (10 * np.log10(np.maximum(power, 10 ** (self.floor_db / 10)))).T.astype(np.float32)
        return frames.reshape(length, self.channels)


@lru_cache(maxsize=16)
def mel_filters(front_end: FrontEnd) -> npt.NDArray[np.float64]:
    """Return the mel filters, shape (bands, n_fft // 2 + 1): triangles of height 1; read-only.

    Raises:
        UsageError: They, or a spectrogram of a whole window, do not fit the memory.
    """
    from librosa.filters import mel

    bins = front_end.n_fft // 2 + 1  # of the filters, and of a whole window's frames, their spectra and the squares
    frames = front_end.window_steps * front_end.frames_per_step
    require_memory(
        8 * bins * front_end.bands + 48 * bins * frames,
        f"a log-mel spectrogram of {front_end.window_steps:,} steps of {front_end.n_fft:,} samples each",
        "choose other steps per second (--steps), fewer bands or a shorter window",
    )
    filters: npt.NDArray[np.float64] = mel(
        sr=front_end.resampled_rate,
        n_fft=front_end.n_fft,
        n_mels=front_end.bands,
        fmin=front_end.fmin,
        fmax=front_end.fmax,
        norm=None,
        dtype=np.float64,
    )
    assert filters.any(axis=1).all(), "FrontEnd admits only n_fft that leaves no filter empty"
    filters.setflags(write=False)
    return filters


def filter_taps(front_end: FrontEnd) -> tuple[int, ...]:
    """Return how many frequencies each mel filter weighs, (bands,): those between its corners; needs no librosa."""
    low, high, parts = _mel(front_end.fmin), _mel(front_end.fmax), front_end.bands + 1
    inner = (_hertz(low + (high - low) * k / parts) for k in range(1, parts))
    corners = (front_end.fmin, *inner, front_end.fmax)
    per_hertz = front_end.n_fft / front_end.resampled_rate
    ends = zip(corners[:-2], corners[2:], strict=True)
    return tuple(math.ceil(upper * per_hertz) - math.floor(lower * per_hertz) - 1 for lower, upper in ends)


@lru_cache(maxsize=16)
def _taper(front_end: FrontEnd) -> npt.NDArray[np.float64]:
    """Return the Hann window between zeros, shape (n_fft,); read-only."""
    from librosa.filters import get_window

    taper = np.zeros(front_end.n_fft)
    begin = (front_end.n_fft - front_end.win_length) // 2
    taper[begin : begin + front_end.win_length] = get_window("hann", front_end.win_length)
    taper.setflags(write=False)
    return taper


def _hop(sample_rate: int, frames: int) -> int:
    """Return the whole number of samples per frame, at least 1, that is closest to the data's rate."""
    return max(1, round(sample_rate / frames))


def _narrowest_interval_hz(bands: int, fmin: float, fmax: float) -> float:
    """Return the distance between the first two of the `bands + 2` corners of the mel filters, the closest of all.

    With Fourier frequencies no further apart, each triangle has one at which it is at least half its height.
    """
    return _hertz(_mel(fmin) + (_mel(fmax) - _mel(fmin)) / (bands + 1)) - fmin


def _mel(hertz: float) -> float:
    """Slaney's mel scale: linear up to 1000 Hz (200 / 3 Hz per mel), logarithmic above (27 mel for a factor 6.4)."""
    return 3 * hertz / 200 if hertz < 1000 else 15 + 27 * math.log(hertz / 1000) / math.log(6.4)


def _hertz(mel: float) -> float:
    return 200 * mel / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)
