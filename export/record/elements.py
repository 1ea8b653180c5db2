"""Handlers of what is done element by element, and of sums and means over axes."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from spikingjelly.activation_based import layer
from torch import Tensor

from spikescr.export.record.calls import Call, Fault, Ref
from spikescr.export.record.places import (
    HELD,
    LATER,
    MEAN,
    SUM,
    Track,
    compact,
    cut,
    filled,
    nothing,
    place_of,
    sample_of,
    step_of,
    varying,
)
from spikescr.export.record.readings import RefusedError
from spikescr.export.record.scope import Grid, Scope, Shape, bound, compute
from spikescr.export.record.step import values
from spikescr.export.record.temporal import in_order


def add(scope: Scope, call: Call) -> Track:
    """x + alpha y."""
    given = bound(call, "input other alpha", alpha=1)
    return _sum(scope, call, given["input"], given["other"], 1.0, float(given["alpha"]))


def subtract(scope: Scope, call: Call) -> Track:
    """x - alpha y."""
    given = bound(call, "input other alpha", alpha=1)
    return _sum(scope, call, given["input"], given["other"], 1.0, -float(given["alpha"]))


def subtract_from(scope: Scope, call: Call) -> Track:
    """alpha is 1: y - x, of x.__rsub__(y)."""
    given = bound(call, "input other alpha", alpha=1)
    return _sum(scope, call, given["other"], given["input"], 1.0, -float(given["alpha"]))


def multiply(scope: Scope, call: Call) -> Track:
    """x y: of two values their product, element by element; of a constant a scale."""
    x, y = call.arguments[0], call.arguments[1]
    if isinstance(x, Ref) and isinstance(y, Ref):
        return _binary(scope, call, "product")
    value, item = (x, y) if isinstance(x, Ref) else (y, x)
    return _affine(scope, call, scope.track(value), "scale", item)


def divide(scope: Scope, call: Call) -> Track:
    """x / c."""
    x, y = call.arguments[0], call.arguments[1]
    if not isinstance(x, Ref) or isinstance(y, Ref) or call.keywords.get("rounding_mode"):
        raise RefusedError("operation", "it divides by a value", "divide by constants alone")
    return _affine(scope, call, scope.track(x), "scale", 1.0 / torch.as_tensor(y, dtype=torch.float64))


def negate(scope: Scope, call: Call) -> Track:
    """-x."""
    return _affine(scope, call, scope.track(call.arguments[0]), "scale", -1.0)


def maximum(scope: Scope, call: Call) -> Track:
    """The larger of two values, element by element."""
    if len(call.arguments) < 2 or not all(isinstance(item, Ref) for item in call.arguments[:2]):
        raise RefusedError("operation", "it takes the largest of an axis, or of a value and a constant", "use MaxPool")
    return _binary(scope, call, "maximum")


def square(scope: Scope, call: Call) -> Track:
    """x x."""
    if call.name == "pow" and bound(call, "input exponent")["exponent"] != 2:
        raise RefusedError("operation", "no graph has powers", "use spikes, and weights")
    track = scope.track(call.arguments[0])
    return compute(scope, call, Grid([track, track], track.shape), "product")


def rectify(scope: Scope, call: Call) -> Track:
    """ReLU, which spikes and counts pass unchanged; of anything else it is refused once kinds are known."""
    track = scope.track(call.arguments[0])
    return compute(scope, call, Grid([track], track.shape), "relu")


def reduce(scope: Scope, call: Call) -> Track:
    """sum or mean over axes: over the steps a readout, else a node."""
    given = bound(call, "input dim keepdim dtype", keepdim=False)
    track = scope.track(given["input"])
    dims = given["dim"]
    if dims is None or dims == ():
        dims = range(len(track.shape))
    axes = sorted({axis % len(track.shape) for axis in ([dims] if isinstance(dims, int) else dims)})
    mean = call.name == "mean"
    over = [axis for axis in axes if axis in varying(filled(track))]
    rest = [axis for axis in axes if axis not in over]
    if over:
        rest = [axis for axis in rest if track.shape[axis] > 1]
    if rest:
        grid = Grid([track], track.shape, within=rest)
        inner = [grid.inner.index(axis) for kept in rest for axis in grid.axes[kept]]

        def change(shape: Shape) -> Shape:
            return tuple(1 if axis in inner else size for axis, size in enumerate(shape))

        kept = tuple(1 if axis in rest else size for axis, size in enumerate(track.shape))
        options = {"axes": tuple(inner), "mean": mean}
        track = compute(scope, call, grid, "reduce", change, options=options, result=kept)
    if over:
        track = _over_steps(scope, track, over, MEAN if mean else SUM)
    shape = scope.shape_of(call)
    return track.each(lambda part: part.reshape(shape))


def _over_steps(scope: Scope, track: Track, axes: list[int], kind: int) -> Track:
    """A readout: what all steps have in common, at the place of a mean or sum over them."""
    rows = cut(track, [axis for axis in range(len(track.shape)) if axis not in axes])
    width = prod(track.shape[axis] for axis in axes)
    place, signal, local = (
        part.expand(max(part.shape[0], prod(rows.sizes)), width) for part in (rows.place, rows.signal, rows.local)
    )
    step, sample = step_of(place), sample_of(place)
    if not torch.equal(sample, sample[:, :1].expand(sample.shape)):
        raise RefusedError("samples", "it joins elements of several samples", "keep the axis of the samples out of it")
    alike = all(torch.equal(part, part[:, :1].expand(part.shape)) for part in (signal, local))
    steps = step[0]
    if not alike or not torch.equal(step, steps.expand(step.shape)):
        raise RefusedError("steps", "it joins elements of several steps", "take sums and means over whole steps")
    whole = scope.steps()
    if not torch.equal(steps.sort().values, torch.arange(whole)):
        raise RefusedError("steps", f"it takes {len(steps)} of {whole} steps together", "take the mean over all steps")
    where = place_of(torch.full_like(sample[:, :1], kind), sample[:, :1])
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(track.shape))
    parts = (where, signal[:, :1], local[:, :1])
    return Track(*(part.to(torch.float64).reshape(shape) for part in parts))


def _sum(scope: Scope, call: Call, x: Any, y: Any, first: float, second: float) -> Track:
    """first x + second y; a constant 0 stays an operand, as the value before the first step that it may stand for."""
    whole = scope.shape_of(call)
    if isinstance(x, Ref) and isinstance(y, Ref):
        grid = Grid([scope.track(x), scope.track(y)], whole)
        return compute(scope, call, grid, "sum", options={"coefficients": (first, second)})
    value, sign, item, other = (x, first, y, second) if isinstance(x, Ref) else (y, second, x, first)
    track = scope.track(value)
    addend = torch.as_tensor(item, dtype=torch.float64) * other
    if not bool(addend.any()):
        tracks = [track, nothing(whole)] if value is x else [nothing(whole), track]
        return compute(scope, call, Grid(tracks, whole), "sum", options={"coefficients": (first, second)})
    if sign == -1.0 and addend.numel() == 1 and float(addend) == 1.0:
        return compute(scope, call, Grid([track], whole), "complement")
    if sign != 1.0:
        track = _affine(scope, call, track, "scale", sign)
    return _affine(scope, call, track, "bias", addend, part=1)


def _affine(scope: Scope, call: Call, track: Track, operation: str, item: Any, part: int = 0) -> Track:
    whole = scope.shape_of(call)
    grid = Grid([track], whole)
    number = torch.as_tensor(item, dtype=torch.float64)
    table = _by_step(track, number, whole) if operation == "bias" and number.ndim else None
    if table is not None:
        return compute(scope, call, grid, "position", arrays={"table": table}, part=part)
    array = values(number) if number.ndim == 0 else grid.constant(number, whole)
    if operation == "scale" and array.ndim == 0 and float(array) == 1.0:
        return track.each(lambda part: part.expand(whole))
    arrays = {"factor" if operation == "scale" else "addend": array}
    return compute(scope, call, grid, operation, arrays=arrays, part=part)


def _by_step(track: Track, item: Tensor, whole: Shape) -> NDArray[np.float64] | None:
    """An addend that is another at each step, (T, elements of a row), for values whose first axis are the steps."""
    spread = item.expand(whole)
    if len(whole) < 2 or torch.equal(spread, spread[:1].expand(whole)) or 0 not in varying(filled(track)):
        return None
    if in_order(track, 0) != (0, whole[0]) or not torch.equal(spread, spread[:, :1].expand(whole)):
        return None
    return values(spread[:, 0].flatten(1))


def _binary(scope: Scope, call: Call, operation: str) -> Track:
    tracks = [scope.track(item) for item in call.arguments[:2]]
    return compute(scope, call, Grid(tracks, scope.shape_of(call)), operation)


def delay(scope: Scope, call: Call) -> Track:
    """SpikingJelly's Delay: the value of some steps before, 0 in the first ones."""
    assert isinstance(call.module, layer.Delay)
    track, steps = scope.track(call.arguments[0]), call.module.delay_steps
    if bool((step_of(compact(track.place)) < 0).any()):
        raise RefusedError("steps", "it delays what has no steps", "delay what a neuron gives")
    later = torch.where(compact(track.signal) < 0, -1.0, compact(track.signal) + float(steps * LATER))
    return Track(track.place, later.expand(track.shape), track.local)


def timed(scope: Scope, call: Call, *, several: bool) -> Track:
    """What a neuron gets, steps along the first axis, every element at the step that the neuron is at.

    Raises:
        RefusedError: Its steps run over something else.
    """
    assert call.module is not None
    track = scope.track(call.arguments[0])
    begun = scope.fired.get(call.module, 0)
    count = track.shape[0] if several else 1
    scope.fired[call.module] = begun + count
    leading = track if several else track.each(lambda part: part.unsqueeze(0))
    whole = leading.shape
    places, signals, locals_ = compact(leading.place), compact(leading.signal), compact(leading.local)
    step, sample, empty = step_of(places), sample_of(places), signals < 0
    due = torch.arange(begun, begun + count, dtype=torch.float64).reshape(-1, *(1,) * (len(whole) - 1))
    if scope.drafts.turn == begun and not several:  # a loop may hand it what another pass made
        lag = torch.where((step >= 0) & ~empty, (due - step).clamp(min=0), 0)
        leading = Track(leading.place, (leading.signal + lag * LATER), leading.local)
        step = step + lag
    if not bool(((step == due) | (step == HELD) | empty).all()):
        raise RefusedError("steps", _wrong_steps(step.expand(whole), sample.expand(whole), several), _REMEDY)
    for part, what in ((sample, "samples"), (signals, "layers"), (locals_, "places")):
        if part.shape[0] > 1:
            highest = torch.where(empty, -1.0, part).amax(0)
            if not bool(((part == highest) | empty).all()):
                fault: Fault = "samples" if what == "samples" else "steps"
                raise RefusedError(fault, f"its membranes belong to other {what} from step to step", _REMEDY)
    return Track(place_of(due, sample).expand(whole), leading.signal, leading.local)


def fire(scope: Scope, call: Call) -> Track:
    """A neuron: its steps along the first axis, or one in each call."""
    assert call.module is not None
    several = getattr(call.module, "step_mode", "m") == "m"
    track = timed(scope, call, several=several)
    grid = Grid([track], track.shape)
    if 0 not in grid.outer and track.shape[0] > 1:
        raise RefusedError("structure", "it gets constants alone", "compute them once, outside")
    equation = scope.equation(call.module)
    found = compute(scope, call, grid, "neuron", options={"equation": equation}, result=track.shape)
    return found if several else found.each(lambda part: part.squeeze(0))


_REMEDY = (
    "give it (T, B, ...): steps along the first axis, each membrane one sample's and one place's through all steps"
)


def _wrong_steps(step: Tensor, sample: Tensor, several: bool) -> str:
    """What a neuron's steps run over instead of the steps."""
    flat = step.reshape(len(step), -1)
    if not several:
        return "it gets several steps at once, and takes them for one"
    if step.shape[0] == 1 or bool((flat == flat[:1]).all()):
        along = "samples" if bool((sample.reshape(flat.shape) != sample.reshape(flat.shape)[:1]).any()) else "places"
        return f"its steps run over {along} of one step, not over the steps"
    if bool((flat == flat[:, :1]).all()):
        return "its steps run over steps and samples folded into one axis"
    return "its steps run over elements of several steps and samples in mixed order"
