"""Load recordings as network input, and fit the preprocessing to the training split: log-mel of sound, or counts."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spikescr.data.audio import read_recording
from spikescr.data.binned import Binned, Counts
from spikescr.data.dataset import DataSet, Item
from spikescr.data.frontend import FrontEnd, Normaliser, Preprocessing
from spikescr.data.spikes import SpikeBins
from spikescr.errors import UsageError
from spikescr.progress import track
from spikescr.sizes import require_memory

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Features:
    """The network input of n recordings, in the order in which they were asked for.

    Attributes:
        values: Shape (n, T, C); exact zeros in padded steps. Of sound normalised frames, float32; of spikes counts, in
            the type of the cache (uint8 or uint16), mapped from it where all of a file's recordings are asked for.
        steps: Valid steps of each recording, shape (n,).
        labels: Class indices, shape (n,).
        names: Names of the recordings.
    """

    values: npt.NDArray[Any]
    steps: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)


def fit_and_load(
    dataset: DataSet, *, steps: int, window_s: float = 1.0, bands: int = 140
) -> tuple[Preprocessing, Features]:
    """Choose the front end for a data set, fit the normaliser, and load the training split with both.

    Reads the training split, nothing else, and each recording in it once.

    Args:
        dataset: The data set.
        steps: Steps per second.
        window_s: Length of the network's window in seconds.
        bands: Input channels: mel bands, or groups of units.

    Returns:
        The preprocessing, and what `load` gives with it for the training split.

    Raises:
        UsageError: A number is not positive, or absurd, or the recordings do not fit the memory.
        DataError: A training recording cannot be used.
    """
    if dataset.signal == "spikes":
        counting = Preprocessing(front_end=SpikeBins.design(steps=steps, window_s=window_s, bands=bands))
        return counting, load(dataset.split("train"), counting)
    front_end = FrontEnd.design(dataset.rate, steps=steps, window_s=window_s, bands=bands)
    features = _log_mel(dataset.split("train"), front_end)
    normaliser = Normaliser.fit(features.values, features.steps)
    preprocessing = Preprocessing(front_end=front_end, normaliser=normaliser)
    return preprocessing, _normalised(features, normaliser)


def load(items: Sequence[Item], preprocessing: Preprocessing) -> Features:
    """Read recordings and turn them into network input.

    Silent recordings are accepted, and longer ones than the window are cut to their loudest stretch, or to that of most
    spikes; one logged warning for each of the two kinds says how many there were.

    Args:
        items: Which, in this order.
        preprocessing: From `fit_and_load` or a checkpoint.

    Raises:
        UsageError: The recordings do not fit the memory, or are sound where the network takes spikes, or the reverse.
        DataError: A recording cannot be used.
    """
    front_end, normaliser = preprocessing.front_end, preprocessing.normaliser
    if isinstance(front_end, SpikeBins):
        return _counts(items, front_end)
    assert normaliser is not None
    return _normalised(_log_mel(items, front_end), normaliser)


def _counts(items: Sequence[Item], bins: SpikeBins) -> Features:
    """Take the recordings out of the binned files."""
    for item in items:
        if item.index is None:
            raise UsageError(f"the network takes recordings of spikes, {item.name} is one of sound")
    files = {path: Binned.from_file(path, bins) for path in dict.fromkeys(item.path for item in items)}
    chosen = np.array([item.index for item in items], dtype=np.int64)
    lengths = np.zeros(len(items), dtype=np.int64)
    values: Counts = np.zeros((0, bins.window_steps, bins.bands), dtype=np.uint8)
    if len(files) == 1:
        (binned,) = files.values()
        lengths = binned.lengths[chosen]
        whole = np.array_equal(chosen, np.arange(len(binned.counts)))
        if not whole:
            _require_memory((len(items), bins.window_steps, bins.bands), binned.counts.dtype)
        values = binned.counts if whole else binned.counts[chosen]
    elif files:
        dtype = np.result_type(*(binned.counts for binned in files.values()))
        _require_memory((len(items), bins.window_steps, bins.bands), dtype)
        values = np.zeros((len(items), bins.window_steps, bins.bands), dtype=dtype)
        for row, item in enumerate(items):
            values[row] = files[item.path].counts[item.index]
            lengths[row] = files[item.path].lengths[item.index]
    _warn(
        [item.name for item, length in zip(items, lengths, strict=True) if length == 0],
        [
            (length / bins.steps, item.name)
            for item, length in zip(items, lengths, strict=True)
            if length > bins.window_steps
        ],
        f"stretch of most spikes, {bins.window_s:g} s",
    )
    labels = np.array([item.label for item in items], dtype=np.int64)
    return Features(values, lengths.clip(1, bins.window_steps), labels, tuple(item.name for item in items))


def _log_mel(items: Sequence[Item], front_end: FrontEnd) -> Features:
    """Read recordings as log-mel spectrograms, not yet normalised, zeros in padded steps."""
    shape = (len(items), front_end.window_steps, front_end.bands)
    _require_memory(shape, np.dtype(np.float32))
    values = np.zeros(shape, dtype=np.float32)
    steps = np.zeros(len(items), dtype=np.int64)
    silent: list[str] = []
    cut: list[tuple[float, str]] = []

    for index, item in enumerate(track(items, "Reading recordings", len(items))):
        if item.index is not None:
            raise UsageError(f"the network takes recordings of sound, {item.name} is one of spikes")
        waveform, rate = read_recording(item.path)
        frames = front_end.log_mel(waveform, rate)
        steps[index] = len(frames)
        values[index, : len(frames)] = frames
        if not waveform.any():
            silent.append(item.name)
        if len(waveform) > front_end.window_samples(rate):
            cut.append((len(waveform) / rate, item.name))
    _warn(silent, cut, f"loudest {front_end.window_s:g} s")
    labels = np.array([item.label for item in items], dtype=np.int64)
    return Features(values, steps, labels, tuple(item.name for item in items))


def _require_memory(shape: tuple[int, int, int], dtype: np.dtype[Any]) -> None:
    require_memory(
        math.prod(shape) * dtype.itemsize,
        f"a split of {shape[0]:,} recordings, {shape[1]:,} steps and {shape[2]} channels",
        "choose fewer steps per second (--steps) or a shorter window",
    )


def _warn(silent: list[str], cut: list[tuple[float, str]], to: str) -> None:
    """Tell which recordings are silent, and which (seconds, name) were cut."""
    if silent:
        logger.warning("%d silent recording(s): %s", len(silent), _some(silent))
    if cut:
        logger.warning(
            "%d recording(s) cut to their %s; the longest, %s, lasts %.2f s", len(cut), to, max(cut)[1], max(cut)[0]
        )


def _normalised(features: Features, normaliser: Normaliser) -> Features:
    """Normalise the valid steps, in place: a large data set fits into memory once, not twice."""
    for frames, length in zip(features.values, features.steps, strict=True):
        frames[:length] = normaliser(frames[:length])
    return features


def _some(names: list[str]) -> str:
    """Join the first few names."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
