"""Pools, and sums, means and maxima over axes, as NIR and the dialect have them.

They read (C, H, W); those of NIR round down, count all of a window and do not dilate, so that others read a `select` of
their windows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikescr.errors import ExportError
from spikescr.export.module.draft import Draft
from spikescr.export.module.selects import at, permuted, selected
from spikescr.export.module.windows import Window, counted, plane
from spikescr.export.record.step import Kind, Node, Operand, StepNetwork

IntArray = NDArray[np.int64]


def pooled(net: StepNetwork) -> StepNetwork:
    """Sums and means over axes as pools; before folding, which takes averages apart."""
    draft = Draft(net)
    for node in draft.ordered():
        if node.operation == "reduce":
            _reduction(draft, node)
    return draft.network()


def _reduction(draft: Draft, node: Node) -> None:
    (x,) = node.operands
    rank = len(x.shape)
    over = sorted(axis % rank for axis in node.options["axes"])
    kept = [axis for axis in range(rank) if axis not in over]
    count = int(np.prod([x.shape[axis] for axis in over], dtype=int))
    rows = permuted(draft, x, (*kept, *over), node)
    operand = Operand(rows.signal, (int(np.prod([x.shape[a] for a in kept], dtype=int)), 1, count))
    options: dict[str, Any] = {"window": (1, count), "stride": (1, count), "padding": (0, 0), "ceil": False}
    if node.options["mean"]:
        options |= {"count_padding": True, "divisor": None}
    draft.change(
        node.result, operation="avg_pool" if node.options["mean"] else "sum_pool", operands=(operand,), options=options
    )


def pool(draft: Draft, node: Node) -> None:
    """A pool of any kind as one that NIR has, or `maximum`, of the image or of its windows one beside the other."""
    window = plane(node)
    if window is None:
        raise ExportError(f"{node.path}: a pool over three axes{at(node)} has no counterpart in NIR")
    (x,) = node.operands
    kind = draft.kinds[x.signal]
    if node.operation == "max_pool":
        _max_pool(draft, node, window, kind)
        return
    operand, options = _windows(draft, node, window, Operand(x.signal, window.reads))
    if node.operation == "avg_pool":
        count, shape = counted(node, window), (window.reads[0], *window.out)
        if not (window.plain and (count == np.prod(window.size)).all()):
            total = draft.add("sum_pool", [operand], shape, kind, node, {}, options)
            factor = np.broadcast_to(1.0 / count, shape).reshape(draft.shapes[node.result])
            total = Operand(total.signal, factor.shape)
            draft.change(node.result, operation="scale", operands=(total,), arrays={"factor": factor}, options={})
            return
    draft.change(node.result, operands=(operand,), options=options)


def _windows(draft: Draft, node: Node, window: Window, image: Operand) -> tuple[Operand, Mapping[str, Any]]:
    """What a sum over windows reads, and its options as NIR's: the image, or its windows one beside the other."""
    if window.plain:
        return image, {"window": window.size, "stride": window.stride, "padding": window.padding}
    index = _gathered(window)  # (C, H', W', size)
    size = index.shape[-1]
    rows = selected(draft, image, index, (index.size // size, 1, size), node)
    return rows, {"window": (1, size), "stride": (1, size), "padding": (0, 0)}


def _gathered(window: Window) -> IntArray:
    """Numbers of the elements of (C, H, W) in every window, -1 beyond the edge: (C, H', W', window)."""
    channels, height, width = window.reads
    rows, columns = window.places(0)[:, None, :, None], window.places(1)[None, :, None, :]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    one = np.where(inside, rows * width + columns, -1).reshape(*window.out, -1)
    every = one[None] + np.arange(channels).reshape(-1, 1, 1, 1) * height * width
    return np.where(one[None] < 0, -1, every)


def _max_pool(draft: Draft, node: Node, window: Window, kind: Kind) -> None:
    image = Operand(node.operands[0].signal, window.reads)
    if kind == "spikes":
        operand, options = _windows(draft, node, window, image)
        draft.change(node.result, operation="or_pool", operands=(operand,), options=options)
        return
    index = _gathered(window).reshape(-1, int(np.prod(window.size)))
    within = index[np.arange(len(index)), (index >= 0).argmax(axis=1)]
    index = np.where(index < 0, within[:, None], index).T  # a 0 beyond the edge could be the largest
    shape = (len(index), *draft.shapes[node.result])
    operand = selected(draft, image, index, shape, node)
    draft.change(node.result, operation="maximum", operands=(operand,), options={"fan": len(index)})


def maximum(draft: Draft, node: Node) -> None:
    """The larger of two signals, as the dialect's `maximum` of both one behind the other."""
    if "fan" in node.options:
        return
    x, y = node.operands
    shape = (2, *draft.shapes[node.result])
    kind: Kind = "values" if "values" in (draft.kinds[x.signal], draft.kinds[y.signal]) else "counts"
    both = draft.add("select", [x, y], shape, kind, node, {"index": np.arange(int(np.prod(shape)))})
    draft.change(node.result, operands=(both,), options={"fan": 2})
