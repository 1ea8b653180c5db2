"""From a log-mel spectrogram to the network's input: normalisation; and all that turns a recording into input."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, FiniteFloat, model_validator

from spikescr.data.audio import Waveform
from spikescr.data.coder import Coder, Events
from spikescr.data.frontend import Frames, FrontEnd, Positive
from spikescr.data.spikes import SpikeBins
from spikescr.data.work import log_mel, normalisation, normalisation_by_recording
from spikescr.stages import FrontWork

SMALLEST_STD_DB = 1.0
"""A band that hardly varied in training must not blow up what it meets later."""

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class Normaliser(BaseModel):
    """Per-channel shift and scale: (x - mean) / std, from the valid frames of training recordings.

    Attributes:
        mean: Per channel, dB.
        std: Per channel, dB, at least `SMALLEST_STD_DB` when fitted.
    """

    model_config = _FROZEN

    mean: tuple[FiniteFloat, ...]
    std: tuple[Positive, ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean and std must have the same length. Got {len(self.mean)} and {len(self.std)}")
        return self

    @classmethod
    def fit(cls, values: Frames, steps: npt.NDArray[np.int64]) -> Self:
        """Measure mean and standard deviation per channel.

        Args:
            values: Frames of n recordings, shape (n, T, C); what lies beyond the valid steps is ignored.
            steps: Valid steps of each, shape (n,), at least 1 in all.
        """
        count = int(steps.sum())
        # Recording by recording: values may fill the memory.
        mean = sum(frames[:length].sum(axis=0, dtype=np.float64) for frames, length in zip(values, steps, strict=True))
        mean /= count
        variance = sum(
            ((frames[:length] - mean) ** 2).sum(axis=0) for frames, length in zip(values, steps, strict=True)
        )
        variance /= count
        std = np.maximum(np.sqrt(variance), SMALLEST_STD_DB)
        return cls(mean=tuple(mean.tolist()), std=tuple(std.tolist()))

    def __call__(self, frames: Frames) -> Frames:
        """Normalise frames of shape (..., C)."""
        normalised: Frames = ((frames - np.array(self.mean)) / np.array(self.std)).astype(np.float32)
        return normalised


class RecordingNormaliser(BaseModel):
    """Each recording by its own levels, so that a louder or quieter one is the same input.

    Frames are raised to the recording's loudest value less `range_db`; then (x - mean) / std, both over all its valid
    frames and bands. Silence becomes zeros.

    Attributes:
        range_db: What is so much weaker than the loudest is not told from silence.
    """

    model_config = _FROZEN

    range_db: Positive = 60.0

    def __call__(self, frames: Frames) -> Frames:
        """Normalise the valid frames of one recording, shape (L, C)."""
        levels = np.maximum(frames, frames.max() - self.range_db).astype(np.float64)
        normalised: Frames = ((levels - levels.mean()) / max(levels.std(), SMALLEST_STD_DB)).astype(np.float32)
        return normalised


class Preprocessing(BaseModel):
    """All that turns a recording into the network's input; a checkpoint carries it as JSON.

    Attributes:
        front_end: Log-mel for audio, counts per bin for recordings of spikes.
        normaliser: For log-mel, by training's or each recording's own levels; counts go into the network as they are,
            small integers.
        coder: Of log-mel, makes events of the normalised levels; None: the network gets the levels, real numbers.
    """

    model_config = _FROZEN

    front_end: FrontEnd | SpikeBins
    normaliser: Normaliser | RecordingNormaliser | None = None
    coder: Coder | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if isinstance(self.front_end, SpikeBins):
            if self.normaliser is not None:
                raise ValueError("spike counts are not normalised. Got a normaliser")
            if self.coder is not None:
                raise ValueError("spike counts are events already. Got a coder")
        elif self.normaliser is None:
            raise ValueError("log-mel input needs a normaliser. Got none")
        elif isinstance(self.normaliser, Normaliser) and len(self.normaliser.mean) != self.front_end.channels:
            raise ValueError(
                f"the normaliser must have {self.front_end.channels} bands. Got {len(self.normaliser.mean)}"
            )
        elif self.coder is not None and self.coder.bands != self.front_end.bands:
            raise ValueError(f"the coder must have {self.front_end.bands} bands. Got {self.coder.bands}")
        return self

    @property
    def channels(self) -> int:
        """C, numbers that a step of the network's input holds."""
        return self.front_end.channels * self.planes

    @property
    def planes(self) -> int:
        """Channels of a band in a frame: one, or as many as the coder has."""
        return 1 if self.coder is None else self.coder.planes

    @property
    def signal(self) -> Literal["values", "spikes"]:
        """What the input carries: real numbers, or integers n that stand for n events."""
        return "values" if isinstance(self.front_end, FrontEnd) and self.coder is None else "spikes"

    @property
    def work(self) -> FrontWork:
        """What it does to every frame and every recording, in operations."""
        front_end = self.front_end
        if isinstance(front_end, SpikeBins):
            return FrontWork(title="spikes of a cochlea", not_counted="the cochlea that made the recordings' spikes")
        normalised = normalisation if isinstance(self.normaliser, Normaliser) else normalisation_by_recording
        return FrontWork(
            title="log-mel of sound" if self.coder is None else "log-mel of sound, as events",
            stages=(*log_mel(front_end), *normalised(front_end.bands), *((self.coder.stage,) if self.coder else ())),
            frames_per_step=front_end.frames_per_step,
            not_counted="microphone and converter, memory traffic",
        )

    def __call__(self, waveform: Waveform, rate: int) -> tuple[Frames, int]:
        """Turn a recording of sound into the network's input.

        Args:
            waveform: Shape (n,), full scale = 1.
            rate: Its rate in Hz, any.

        Returns:
            Normalised frames or their events, shape (T, C), exact zeros from the first invalid step on; and the number
            of valid steps.
        """
        assert isinstance(self.front_end, FrontEnd), "spikes are binned by `SpikeBins.count`"
        frames = self.of_frames(self.front_end.log_mel(waveform, rate))
        padded = np.zeros((self.front_end.window_steps, self.channels), dtype=np.float32)
        padded[: len(frames)] = frames
        return padded, len(frames)

    def of_frames(self, frames: Frames) -> Frames | Events:
        """Turn the log-mel spectrogram of one recording, (L, F * bands), into input (L, C)."""
        assert self.normaliser is not None
        normalised = self.normaliser(frames)
        return normalised if self.coder is None else self.coder(normalised)
