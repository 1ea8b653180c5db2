"""Loops over whole windows on the CPU, compiled; each says in one line what it computes, `fused` and `neuron` say why.

Arrays are (T, B, N), C-contiguous, float32 or float64; every kernel works on the samples lo to hi of a batch, so that
threads share a batch and results do not depend on their number. Sums over samples are taken per chunk, in float64 but
for those over a few steps of it.
What is None is left out, when compiling.
"""

# Kernels take what numba infers: their docstrings state shapes and types.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

CHUNKS = 16
"""Shares of a batch that threads take one after the other; fixed, so that sums do not depend on the threads."""
FLUSH = 16
"""Steps that are summed as values are, before their sums go to those in float64."""
compiled = njit(nogil=True, cache=True, error_model="numpy")


def run(
    kernel: Callable[..., Any], samples: int, *arguments: Any, sums: tuple[int, ...] = (), chunks: int = CHUNKS
) -> Any:
    """Runs a kernel on all chunks of a batch, on as many threads as torch uses.

    Args:
        kernel: called with lo, hi, the arguments, and with `sums` an array of that shape for what the chunk sums up.
        samples: B, or of what else a kernel takes a range.
        arguments: tensors become arrays that share their memory.
        sums: shape of what is summed over samples.
        chunks: how many; of what has no sums, for those depend on it.

    Returns:
        The sum over chunks, float64; None without `sums`.
    """
    arrays = [a.detach().numpy() if isinstance(a, Tensor) else a for a in arguments]
    bounds = [round(samples * i / chunks) for i in range(chunks + 1)]
    ranges = [(lo, hi) for lo, hi in itertools.pairwise(bounds) if lo < hi]
    parts = np.zeros((len(ranges), *sums)) if sums else None
    todo = iter(range(len(ranges)))  # shared: next() is atomic

    def work() -> None:
        for i in todo:
            kernel(*ranges[i], *arrays, *(() if parts is None else (parts[i],)))

    threads = torch.get_num_threads()
    helpers = [_pool(threads).submit(work) for _ in range(min(threads, len(ranges)) - 1)]
    work()
    for helper in helpers:
        helper.result()
    return None if parts is None else parts.sum(axis=0)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(threads - 1, 1), thread_name_prefix="spikescr")


os.register_at_fork(after_in_child=_pool.cache_clear)  # a pool's threads stay with the parent


@compiled
def _flush(first, second, sums):
    """Adds what a few steps gave (N,) to sums (2, N), float64, and begins again."""
    for n in range(len(first)):
        sums[0, n] += first[n]
        sums[1, n] += second[n]
        first[n] = second[n] = 0


@compiled
def fire_forward(lo, hi, x, scale, shift, gate, v, mask, lengths, out):
    """h = v / 2 + c, s = h >= 1, v = h (1 - s) with c = (x scale + shift) gate; out = s mask, 0 after a sample's end.

    scale, shift (N,); gate (T, B, N); v (B, N), in and out; mask (B, N); lengths (B,).
    """
    half, one, zero = x.dtype.type(0.5), x.dtype.type(1), x.dtype.type(0)
    for t in range(x.shape[0]):
        for b in range(lo, hi):
            xs, vs, to = x[t, b], v[b], out[t, b]
            if t >= lengths[b]:
                to[:] = zero
                continue
            for n in range(x.shape[2]):
                c = xs[n]
                if scale is not None:
                    c = c * scale[n] + shift[n]
                if gate is not None:
                    c = c * gate[t, b, n]
                h = vs[n] * half + c
                fired = h >= one
                vs[n] = zero if fired else h
                if mask is not None:
                    to[n] = mask[b, n] if fired else zero
                else:
                    to[n] = one if fired else zero


@compiled
def fire_backward(  # noqa: PLR0912 (what is None costs no branch)
    lo, hi, x, scale, shift, gate, v, mask, lengths, mean, rate, alpha, upstream, out, gate_out, sums
):
    """Gradients of `fire_forward`, from h computed again.

    dL/dc[t] = dL/ds[t] g(h[t] - 1) + (1 - s[t]) / 2 dL/dc[t+1]; out: dL/d(x scale + shift); gate_out: dL/dgate; sums
    (2, N): of out, and of out times (x - mean) rate. On the way, out holds
    h and gate_out the current. Short loops of few arrays: of more, LLVM does not vectorise them.
    """
    half, one, zero = x.dtype.type(0.5), x.dtype.type(1), x.dtype.type(0)
    top, sharp = x.dtype.type(alpha / 2), x.dtype.type(math.pi / 2 * alpha)
    T, N = x.shape[0], x.shape[2]
    carry, own, kept = np.empty((hi - lo, N), x.dtype), np.empty(N, x.dtype), np.empty(N, x.dtype)
    first, second = np.zeros(N, x.dtype), np.zeros(N, x.dtype)
    for b in range(lo, hi):
        for n in range(N):
            carry[b - lo, n] = v[b, n]
    for t in range(T):
        for b in range(lo, hi):
            if t >= lengths[b]:
                continue
            xs, hs, vs = x[t, b], out[t, b], carry[b - lo]
            for n in range(N):
                c = xs[n]
                if scale is not None:
                    c = c * scale[n] + shift[n]
                hs[n] = c
            if gate is not None:
                gs, cs = gate[t, b], gate_out[t, b]
                for n in range(N):
                    cs[n] = hs[n]
                for n in range(N):
                    hs[n] *= gs[n]
            for n in range(N):
                hs[n] = vs[n] * half + hs[n]
            for n in range(N):
                vs[n] = zero if hs[n] >= one else hs[n]
    carry[:] = zero
    for t in range(T - 1, -1, -1):
        for b in range(lo, hi):
            xs, up, to, later = x[t, b], upstream[t, b], out[t, b], carry[b - lo]
            if t >= lengths[b]:
                to[:] = zero
                if gate is not None:
                    gate_out[t, b] = zero
                continue
            for n in range(N):
                u = sharp * (to[n] - one)
                own[n] = up[n] * (top / (one + u * u))
            if mask is not None:
                ms = mask[b]
                for n in range(N):
                    own[n] *= ms[n]
            for n in range(N):
                kept[n] = zero if to[n] >= one else half
            for n in range(N):
                later[n] = own[n] + kept[n] * later[n]
            if gate is not None:
                gs, go = gate[t, b], gate_out[t, b]
                for n in range(N):
                    go[n] *= later[n]
                for n in range(N):
                    to[n] = later[n] * gs[n]
            else:
                for n in range(N):
                    to[n] = later[n]
            if scale is not None:
                for n in range(N):
                    first[n] += to[n]
                for n in range(N):
                    second[n] += to[n] * ((xs[n] - mean[n]) * rate[n])
        if scale is not None and t % FLUSH == 0:
            _flush(first, second, sums)


@compiled
def moments(lo, hi, x, centre, lengths, sums):
    """sums (2, N): of x - centre and of its square, over valid steps; centre (N,) as x is."""
    first, second = np.zeros(x.shape[2], x.dtype), np.zeros(x.shape[2], x.dtype)
    for t in range(x.shape[0]):
        for b in range(lo, hi):
            if t >= lengths[b]:
                continue
            xs = x[t, b]
            for n in range(x.shape[2]):
                d = xs[n] - centre[n]
                first[n] += d
                second[n] += d * d
        if t % FLUSH == FLUSH - 1 or t == x.shape[0] - 1:
            _flush(first, second, sums)


@compiled
def affine(lo, hi, gradient, x, a, b, c, lengths):
    """gradient = a gradient + b x + c in place, 0 after a sample's end; a, b, c (N,)."""
    zero = x.dtype.type(0)
    for t in range(x.shape[0]):
        for i in range(lo, hi):
            gs, xs = gradient[t, i], x[t, i]
            if t >= lengths[i]:
                gs[:] = zero
                continue
            for n in range(x.shape[2]):
                gs[n] = a[n] * gs[n] + b[n] * xs[n] + c[n]


@compiled
def turn(lo, hi, x, cos, sin, out):
    """The first pairs of x turned by their step, to the first of out: cos, sin (T, pairs)."""
    for t in range(x.shape[0]):
        for b in range(lo, hi):
            xs, to, cs, ss = x[t, b], out[t, b], cos[t], sin[t]
            for i in range(len(cs)):
                even, odd = xs[2 * i], xs[2 * i + 1]
                to[2 * i] = even * cs[i] - odd * ss[i]
                to[2 * i + 1] = even * ss[i] + odd * cs[i]


@compiled
def _padded(x, b, kernel):
    """Sample b of x with kernel // 2 zero steps on either side, (T + kernel - 1, N)."""
    side = kernel // 2
    rows = np.zeros((x.shape[0] + kernel - 1, x.shape[2]), x.dtype)
    for t in range(x.shape[0]):
        rows[t + side] = x[t, b]
    return rows


@compiled
def depthwise(lo, hi, x, weight, out):
    """out[t] = sum_k weight[k] x[t + k - K // 2] per channel; weight (K, N), zeros outside the window."""
    taps, fours = len(weight), len(weight) // 4 * 4
    for b in range(lo, hi):
        rows = _padded(x, b, taps)
        for t in range(x.shape[0]):
            to = out[t, b]
            to[:] = x.dtype.type(0)
            for k in range(0, fours, 4):  # four at a time: sums are loaded and stored a quarter as often
                xs, ys, zs, us = rows[t + k], rows[t + k + 1], rows[t + k + 2], rows[t + k + 3]
                wx, wy, wz, wu = weight[k], weight[k + 1], weight[k + 2], weight[k + 3]
                for n in range(x.shape[2]):
                    to[n] += (wx[n] * xs[n] + wy[n] * ys[n]) + (wz[n] * zs[n] + wu[n] * us[n])
            for k in range(fours, taps):
                xs, wx = rows[t + k], weight[k]
                for n in range(x.shape[2]):
                    to[n] += wx[n] * xs[n]


@compiled
def depthwise_weight(lo, hi, x, upstream, sums):
    """sums (K, N): gradient of the weight of `depthwise`."""
    total = np.zeros(sums.shape, x.dtype)
    steps, fours = len(x), len(x) // 4 * 4
    for b in range(lo, hi):
        rows = _padded(x, b, len(sums))
        total[:] = x.dtype.type(0)
        for t in range(0, fours, 4):
            ux, uy, uz, uu = upstream[t, b], upstream[t + 1, b], upstream[t + 2, b], upstream[t + 3, b]
            for k in range(len(sums)):
                xs, ys, zs, us = rows[t + k], rows[t + k + 1], rows[t + k + 2], rows[t + k + 3]
                to = total[k]
                for n in range(x.shape[2]):
                    to[n] += (ux[n] * xs[n] + uy[n] * ys[n]) + (uz[n] * zs[n] + uu[n] * us[n])
        for t in range(fours, steps):
            ux = upstream[t, b]
            for k in range(len(sums)):
                xs, to = rows[t + k], total[k]
                for n in range(x.shape[2]):
                    to[n] += ux[n] * xs[n]
        sums += total
