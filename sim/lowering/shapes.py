"""Shapes of a NIR graph's signals, and the geometry of its convolutions and pools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import nir
import numpy as np

from spikescr.errors import GraphError
from spikescr.sim.program import FloatArray

Shape: TypeAlias = tuple[int, ...]

CONVOLUTIONS = (nir.Conv1d, nir.Conv2d, nir.SumPool2d, nir.AvgPool2d)
NEURONS = (nir.I, nir.IF, nir.LI, nir.LIF, nir.CubaLI, nir.CubaLIF, nir.Threshold)


@dataclass(frozen=True)
class Geometry:
    """The fields of a `program.Convolution`, with the shape that the node's signal has in NIR."""

    in_shape: tuple[int, int, int]
    out_shape: tuple[int, int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    weight: FloatArray
    bias: FloatArray | None
    shape: Shape


def output_shapes(nodes: Mapping[str, nir.NIRNode], before: Mapping[str, Sequence[str]]) -> dict[str, Shape]:
    """The shape of every node's output, from what the nodes say and from what arrives where they do not.

    Parameters of one number, or of shapes that NumPy broadcasts to what arrives, hold for all channels.

    Raises:
        GraphError: a shape cannot be told, or contradicts the node.
    """
    known: dict[str, Shape] = {}
    while len(known) < len(nodes):
        found = len(known)
        for name, node in nodes.items():
            if name not in known:
                arriving = next((known[source] for source in before[name] if source in known), None)
                shape = _output_shape(name, node, arriving, waiting=bool(before[name]))
                if shape is not None:
                    known[name] = shape
        if len(known) == found:  # only a cycle may need what it gives: take what its nodes say themselves
            for name, node in nodes.items():
                if name not in known and (shape := _output_shape(name, node, None, waiting=False)) is not None:
                    known[name] = shape
                    break
            else:
                left = next(name for name in nodes if name not in known)
                raise GraphError(f"{left}: the shape that arrives at this {type(nodes[left]).__name__} cannot be told")
    return known


def geometry(name: str, node: nir.NIRNode, arriving: Shape | None) -> Geometry:
    """What a convolution or a pool reads and gives.

    Args:
        name: for messages.
        node: one of CONVOLUTIONS, or a Linear or Affine whose weight has more than two axes: one matrix for each place
            of the leading ones, a convolution of one group each over a single place.
        arriving: shape of its input, None where the node's own input_shape tells.

    Raises:
        GraphError: the two differ, or a field cannot be run.
    """
    where = f"{name} ({type(node).__name__})"
    if isinstance(node, (nir.Linear, nir.Affine)):
        matrices = np.asarray(node.weight, np.float64)
        *lead, rows, columns = matrices.shape
        count = int(np.prod(lead))
        bias = np.asarray(node.bias, np.float64).ravel() if isinstance(node, nir.Affine) else None
        return Geometry(
            (count * columns, 1, 1), (count * rows, 1, 1), (1, 1), (0, 0), (1, 1), count,
            matrices.reshape(count * rows, columns, 1, 1), bias, (*lead, rows),
        )  # fmt: skip
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
        own, bias, dilation = None, None, (1,) * axes
        channels = groups = 0 if arriving is None or len(arriving) != 3 else arriving[0]
        window = _whole(where, "kernel_size", node.kernel_size, axes, 1)
        weight = np.full((groups, 1, *window), 1.0 / np.prod(window) if isinstance(node, nir.AvgPool2d) else 1.0)
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
    kernel = weight.shape[2:]
    pads = _padding(where, node.padding, kernel, stride, dilation)
    size = tuple(
        (n + before + after - d * (k - 1) - 1) // s + 1
        for n, (before, after), d, k, s in zip(arriving[1:], pads, dilation, kernel, stride, strict=True)
    )
    if min(size) < 1:
        raise GraphError(f"{where}: its kernel of {kernel} does not fit into {arriving[1:]} with padding {pads}")
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
        shape=(weight.shape[0], *size),
    )


def _output_shape(name: str, node: nir.NIRNode, arriving: Shape | None, *, waiting: bool) -> Shape | None:  # noqa: PLR0911
    """The shape of a node's output, None if it must be told by what arrives and that is still to come (`waiting`)."""
    match node:
        case nir.Input() | nir.NIRGraph():
            return _declared(node)
        case nir.Output():
            return arriving or _declared(node)
        case nir.Linear() | nir.Affine():
            return (*node.weight.shape[:-2], node.weight.shape[-2])
        case nir.Flatten():
            return None if arriving is None else (int(np.prod(arriving)),)
        case (
            nir.Scale()
            | nir.Delay()
            | nir.Threshold()
            | nir.I()
            | nir.IF()
            | nir.LI()
            | nir.LIF()
            | nir.CubaLI()
            | (nir.CubaLIF())
        ):
            own = tuple(int(n) for n in next(iter(node.output_type.values())))
            if arriving is None:
                return None if waiting else own
            if own != arriving and np.prod(own, dtype=int) != np.prod(arriving, dtype=int):
                try:
                    if np.broadcast_shapes(own, arriving) == arriving:
                        return arriving
                except ValueError:
                    return own  # the edge is refused, with both widths
            return own
        case nir.SumPool2d() | nir.AvgPool2d():
            return None if arriving is None else geometry(name, node, arriving).shape
    if arriving is None and (waiting or node.input_shape is None):
        return None
    return geometry(name, node, arriving).shape


def _declared(node: nir.NIRNode) -> Shape | None:
    shape = next(iter(node.output_type.values()), None)
    return None if shape is None else tuple(int(n) for n in shape)


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
        raise GraphError(f"{where}: {field} must be numbers, found {value!r}") from error
    numbers = np.broadcast_to(given, axes) if given.size == 1 else given
    if numbers.shape != (axes,) or (numbers != np.floor(numbers)).any() or (numbers < least).any():
        raise GraphError(f"{where}: {field} must be {axes} whole numbers, {least} or more, found {value!r}")
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
