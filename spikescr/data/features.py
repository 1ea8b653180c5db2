"""Load recordings as network input, and fit the preprocessing to the training split: log-mel of sound, or counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from spikescr.data.binned import Binned, Counts
from spikescr.data.coder import Coder, Events
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
        values: Shape (n, T, C); exact zeros in padded steps. Of sound normalised frames, float32, or events, uint8; of
            spikes counts, in the type of the cache (uint8 or uint16), mapped from it where all of a file's recordings
            are asked for.
        steps: Valid steps of each recording, shape (n,).
        labels: Class indices, shape (n,).
        names: Names of the recordings.
        left_out: Name and fault of each recording that was asked for and cannot be read.
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
    spiking: bool = False,
) -> FrontEnd | SpikeBins:
    """Choose the front end for a data set.

    Args:
        dataset: The data set.
        steps: Steps per second.
        window_s: Length of the network's window in seconds.
        bands: Mel bands, or groups of units.
        frames_per_step: Spectra in each step of sound.
        normalise: Sound by the levels of the "training" split, channel by channel, or each "recording" by its own.
        spiking: Whether sound becomes events.

    Raises:
        UsageError: A number is not positive, or absurd, or concerns sound where the data set holds spikes.
        DataError: No training recording has a readable header.
    """
    if dataset.signal == "spikes":
        if frames_per_step != 1 or normalise != "training" or spiking:
            raise UsageError(
                f"frames_per_step, normalise and front_end are for recordings of sound; {dataset.spec} holds spikes"
            )
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
    spiking: bool = False,
) -> tuple[Preprocessing, Features]:
    """Choose the front end for a data set, fit what is to be fitted, and load the training split with it.

    Reads the training split, nothing else, and each recording in it once.

    Args:
        dataset: The data set.
        steps: As for `design`, and so are the others.
        window_s: See there.
        bands: See there.
        frames_per_step: See there.
        normalise: See there.
        spiking: See there.

    Returns:
        The preprocessing, and what `load` gives with it for the training split.

    Raises:
        UsageError: A number is not positive, or absurd, or the recordings do not fit the memory.
        DataError: Most of the training recordings cannot be read.
    """
    front_end = design(
        dataset,
        steps=steps,
        window_s=window_s,
        bands=bands,
        frames_per_step=frames_per_step,
        normalise=normalise,
        spiking=spiking,
    )
    return fit_to_split(dataset, front_end, normalise, spiking=spiking)


def fit_to_split(
    dataset: DataSet, front_end: FrontEnd | SpikeBins, normalise: Normalise, *, spiking: bool = False
) -> tuple[Preprocessing, Features]:
    """Do what `fit_and_load` does, with a front end that `design` gave."""
    if isinstance(front_end, SpikeBins):
        features = _counts(dataset.split("train"), front_end)
        require_enough_to_train(features.left_out, dataset)
        return Preprocessing(front_end=front_end), features
    features = _heard(
        dataset.split("train"), front_end, lambda frames: frames, front_end.channels, np.dtype(np.float32)
    )
    require_enough_to_train(features.left_out, dataset)
    preprocessing = _fitted(front_end, normalise, features.values, features.steps, spiking=spiking)
    if preprocessing.coder is None:
        return preprocessing, features
    return preprocessing, _coded(features, preprocessing.coder)


def fit_to_sounds(sounds: Sounds, front_end: FrontEnd, normalise: Normalise, *, spiking: bool = False) -> Preprocessing:
    """Fit what `fit_and_load` does, to recordings that are kept as waveforms."""
    count = len(sounds) if normalise == "training" or spiking else 0
    shape = (count, front_end.window_steps, front_end.channels)
    _require_memory(shape, np.dtype(np.float32))
    values = np.zeros(shape, dtype=np.float32)
    for frames, waveform in zip(values, sounds.waveforms, strict=False):
        levels = front_end.log_mel(waveform, sounds.rate)
        frames[: len(levels)] = levels
    return _fitted(front_end, normalise, values, sounds.steps, spiking=spiking)


def _fitted(
    front_end: FrontEnd, normalise: Normalise, values: Frames, steps: npt.NDArray[np.int64], *, spiking: bool
) -> Preprocessing:
    """Fit to log-mel spectrograms, and normalise their valid steps in place: a large data set fits into memory once."""
    normaliser = Normaliser.fit(values, steps) if normalise == "training" else RecordingNormaliser()
    for frames, length in zip(values, steps, strict=False):
        frames[:length] = normaliser(frames[:length])
    coder = Coder.fit(values, steps, front_end.bands) if spiking else None
    return Preprocessing(front_end=front_end, normaliser=normaliser, coder=coder)


def load(items: Sequence[Item], preprocessing: Preprocessing, *, is_part: bool = False) -> Features:
    """Read recordings and turn them into network input.

    Silent recordings are accepted, and longer ones than the window are cut to their loudest stretch, or to that of most
    spikes; one logged warning for each of the two kinds says how many there were. Recordings that cannot be read are
    left out, each told by name in a warning.

    Args:
        items: Which, in this order.
        preprocessing: From `fit_and_load` or a checkpoint.
        is_part: They are part of more: all of them may be left out, and nothing is told of it; the caller asks
            `require_enough` about the whole.

    Raises:
        UsageError: The recordings do not fit the memory, or are sound where the network takes spikes, or the reverse.
        DataError: Most of the recordings cannot be read.
    """
    front_end = preprocessing.front_end
    if isinstance(front_end, SpikeBins):
        features = _counts(items, front_end)
    else:
        dtype = np.dtype(np.float32 if preprocessing.coder is None else np.uint8)
        features = _heard(items, front_end, preprocessing.of_frames, preprocessing.channels, dtype)
    if not is_part:
        require_enough(features.left_out, len(items))
    return features


def _counts(items: Sequence[Item], bins: SpikeBins) -> Features:
    """Take the recordings out of the binned files; leave out what is damaged."""
    for item in items:
        if item.index is None:
            raise UsageError(f"the network takes recordings of spikes, {item.name} is one of sound")
    files = {path: Binned.from_file(path, bins) for path in dict.fromkeys(item.path for item in items)}
    left_out = {
        item.name: f"{item.path}: recording {item.index}: {files[item.path].faults[item.index]}"
        for item in items
        if item.index is not None and item.index in files[item.path].faults
    }
    items = [item for item in items if item.name not in left_out]
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
    names = tuple(item.name for item in items)
    return Features(values, lengths.clip(1, bins.window_steps), labels, names, left_out)


def _heard(
    items: Sequence[Item],
    front_end: FrontEnd,
    turned: Callable[[Frames], Frames | Events],
    channels: int,
    dtype: np.dtype[Any],
) -> Features:
    """Read recordings as what becomes of their log-mel spectrograms, zeros in padded steps; leave out damaged ones."""
    shape = (len(items), front_end.window_steps, channels)
    _require_memory(shape, dtype)
    values = np.zeros(shape, dtype=dtype)
    steps = np.zeros(len(items), dtype=np.int64)
    kept: list[Item] = []
    left_out: dict[str, str] = {}
    for index, (item, waveform, rate) in enumerate(hear(items, front_end, left_out)):
        frames = turned(front_end.log_mel(waveform, rate))
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


def _coded(features: Features, coder: Coder) -> Features:
    """The events of normalised levels."""
    recordings, steps, channels = features.values.shape
    shape = recordings, steps, channels * coder.planes
    _require_memory(shape, np.dtype(np.uint8))
    values = np.zeros(shape, dtype=np.uint8)
    for events, frames, length in zip(values, features.values, features.steps, strict=True):
        events[:length] = coder(frames[:length])
    return replace(features, values=values)
