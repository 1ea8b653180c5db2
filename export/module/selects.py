"""Selects of a draft: made, put one behind the other, left out where they change nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spikescr.export.module.draft import Draft
from spikescr.export.record.step import Node, Operand

IntArray = NDArray[np.int64]


def merge_selects(draft: Draft) -> None:
    """Makes one of selects that read selects; those that change no element go."""
    for node in draft.ordered():
        if node.operation != "select":
            continue
        operands: list[Operand] = []
        starts: dict[int, int] = {}
        parts = []
        for operand in draft.nodes[node.result].operands:
            maker = draft.nodes[operand.signal]
            inner = maker.operands if maker.operation == "select" else (operand,)
            for source in inner:
                if source.signal not in starts:
                    starts[source.signal] = sum(draft.size(o.signal) for o in operands)
                    operands.append(source)
            local = [starts[o.signal] + np.arange(draft.size(o.signal)) for o in inner]
            flat = np.concatenate(local)
            if maker.operation == "select":
                index = maker.arrays["index"].ravel()
                flat = np.where(index < 0, -1, flat[index])
            parts.append(flat)
        index = draft.nodes[node.result].arrays["index"].ravel()
        index = np.where(index < 0, -1, np.concatenate(parts)[index])
        _tidy(draft, node.result, operands, index)


def _tidy(draft: Draft, result: int, operands: list[Operand], index: IntArray) -> None:
    """Leaves out operands of which nothing is read."""
    kept, moved, start, out = [], index.copy(), 0, 0
    for operand in operands:
        size = draft.size(operand.signal)
        within = (index >= start) & (index < start + size)
        if within.any():
            moved[within] = index[within] - start + out
            kept.append(operand)
            out += size
        start += size
    if len(kept) == 1 and np.array_equal(moved, np.arange(draft.size(kept[0].signal))):
        draft.bypass(result, kept[0].signal)
    else:
        draft.change(result, operands=tuple(kept), arrays={"index": moved})


def selected(draft: Draft, x: Operand, index: IntArray, shape: tuple[int, ...], like: Node) -> Operand:
    """x through an index vector; x itself, seen in the shape, where that changes nothing."""
    index = index.ravel()
    if np.array_equal(index, np.arange(int(np.prod(x.shape)))):
        return Operand(x.signal, shape)
    return draft.add("select", [x], shape, draft.kinds[x.signal], like, {"index": index})


def permuted(draft: Draft, x: Operand, axes: tuple[int, ...], like: Node) -> Operand:
    """x with its axes in another order."""
    numbers = np.arange(int(np.prod(x.shape))).reshape(x.shape).transpose(axes)
    return selected(draft, x, numbers, numbers.shape, like)


def at(node: Node) -> str:
    """Where the user's code calls a node, for messages."""
    return f" ({node.line})" if node.line else ""
