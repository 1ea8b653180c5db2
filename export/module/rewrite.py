"""A StepNetwork in the terms that NIR and the dialect have: what they lack is made of what they have.

Pools and reductions read (C, H, W); those of NIR round down, count all of a window and do not dilate, so that others
read a `select` of their windows. Products of spikes are gates. A Linear over tokens is a convolution of one place. Two
products of matrices in a row are attention within the step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikescr.errors import ExportError
from spikescr.export.module.draft import Draft
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


def rewritten(net: StepNetwork) -> StepNetwork:
    """The folded network in the operations that `lower` knows.

    They are input, output, linear (I,), conv, neuron, delay, select of one operand or of several, sum without
    coefficients, scale, complement, and, besides those of `fold`: `avg_pool` and `sum_pool` as NIR has them, `or_pool`
    (1 where anything fires in the window), `maximum` of (F, *shape), option fan; `gate` of a value and spikes, option
    inverted; `token_attention` of q, k, v, each (heads, tokens, depth), option scale.

    Raises:
        ExportError: an operation that there are no terms for.
    """
    draft = Draft(net)
    _attend(draft)
    for node in draft.ordered():
        change = _CHANGES.get(node.operation)
        if change is not None and node.result in draft.nodes:
            change(draft, draft.nodes[node.result])
    for node in draft.ordered():  # those that no gate has taken in
        if node.operation == "complement":
            _complement(draft, node)
    merge_selects(draft)
    return draft.network()


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


def _selected(draft: Draft, x: Operand, index: IntArray, shape: tuple[int, ...], like: Node) -> Operand:
    """x through an index vector; x itself, seen in the shape, where that changes nothing."""
    index = index.ravel()
    if np.array_equal(index, np.arange(int(np.prod(x.shape)))):
        return Operand(x.signal, shape)
    return draft.add("select", [x], shape, draft.kinds[x.signal], like, {"index": index})


def _permuted(draft: Draft, x: Operand, axes: tuple[int, ...], like: Node) -> Operand:
    numbers = np.arange(int(np.prod(x.shape))).reshape(x.shape).transpose(axes)
    return _selected(draft, x, numbers, numbers.shape, like)


def _reduction(draft: Draft, node: Node) -> None:
    (x,) = node.operands
    rank = len(x.shape)
    over = sorted(axis % rank for axis in node.options["axes"])
    kept = [axis for axis in range(rank) if axis not in over]
    count = int(np.prod([x.shape[axis] for axis in over], dtype=int))
    rows = _permuted(draft, x, (*kept, *over), node)
    operand = Operand(rows.signal, (int(np.prod([x.shape[a] for a in kept], dtype=int)), 1, count))
    options: dict[str, Any] = {"window": (1, count), "stride": (1, count), "padding": (0, 0), "ceil": False}
    if node.options["mean"]:
        options |= {"count_padding": True, "divisor": None}
    draft.change(
        node.result, operation="avg_pool" if node.options["mean"] else "sum_pool", operands=(operand,), options=options
    )


def _pool(draft: Draft, node: Node) -> None:
    window = plane(node)
    if window is None:
        raise ExportError(f"{node.path}: a pool over three axes{_at(node)} has no counterpart in NIR")
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
    rows = _selected(draft, image, index, (index.size // size, 1, size), node)
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
    operand = _selected(draft, image, index, shape, node)
    draft.change(node.result, operation="maximum", operands=(operand,), options={"fan": len(index)})


def _maximum(draft: Draft, node: Node) -> None:
    if "fan" in node.options:
        return
    x, y = node.operands
    shape = (2, *draft.shapes[node.result])
    kind: Kind = "values" if "values" in (draft.kinds[x.signal], draft.kinds[y.signal]) else "counts"
    both = draft.add("select", [x, y], shape, kind, node, {"index": np.arange(int(np.prod(shape)))})
    draft.change(node.result, operands=(both,), options={"fan": 2})


def _linear(draft: Draft, node: Node) -> None:
    (x,) = node.operands
    lead, last = x.shape[:-1], x.shape[-1]
    places = int(np.prod(lead, dtype=int))
    if places == 1:
        draft.change(node.result, operands=(Operand(x.signal, (last,)),))
        return
    weight = node.arrays["weight"]
    columns = _permuted(draft, Operand(x.signal, (places, last)), (1, 0), node)
    options = {"stride": (1,), "padding": (0,), "dilation": (1,), "groups": 1}
    arrays = {**node.arrays, "weight": weight[:, :, None]}
    made = draft.add("conv", [columns], (len(weight), places), "values", node, arrays, options)
    index = np.arange(len(weight) * places).reshape(-1, places).T.ravel()
    draft.change(node.result, operation="select", operands=(made,), arrays={"index": index}, options={})


def _sum(draft: Draft, node: Node) -> None:
    operands: list[Operand] = []
    for operand, coefficient in zip(node.operands, node.options["coefficients"], strict=True):
        twice = any(o.signal == operand.signal for o in operands)  # edges cannot be there twice
        if coefficient != 1 or twice:
            shape = draft.shapes[node.result]
            factor = np.full(shape, float(coefficient))
            operands.append(
                draft.add("scale", [Operand(operand.signal, shape)], shape, "values", node, {"factor": factor})
            )
        else:
            operands.append(operand)
    draft.change(node.result, operands=tuple(operands), options={"coefficients": (1.0,) * len(operands)})


def _product(draft: Draft, node: Node) -> None:
    operands = node.operands
    for value, spike in (operands, operands[::-1]):
        inside = _complemented(draft, spike)
        if inside is not None:
            draft.change(node.result, operation="gate", operands=(value, inside), options={"inverted": True})
            return
    for value, spike in (operands[::-1], operands):
        if draft.kinds[spike.signal] == "spikes":
            draft.change(node.result, operation="gate", operands=(value, spike), options={"inverted": False})
            return
    raise ExportError(
        f"{node.path}: multiplies two signals{_at(node)} of which neither is spikes; the dialect has gates, "
        "which spikes open"
    )


def _complemented(draft: Draft, operand: Operand) -> Operand | None:
    """The spikes of which an operand is the complement, through selects that put in no 0."""
    node = draft.nodes[operand.signal]
    if node.operation == "complement" and draft.kinds[node.operands[0].signal] == "spikes":
        return Operand(node.operands[0].signal, operand.shape)
    if node.operation == "select" and len(node.operands) == 1 and (node.arrays["index"] >= 0).all():
        inside = _complemented(draft, node.operands[0])
        if inside is not None:
            return _selected(draft, inside, node.arrays["index"], operand.shape, node)
    return None


def _scale(draft: Draft, node: Node) -> None:
    shape = draft.shapes[node.result]
    draft.change(
        node.result,
        operands=(Operand(node.operands[0].signal, shape),),
        arrays={"factor": np.array(np.broadcast_to(node.arrays["factor"], shape))},
    )


def _attend(draft: Draft) -> None:
    """(q k^T) v and q (k^T v), with a constant factor anywhere, become token_attention."""
    for node in reversed(draft.ordered()):  # the outer product first, which takes in the inner one
        if node.operation != "matmul" or node.result not in draft.nodes:
            continue
        for first in (True, False):
            inner, factor = _inner_product(draft, node.operands[0 if first else 1])
            if inner is None:
                continue
            if first:
                q, kt, v = (*inner.operands, node.operands[1])
            else:
                q, kt, v = (node.operands[0], *inner.operands)
            _attention(draft, node, (_three(q), _three(kt), _three(v)), factor)
            draft.prune()
            break
        else:
            raise ExportError(
                f"{node.path}: multiplies two signals as matrices{_at(node)}; the dialect has (q k^T) v, two such "
                "products in a row"
            )


def _inner_product(draft: Draft, operand: Operand) -> tuple[Node | None, float]:
    factor = 1.0
    node = draft.nodes[operand.signal]
    while node.operation == "scale" and node.arrays["factor"].size and np.ptp(node.arrays["factor"]) == 0:
        factor *= float(node.arrays["factor"].flat[0])
        node = draft.nodes[node.operands[0].signal]
    same = node.operation == "matmul" and draft.shapes[node.result][-2:] == operand.shape[-2:]
    return (node if same and len(draft.readers(node.result)) == 1 else None), factor


def _three(operand: Operand) -> Operand:
    """As (heads, rows, columns)."""
    *heads, rows, columns = operand.shape
    return Operand(operand.signal, (int(np.prod(heads, dtype=int)), rows, columns))


def _attention(draft: Draft, node: Node, chain: tuple[Operand, Operand, Operand], factor: float) -> None:
    q, kt, v = chain
    only = draft.only_reader(node.result)
    scaled = only if only is not None and only.operation == "scale" and np.ptp(only.arrays["factor"]) == 0 else None
    if scaled is not None:
        factor *= float(scaled.arrays["factor"].flat[0])
    if len({o.shape[0] for o in chain}) > 1 or q.shape[1] != kt.shape[2]:
        shapes = ", ".join(str(o.shape) for o in chain)
        raise ExportError(f"{node.path}: attention over matrices of shapes {shapes}{_at(node)} has no counterpart")
    k = _permuted(draft, kt, (0, 2, 1), node)
    draft.change(node.result, operation="token_attention", operands=(q, k, v), options={"scale": factor})
    if scaled is not None:
        draft.bypass(scaled.result, node.result)


def _conv_transpose(draft: Draft, node: Node) -> None:
    """A convolution of the turned kernel over the input with zeros between its places and around them."""
    (x,), o = node.operands, node.options
    channels, *space = x.shape
    weight, groups = node.arrays["weight"], int(o["groups"])
    kernel = weight.shape[2:]
    low, high, places = [], [], []
    for n, k, s, p, d, extra in zip(
        space, kernel, o["stride"], o["padding"], o["dilation"], o["output_padding"], strict=True
    ):
        before = d * (k - 1) - p
        if before < 0:
            raise ExportError(
                f"{node.path}: a transposed convolution{_at(node)} whose padding is wider than its kernel"
            )
        low.append(before)
        high.append(before + extra)
        places.append((n - 1) * s + 1)
    padded = tuple(a + n + b for a, n, b in zip(low, places, high, strict=True))
    index = np.full((channels, *padded), -1)
    spots = tuple(slice(a, a + n, s) for a, n, s in zip(low, places, o["stride"], strict=True))
    index[(slice(None), *spots)] = np.arange(int(np.prod(x.shape))).reshape(x.shape)
    wide = _selected(draft, x, index, index.shape, node)
    turned = np.flip(weight, axis=tuple(range(2, weight.ndim)))
    grouped = turned.reshape(groups, channels // groups, -1, *kernel).swapaxes(1, 2)
    arrays = {**node.arrays, "weight": np.ascontiguousarray(grouped.reshape(-1, channels // groups, *kernel))}
    ones = (1,) * len(kernel)
    options = {"stride": ones, "padding": (0,) * len(kernel), "dilation": tuple(o["dilation"]), "groups": groups}
    draft.change(node.result, operation="conv", operands=(wide,), arrays=arrays, options=options)
    _square(draft, draft.nodes[node.result])


def _square(draft: Draft, node: Node) -> None:
    """Zeros around a kernel that is not square: nir 1.0.8 takes its height for its width. They are no synapses."""
    weight, o = node.arrays["weight"], node.options
    if weight.ndim != 4 or weight.shape[2] == weight.shape[3]:
        return
    size = max(weight.shape[2:])
    missing = [size - k for k in weight.shape[2:]]
    (x,), padding = node.operands, tuple(o["padding"])
    if any(m % 2 for m in missing):  # more after than before: what it reads is padded instead
        channels, height, width = x.shape
        after = [p + d * m for p, d, m in zip(padding, o["dilation"], missing, strict=True)]
        index = np.full((channels, padding[0] + height + after[0], padding[1] + width + after[1]), -1)
        inside = (slice(padding[0], padding[0] + height), slice(padding[1], padding[1] + width))
        index[(slice(None), *inside)] = np.arange(index[(slice(None), *inside)].size).reshape(x.shape)
        x, padding = _selected(draft, x, index, index.shape, node), (0, 0)
        around = [(0, m) for m in missing]
    else:
        padding = tuple(p + d * (m // 2) for p, d, m in zip(padding, o["dilation"], missing, strict=True))
        around = [(m // 2, m // 2) for m in missing]
    arrays = {**node.arrays, "weight": np.pad(weight, [(0, 0), (0, 0), *around])}
    draft.change(node.result, operands=(x,), arrays=arrays, options={**o, "padding": padding})


def _affine(draft: Draft, node: Node) -> None:
    """An affine of channels that are whole is a convolution of one place."""
    (x,) = node.operands
    channels = x.shape[0]
    arrays = {"weight": node.arrays["factor"].reshape(channels, 1, 1), "bias": node.arrays["addend"]}
    options = {"stride": (1,), "padding": (0,), "dilation": (1,), "groups": channels}
    draft.change(node.result, operation="conv", arrays=arrays, options=options)


def _complement(draft: Draft, node: Node) -> None:
    shape = draft.shapes[node.result]
    operand = Operand(node.operands[0].signal, (1, int(np.prod(shape, dtype=int))))
    arrays = {"weight": np.full((1, 1, 1), -1.0), "bias": np.ones(1)}
    options = {"stride": (1,), "padding": (0,), "dilation": (1,), "groups": 1}
    draft.change(node.result, operation="conv", operands=(operand,), arrays=arrays, options=options)


def _at(node: Node) -> str:
    return f" ({node.line})" if node.line else ""


_CHANGES: Mapping[str, Callable[[Draft, Node], None]] = {
    "affine": _affine,
    "avg_pool": _pool,
    "conv": _square,
    "conv_transpose": _conv_transpose,
    "linear": _linear,
    "max_pool": _pool,
    "maximum": _maximum,
    "product": _product,
    "scale": _scale,
    "sum": _sum,
    "sum_pool": _pool,
}
