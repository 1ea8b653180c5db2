"""Loops of causal attention over whole windows on the CPU; see `kernels` for their arrays and `fused.Streaming`.

The heads of all samples of a chunk stand side by side, `lanes`, so that the innermost loops are long and vectorised.
"""

# Kernels take what numba infers: their docstrings state shapes and types.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import numpy as np

from spikescr.model.kernels import compiled

SAMPLES = 4
"""Of a chunk: what its heads sum up then stays in the cache."""


@compiled
def _lanes(x, lo, hi, heads):
    """Samples lo to hi of x (T, B, heads * D) as (T, D, lanes)."""
    depth = x.shape[2] // heads
    out = np.empty((len(x), depth, (hi - lo) * heads), x.dtype)
    for t in range(len(x)):
        for b in range(lo, hi):
            xs = x[t, b]
            for h in range(heads):
                lane = (b - lo) * heads + h
                for i in range(depth):
                    out[t, i, lane] = xs[h * depth + i]
    return out


@compiled
def _samples(lanes, lo, hi, heads, out):
    """The reverse of `_lanes`."""
    depth = lanes.shape[1]
    for t in range(len(lanes)):
        for b in range(lo, hi):
            to = out[t, b]
            for h in range(heads):
                lane = (b - lo) * heads + h
                for i in range(depth):
                    to[h * depth + i] = lanes[t, i, lane]


@compiled
def _products(a, b, c, backward):
    """out[t] = c[t] S[t], S[t] = sum over u <= t (backward: u >= t) of a[u] b[u]^T; all (T, D, lanes)."""
    steps, depth, lanes = a.shape
    state, out = np.zeros((depth, depth, lanes), a.dtype), np.zeros_like(a)
    for n in range(steps):
        t = steps - 1 - n if backward else n
        for j in range(depth):
            for i in range(depth):
                for lane in range(lanes):
                    total = state[i, j, lane] + a[t, i, lane] * b[t, j, lane]
                    state[i, j, lane] = total
                    out[t, j, lane] += c[t, i, lane] * total
    return out


@compiled
def stream(lo, hi, q, k, v, heads, out):
    """out[t] = q[t] A[t] of every head, A[t] = sum over u <= t of k[u] v[u]^T."""
    queries, keys, values = _lanes(q, lo, hi, heads), _lanes(k, lo, hi, heads), _lanes(v, lo, hi, heads)
    _samples(_products(keys, values, queries, False), lo, hi, heads, out)


@compiled
def stream_back(lo, hi, q, k, v, heads, upstream, dq, dk, dv):
    """Gradients of `stream`."""
    queries, keys, values = _lanes(q, lo, hi, heads), _lanes(k, lo, hi, heads), _lanes(v, lo, hi, heads)
    up = _lanes(upstream, lo, hi, heads)
    _samples(_products(values, keys, up, False), lo, hi, heads, dq)
    _samples(_products(up, queries, values, True), lo, hi, heads, dk)
    _samples(_products(queries, up, keys, True), lo, hi, heads, dv)
