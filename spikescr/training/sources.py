"""Where the batches of a training come from: spectra that were computed once, or waveforms, altered in every epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from spikescr.data import DataSet, Features, Preprocessing, SpikeBins, load
from spikescr.data.features import design, fit_to_sounds, fit_to_split
from spikescr.data.frontend import FrontEnd
from spikescr.data.left_out import require_enough_to_train
from spikescr.data.noise import Noise, open_noise
from spikescr.data.sounds import Sounds, read_sounds
from spikescr.errors import UsageError
from spikescr.training.augment import PLAIN, Layout, augment
from spikescr.training.augment_sound import augment_sound
from spikescr.training.batches import Split
from spikescr.training.config import Augmentation, TrainConfig

Inputs = tuple[Tensor, Tensor, Tensor]
"""Input x (T, B, C), valid steps (B,), labels (B,)."""


class Source(Protocol):
    """Recordings to train on; what is seen of one follows from it, its place and the epoch alone.

    steps: valid steps of each recording as it is (n,). left_out: name and fault of those that cannot be read.
    """

    steps: Tensor
    left_out: Mapping[str, str]

    def __len__(self) -> int: ...

    def batch(self, chosen: Tensor, epoch: int) -> Inputs:
        """Some recordings (B,) as they are seen in an epoch, from 1."""
        ...


class Spectra:
    """Recordings as the network takes them, with masks or without.

    steps: valid steps (n,).
    """

    def __init__(
        self,
        split: Split,
        augmentation: Augmentation | None,
        *,
        seed: int,
        layout: Layout = PLAIN,
        left_out: Mapping[str, str] | None = None,
    ) -> None:
        """Split: in memory. augmentation: of masks. seed: of draws. layout: of channels. left_out: see Source."""
        self.steps = split.steps
        self.left_out = left_out or {}
        self._split, self._augmentation, self._seed, self._layout = split, augmentation, seed, layout

    def __len__(self) -> int:
        return len(self._split)

    def batch(self, chosen: Tensor, epoch: int) -> Inputs:
        """Some recordings (B,) as they are seen in an epoch."""
        x, steps, labels = self._split.batch(chosen)
        if self._augmentation is not None:
            config, layout = self._augmentation, self._layout
            x = augment(x, steps, config, seed=self._seed, epoch=epoch, samples=chosen, layout=layout)
        return x, steps, labels


class Waveforms:
    """Recordings whose waveforms are altered before they are analysed; then their spectra are masked.

    steps: valid steps of each as it is (n,).
    """

    def __init__(
        self,
        sounds: Sounds,
        preprocessing: Preprocessing,
        augmentation: Augmentation,
        noise: Noise | None,
        *,
        seed: int,
    ) -> None:
        """Sounds: in memory. augmentation: of waveforms and of spectra. noise: a source. seed: of the training."""
        assert isinstance(preprocessing.front_end, FrontEnd)
        self.steps = torch.from_numpy(sounds.steps)
        self.left_out = sounds.left_out
        self._sounds, self._labels = sounds, torch.from_numpy(sounds.labels)
        self._preprocessing, self._front_end = preprocessing, preprocessing.front_end
        self._augmentation, self._noise, self._seed = augmentation, noise, seed

    def __len__(self) -> int:
        return len(self._sounds)

    def batch(self, chosen: Tensor, epoch: int) -> Inputs:
        """Some recordings (B,) as they are heard in an epoch."""
        rate, front_end, config = self._sounds.rate, self._front_end, self._augmentation
        window = front_end.window_samples(rate)
        values = np.zeros((len(chosen), front_end.window_steps, self._preprocessing.channels), dtype=np.float32)
        lengths = np.zeros(len(chosen), dtype=np.int64)
        for row, sample in enumerate(chosen.tolist()):
            others, place = self._sounds.waveforms, (self._seed, epoch, sample)
            heard = augment_sound(others[sample], rate, config, self._noise, window=window, place=place, others=others)
            values[row], lengths[row] = self._preprocessing(heard, rate)
        steps = torch.from_numpy(lengths)
        x = torch.from_numpy(values)[:, : int(lengths.max())].transpose(0, 1).contiguous()
        layout = Layout(front_end.frames_per_step, self._preprocessing.planes)
        x = augment(x, steps, config, seed=self._seed, epoch=epoch, samples=chosen, layout=layout)
        return x, steps, self._labels[chosen]


def fit_source(config: TrainConfig, dataset: DataSet) -> tuple[Preprocessing, Source]:
    """The preprocessing fitted to the training split, and what a training sees of that; each recording is read once.

    Raises:
        UsageError: a setting is absurd, concerns sound where the data set holds spikes, or needs too much memory.
        DataError: a recording cannot be used, of the data set or of noise.
    """
    front_end = design(
        dataset,
        steps=config.steps,
        window_s=config.window_s,
        bands=config.bands,
        frames_per_step=config.frames_per_step,
        normalise=config.normalise,
        spiking=config.spiking,
    )
    if config.augmentation is None or not config.augmentation.of_sound:
        preprocessing, features = fit_to_split(dataset, front_end, config.normalise, spiking=config.spiking)
        return preprocessing, _spectra(features, preprocessing, config.augmentation, config.seed)
    front_end, noise = _of_sound(dataset, front_end, config.augmentation)
    sounds = _sounds(dataset, front_end)
    preprocessing = fit_to_sounds(sounds, front_end, config.normalise, spiking=config.spiking)
    return preprocessing, Waveforms(sounds, preprocessing, config.augmentation, noise, seed=config.seed)


def open_source(
    dataset: DataSet, preprocessing: Preprocessing, augmentation: Augmentation | None, *, seed: int
) -> Source:
    """What a training sees of the training split with a preprocessing that was fitted before.

    Raises:
        UsageError: waveforms shall be altered where the data set holds spikes, or need too much memory.
        DataError: a recording cannot be used, of the data set or of noise.
    """
    if augmentation is None or not augmentation.of_sound:
        return _spectra(load(dataset.split("train"), preprocessing), preprocessing, augmentation, seed)
    front_end, noise = _of_sound(dataset, preprocessing.front_end, augmentation)
    return Waveforms(_sounds(dataset, front_end), preprocessing, augmentation, noise, seed=seed)


def _spectra(features: Features, preprocessing: Preprocessing, augmentation: Augmentation | None, seed: int) -> Spectra:
    front_end = preprocessing.front_end
    frames = front_end.frames_per_step if isinstance(front_end, FrontEnd) else 1
    layout = Layout(frames, preprocessing.planes)
    return Spectra(Split.from_features(features), augmentation, seed=seed, layout=layout, left_out=features.left_out)


def _of_sound(
    dataset: DataSet, front_end: FrontEnd | SpikeBins, augmentation: Augmentation
) -> tuple[FrontEnd, Noise | None]:
    """The front end as one of sound, and the noise: faults of both are told before any recording is read."""
    if isinstance(front_end, SpikeBins):
        raise UsageError(f"{dataset.spec} holds spikes; augmentation of waveforms is for recordings of sound")
    return front_end, None if augmentation.noise is None else open_noise(augmentation.noise, front_end.sample_rate)


def _sounds(dataset: DataSet, front_end: FrontEnd) -> Sounds:
    sounds = read_sounds(dataset.split("train"), front_end)
    require_enough_to_train(sounds.left_out, dataset)
    return sounds


def ahead(source: Source, batches: Sequence[Tensor], epoch: int) -> Iterator[Inputs]:
    """Yields batches in order; while one is trained on, the next is made in a thread of its own."""
    with ThreadPoolExecutor(1) as maker:
        coming = [maker.submit(source.batch, chosen, epoch) for chosen in batches[:1]]
        for following in range(1, len(batches) + 1):
            ready = coming.pop().result()
            coming = [maker.submit(source.batch, chosen, epoch) for chosen in batches[following : following + 1]]
            yield ready
