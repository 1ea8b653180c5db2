"""Shapes of a NIR graph's signals, and the geometry of its convolutions and pools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import nir
import numpy as np

from spikescr.errors import GraphError
from spikescr.schemas import brief
from spikescr.sim.program import FloatArray
from spikescr.sizes import require_memory

Shape: TypeAlias = tuple[int, ...]

ShapeRule: TypeAlias = Callable[[str, Any, Shape | None, bool], Shape | None]
"""Name, node, shape that arrives, whether one is still to come -> shape of its output, None if that cannot be told."""


@dataclass(frozen=True)
class Geometry:
    """The fields of a `program.Convolution`, with the shapes that the node's signals have in NIR.

    Attributes:
        in_shape, out_shape: (channels, rows, columns); one dimension is one row.
        stride, padding, dilation: of rows and columns; padding before the first.
        groups: of channels.
        weight: (out channels, in channels of a group, rows, columns).
        bias: (out channels,), None where it is zeros.
        reads, shape: what arrives and what is put out, as NIR has it.
    """

    in_shape: tuple[int, int, int]
    out_shape: tuple[int, int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    weight: FloatArray
    bias: FloatArray | None
    reads: Shape
    shape: Shape

    def connections(self) -> int:
        """Pairs of an input and an output that it connects, over all places; a weight of 0 connects nothing."""
        reached = np.ones((1, 1))
        for axis in (0, 1):
            size, length = self.weight.shape[2 + axis], self.in_shape[1 + axis]
            places = np.arange(self.out_shape[1 + axis])[:, None] * self.stride[axis] - self.padding[axis]
            read = places + np.arange(size) * self.dilation[axis]
            within = ((read >= 0) & (read < length)).sum(axis=0)
            reached = reached * (within[:, None] if axis == 0 else within)
        return int(((self.weight != 0).sum(axis=(0, 1)) * reached).sum())


def geometry(name: str, node: nir.NIRNode, arriving: Shape | None) -> Geometry:
    """What a convolution or a pool reads and gives.

    Args:
        name: for messages.
        node: a convolution or a pool, or a Linear or Affine whose weight has more than two axes: one matrix for each
            place of the leading ones, a convolution of one group each over a single place.
        arriving: shape of its input, None where the node's own input_shape tells.

    Raises:
        GraphError: the two differ, or a field cannot be run.
    """
    where = f"{name} ({type(node).__name__})"
    if isinstance(node, (nir.Linear, nir.Affine)):
        return _matrices(where, node)
    axes = 1 if isinstance(node, nir.Conv1d) else 2
    if isinstance(node, (nir.Conv1d, nir.Conv2d)):
        weight = _real(where, "weight", node.weight, axes + 2)
        groups = int(node.groups)
        if groups < 1 or weight.shape[0] % groups:
            raise GraphError(f"{where}: groups {groups} do not divide its {weight.shape[0]} output channels")
        own = None if node.input_shape is None else _whole(where, "input_shape", node.input_shape, axes, 1)
        channels = weight.shape[1] * groups
        bias = np.zeros(len(weight)) if node.bias is None else _real(where, "bias", node.bias, 1)
        if bias.shape != weight.shape[:1]:
            raise GraphError(f"{where}: bias has shape {bias.shape}, must have {weight.shape[:1]}")
        dilation = _whole(where, "dilation", node.dilation, axes, 1)
    else:
        own, bias, dilation, weight = None, None, (1,) * axes, None
        channels = groups = 0 if arriving is None or len(arriving) != 3 else arriving[0]
    kernel = _whole(where, "kernel_size", node.kernel_size, axes, 1) if weight is None else weight.shape[2:]
    if arriving is None:
        if own is None:
            raise GraphError(f"{where}: input_shape is not given and cannot be told")
        arriving = (channels, *own)
    if own is not None and int(np.prod(arriving)) == channels * int(np.prod(own)):
        arriving = (channels, *own)  # a flat signal: the node says how to read it
    if len(arriving) != axes + 1 or arriving[0] != channels or own not in (None, arriving[1:]):
        wanted = f"{channels or 'C'} channels x " + ("x".join(map(str, own)) if own else "x".join("N" * axes))
        raise GraphError(f"{where}: shape {arriving} arrives, it takes {wanted}")
    stride = _whole(where, "stride", node.stride, axes, 1)
    pads = _padding(where, node.padding, kernel, stride, dilation)
    size = tuple(
        (n + before + after - d * (k - 1) - 1) // s + 1
        for n, (before, after), d, k, s in zip(arriving[1:], pads, dilation, kernel, stride, strict=True)
    )
    if min(size) < 1:
        raise GraphError(f"{where}: its kernel of {kernel} does not fit into {arriving[1:]} with padding {pads}")
    if weight is None:
        require_memory(
            8 * channels * int(np.prod(kernel)), f"{where}: its window of {kernel}", "give it smaller ones", GraphError
        )
        weight = np.full((groups, 1, *kernel), 1.0 / np.prod(kernel) if isinstance(node, nir.AvgPool2d) else 1.0)
    one = (1,) * (2 - axes)
    return Geometry(
        in_shape=_three((channels, *one, *arriving[1:])),
        out_shape=_three((weight.shape[0], *one, *size)),
        stride=_two((*one, *stride)),
        padding=_two((*(0 for _ in one), *(before for before, _ in pads))),
        dilation=_two((*one, *dilation)),
        groups=groups,
        weight=weight.reshape(*weight.shape[:2], *one, *kernel),
        bias=bias if bias is not None and bias.any() else None,
        reads=arriving,
        shape=(weight.shape[0], *size),
    )


def declared(name: str, node: nir.NIRNode, arriving: Shape | None, waiting: bool) -> Shape | None:
    """As the node says."""
    shape = next(iter((node.output_type or {}).values()), None)
    if shape is None:
        return None
    sizes = np.atleast_1d(np.asarray(shape))
    if sizes.dtype.kind not in "biuf" or sizes.ndim > 1 or not ((sizes >= 1) & (sizes == np.floor(sizes))).all():
        found = brief(shape)
        raise GraphError(f"{name} ({type(node).__name__}): its shape must be whole numbers above 0, found {found}")
    return tuple(int(n) for n in sizes)


def arriving_or_declared(name: str, node: nir.NIRNode, arriving: Shape | None, waiting: bool) -> Shape | None:
    """What arrives, else as the node says."""
    return arriving or declared(name, node, arriving, waiting)


def rows(name: str, node: nir.Linear | nir.Affine, arriving: Shape | None, waiting: bool) -> Shape | None:
    """One number for each row of a matrix, or of each of several."""
    return (*node.weight.shape[:-2], node.weight.shape[-2])


def own(name: str, node: nir.NIRNode, arriving: Shape | None, waiting: bool) -> Shape | None:
    """That of the parameters; of what arrives where NumPy broadcasts them to it, one number being for all channels."""
    mine = declared(name, node, None, False)
    if arriving is None or mine is None:
        return None if waiting else mine
    if mine != arriving and np.prod(mine, dtype=int) != np.prod(arriving, dtype=int):
        try:
            return arriving if np.broadcast_shapes(mine, arriving) == arriving else mine
        except ValueError:
            return mine  # the edge is refused, with both widths
    return mine


def flattened(name: str, node: nir.Flatten, arriving: Shape | None, waiting: bool) -> Shape | None:
    """Axes from start to end as one; from the axis behind the last one on there is nothing to flatten.

    Raises:
        GraphError: there are no such axes.
    """
    arriving = arriving or (None if waiting else _declared_input(node))
    if arriving is None:
        return None
    first, last = (int(n) for n in (node.start_dim, node.end_dim))
    count = len(arriving)
    start, end = (n + count if n < 0 else n for n in (first, last))
    if start == count:  # as tools write it that count the samples as an axis
        return arriving
    if not 0 <= start <= end < count:
        raise GraphError(f"{name} (Flatten): axes {first} to {last} of a shape {arriving} cannot be flattened")
    return (*arriving[:start], int(np.prod(arriving[start : end + 1], dtype=int)), *arriving[end + 1 :])


def window(name: str, node: nir.NIRNode, arriving: Shape | None, waiting: bool) -> Shape | None:
    """That of a convolution or a pool."""
    if arriving is None and (waiting or getattr(node, "input_shape", None) is None):
        return None
    return geometry(name, node, arriving).shape


def unknown(name: str, node: nir.NIRNode, arriving: Shape | None, waiting: bool) -> Shape | None:
    """That of a node of which nothing is known."""
    return None


def input_shape(node: nir.NIRNode, arriving: Shape | None, shape: Shape | None) -> Shape | None:
    """What a node takes, where it is no convolution: of matrices their columns, else what arrives or it puts out."""
    if isinstance(node, (nir.Linear, nir.Affine)) and node.weight.ndim > 1:
        return (*node.weight.shape[:-2], node.weight.shape[-1])
    if isinstance(node, nir.NIRGraph):
        return _declared_input(node)
    if isinstance(node, nir.Flatten):
        return arriving or _declared_input(node)
    return shape


def spread(values: FloatArray, shape: Shape) -> FloatArray:
    """One number for each channel, (width,): as many as there are, or what NumPy broadcasts to the shape.

    Raises:
        ValueError: it cannot be.
    """
    return (values if values.size == np.prod(shape, dtype=int) else np.broadcast_to(values, shape)).ravel()


def _declared_input(node: nir.NIRNode) -> Shape | None:
    shape = next(iter((node.input_type or {}).values()), None)
    return None if shape is None else tuple(int(n) for n in np.atleast_1d(np.asarray(shape)))


def _matrices(where: str, node: nir.Linear | nir.Affine) -> Geometry:
    """Several matrices: a convolution of one group each over a single place."""
    matrices = np.asarray(node.weight, np.float64)
    *lead, out, columns = matrices.shape
    count = int(np.prod(lead, dtype=int))
    bias = None
    if isinstance(node, nir.Affine):
        bias = np.asarray(node.bias, np.float64).ravel()
        if bias.size != count * out:
            raise GraphError(f"{where}: bias has shape {np.shape(node.bias)}, must have {(*lead, out)}")
    return Geometry(
        (count * columns, 1, 1), (count * out, 1, 1), (1, 1), (0, 0), (1, 1), count,
        matrices.reshape(count * out, columns, 1, 1), bias, (*lead, columns), (*lead, out),
    )  # fmt: skip


def _padding(
    where: str, padding: Any, kernel: Shape, stride: Sequence[int], dilation: Sequence[int]
) -> list[tuple[int, int]]:
    """Padding before and after on each axis; 'same' puts the odd one after, as PyTorch does."""
    if isinstance(padding, bytes):
        padding = padding.decode()
    if isinstance(padding, str):
        if padding == "valid":
            return [(0, 0)] * len(kernel)
        if padding != "same":
            raise GraphError(f"{where}: padding {padding!r} is not known, only 'same', 'valid' and numbers")
        if max(stride) > 1:
            raise GraphError(f"{where}: padding 'same' with stride {tuple(stride)} has no meaning in NIR; give numbers")
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(p, p) for p in _whole(where, "padding", padding, len(kernel), 0)]


def _whole(where: str, field: str, value: Any, axes: int, least: int) -> tuple[int, ...]:
    """One whole number for each axis; one number holds for all."""
    try:
        given = np.asarray(value, np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise GraphError(f"{where}: {field} must be numbers, found {brief(value)}") from error
    numbers = np.broadcast_to(given, axes) if given.size == 1 else given
    if numbers.shape != (axes,) or (numbers != np.floor(numbers)).any() or (numbers < least).any():
        raise GraphError(f"{where}: {field} must be {axes} whole numbers, {least} or more, found {brief(value)}")
    return tuple(int(n) for n in numbers)


def _real(where: str, field: str, value: Any, axes: int) -> FloatArray:
    array = np.asarray(value, np.float64)
    if array.ndim != axes:
        raise GraphError(f"{where}: {field} must have {axes} axes, found shape {array.shape}")
    return array


def _two(numbers: Sequence[int]) -> tuple[int, int]:
    first, second = numbers
    return first, second


def _three(numbers: Sequence[int]) -> tuple[int, int, int]:
    first, second, third = numbers
    return first, second, third
