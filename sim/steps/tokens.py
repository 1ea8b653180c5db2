"""The step of attention over the tokens of one step."""

from __future__ import annotations

import numpy as np

from spikescr.sim.program import IntArray, Signal, TokenAttention
from spikescr.sim.steps.base import Array, Step


class TokenAttentionStep(Step):
    """y = scale * (Q K^T) V for each head, in the order that the operation says; it keeps nothing."""

    operation: TokenAttention

    def __call__(self, n: int, *arriving: Array) -> Array:
        """Multiplies, and counts both orders."""
        it = self.operation
        y, self.counts = attend_tokens(it, *(x.reshape(self.samples, it.heads, it.tokens, -1) for x in arriving))
        return y


def attend_tokens(operation: TokenAttention, q: Array, k: Array, v: Array) -> tuple[Array, dict[str, IntArray]]:
    """What a token attention puts out and counts.

    Args:
        operation: which heads, tokens, scale and order.
        q: what arrives, (rows, heads, tokens, depth), in the precision of the run.
        k: likewise.
        v: likewise; its depth may be another.

    Returns:
        The output (rows, width), and kind -> the count of each row.
    """
    real = operation.v.signal is Signal.VALUES
    keys = k.swapaxes(2, 3)
    y = q @ keys @ v if operation.by_scores else q @ (keys @ v)
    y *= y.dtype.type(operation.scale)
    live_q, live_k, live_v = (x != 0 for x in (q, k, v))
    met = (live_q.sum(axis=2) * live_k.sum(axis=2)).sum(axis=(1, 2))
    asking, weighed = live_q.sum(axis=(1, 2, 3)), operation.tokens * live_v.sum(axis=(1, 2, 3))
    by_matrix = (live_k.sum(axis=3) * live_v.sum(axis=3)).sum(axis=(1, 2))
    by_matrix += operation.value_depth * asking
    by_scores = met if real else met + weighed
    entries = asking if real else asking + live_v.sum(axis=(1, 2, 3))
    arrived = q.sum(axis=(1, 2, 3)) + k.sum(axis=(1, 2, 3)) + (live_v if real else v).sum(axis=(1, 2, 3))
    counts = {
        "spikes": arrived.astype(np.int64),
        "ac": by_scores if operation.by_scores else by_matrix,
        "ac_quadratic": by_scores,
        "entries": entries,
        "synops": operation.tokens * entries,
    }
    if real:
        counts["mac"] = weighed
    return y.reshape(len(q), operation.width), counts
