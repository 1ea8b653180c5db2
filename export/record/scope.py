"""What the handlers of calls share: tracks of values, constants, and the way from a value to its rows and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikescr.export.record.calls import Call, Record, Ref
from spikescr.export.record.drafts import Drafts
from spikescr.export.record.neurons import RefusedNeuronError, equation_of
from spikescr.export.record.places import Rows, Track, cut, outer_axes, split_axes, woven
from spikescr.export.record.readings import RefusedError
from spikescr.export.record.step import NeuronEquation, values

Arrays = Mapping[str, NDArray[Any]]
Shape = tuple[int, ...]


@dataclass
class Scope:
    """The state of going through a record.

    Attributes:
        record: it.
        drafts: nodes so far.
        tracks: of values; of those not understood there is none.
        fired: steps that every neuron has gone through.
    """

    record: Record
    drafts: Drafts
    tracks: dict[int, Track] = field(default_factory=dict)
    fired: dict[nn.Module, int] = field(default_factory=dict)

    def track(self, item: Any) -> Track:
        """Of a value among a call's arguments."""
        if not isinstance(item, Ref):
            raise RefusedError("operation", "it computes with a constant where a value is known", "")
        return self.tracks[item.number]

    def steps(self) -> int:
        """Of the whole: those of the input, of the neurons, or of what a convolution over the steps reads."""
        reads = (draft.options.get("reads", 0) for draft in self.drafts.list)
        return max([self.record.steps, *self.fired.values(), *reads])

    def equation(self, module: nn.Module) -> NeuronEquation:
        """Of a neuron.

        Raises:
            RefusedError: It has none that is known.
        """
        try:
            return equation_of(module)
        except RefusedNeuronError as error:
            raise RefusedError("neuron", str(error), error.remedy) from None

    def shape_of(self, call: Call) -> Shape:
        """Of a call's only result."""
        return self.record.values[call.results[0]].shape


def bound(call: Call, names: str, **defaults: Any) -> dict[str, Any]:
    """A call's arguments by name."""
    found: dict[str, Any] = dict.fromkeys(names.split()) | defaults
    found |= dict(zip(names.split(), call.arguments, strict=False))
    found |= {name: value for name, value in call.keywords.items() if name in found}
    return found


def constant(item: Any, name: str) -> Tensor | None:
    """A weight: a tensor that does not depend on the input.

    Raises:
        RefusedError: It does.
    """
    if isinstance(item, Ref):
        raise RefusedError("operation", f"its {name} depends on the input", f"use a constant {name}")
    return None if item is None else torch.as_tensor(item)


def constants(**items: Any) -> dict[str, NDArray[np.float64]]:
    """Those that are there, as a node keeps them."""
    found = {name: constant(item, name) for name, item in items.items()}
    return {name: item.detach().cpu().to(torch.float64).numpy() for name, item in found.items() if item is not None}


class Grid:
    """Values of one shape, features that were folded into axes of steps or samples unfolded, cut by place.

    Attributes:
        axes: those that each axis of the values became.
        outer: axes that count rows.
    """

    def __init__(self, tracks: Sequence[Track], shape: Shape, within: Sequence[int] = ()) -> None:
        """`within`: axes of the values that belong to a row whatever stands in them."""
        spread = [track.each(lambda part: part.expand(shape)) for track in tracks]
        sizes = split_axes(spread, within)
        self.axes: list[tuple[int, ...]] = []
        for parts in sizes:
            start = sum(len(axes) for axes in self.axes)
            self.axes.append(tuple(range(start, start + len(parts))))
        self.shape: Shape = tuple(size for parts in sizes for size in parts)
        self.tracks = [self.split(track) for track in spread]
        inside = {axis for kept in within for axis in self.axes[kept]}
        self.outer = tuple(sorted(outer_axes(self.tracks) - inside))

    def split(self, track: Track) -> Track:
        """A track of the values' shape with the axes of the grid."""
        return track.each(lambda part: part.reshape(self.shape))

    @property
    def inner(self) -> tuple[int, ...]:
        """Axes of a row."""
        return tuple(axis for axis in range(len(self.shape)) if axis not in self.outer)

    def rows(self) -> list[Rows]:
        """Of each value."""
        return [cut(track, self.outer) for track in self.tracks]

    def constant(self, item: Tensor, whole: Shape) -> NDArray[np.float64]:
        """A constant that is broadcast against the values, as a row has it; length 1 where it repeats.

        Raises:
            RefusedError: It differs from row to row.
        """
        spread = item.detach().to(torch.float64).expand(whole).reshape(self.shape)
        matrix = spread.permute(*self.outer, *self.inner).reshape(-1, *(self.shape[axis] for axis in self.inner))
        if not torch.equal(matrix, matrix[:1].expand(matrix.shape)):
            raise RefusedError(
                "structure", "its constant differs from step to step or sample to sample", "use one for all of them"
            )
        row = matrix[0]
        for axis in range(row.ndim):
            if torch.equal(row, row.narrow(axis, 0, 1).expand(row.shape)):
                row = row.narrow(axis, 0, 1)
        return values(row.reshape(()) if row.numel() == 1 else row)

    def back(self, rows: Rows, where: Tensor, signal: int, shape: Shape) -> Track:
        """The result's track with the grid's axes: rows of `shape`, as many axes as a row has, at their places."""
        made = woven(rows, where, signal, shape)
        order = [*self.outer, *self.inner]
        inverse = [order.index(axis) for axis in range(len(order))]
        return made.each(lambda part: part.permute(inverse))


def compute(
    scope: Scope,
    call: Call,
    grid: Grid,
    operation: str,
    change: Callable[[Shape], Shape] = lambda shape: shape,
    arrays: Arrays | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    read: Callable[[Shape], Shape] = lambda shape: shape,
    part: int = 0,
    result: Shape | None = None,
) -> Track:
    """One node for the rows of a grid.

    Args:
        scope: of the record.
        call: that computes.
        grid: of the operands.
        operation: of the step network.
        change: the shape of a row of the result, from that of an operand's.
        arrays: constants.
        options: of the operation.
        read: the shape in which a row is read, and made, by the node.
        part: which of the nodes of this call.
        result: shape of the value; by default that of the call's.
    """
    rows = grid.rows()
    where, readings = scope.drafts.join(rows)
    shape = change(rows[0].shape)
    readings = [replace(reading, shape=read(reading.shape)) for reading in readings]
    signal, where = scope.drafts.emit(call, where, readings, operation, read(shape), arrays, options, part)
    track = grid.back(rows[0], where, signal, shape)
    whole = scope.shape_of(call) if result is None else result
    return track.each(lambda item: item.reshape(whole))
