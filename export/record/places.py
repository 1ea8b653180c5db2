"""Where every element of a value comes from: step, sample, signal and its position there, followed exactly.

An element's *place* is a code of step and sample. What only moves elements is run again on the places, so that whatever
a function does with axes is known without knowing the function; what computes may only join elements of one place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from spikescr.export.record.calls import Ref, mapped

HELD = -1
"""The step of what is the same in every step."""
MEAN = -2
"""The step of a mean over all steps."""
SUM = -3
"""The step of a sum over all steps."""
STRIDE = 1 << 20
"""Places of one step: more than samples are ever recorded."""
LATER = 1 << 40
"""Added to a signal's number for each step before: its value of then."""


@dataclass(frozen=True)
class Track:
    """A value's elements: float64 tensors of its shape, whole numbers.

    Attributes:
        place: see `place_of`; -1 of a constant 0 that may be anywhere.
        signal: number of the signal; -1 of a constant 0.
        local: position among the signal's elements of one step and sample; -1 of a constant 0.
    """

    place: Tensor
    signal: Tensor
    local: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """As the module sees the value."""
        return tuple(self.place.shape)

    def each(self, change: Callable[[Tensor], Tensor]) -> Track:
        """The same change of all three, of a function that neither adds nor drops zeros."""
        return Track(change(self.place), change(self.signal), change(self.local))


def step_of(place: Tensor) -> Tensor:
    """Steps of places; of -1 less than SUM."""
    return torch.div(place, STRIDE, rounding_mode="floor") + SUM


def sample_of(place: Tensor) -> Tensor:
    """Samples of places."""
    return place % STRIDE


def place_of(step: Tensor, sample: Tensor) -> Tensor:
    """(step + 3) STRIDE + sample."""
    return (step - SUM) * STRIDE + sample


class ConstantError(Exception):
    """Elements that are constants other than 0 were put among a value's."""


def compact(part: Tensor) -> Tensor:
    """The same with every axis along which memory repeats cut to length 1."""
    for axis in range(part.ndim):
        if part.stride(axis) == 0 and part.shape[axis] > 1:
            part = part.narrow(axis, 0, 1)
    return part


def tidy(part: Tensor) -> Tensor:
    """The same, its memory repeated along every axis along which its numbers are the same."""
    shape, part = part.shape, compact(part)
    for axis in range(part.ndim):
        first = part.narrow(axis, 0, 1) if part.shape[axis] > 1 else part
        if part.shape[axis] > 1 and torch.equal(part, first.expand(part.shape)):
            part = first
    return part.expand(shape)


def moved(
    function: Callable[..., Any], arguments: Any, keywords: Mapping[str, Any], tracks: Mapping[int, Track]
) -> Any:
    """What a function that moves elements does with the tracks of its values: a tree of tracks.

    Raises:
        ConstantError: The result holds constants that are not 0.
    """

    def run(part: Callable[[Track], Tensor], times: float = 1.0) -> Any:
        def shifted(item: Any) -> Any:
            if not isinstance(item, Ref):
                return item
            numbers = part(tracks[item.number])
            return ((compact(numbers) + 1.0) * times).expand(numbers.shape)

        return function(*mapped(arguments, shifted), **mapped(dict(keywords), shifted))

    found = [run(part) for part in (lambda t: t.place, lambda t: t.signal, lambda t: t.local)]
    twice = run(lambda t: t.local, 2.0)
    if isinstance(found[0], Tensor):
        return _track(found, twice)
    return [_track(list(parts), last) for *parts, last in zip(*found, twice, strict=True)]


def _track(parts: Sequence[Tensor], twice: Tensor) -> Track:
    if not torch.equal(2.0 * compact(parts[2]), compact(twice)):
        raise ConstantError
    return Track(*((compact(tidy(part)) - 1.0).expand(part.shape) for part in parts))


def nothing(shape: Sequence[int]) -> Track:
    """Zeros."""
    blank = torch.full((), -1.0, dtype=torch.float64).expand(tuple(shape))
    return Track(blank, blank, blank)


def filled(track: Track) -> Tensor:
    """Places, -1 of constants 0: they may be anywhere, unless there is nothing else."""
    signal = compact(track.signal)
    if bool((signal < 0).any()) and bool((signal >= 0).any()):
        return torch.where(signal < 0, -1.0, compact(track.place)).expand(track.shape)
    return track.place


def varying(place: Tensor) -> tuple[int, ...]:
    """Axes along which places (see `filled`) differ; -1 is like any."""
    still = [axis for axis in range(place.ndim) if place.stride(axis) == 0 or place.shape[axis] == 1]
    for axis in still:
        place = place.narrow(axis, 0, 1)
    found = []
    for axis in range(place.ndim):
        if axis not in still:
            highest = place.amax(axis)
            lowest = torch.where(place < 0, torch.inf, place).amin(axis)
            if bool(((highest != lowest) & (highest >= 0)).any()):
                found.append(axis)
    return tuple(found)


def repeated(track: Track, axis: int) -> bool:
    """Whether a value is the same all along an axis."""
    parts = (track.place, track.signal, track.local)
    return all(
        part.stride(axis) == 0 or torch.equal(part, part.narrow(axis, 0, 1).expand(part.shape)) for part in parts
    )


def outer_axes(tracks: Sequence[Track]) -> set[int]:
    """Axes along which places differ, or which repeat what is the same in every step."""
    places = [compact(filled(track)) for track in tracks]
    changing = {axis for place in places for axis in varying(place)}
    if all(bool(((step_of(place) == HELD) | (place < 0)).all()) for place in places):
        axes = range(len(tracks[0].shape))
        changing |= {a for a in axes if tracks[0].shape[a] > 1 and all(repeated(track, a) for track in tracks)}
    return changing


def split_axes(tracks: Sequence[Track], within: Sequence[int]) -> list[tuple[int, ...]]:
    """What each axis becomes where features that were folded into it, (samples x tokens), are unfolded again: sizes."""
    place = compact(filled(tracks[0]))
    for track in tracks[1:]:
        place = torch.maximum(place, compact(filled(track)))
    place = place.expand(tracks[0].shape)
    changing = varying(place)
    return [
        _factors(tracks, place, axis) if axis in changing and axis not in within else (size,)
        for axis, size in enumerate(place.shape)
    ]


def _factors(tracks: Sequence[Track], place: Tensor, axis: int) -> tuple[int, ...]:
    """Two sizes where places along an axis change with one of the two, and only what is not a place with the other."""
    size = place.shape[axis]
    for count in range(size // 2, 1, -1):
        if size % count == 0:
            for parts, still in (((size // count, count), axis + 1), ((count, size // count), axis)):
                if still not in varying(place.unflatten(axis, parts)):
                    split = [t.each(lambda part, parts=parts: part.unflatten(axis, parts)) for t in tracks]  # type: ignore[misc]
                    return (size,) if all(repeated(track, still) for track in split) else parts
    return (size,)


@dataclass(frozen=True)
class Rows:
    """A value cut by place: one row for each index of its outer axes.

    Attributes:
        place: int64 (rows, elements of a row), or 1 in the place of either number where all are the same; see `Track`.
        signal: likewise.
        local: likewise.
        sizes: of the outer axes.
        shape: of a row, the axes that are left.
    """

    place: Tensor
    signal: Tensor
    local: Tensor
    sizes: tuple[int, ...]
    shape: tuple[int, ...]


def cut(track: Track, outer: Sequence[int]) -> Rows:
    """A value's rows for given outer axes."""
    axes = tuple(outer)
    inner = tuple(axis for axis in range(len(track.shape)) if axis not in axes)
    sizes, shape = tuple(track.shape[a] for a in axes), tuple(track.shape[a] for a in inner)

    def matrix(part: Tensor) -> Tensor:
        small = compact(part)
        whole = list(small.shape)
        for group in (axes, inner):
            if any(small.shape[axis] > 1 for axis in group):
                for axis in group:
                    whole[axis] = track.shape[axis]
        turned = small.expand(whole).permute(*axes, *inner)
        return turned.reshape(prod(whole[axis] for axis in axes), -1).to(torch.int64)

    return Rows(matrix(track.place), matrix(track.signal), matrix(track.local), sizes, shape)


def woven(rows: Rows, place: Tensor, signal: int, shape: Sequence[int]) -> Track:
    """A computed value: rows of `shape` behind the outer axes (which come first), each at its place (rows,)."""
    whole = (*rows.sizes, *shape)
    ones = (1,) * len(shape)
    numbers = torch.full((), float(signal), dtype=torch.float64).expand(whole)
    local = torch.arange(prod(shape), dtype=torch.float64).reshape((1,) * len(rows.sizes) + tuple(shape)).expand(whole)
    return Track(place.to(torch.float64).reshape(*rows.sizes, *ones).expand(whole), numbers, local)
