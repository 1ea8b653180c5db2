"""Folding: batch normalisation, constant factors and addends become part of the weights around them.

y = a x + b, element by element, goes back into the Linear or convolution that made x, through reshapes, permutations
and sums; or forward into those that read y, where only they do. What finds no weights stays, as a convolution of a
channel each. An average is a sum of its window times a constant, and the constant goes forward in the same way: spikes
are then accumulated and only accumulated. All in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikescr.export.module.draft import Draft
from spikescr.export.module.windows import counted, plane
from spikescr.export.record.step import Node, Operand, StepNetwork

FloatArray = NDArray[np.float64]
Edit = Callable[[], None]


def fold(net: StepNetwork) -> StepNetwork:
    """The network without batch normalisation, with as few factors and addends as there are weights to take them.

    Operations that it adds to a StepNetwork's: `affine`, y = factor x + addend for each channel of the first axis;
    `sum_pool` x (C, H, W), options window, stride, padding, ceil.
    """
    draft = Draft(net)
    for node in draft.ordered():
        if node.operation in ("batch_norm", "scale", "bias"):
            _dissolve(draft, draft.nodes[node.result], _affine_of(node, draft.shapes[node.result]))
    for node in draft.ordered():
        if node.operation == "avg_pool" and draft.kinds[node.operands[0].signal] != "values":
            _average(draft, draft.nodes[node.result])
    return draft.network()


@dataclass(frozen=True)
class Affine:
    """y = factor x + addend for each element of a signal, flat; NaN where no one reads the element."""

    factor: FloatArray
    addend: FloatArray


def _affine_of(node: Node, shape: tuple[int, ...]) -> Affine:
    arrays = node.arrays
    if node.operation == "batch_norm":
        factor = arrays["weight"] / np.sqrt(arrays["var"] + node.options["eps"])
        addend = arrays["bias"] - arrays["mean"] * factor
        read = node.operands[0].shape
        spread = tuple(-1 if axis == node.options["axis"] else 1 for axis in range(len(read)))
        return Affine(*(np.broadcast_to(x.reshape(spread), read).ravel() for x in (factor, addend)))
    if node.operation == "scale":
        return Affine(np.broadcast_to(arrays["factor"], shape).ravel(), np.zeros(np.prod(shape, dtype=int)))
    return Affine(np.ones(np.prod(shape, dtype=int)), np.broadcast_to(arrays["addend"], shape).ravel())


def _dissolve(draft: Draft, node: Node, map_: Affine) -> None:
    """Takes the map of a node into weights, or leaves it an `affine` (a `scale` where nothing is added)."""
    (x,) = node.operands
    edits = _back(draft, x.signal, map_, node.result)
    if edits is not None:
        for edit in edits:
            edit()
        draft.bypass(node.result, x.signal)
        return
    edits = _forward(draft, node.result, map_)
    if edits is not None:
        for edit in edits:
            edit()
        draft.kinds[node.result] = draft.kinds[x.signal]
        draft.change(node.result, operation="select", arrays={"index": np.arange(len(map_.factor))}, options={})
        return
    _stays(draft, node, map_)


def _stays(draft: Draft, node: Node, map_: Affine) -> None:
    if not map_.addend.any():
        shape = draft.shapes[node.result]
        draft.change(node.result, operation="scale", arrays={"factor": map_.factor.reshape(shape)}, options={})
        return
    shape = node.operands[0].shape
    for channels in (shape[0], len(map_.factor)):
        factor, addend = (x.reshape(channels, -1) for x in (map_.factor, map_.addend))
        if not (np.ptp(factor, axis=1).any() or np.ptp(addend, axis=1).any()):
            break
    operand = Operand(node.operands[0].signal, (channels, factor.shape[1]))
    arrays = {"factor": factor[:, 0], "addend": addend[:, 0]}
    draft.change(node.result, operation="affine", operands=(operand,), arrays=arrays, options={})


def _back(draft: Draft, signal: int, map_: Affine, reader: int) -> list[Edit] | None:
    """What takes a map into the weights that make a signal which `reader` alone reads; None where nothing can."""
    only = draft.only_reader(signal)
    if only is None or only.result != reader:
        return None
    node = draft.nodes[signal]
    match node.operation:
        case "linear" | "conv" | "conv_transpose" | "temporal":
            return _into_outputs(draft, node, map_)
        case "select":
            return _back_through_select(draft, node, map_)
        case "sum":
            return _back_through_sum(draft, node, map_)
        case "attention":
            return _into_attention(draft, node, map_)
        case _:
            return None


def _into_outputs(draft: Draft, node: Node, map_: Affine) -> list[Edit] | None:
    shape = draft.shapes[node.result]
    outputs_last = node.operation == "linear"
    channels = shape[-1] if outputs_last else shape[0]
    by_channel = [
        _one_each(x.reshape(-1, channels).T if outputs_last else x.reshape(channels, -1))
        for x in (map_.factor, map_.addend)
    ]
    factor, addend = by_channel
    if factor is None or addend is None:
        return None

    def edit() -> None:
        now = draft.nodes[node.result]
        weight = now.arrays["weight"]
        if now.operation == "conv_transpose":  # (C, O / groups, *kernel)
            groups = now.options["groups"]
            grouped = weight.reshape(groups, len(weight) // groups, *weight.shape[1:])
            scaled = grouped * factor.reshape(groups, 1, -1, *[1] * (weight.ndim - 2))
            weight = scaled.reshape(weight.shape)
        else:
            weight = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
        bias = now.arrays["bias"] * factor + addend if "bias" in now.arrays else addend
        draft.change(node.result, arrays=_weights(weight, bias))

    return [edit]


def _into_attention(draft: Draft, node: Node, map_: Affine) -> list[Edit] | None:
    factor = _one_each(map_.factor[None])
    if factor is None or map_.addend.any():
        return None

    def edit() -> None:
        scale = draft.nodes[node.result].options["scale"] * float(factor[0])
        draft.change(node.result, options={"scale": scale})

    return [edit]


def _back_through_select(draft: Draft, node: Node, map_: Affine) -> list[Edit] | None:
    index = node.arrays["index"].ravel()
    if map_.addend[index < 0].any():
        return None  # a 0 that is put in would have to become something else
    sizes = [int(np.prod(o.shape, dtype=int)) for o in node.operands]
    factor, addend = np.full(sum(sizes), np.nan), np.full(sum(sizes), np.nan)
    read = index >= 0
    factor[index[read]], addend[index[read]] = map_.factor[read], map_.addend[read]
    if not (
        np.array_equal(factor[index[read]], map_.factor[read])
        and np.array_equal(addend[index[read]], map_.addend[read])
    ):
        return None  # an element that is read twice would have to be two things
    edits: list[Edit] = []
    for operand, part in zip(node.operands, np.split(np.arange(len(factor)), np.cumsum(sizes)[:-1]), strict=True):
        more = _back(draft, operand.signal, Affine(factor[part], addend[part]), node.result)
        if more is None:
            return None
        edits += more
    return edits


def _back_through_sum(draft: Draft, node: Node, map_: Affine) -> list[Edit] | None:
    edits: list[Edit] = []
    addend = map_.addend
    for operand, coefficient in zip(node.operands, node.options["coefficients"], strict=True):
        more = _back(draft, operand.signal, Affine(map_.factor, addend / coefficient), node.result)
        if more is None:
            return None
        edits += more
        addend = np.where(np.isnan(addend), np.nan, 0.0)
    return edits


def _forward(draft: Draft, signal: int, map_: Affine) -> list[Edit] | None:
    """What takes a map of a signal into the weights of all that read it; None where one of them has none."""
    edits: list[Edit] = []
    readers = draft.readers(signal)
    for reader in readers:
        match reader.operation:
            case "linear" | "conv" | "temporal":
                more = _into_inputs(draft, reader, map_)
            case "select":
                more = _forward_through_select(draft, reader, signal, map_)
            case "neuron":
                more = _into_neurons(draft, reader, map_)
            case _:
                more = None
        if more is None:
            return None
        edits += more
    return edits if readers else None


def _into_inputs(draft: Draft, node: Node, map_: Affine) -> list[Edit] | None:
    read = node.operands[0].shape
    if node.operation == "linear":
        factor, addend = (_one_each(x.reshape(-1, read[-1]).T) for x in (map_.factor, map_.addend))
    else:
        factor, addend = (_one_each(x.reshape(read[0], -1)) for x in (map_.factor, map_.addend))
    if factor is None or addend is None:
        return None
    if addend.any() and (node.operation == "temporal" or any(node.options.get("padding", ()))):
        return None  # what is padded is 0, not the addend

    def edit() -> None:
        now = draft.nodes[node.result]
        weight = now.arrays["weight"]
        if now.operation == "linear":
            more, weight = weight @ addend, weight * factor
        else:
            groups = now.options["groups"]
            per_output = np.repeat(factor.reshape(groups, -1), len(weight) // groups, axis=0)
            added = np.repeat(addend.reshape(groups, -1), len(weight) // groups, axis=0)
            spread = (*per_output.shape, *[1] * (weight.ndim - 2))
            more = (weight * added.reshape(spread)).reshape(len(weight), -1).sum(axis=1)
            weight = weight * per_output.reshape(spread)
        bias = now.arrays.get("bias", np.zeros(len(weight))) + more
        draft.change(node.result, arrays=_weights(weight, bias if "bias" in now.arrays or addend.any() else None))

    return [edit]


def _into_neurons(draft: Draft, node: Node, map_: Affine) -> list[Edit] | None:
    """One factor for all of them, where their own gain is a power of two: the product is rounded once, as before."""
    factor = _one_each(map_.factor[None])
    gain = node.options["equation"].gain
    if factor is None or map_.addend.any() or not factor[0] > 0 or np.frexp(gain)[0] != 0.5:
        return None

    def edit() -> None:
        equation = draft.nodes[node.result].options["equation"]
        gained = replace(equation, gain=equation.gain * float(factor[0]))
        draft.change(node.result, options={**draft.nodes[node.result].options, "equation": gained})

    return [edit]


def _forward_through_select(draft: Draft, node: Node, signal: int, map_: Affine) -> list[Edit] | None:
    sizes = [int(np.prod(o.shape, dtype=int)) for o in node.operands]
    factor, addend = np.ones(sum(sizes)), np.zeros(sum(sizes))
    start = 0
    for operand, size in zip(node.operands, sizes, strict=True):
        if operand.signal == signal:
            factor[start : start + size], addend[start : start + size] = map_.factor, map_.addend
        start += size
    index = node.arrays["index"].ravel()
    put_in = index < 0
    return _forward(
        draft, node.result, Affine(np.where(put_in, np.nan, factor[index]), np.where(put_in, 0.0, addend[index]))
    )


def _average(draft: Draft, node: Node) -> None:
    """An average of spikes becomes their sum, where weights behind it take the constant."""
    window = plane(node)
    if window is None:
        return
    factor = np.broadcast_to(1.0 / counted(node, window), (node.operands[0].shape[0], *window.out)).ravel()
    edits = _forward(draft, node.result, Affine(factor, np.zeros(len(factor))))
    if edits is None:
        return
    for edit in edits:
        edit()
    options: dict[str, Any] = {
        "window": window.size, "stride": window.stride, "padding": window.padding, "ceil": bool(node.options["ceil"]),
    }  # fmt: skip
    operand = Operand(node.operands[0].signal, window.reads)
    draft.change(node.result, operation="sum_pool", operands=(operand,), options=options)
    draft.kinds[node.result] = "counts"


def _one_each(rows: FloatArray) -> FloatArray | None:
    """The number of which each row holds nothing but copies, and NaN; 0 where it holds NaN alone; None where more."""
    missing = np.isnan(rows)
    first = rows[np.arange(len(rows)), (~missing).argmax(axis=1)]
    if not ((rows == first[:, None]) | missing).all():
        return None
    return np.where(missing.all(axis=1), 0.0, first)


def _weights(weight: FloatArray, bias: FloatArray | None) -> dict[str, FloatArray]:
    return {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
