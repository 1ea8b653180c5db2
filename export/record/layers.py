"""Handlers of layers: what is multiplied with weights, normalised or pooled."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikescr.export.record import attention, temporal
from spikescr.export.record.calls import Call, Ref
from spikescr.export.record.places import Track
from spikescr.export.record.readings import RefusedError
from spikescr.export.record.scope import Grid, Scope, Shape, bound, compute, constant, constants
from spikescr.export.record.step import values


def each(option: Any, axes: int) -> tuple[int, ...]:
    """An option of every axis of space: one number stands for all."""
    if isinstance(option, int):
        return (option,) * axes
    numbers = tuple(int(item) for item in option)
    return numbers * axes if len(numbers) == 1 else numbers


def linear(scope: Scope, call: Call) -> Track:
    """torch.nn.functional.linear: over the last axis."""
    given = bound(call, "input weight bias")
    track = scope.track(given["input"])
    arrays = constants(weight=given["weight"], bias=given["bias"])
    grid = Grid([track], track.shape, within=[len(track.shape) - 1])
    return compute(scope, call, grid, "linear", lambda shape: (*shape[:-1], len(arrays["weight"])), arrays)


def convolution(scope: Scope, call: Call) -> Track:
    """conv1d, conv2d and their transposed forms: (N, C, *space), or (C, *space)."""
    axes = int(call.name[-2])
    transposed = "transpose" in call.name
    order = "input weight bias stride padding output_padding groups dilation"
    plain = "input weight bias stride padding dilation groups"
    given = bound(call, order if transposed else plain, stride=1, padding=0, output_padding=0, groups=1, dilation=1)
    if axes > 2:
        raise RefusedError("operation", "no graph has convolutions over three axes", "use Conv2d, with time as steps")
    track = scope.track(given["input"])
    arrays = constants(weight=given["weight"], bias=given["bias"])
    dilation, kernel = each(given["dilation"], axes), arrays["weight"].shape[2:]
    padding = _padding(given["padding"], kernel, dilation)
    options: dict[str, Any] = {
        "stride": each(given["stride"], axes),
        "padding": padding,
        "dilation": dilation,
        "groups": given["groups"],
    }
    if transposed:
        options["output_padding"] = each(given["output_padding"], axes)
    along = temporal.axis_of_steps(track, axes)
    if along is not None and transposed:
        raise RefusedError("steps", "it is a transposed convolution over the steps", "use a Conv over time")
    if along is not None:
        return temporal.convolution(scope, call, track, along, arrays, options, scope.shape_of(call))
    grid = _batched(track, axes)
    if len(grid.inner) > axes + 1:
        raise RefusedError("operation", "features are folded into its axis of samples", "give them an axis of channels")
    space = scope.shape_of(call)[-axes:]
    channels = arrays["weight"].shape[1] * given["groups"] if transposed else len(arrays["weight"])
    name = "conv_transpose" if transposed else "conv"
    return compute(scope, call, grid, name, lambda _: (channels, *space), arrays, options)


def _padding(padding: Any, kernel: Shape, dilation: Shape) -> Shape:
    if padding == "valid":
        return (0,) * len(kernel)
    if padding == "same":
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        if any(width % 2 for width in total):
            raise RefusedError("operation", "padding='same' is not symmetric for an even kernel", "use an odd kernel")
        return tuple(width // 2 for width in total)
    return each(padding, len(kernel))


def _batched(track: Track, axes: int) -> Grid:
    """(N, C, *space) by its first axis; (C, *space) is one row."""
    return Grid([track], track.shape, within=range(len(track.shape) - axes - 1, len(track.shape)))


def batch_norm(scope: Scope, call: Call) -> Track:
    """torch.nn.functional.batch_norm with its running statistics: channels in the second axis."""
    given = bound(
        call, "input running_mean running_var weight bias training momentum eps", training=False, momentum=0.1, eps=1e-5
    )
    if given["training"] or given["running_mean"] is None:
        raise RefusedError(
            "samples",
            "it normalises with the statistics of the batch: samples change one another",
            "use track_running_stats=True, and eval mode",
        )
    track = scope.track(given["input"])
    mean = constant(given["running_mean"], "mean")
    assert mean is not None
    weight = torch.ones_like(mean) if given["weight"] is None else given["weight"]
    bias = torch.zeros_like(mean) if given["bias"] is None else given["bias"]
    arrays = constants(mean=mean, var=given["running_var"], weight=weight, bias=bias)
    grid = Grid([track], track.shape, within=[1])
    options = {"eps": float(given["eps"]), "axis": grid.inner.index(grid.axes[1][0])}
    return compute(scope, call, grid, "batch_norm", arrays=arrays, options=options)


def pool(scope: Scope, call: Call) -> Track:
    """max_pool1d, max_pool2d, avg_pool1d, avg_pool2d."""
    axes = int(call.name[-2])
    if axes > 2:
        raise RefusedError("operation", "no graph pools over three axes", "use pools of two axes, with time as steps")
    largest = call.name.startswith("max")
    order = (
        "input kernel_size stride padding dilation ceil_mode return_indices"
        if largest
        else "input kernel_size stride padding ceil_mode count_include_pad divisor_override"
    )
    given = bound(call, order, padding=0, dilation=1, ceil_mode=False, count_include_pad=True)
    stride = given["stride"] if given["stride"] not in (None, (), []) else given["kernel_size"]
    options: dict[str, Any] = {
        "window": each(given["kernel_size"], axes),
        "stride": each(stride, axes),
        "padding": each(given["padding"], axes),
        "ceil": bool(given["ceil_mode"]),
    }
    if largest:
        options["dilation"] = each(given["dilation"], axes)
    else:
        options |= {"count_padding": bool(given["count_include_pad"]), "divisor": given.get("divisor_override")}
    return _pooled(scope, call, scope.track(given["input"]), axes, "max_pool" if largest else "avg_pool", options)


def adaptive_pool(scope: Scope, call: Call) -> Track:
    """adaptive_avg_pool1d, adaptive_avg_pool2d, and max where its windows are all alike."""
    axes = int(call.name[-2])
    track = scope.track(call.arguments[0])
    sizes, whole = scope.shape_of(call)[-axes:], track.shape[-axes:]
    largest = "max" in call.name
    if axes > 2:
        raise RefusedError("operation", "no graph pools over three axes", "use pools of two axes, with time as steps")
    if all(size % count == 0 for size, count in zip(whole, sizes, strict=True)):
        window = tuple(size // count for size, count in zip(whole, sizes, strict=True))
        options: dict[str, Any] = {"window": window, "stride": window, "padding": (0,) * axes, "ceil": False}
        options |= {"dilation": (1,) * axes} if largest else {"count_padding": True, "divisor": None}
        return _pooled(scope, call, track, axes, "max_pool" if largest else "avg_pool", options)
    if largest:
        raise RefusedError("operation", "its windows differ in size", "use a size that divides the input's")
    matrix = np.ones((1, 1))
    for size, count in zip(whole, sizes, strict=True):
        matrix = np.kron(matrix, _windows(size, count))
    flat = track.each(lambda part: part.flatten(-axes))
    grid = Grid([flat], flat.shape, within=[len(flat.shape) - 1])
    arrays = {"weight": values(matrix)}
    return compute(scope, call, grid, "linear", lambda shape: (*shape[:-1], prod(sizes)), arrays)


def _windows(size: int, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Mean over the windows of an adaptive pool of one axis, (count, size)."""
    matrix = np.zeros((count, size))
    for place in range(count):
        start, end = place * size // count, ceil((place + 1) * size / count)
        matrix[place, start:end] = 1.0 / (end - start)
    return matrix


def _pooled(scope: Scope, call: Call, track: Track, axes: int, operation: str, options: dict[str, Any]) -> Track:
    space = range(len(track.shape) - axes, len(track.shape))
    grid = Grid([track], track.shape, within=space)
    sizes = scope.shape_of(call)[-axes:]

    def read(shape: Shape) -> Shape:
        """Channels first, whatever stands before the space."""
        return (prod(shape[:-axes]), *shape[-axes:])

    return compute(scope, call, grid, operation, lambda shape: (*shape[:-axes], *sizes), options=options, read=read)


def matmul(scope: Scope, call: Call) -> Track:
    """matmul, bmm, mm, @ of two values, or of one and a constant."""
    left, right = call.arguments[:2]
    if not isinstance(left, Ref):
        return _constant_left(scope, call, left, scope.track(right))
    x = scope.track(left)
    if not isinstance(right, Ref):
        if right.ndim != 2:
            raise RefusedError("operation", "it multiplies with a constant of more than two axes", "use a Linear")
        grid = Grid([x], x.shape, within=[len(x.shape) - 1])
        arrays = constants(weight=right.mT)
        return compute(scope, call, grid, "linear", lambda shape: (*shape[:-1], right.shape[1]), arrays)
    y = scope.track(right)
    if len(x.shape) < 2 or len(y.shape) < 2:
        raise RefusedError("operation", "it multiplies with a vector", "give both at least two axes")
    for over_steps in (attention.correlated, attention.attended):
        found = over_steps(scope, call, x, y)
        if found is not None:
            return found
    return _product(scope, call, x, y)


def _constant_left(scope: Scope, call: Call, left: Tensor, y: Track) -> Track:
    if left.ndim != 2 or len(y.shape) < 2:
        raise RefusedError("operation", "it multiplies with a constant of more than two axes", "use a Linear")
    turned = y.each(lambda part: part.mT)
    grid = Grid([turned], turned.shape, within=[len(turned.shape) - 1])
    shape = (*turned.shape[:-1], len(left))
    track = compute(
        scope, call, grid, "linear", lambda row: (*row[:-1], len(left)), constants(weight=left), result=shape
    )
    return track.each(lambda part: part.mT)


def _product(scope: Scope, call: Call, x: Track, y: Track) -> Track:
    """Two values: rows by the axes before the matrices."""
    whole = scope.shape_of(call)
    batch = whole[:-2]
    x = x.each(lambda part: part.expand(*batch, *part.shape[-2:]))
    y = y.each(lambda part: part.expand(*batch, *part.shape[-2:]))
    n, k, m = x.shape[-2], x.shape[-1], y.shape[-1]
    flat = [x.each(lambda part: part.flatten(-2)), y.each(lambda part: part.flatten(-2))]
    grids = [Grid([part], part.shape, within=[len(batch)]) for part in flat]
    outer = tuple(sorted(set(grids[0].outer) | set(grids[1].outer)))
    if any(len(axes) > 1 for grid in grids for axes in grid.axes):
        raise RefusedError("operation", "heads are folded into its axis of samples", "give heads an axis of their own")
    for grid in grids:
        grid.outer = outer
    rows = [grid.rows()[0] for grid in grids]
    where, readings = scope.drafts.join(rows)
    lead = rows[0].shape[:-1]
    shapes = ((*lead, n, k), (*lead, k, m))
    readings = [replace(reading, shape=shape) for reading, shape in zip(readings, shapes, strict=True)]
    signal, where = scope.drafts.emit(call, where, readings, "matmul", (*lead, n, m))
    made = grids[0].back(rows[0], where, signal, (*lead, n * m))
    return made.each(lambda part: part.reshape(whole))
