"""Load recordings as network input, and fit the preprocessing to the training split: log-mel of sound, or counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from spikescr.data.binned import Binned, Counts
from spikescr.data.dataset import DataSet, Item
from spikescr.data.frontend import Frames, FrontEnd
from spikescr.data.left_out import require_enough, require_enough_to_train
from spikescr.data.preprocessing import Normaliser, Preprocessing, RecordingNormaliser
from spikescr.data.sounds import Sounds, hear, warn
from spikescr.data.spikes import SpikeBins
from spikescr.errors import UsageError
from spikescr.sizes import require_memory

Normalise: TypeAlias = Literal["training", "recording"]
FLOOR_DB: dict[Normalise, float] = {"training": -100.0, "recording": -200.0}
"""Of the front end: by its own levels a recording is told apart from silence however quiet it is."""


@dataclass(frozen=True, eq=False)
class Features:
    """The network input of the n recordings that could be read, in the order in which they were asked for.

    Attributes:
        values: Shape (n, T, C); exact zeros in padded steps. Of sound normalised frames, float32; of spikes counts, in
            the type of the cache (uint8 or uint16), mapped from it where all of a file's recordings are asked for.
        steps: Valid steps of each recording, shape (n,).
        labels: Class indices, shape (n,).
        names: Names of the recordings.
        left_out: Name and fault of each recording of sound that was asked for and cannot be read.
    """

    values: npt.NDArray[Any]
    steps: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    names: tuple[str, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)


def design(
    dataset: DataSet,
    *,
    steps: int,
    window_s: float = 1.0,
    bands: int = 140,
    frames_per_step: int = 1,
    normalise: Normalise = "training",
) -> FrontEnd | SpikeBins:
    """Choose the front end for a data set.

    Args:
        dataset: The data set.
        steps: Steps per second.
        window_s: Length of the network's window in seconds.
        bands: Mel bands, or groups of units.
        frames_per_step: Spectra in each step of sound.
        normalise: Sound by the levels of the "training" split, channel by channel, or each "recording" by its own.

    Raises:
        UsageError: A number is not positive, or absurd, or concerns sound where the data set holds spikes.
        DataError: No training recording has a readable header.
    """
    if dataset.signal == "spikes":
        if frames_per_step != 1 or normalise != "training":
            raise UsageError(f"frames_per_step and normalise are for recordings of sound; {dataset.spec} holds spikes")
        return SpikeBins.design(steps=steps, window_s=window_s, bands=bands)
    return FrontEnd.design(
        dataset.rate,
        steps=steps,
        window_s=window_s,
        bands=bands,
        frames_per_step=frames_per_step,
        floor_db=FLOOR_DB[normalise],
    )


def fit_and_load(
    dataset: DataSet,
    *,
    steps: int,
    window_s: float = 1.0,
    bands: int = 140,
    frames_per_step: int = 1,
    normalise: Normalise = "training",
) -> tuple[Preprocessing, Features]:
    """Choose the front end for a data set, fit the normaliser, and load the training split with both.

    Reads the training split, nothing else, and each recording in it once.

    Args:
        dataset: The data set.
        steps: As for `design`, and so are the others.
        window_s: See there.
        bands: See there.
        frames_per_step: See there.
        normalise: See there.

    Returns:
        The preprocessing, and what `load` gives with it for the training split.

    Raises:
        UsageError: A number is not positive, or absurd, or the recordings do not fit the memory.
        DataError: Most of the training recordings cannot be read; or one of spikes cannot be used.
    """
    front_end = design(
        dataset, steps=steps, window_s=window_s, bands=bands, frames_per_step=frames_per_step, normalise=normalise
    )
    return fit_to_split(dataset, front_end, normalise)


def fit_to_split(
    dataset: DataSet, front_end: FrontEnd | SpikeBins, normalise: Normalise
) -> tuple[Preprocessing, Features]:
    """Do what `fit_and_load` does, with a front end that `design` gave."""
    if isinstance(front_end, SpikeBins):
        counting = Preprocessing(front_end=front_end)
        return counting, load(dataset.split("train"), counting)
    features = _log_mel(dataset.split("train"), front_end)
    require_enough_to_train(features.left_out, dataset)
    preprocessing = _fitted(front_end, normalise, features.values, features.steps)
    assert preprocessing.normaliser is not None
    return preprocessing, _normalised(features, preprocessing.normaliser)


def fit_to_sounds(sounds: Sounds, front_end: FrontEnd, normalise: Normalise) -> Preprocessing:
    """Fit the normaliser as `fit_and_load` does, to recordings that are kept as waveforms."""
    shape = (len(sounds) if normalise == "training" else 0, front_end.window_steps, front_end.channels)
    _require_memory(shape, np.dtype(np.float32))
    values = np.zeros(shape, dtype=np.float32)
    for frames, waveform in zip(values, sounds.waveforms, strict=False):
        levels = front_end.log_mel(waveform, sounds.rate)
        frames[: len(levels)] = levels
    return _fitted(front_end, normalise, values, sounds.steps)


def _fitted(front_end: FrontEnd, normalise: Normalise, values: Frames, steps: npt.NDArray[np.int64]) -> Preprocessing:
    normaliser = Normaliser.fit(values, steps) if normalise == "training" else RecordingNormaliser()
    return Preprocessing(front_end=front_end, normaliser=normaliser)


def load(items: Sequence[Item], preprocessing: Preprocessing, *, is_part: bool = False) -> Features:
    """Read recordings and turn them into network input.

    Silent recordings are accepted, and longer ones than the window are cut to their loudest stretch, or to that of most
    spikes; one logged warning for each of the two kinds says how many there were. Recordings of sound that cannot be
    read are left out, each told by name in a warning; a file of spikes is read as a whole or not at all.

    Args:
        items: Which, in this order.
        preprocessing: From `fit_and_load` or a checkpoint.
        is_part: They are part of more: all of them may be left out, and nothing is told of it; the caller asks
            `require_enough` about the whole.

    Raises:
        UsageError: The recordings do not fit the memory, or are sound where the network takes spikes, or the reverse.
        DataError: Most of the recordings cannot be read; or one of spikes cannot be used.
    """
    front_end, normaliser = preprocessing.front_end, preprocessing.normaliser
    if isinstance(front_end, SpikeBins):
        return _counts(items, front_end)
    assert normaliser is not None
    features = _log_mel(items, front_end)
    if not is_part:
        require_enough(features.left_out, len(items))
    return _normalised(features, normaliser)


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
    warn(
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
    """Read recordings as log-mel spectrograms, not yet normalised, zeros in padded steps; leave out what is damaged."""
    shape = (len(items), front_end.window_steps, front_end.channels)
    _require_memory(shape, np.dtype(np.float32))
    values = np.zeros(shape, dtype=np.float32)
    steps = np.zeros(len(items), dtype=np.int64)
    kept: list[Item] = []
    left_out: dict[str, str] = {}
    for index, (item, waveform, rate) in enumerate(hear(items, front_end, left_out)):
        frames = front_end.log_mel(waveform, rate)
        steps[index] = len(frames)
        values[index, : len(frames)] = frames
        kept.append(item)
    labels = np.array([item.label for item in kept], dtype=np.int64)
    names = tuple(item.name for item in kept)
    return Features(values[: len(kept)], steps[: len(kept)], labels, names, left_out)


def _require_memory(shape: tuple[int, int, int], dtype: np.dtype[Any]) -> None:
    require_memory(
        math.prod(shape) * dtype.itemsize,
        f"a split of {shape[0]:,} recordings, {shape[1]:,} steps and {shape[2]} channels",
        "choose fewer steps per second (--steps) or a shorter window",
    )


def _normalised(features: Features, normaliser: Normaliser | RecordingNormaliser) -> Features:
    """Normalise the valid steps, in place: a large data set fits into memory once, not twice."""
    for frames, length in zip(features.values, features.steps, strict=True):
        frames[:length] = normaliser(frames[:length])
    return features
