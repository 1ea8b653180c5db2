"""Convolutions over the steps: every tap reads another step, some of which are still to come."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from spikescr.export.record.calls import Call
from spikescr.export.record.places import STRIDE, Track, compact, filled, place_of, sample_of, step_of, varying
from spikescr.export.record.readings import RefusedError
from spikescr.export.record.scope import Arrays, Grid, Scope, Shape

_PER_AXIS = ("stride", "padding", "dilation")


def axis_of_steps(track: Track, axes: int) -> int | None:
    """Which of the last axes runs over steps, counted from the first of them; None where none does."""
    first = len(track.shape) - axes
    found = [axis - first for axis in varying(filled(track)) if axis >= first]
    if len(found) > 1:
        raise RefusedError("steps", "steps or samples run along two axes of its space", "give it one axis of steps")
    return found[0] if found else None


def convolution(
    scope: Scope, call: Call, track: Track, axis: int, arrays: Arrays, options: dict[str, Any], shape: Shape
) -> Track:
    """A convolution of which one axis of space runs over the steps.

    Args:
        scope: of the record.
        call: conv1d or conv2d.
        track: of what it reads, (N, C, *space).
        axis: of space that runs over steps.
        arrays: weight and bias.
        options: as `conv` has them.
        shape: of the result.

    Raises:
        RefusedError: It leaves steps out, or what it reads has them in another order.
    """
    axes = len(options["stride"])
    along = len(track.shape) - axes + axis
    if options["stride"][axis] != 1:
        raise RefusedError(
            "steps", "it takes a stride over the steps: layers would run at several speeds", "use stride 1 over time"
        )
    begin, count = in_order(track, along)
    one = track.each(lambda part: part.narrow(along, begin, 1))
    rest = [other for other in range(axes) if other != axis]
    kept: dict[str, Any] = {name: tuple(options[name][other] for other in rest) for name in _PER_AXIS}
    kept |= {
        "groups": options["groups"],
        "shift": -(options["padding"][axis] + begin),
        "reads": count,
        "spacing": options["dilation"][axis],
    }
    weight = np.ascontiguousarray(np.moveaxis(arrays["weight"], 2 + axis, 2))
    whole = {name: array for name, array in arrays.items() if name != "weight"} | {"weight": weight}
    grid = Grid([one], one.shape, within=range(len(track.shape) - axes - 1, len(track.shape)))
    (rows,) = grid.rows()
    where, (reading,) = scope.drafts.join([rows])
    taken = rows.shape[: 1 + axis] + rows.shape[2 + axis :]
    if len(taken) > axes or bool((step_of(where) != 0).any()):
        raise RefusedError("steps", "its steps stand beside other axes", "give it (samples, channels, steps)")
    space = tuple(size for other, size in enumerate(shape[-axes:]) if other != axis)
    row, steps = (len(weight), *space), shape[along]
    places = (where[:, None] + torch.arange(steps) * STRIDE).reshape(-1)
    reading = replace(reading, shape=taken)
    signal, _ = scope.drafts.emit(call, places, [reading], "temporal", row, whole, kept)
    wide = (row[0], *space[:axis], 1, *space[axis:])
    made = grid.back(rows, where, signal, wide)
    made = made.each(lambda part: part.reshape(*shape[:along], 1, *shape[along + 1 :]))
    later = torch.arange(steps, dtype=torch.float64) * STRIDE
    later = later.reshape(-1, *(1,) * (len(shape) - along - 1))
    return Track(made.place + later, made.signal.expand(shape), made.local.expand(shape))


def in_order(track: Track, along: int) -> tuple[int, int]:
    """Where steps begin along an axis, behind zeros, and how many there are, one after the other from the first.

    Raises:
        RefusedError: They are others, or not the same layer's.
    """
    refused = RefusedError(
        "steps", "what it reads along its axis of steps are not all steps in order", "give it steps from the first on"
    )
    places, signals = compact(filled(track)), compact(track.signal)
    shape = torch.broadcast_shapes(places.shape, signals.shape)
    places, signals = places.expand(shape).movedim(along, 0).flatten(1), signals.expand(shape).movedim(along, 0)
    empty = (signals.flatten(1).expand(places.shape) < 0) | (places < 0)
    steps = torch.where(empty, -1.0, step_of(places))
    each = steps.amax(1)
    there = torch.nonzero(each >= 0).flatten()
    if not len(there):
        raise refused
    begin, count = int(there[0]), len(there)
    order = torch.arange(count, dtype=steps.dtype)
    inside = slice(begin, begin + count)
    if not torch.equal(each[inside], order) or not bool(((steps[inside] == order[:, None]) | empty[inside]).all()):
        raise refused
    valid = track.each(lambda part: part.narrow(along, begin, count))
    own = [valid.signal, valid.local, place_of(torch.zeros(()), sample_of(valid.place))]
    for part in own:
        small = compact(part)
        if small.shape[along] > 1 and not torch.equal(small, small.narrow(along, 0, 1).expand(small.shape)):
            raise refused
    return begin, count
