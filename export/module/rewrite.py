"""A StepNetwork in the terms that NIR and the dialect have: what they lack is made of what they have.

Products of spikes are gates. A Linear over tokens is a convolution of one place. Pools stand in pools.py, products of
matrices in products.py, selects in selects.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from spikescr.errors import ExportError
from spikescr.export.module.draft import Draft
from spikescr.export.module.pools import maximum, pool
from spikescr.export.module.products import attend
from spikescr.export.module.selects import at, merge_selects, permuted, selected
from spikescr.export.record.step import Node, Operand, StepNetwork

IntArray = NDArray[np.int64]


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
    attend(draft)
    for node in draft.ordered():
        change = _CHANGES.get(node.operation)
        if change is not None and node.result in draft.nodes:
            change(draft, draft.nodes[node.result])
    for node in draft.ordered():  # those that no gate has taken in
        if node.operation == "complement":
            _complement(draft, node)
    merge_selects(draft)
    return draft.network()


def _linear(draft: Draft, node: Node) -> None:
    (x,) = node.operands
    lead, last = x.shape[:-1], x.shape[-1]
    places = int(np.prod(lead, dtype=int))
    if places == 1:
        draft.change(node.result, operands=(Operand(x.signal, (last,)),))
        return
    weight = node.arrays["weight"]
    columns = permuted(draft, Operand(x.signal, (places, last)), (1, 0), node)
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
        f"{node.path}: multiplies two signals{at(node)} of which neither is spikes; the dialect has gates, "
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
            return selected(draft, inside, node.arrays["index"], operand.shape, node)
    return None


def _scale(draft: Draft, node: Node) -> None:
    shape = draft.shapes[node.result]
    draft.change(
        node.result,
        operands=(Operand(node.operands[0].signal, shape),),
        arrays={"factor": np.array(np.broadcast_to(node.arrays["factor"], shape))},
    )


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
            raise ExportError(f"{node.path}: a transposed convolution{at(node)} whose padding is wider than its kernel")
        low.append(before)
        high.append(before + extra)
        places.append((n - 1) * s + 1)
    padded = tuple(a + n + b for a, n, b in zip(low, places, high, strict=True))
    index = np.full((channels, *padded), -1)
    spots = tuple(slice(a, a + n, s) for a, n, s in zip(low, places, o["stride"], strict=True))
    index[(slice(None), *spots)] = np.arange(int(np.prod(x.shape))).reshape(x.shape)
    wide = selected(draft, x, index, index.shape, node)
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
        x, padding = selected(draft, x, index, index.shape, node), (0, 0)
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


_CHANGES: Mapping[str, Callable[[Draft, Node], None]] = {
    "affine": _affine,
    "avg_pool": pool,
    "conv": _square,
    "conv_transpose": _conv_transpose,
    "linear": _linear,
    "max_pool": pool,
    "maximum": maximum,
    "product": _product,
    "scale": _scale,
    "sum": _sum,
    "sum_pool": pool,
}
