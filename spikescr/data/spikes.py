"""Recordings of spikes as network input: channels in groups, counts per bin (arXiv 2412.12858, section 4.1).

The rule of the edges. A spike at t seconds falls into bin floor(t * steps), t being the number in the file; a spike on
an edge opens the later bin. The published files have float16, with 11 significant bits, so the product is exact in
float64; so it is of float32, and of float64 its rounding is taken back: nothing is rounded, and the same file gives the
same counts everywhere. (The published files' own rounding, up to half a millisecond beyond
1 s, is part of the data.) Bins count from the recording's time 0, silence before the first spike included. A
recording's valid steps end with the bin of its last spike.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PositiveInt, model_validator

from spikescr.data.timing import LONGEST_WINDOW_S, require_window, window_steps
from spikescr.errors import DataError, UsageError
from spikescr.sizes import require_memory

UNITS = 700
"""Channels of the cochlea model of both Heidelberg data sets."""

MOST_STEPS = 2**24
"""Per second; up to here products of times and steps are exact, and bins are counted in 64 bits."""

Times: TypeAlias = npt.NDArray[np.floating]
Units: TypeAlias = npt.NDArray[np.integer]
Indices: TypeAlias = npt.NDArray[np.intp]

_MANY = 2**22
"""Counts above which it is worth asking whether they fit the memory."""
_OUTSIDE = np.iinfo(np.intp).min // 2
"""Marks what is no time or no unit; two of them add up to a negative number still."""


class SpikeBins(BaseModel):
    """Counts per bin, with `steps` bins per second, of neighbouring units in groups.

    Attributes:
        units: Channels in the file.
        bands: Channels C of the input; each is the sum of `units / bands` neighbouring units.
        steps: Bins per second.
        window_s: Length in seconds of what the network sees; longer recordings are cut to the stretch of most spikes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    units: PositiveInt = UNITS
    bands: PositiveInt = 140
    steps: PositiveInt
    window_s: Annotated[FiniteFloat, Field(gt=0)] = 1.0

    @classmethod
    def design(cls, *, steps: int, window_s: float = 1.0, bands: int = 140) -> Self:
        """Choose the bins for the Heidelberg data sets.

        Raises:
            UsageError: A number is not positive, or absurd, or `bands` does not divide the units.
        """
        for name, value in {"steps": steps, "window_s": window_s, "bands": bands}.items():
            if not 0 < value < float("inf"):
                raise UsageError(f"{name} must be a positive number. Got {value}")
        require_window(window_s)
        if steps > MOST_STEPS:
            raise UsageError(f"steps must be at most {MOST_STEPS:,} per second. Got {steps}")
        if UNITS % bands:
            raise UsageError(f"bands must divide the {UNITS} units into equal groups. Got {bands}")
        return cls(bands=bands, steps=steps, window_s=window_s)

    @property
    def channels(self) -> int:
        """C, numbers that a step of the input holds."""
        return self.bands

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.steps > MOST_STEPS:
            raise ValueError(f"steps must be at most {MOST_STEPS:,} per second. Got {self.steps}")
        if self.units % self.bands:
            raise ValueError(f"bands must divide the {self.units} units into equal groups. Got {self.bands}")
        return self

    @property
    def window_steps(self) -> int:
        """T, the steps of the window: window_s * steps, rounded up."""
        return window_steps(self.window_s, self.steps)

    def count(self, times: Times, units: Units) -> npt.NDArray[np.intp]:
        """Count the spikes of a recording per bin and channel.

        Args:
            times: Of the spikes in seconds, shape (n,), in any order.
            units: Which unit fired, shape (n,).

        Returns:
            Counts, shape (L, C); L = 0 without a spike. L is not bounded by the window.

        Raises:
            UsageError: The counts do not fit the memory.
            DataError: A time is negative, no number or beyond a minute, a unit is none of `units`, or there are not as
                many times as units; the message tells what, not where.
        """
        if len(times) != len(units):
            raise DataError(f"{len(times)} times, but {len(units)} units")
        if not len(times):
            return np.zeros((0, self.bands), dtype=np.intp)
        if times.dtype == np.float16 and units.dtype == np.uint16:  # as published
            first, channel = _tables(self)
            place = first.take(times.view(np.uint16))
            place += channel.take(units)
        else:
            place = _first_channels(times, self)
            inside = (units >= 0) & (units < self.units)
            place += np.where(inside, units // (self.units // self.bands), _OUTSIDE).astype(np.intp)
        if place.min() < 0:
            raise DataError(_reason(times, units, self.units))
        length = int(place.max()) // self.bands + 1
        if length * self.bands > _MANY:
            what = f"a recording of {length / self.steps:g} s in {length:,} steps of {self.bands} channels"
            require_memory(24 * length * self.bands, what, "choose fewer steps per second (--steps)")
        return np.bincount(place, minlength=length * self.bands).reshape(length, self.bands)


def densest_stretch(counts: npt.NDArray[np.intp], length: int) -> npt.NDArray[np.intp]:
    """Cut counts (L, C) to the `length` successive steps of most spikes, the first such stretch of several; a view."""
    if len(counts) <= length:
        return counts
    spikes = np.concatenate(([0], np.cumsum(counts.sum(axis=1))))
    start = int(np.argmax(spikes[length:] - spikes[:-length]))
    return counts[start : start + length]


@lru_cache(maxsize=8)
def _tables(bins: SpikeBins) -> tuple[Indices, Indices]:
    """For each of the 65,536 float16 numbers the place of its bin's first channel; for each uint16 the channel."""
    first = _first_channels(np.arange(2**16, dtype=np.uint16).view(np.float16), bins)
    channel = np.full(2**16, _OUTSIDE, dtype=np.intp)
    channel[: bins.units] = np.arange(bins.units) // (bins.units // bins.bands)
    return first, channel


def _first_channels(times: Times, bins: SpikeBins) -> Indices:
    """For each time the place of its bin's first channel, `_OUTSIDE` for one that cannot be."""
    seconds = times.astype(np.float64)
    possible = (seconds >= 0) & (seconds <= LONGEST_WINDOW_S)
    seconds = seconds[possible]
    steps = seconds * bins.steps
    # Of 53 significant bits the product may have been rounded up to a whole number. Its error, exact below 2^24 steps
    # per second: the products of both halves of the number are.
    upper = seconds.astype(np.float32).astype(np.float64)
    error = (upper * bins.steps - steps) + (seconds - upper) * bins.steps
    first = np.full(times.shape, _OUTSIDE, dtype=np.intp)
    first[possible] = (np.floor(steps) - ((steps == np.floor(steps)) & (error < 0))).astype(np.intp) * bins.bands
    return first


def _reason(times: Times, units: Units, count: int) -> str:
    """Say which spike cannot be."""
    seconds = times.astype(np.float64)
    impossible = np.flatnonzero(~((seconds >= 0) & (seconds <= LONGEST_WINDOW_S)))
    if len(impossible):
        at = impossible[0]
        return f"spike {at} is at {seconds[at]} s; expected 0 to {LONGEST_WINDOW_S} s"
    at = np.flatnonzero((units < 0) | (units >= count))[0]
    return f"spike {at} is of unit {units[at]}; there are {count}"
