"""Layers of our own that are known as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from spikescr.export.record.calls import Call
from spikescr.export.record.drafts import Draft
from spikescr.export.record.elements import timed
from spikescr.export.record.places import LATER, Track
from spikescr.export.record.readings import Reading, RefusedError
from spikescr.export.record.scope import Grid, Scope, compute, constants
from spikescr.export.record.step import NeuronEquation
from spikescr.export.record.temporal import in_order
from spikescr.model.recurrent import RecurrentLIF
from spikescr.model.rotary import Rotary


def rotary(scope: Scope, call: Call) -> Track:
    """Pairs of spikes turned by their step, `Rotary`: (T, B, heads x D)."""
    module = call.module
    assert isinstance(module, Rotary)
    track, heads = scope.track(call.arguments[0]), int(call.arguments[1])
    if in_order(track, 0) != (0, track.shape[0]):
        raise RefusedError(
            "steps", "its positions are not the steps", "give it (T, B, ...): steps along the first axis"
        )
    cos, sin = module.tables(track.shape[0])
    grid = Grid([track], track.shape)
    return compute(scope, call, grid, "rotary", arrays={"cos": cos, "sin": sin}, options={"heads": heads})


def recurrent(scope: Scope, call: Call) -> Track:
    """LIFs with weights among them, `RecurrentLIF`: h = decay v + (x + W s of the step before)."""
    module = call.module
    assert isinstance(module, RecurrentLIF)
    valid = call.arguments[1] if len(call.arguments) > 1 else call.keywords["valid"]
    if not isinstance(valid, Tensor) or not bool((valid == 1).all()):
        raise RefusedError(
            "operation", "its samples end at steps of their own", "record whole windows: steps of each sample are T"
        )
    track = timed(scope, call, several=True)
    grid = Grid([track], track.shape)
    (rows,) = grid.rows()
    where, (reading,) = scope.drafts.join([rows])
    size, first = len(reading.signal), len(scope.drafts.list)
    order = np.arange(size)

    def whole(signal: int) -> Reading:
        return Reading(np.full(size, signal), order, rows.shape)

    equation = NeuronEquation(type(module).__name__, module.decay, 1.0, float(module.v_threshold), 0.0)
    weight = constants(weight=module.recurrent.weight)
    steps = set(range(track.shape[0]))
    parts: tuple[tuple[str, str, list[Reading], dict[str, Any], dict[str, Any]], ...] = (
        ("linear", f"{call.path}.recurrent", [whole(first + 2 + LATER)], weight, {}),
        ("sum", call.path, [reading, whole(first)], {}, {"coefficients": (1.0, 1.0)}),
        ("neuron", call.path, [whole(first + 1)], {}, {"equation": equation}),
    )
    for number, (operation, path, readings, arrays, options) in enumerate(parts):
        draft = Draft(
            operation, path, call.line, readings, first + number, rows.shape, dict(arrays), dict(options), steps
        )
        scope.drafts.list.append(draft)
    return grid.back(rows, where, first + 2, rows.shape).each(lambda part: part.reshape(track.shape))
