"""Background noise to train with: made here (white, pink, brown, babble), or recordings of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from spikescr.data.audio import Waveform, is_recording, read_recording
from spikescr.data.digits import open_digits
from spikescr.errors import DataError
from spikescr.files import expanded
from spikescr.progress import track

COLOURS = (0.0, 1.0, 2.0)
"""Power falls with so many powers of the frequency: white, pink, brown."""
LOWEST_HZ = 20.0
"""Below, power falls no further: what is heard shall be as loud as was asked for."""
VOICES = (3, 8)
"""Fewest and most that babble at once."""
UTTERANCES = 400
"""Of our generator's training voices, to put babble together from: some minutes of speech."""


class Noise(Protocol):
    """A source of noise."""

    def draw(self, rng: np.random.Generator, samples: int) -> Waveform:
        """Return `samples` samples, shape (samples,), of mean square 1; all 0 where the source is silent there."""
        ...


class RecordedNoise:
    """Stretches of recordings, each recording as likely as the other, repeated where they are too short."""

    def __init__(self, recordings: Sequence[Waveform]) -> None:
        self._recordings = recordings

    def draw(self, rng: np.random.Generator, samples: int) -> Waveform:
        """Return a stretch from a random place of a random recording."""
        recording = self._recordings[int(rng.integers(len(self._recordings)))]
        begin = int(rng.integers(len(recording)))
        return _unit(recording.take(np.arange(begin, begin + samples), mode="wrap"))


class MadeNoise:
    """White, pink and brown noise and babble, each as likely as the other."""

    def __init__(self, rate: int, utterances: Sequence[Waveform]) -> None:
        """Take the rate in Hz, and at that rate the utterances that babble is put together from."""
        self._rate = rate
        self._speech = RecordedNoise(utterances)

    def draw(self, rng: np.random.Generator, samples: int) -> Waveform:
        """Return noise of one of the four kinds."""
        kind = int(rng.integers(len(COLOURS) + 1))
        if kind < len(COLOURS):
            return coloured(rng, samples, self._rate, COLOURS[kind])
        voices = int(rng.integers(VOICES[0], VOICES[1] + 1))
        return _unit(np.sum([self._speech.draw(rng, samples) for _ in range(voices)], axis=0))


def coloured(rng: np.random.Generator, samples: int, rate: int, exponent: float) -> Waveform:
    """Return Gaussian noise whose power falls as frequency to the power -exponent above `LOWEST_HZ`.

    Args:
        rng: Draws it.
        samples: How many.
        rate: In Hz.
        exponent: 0 for white, 1 for pink, 2 for brown noise.

    Returns:
        Shape (samples,), mean square 1.
    """
    white = rng.standard_normal(samples)
    if exponent == 0 or samples < 2:
        return _unit(white)
    hertz = np.maximum(np.fft.rfftfreq(samples, 1 / rate), LOWEST_HZ)
    return _unit(np.fft.irfft(np.fft.rfft(white) * hertz ** (-exponent / 2), samples))


def open_noise(spec: str, rate: int, *, cache: Path | None = None) -> Noise:
    """Open a source of noise.

    Args:
        spec: `made`: white, pink and brown noise and babble of our generator's training voices; `folder:PATH`: the
            recordings in a folder and those below it.
        rate: In Hz; recordings of another are resampled.
        cache: Folder in which our generator keeps what it spoke; default: see `open_data`.

    Raises:
        DataError: There is no such folder, no recording in it, one that cannot be read or is silent; or our generator
            cannot speak.
    """
    kind, _, place = spec.partition(":")
    if kind == "made":
        spoken = open_digits(cache).split("train")
        paths = [item.path for item in spoken[:: -(-len(spoken) // UTTERANCES)]]
        return MadeNoise(rate, _read(paths, rate))
    root = expanded(Path(place))
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; it shall hold recordings of noise (augmentation.noise)")
    try:
        paths = sorted(path for path in root.rglob("*") if is_recording(path) and path.is_file())
    except OSError as error:
        raise DataError(f"{error.filename or root}: cannot be read: {error.strerror}") from error
    if not paths:
        raise DataError(f"{root}: no recordings (.wav, .flac and the like) of noise in it (augmentation.noise)")
    return RecordedNoise(_read(paths, rate))


def _read(paths: Sequence[Path], rate: int) -> list[Waveform]:
    """Read recordings at a rate, in float32."""
    import librosa

    recordings = []
    for path in track(paths, "Reading noise", len(paths)):
        waveform, own = read_recording(path)
        if not waveform.any():
            raise DataError(f"{path}: silent, it is no noise; remove it")
        if own != rate:
            waveform = librosa.resample(waveform, orig_sr=own, target_sr=rate)
        recordings.append(waveform.astype(np.float32))
    return recordings


def _unit(waveform: Waveform) -> Waveform:
    """Scale to a mean square of 1; silence stays silent."""
    waveform = np.asarray(waveform, dtype=np.float64)
    power = float(np.mean(waveform**2)) if len(waveform) else 0.0
    return waveform / np.sqrt(power) if power > 0 else waveform
