"""Recordings of sound as they are read: one by one, or a whole split kept as waveforms."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from spikescr.data.audio import Waveform, loudest_stretch, read_recording
from spikescr.data.dataset import Item
from spikescr.data.frontend import FrontEnd
from spikescr.errors import DataError, UsageError
from spikescr.progress import track
from spikescr.sizes import require_memory

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Sounds:
    """The waveforms of the n recordings that could be read, in the order in which they were asked for.

    Attributes:
        waveforms: Each of shape (samples,), float32, no longer than the window.
        rate: Of all of them, Hz.
        steps: Valid steps of each recording, shape (n,).
        labels: Class indices, shape (n,).
        left_out: Name and fault of each recording that cannot be read.
    """

    waveforms: tuple[npt.NDArray[np.float32], ...]
    rate: int
    steps: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)


def read_sounds(items: Sequence[Item], front_end: FrontEnd) -> Sounds:
    """Read recordings and keep their waveforms, at the rate of the front end's data.

    Raises:
        UsageError: They do not fit the memory, or are recordings of spikes.
    """
    import librosa

    rate, window = front_end.sample_rate, front_end.window_samples(front_end.sample_rate)
    require_memory(
        4 * len(items) * window,
        f"a split of {len(items):,} recordings of {front_end.window_s:g} s",
        "choose a shorter window, or train without augmentation of waveforms",
    )
    waveforms, steps, labels = [], [], []
    left_out: dict[str, str] = {}
    for item, whole, own in hear(items, front_end, left_out):
        kept = loudest_stretch(whole, front_end.window_samples(own))
        if own != rate:
            kept = librosa.resample(kept, orig_sr=own, target_sr=rate)[:window]
        waveforms.append(kept.astype(np.float32))
        steps.append(front_end.valid_steps(len(kept), rate))
        labels.append(item.label)
    return Sounds(tuple(waveforms), rate, np.array(steps, dtype=np.int64), np.array(labels, dtype=np.int64), left_out)


def hear(items: Sequence[Item], front_end: FrontEnd, left_out: dict[str, str]) -> Iterator[tuple[Item, Waveform, int]]:
    """Yield waveform and rate of each recording that can be read; `left_out` gets name and fault of the others.

    One warning in the end tells the silent ones, one those to be cut.

    Raises:
        UsageError: One is a recording of spikes.
    """
    silent: list[str] = []
    cut: list[tuple[float, str]] = []
    for item in track(items, "Reading recordings", len(items)):
        if item.index is not None:
            raise UsageError(f"the network takes recordings of sound, {item.name} is one of spikes")
        try:
            waveform, rate = read_recording(item.path)
        except DataError as error:
            left_out[item.name] = str(error)
            continue
        if not waveform.any():
            silent.append(item.name)
        if len(waveform) > front_end.window_samples(rate):
            cut.append((len(waveform) / rate, item.name))
        yield item, waveform, rate
    warn(silent, cut, f"loudest {front_end.window_s:g} s")


def warn(silent: list[str], cut: list[tuple[float, str]], to: str) -> None:
    """Tell which recordings are silent, and which (seconds, name) were cut."""
    if silent:
        logger.warning("%d silent recording(s): %s", len(silent), some_of(silent))
    if cut:
        logger.warning(
            "%d recording(s) cut to their %s; the longest, %s, lasts %.2f s", len(cut), to, max(cut)[1], max(cut)[0]
        )


def some_of(names: list[str]) -> str:
    """Join the first few names."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
