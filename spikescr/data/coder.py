"""From normalised log-mel levels to events: leaky integrate-and-fire neurons on every band, for loud and for faint.

What the network gets is then 0 or 1 in every channel: its first layer accumulates and multiplies nothing.
"""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from spikescr.data.frontend import Frames, Positive
from spikescr.stages import Stage

Events = npt.NDArray[np.uint8]
Thresholds = tuple[tuple[Positive, ...], ...]

ON_RATES = (0.2, 0.11, 0.045)
OFF_RATES = (0.16, 0.05)
"""Events for each frame at which thresholds are set, on average over training: of every plane of `on` and of `off`.

Together 47 events in each step of `commands-spikes` (test people of ten words)."""
PLANES = len(ON_RATES) + len(OFF_RATES)
LEAK = 0.5
LEAST = 0.05
"""Smallest threshold, in deviations: a band in which training hardly heard anything must not fire at a whisper."""
_MOST = 500
"""Recordings that thresholds are set by, spread over all of them."""
_BISECTIONS = 20


class Coder(BaseModel):
    """Neurons that code the level x of a band, frame by frame; each threshold is a neuron of its own.

    An `on` neuron takes max(x, 0), an `off` neuron max(-x, 0): v = leak v + input; where v >= threshold it fires and v
    becomes 0. Membranes begin at 0 with each recording, and no frame waits for a later one. Channels: of each frame the
    planes, all of `on` before all of `off`, and of each plane the bands.

    Attributes:
        on: Thresholds of each plane, band by band (planes, bands).
        off: The same.
        leak: What is left of a membrane after a frame.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    on: Annotated[Thresholds, Field(min_length=1, max_length=100)]
    off: Annotated[Thresholds, Field(max_length=100)] = ()
    leak: Annotated[float, Field(ge=0, lt=1)] = LEAK

    @model_validator(mode="after")
    def _check(self) -> Self:
        widths = {len(plane) for plane in (*self.on, *self.off)}
        if len(widths) > 1 or not self.on[0]:
            raise ValueError(f"all planes must have the same number of bands, at least 1. Got {sorted(widths)}")
        return self

    @classmethod
    def fit(cls, values: Frames, steps: npt.NDArray[np.int64], bands: int) -> Self:
        """Set every threshold so that its neuron fires at the rate of its plane.

        Args:
            values: Normalised levels of n recordings, (n, T, F bands).
            steps: Valid steps of each, (n,).
            bands: In each frame.
        """
        chosen = slice(None, None, -(-len(values) // _MOST))
        levels = values[chosen].reshape(len(values[chosen]), -1, bands)
        valid = np.arange(levels.shape[1]) < (steps[chosen] * (levels.shape[1] // values.shape[1]))[:, None]
        rates = np.array((*ON_RATES, *OFF_RATES))[:, None]
        low = np.full((PLANES, bands), LEAST)
        high = np.full((PLANES, bands), float(np.abs(levels).max(initial=LEAST)) / (1 - LEAK) + LEAST)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            fired = _fire(levels, middle, len(ON_RATES), LEAK)
            often = fired[valid].mean(axis=0) > rates
            low, high = np.where(often, middle, low), np.where(often, high, middle)
        planes = tuple(tuple(row) for row in high.round(4).tolist())
        return cls(on=planes[: len(ON_RATES)], off=planes[len(ON_RATES) :])

    @property
    def planes(self) -> int:
        """Channels of each band."""
        return len(self.on) + len(self.off)

    @property
    def bands(self) -> int:
        """Bands that it codes."""
        return len(self.on[0])

    @property
    def stage(self) -> Stage:
        """Its operations in every frame."""
        neurons = self.planes * self.bands
        rule = f"of {neurons} neurons a MAC and a comparison with the threshold"
        return Stage(name="spike coding", rule=rule, additions=2 * neurons, multiplications=neurons)

    def __call__(self, frames: Frames) -> Events:
        """Code the normalised levels of one recording, (L, F bands), as events (L, F planes bands)."""
        thresholds = np.array((*self.on, *self.off))
        levels = frames.reshape(1, -1, self.bands)
        return _fire(levels, thresholds, len(self.on), self.leak).reshape(len(frames), -1)


def _fire(levels: Frames, thresholds: npt.NDArray[np.float64], on: int, leak: float) -> Events:
    """Events (n, frames, planes, bands) of levels (n, frames, bands); the first `on` planes code what is above 0."""
    signs = np.where(np.arange(len(thresholds)) < on, 1.0, -1.0)[:, None]
    inputs = np.maximum(levels[:, :, None].astype(np.float64) * signs, 0.0)
    events = np.zeros(inputs.shape, dtype=np.uint8)
    v = np.zeros((len(inputs), *thresholds.shape))
    for frame in range(inputs.shape[1]):
        v = leak * v + inputs[:, frame]
        fired = v >= thresholds
        events[:, frame] = fired
        v[fired] = 0.0
    return events
