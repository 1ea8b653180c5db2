"""Two products of matrices in a row become attention within the step."""

from __future__ import annotations

import numpy as np

from spikescr.errors import ExportError
from spikescr.export.module.draft import Draft
from spikescr.export.module.selects import at, permuted
from spikescr.export.record.step import Node, Operand


def attend(draft: Draft) -> None:
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
                f"{node.path}: multiplies two signals as matrices{at(node)}; the dialect has (q k^T) v, two such "
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
        raise ExportError(f"{node.path}: attention over matrices of shapes {shapes}{at(node)} has no counterpart")
    k = permuted(draft, kt, (0, 2, 1), node)
    draft.change(node.result, operation="token_attention", operands=(q, k, v), options={"scale": factor})
    if scaled is not None:
        draft.bypass(scaled.result, node.result)
