"""Augmentation of waveforms, before they become spectrograms: other speed, words beside it, time, background, loudness.

As for masks (`augment`), what happens to a recording follows from the seed, the epoch and its place in its data set.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spikescr.data.audio import Waveform, loudest_stretch
from spikescr.data.noise import Noise
from spikescr.training.config import Augmentation

PURPOSE = int.from_bytes(b"sound")
"""Second half of Philox's key: other draws from the same seed are other numbers."""
BESIDE = int.from_bytes(b"beside")
"""The same, of neighbours."""


def augment_sound(
    waveform: Waveform,
    rate: int,
    config: Augmentation,
    noise: Noise | None,
    *,
    window: int,
    place: tuple[int, int, int],
    others: Sequence[Waveform] = (),
) -> Waveform:
    """Alter a recording as `config` says.

    Each alteration has its own numbers: switching one on or off, or up, leaves the others as they are.

    Args:
        waveform: Shape (n,), n at most `window`; is not changed.
        rate: In Hz.
        config: What, how much and how often.
        noise: Source of noise; None: none.
        window: Samples of the network's window; nothing becomes longer.
        place: Seed, epoch (from 1) and place of the recording in its data set.
        others: Recordings that neighbours are drawn from, at the same rate; not empty where there shall be any.

    Returns:
        Shape (m,), 1 <= m <= window.
    """
    seed, epoch, sample = place
    rng = np.random.Generator(np.random.Philox(key=[seed, PURPOSE], counter=[0, 0, epoch, sample]))
    speed, moved, whether, ratio, gain = rng.random(5)
    if config.speed:
        waveform = loudest_stretch(_at_speed(waveform, 1 + config.speed * (2 * speed - 1)), window)
    shift = round(config.time_shift_s * (2 * moved - 1) * rate)
    beside = np.random.Generator(np.random.Philox(key=[seed, BESIDE], counter=[0, 0, epoch, sample]))
    if beside.random() < config.neighbours:
        waveform = _among(waveform, others, rate, config.neighbour_gap_s, beside, window=window, shift=shift)
    elif shift:
        waveform = _moved(waveform, shift, window)
    if noise is not None and whether < config.noise_probability:
        low, high = config.noise_snr
        waveform = mix(waveform, noise.draw(rng, len(waveform)), low + (high - low) * ratio)
    if config.gain_db:
        waveform = waveform * 10 ** (config.gain_db * (2 * gain - 1) / 20)
    return waveform


def mix(waveform: Waveform, noise: Waveform, snr_db: float) -> Waveform:
    """Add noise of mean square 1 at a ratio: scaled to 10^(-snr / 10) of the recording's mean square."""
    loudness = float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))
    mixed: Waveform = waveform + noise * (loudness * 10 ** (-snr_db / 20))
    return mixed


def _at_speed(waveform: Waveform, factor: float) -> Waveform:
    """Play `factor` times as fast, higher and shorter, by linear interpolation."""
    places = np.arange(max(1, round(len(waveform) / factor))) * factor
    played: Waveform = np.interp(places, np.arange(len(waveform)), waveform)
    return played


def _moved(waveform: Waveform, by: int, window: int) -> Waveform:
    """Put silence before (by > 0) or after; what the window has no room for goes at the other end."""
    if by >= 0:
        return np.pad(waveform, (by, 0))[:window]
    return np.pad(waveform, (0, -by))[-window:]


def _among(
    waveform: Waveform,
    others: Sequence[Waveform],
    rate: int,
    gap_s: tuple[float, float],
    rng: np.random.Generator,
    *,
    window: int,
    shift: int,
) -> Waveform:
    """A window of speech: another, a gap, this recording, a gap, another; its middle `shift` samples late."""
    before, after = (others[int(rng.integers(len(others)))] for _ in range(2))
    first, second = (np.zeros(round(seconds * rate)) for seconds in rng.uniform(*gap_s, size=2))
    silence = np.zeros(window)
    speech = np.concatenate((silence, before, first, waveform, second, after, silence))
    late = min(max(shift, 1 - window // 2), window // 2)  # something of it stays
    begin = window + len(before) + len(first) - (window - len(waveform)) // 2 - late
    return speech[begin : begin + window]
