"""Attention over the steps, Q (K^T V): what all steps of K and V give together, read by each step of Q."""

from __future__ import annotations

from dataclasses import replace

import torch

from spikescr.export.record.calls import Call
from spikescr.export.record.drafts import Draft
from spikescr.export.record.places import STRIDE, SUM, Track, place_of, sample_of, varying
from spikescr.export.record.readings import RefusedError
from spikescr.export.record.scope import Grid, Scope
from spikescr.export.record.temporal import in_order


def correlated(scope: Scope, call: Call, x: Track, y: Track) -> Track | None:
    """K^T V, (..., D, T) and (..., T, M), summed over all steps; None where it does not run over steps."""
    if not (_steps_along(x, -1) and _steps_along(y, -2)):
        return None
    whole = scope.steps()
    for track, axis in ((x, len(x.shape) - 1), (y, len(y.shape) - 2)):
        if in_order(track, axis) != (0, whole):
            raise RefusedError("steps", "it joins elements of some steps", "attend over all steps")
    one, other = x.each(lambda part: part.select(-1, 0)), y.each(lambda part: part.select(-2, 0))
    batch = torch.broadcast_shapes(one.shape[:-1], other.shape[:-1])
    tracks = [track.each(lambda part: part.expand(*batch, part.shape[-1])) for track in (one, other)]
    grids = [Grid([track], track.shape, within=[len(batch)]) for track in tracks]
    rows = [grid.rows()[0] for grid in grids]
    where, readings = scope.drafts.join(rows)
    depth, width = one.shape[-1], other.shape[-1]
    shape = (*rows[0].shape[:-1], depth, width)
    number = len(scope.drafts.list)
    scope.drafts.list.append(Draft("correlation", call.path, call.line, readings, number, shape, {}, {}, {SUM}))
    places = place_of(torch.full_like(where, SUM), sample_of(where))
    made = grids[0].back(rows[0], places, number, (*rows[0].shape[:-1], depth * width))
    return made.each(lambda part: part.reshape(*batch, depth, width))


def attended(scope: Scope, call: Call, x: Track, y: Track) -> Track | None:
    """Q (K^T V) of (..., T, D) and what `correlated` made; None where y is something else."""
    number = int(y.signal.flatten()[0])
    draft = scope.drafts.list[number] if number >= 0 else None
    if draft is None or draft.operation != "correlation" or not _steps_along(x, -2):
        return None
    whole, along = scope.steps(), len(x.shape) - 2
    local = torch.arange(y.local[0].numel(), dtype=torch.float64).reshape(y.local.shape[1:]).expand(y.local.shape)
    if not bool((y.signal == number).all()) or not torch.equal(y.local, local) or in_order(x, along) != (0, whole):
        raise RefusedError("steps", "it joins elements of several steps", "give it all steps, and heads in their order")
    one = x.each(lambda part: part.select(along, 0))
    grid = Grid([one], one.shape, within=[len(one.shape) - 1])
    (rows,) = grid.rows()
    where, (reading,) = scope.drafts.join([rows])
    if not torch.equal(sample_of(one.place)[..., :1], sample_of(y.place)[..., 0, :1]):
        raise RefusedError("samples", "it joins elements of several samples", "keep the axis of the samples out of it")
    heads, width = draft.shape[:-2], draft.shape[-1]
    key, value = draft.readings
    readings = [reading, key, replace(value, shape=(*heads, width))]
    shape = (*rows.shape[:-1], width)
    places = (where[:, None] + torch.arange(whole) * STRIDE).reshape(-1)
    signal, _ = scope.drafts.emit(call, places, readings, "attention", shape, {}, {"scale": 1.0})
    made = grid.back(rows, where, signal, shape)
    later = (torch.arange(whole, dtype=torch.float64) * STRIDE).reshape(-1, 1)
    full = (*x.shape[:-1], width)
    wide = made.each(lambda part: part.unsqueeze(along))
    return Track(wide.place + later, wide.signal.expand(full), wide.local.expand(full))


def _steps_along(track: Track, axis: int) -> bool:
    return len(track.shape) + axis in varying(torch.where(track.signal < 0, -1.0, track.place))
