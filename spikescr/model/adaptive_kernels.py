"""Loops of adaptive LIFs over whole windows on the CPU; see `kernels` for their arrays and `adaptive` for equations."""

# Kernels take what numba infers: their docstrings state shapes and types.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import math

import numpy as np

from spikescr.model.kernels import FLUSH, compiled


@compiled
def adapt_forward(lo, hi, x, kept, gain, left, by_membrane, by_spike, lengths, us, ws, out):
    """w = left w + by_membrane u + by_spike s, u = kept (u - s) + gain (x - w), s = out = u >= 1; 0 after a sample.

    kept to by_spike (N,); us, ws: every u and w. Rounded after each product and sum, as what executes it does. Short
    loops of few arrays, here and below: of more, LLVM does not vectorise them.
    """
    one, zero, N = x.dtype.type(1), x.dtype.type(0), x.shape[2]
    silent, current = np.zeros(N, x.dtype), np.empty(N, x.dtype)
    for t in range(x.shape[0]):
        for b in range(lo, hi):
            xs, u_t, w_t, to = x[t, b], us[t, b], ws[t, b], out[t, b]
            if t >= lengths[b]:
                to[:] = zero
                continue
            u, w, s = (us[t - 1, b], ws[t - 1, b], out[t - 1, b]) if t > 0 else (silent, silent, silent)
            for n in range(N):
                w_t[n] = w[n] * left[n]
            for n in range(N):
                w_t[n] += u[n] * by_membrane[n]
            for n in range(N):
                w_t[n] += s[n] * by_spike[n]
            for n in range(N):
                u_t[n] = u[n] - s[n]
            for n in range(N):
                current[n] = xs[n] - w_t[n]
            for n in range(N):
                u_t[n] = u_t[n] * kept[n] + current[n] * gain[n]
            for n in range(N):
                to[n] = one if u_t[n] >= one else zero


@compiled
def adapt_backward(  # noqa: PLR0912 (short loops, see `fire_backward`)
    lo, hi, x, kept, gain, left, by_membrane, by_spike, lengths, us, ws, fired, alpha, upstream, out, sums
):
    """Gradients of `adapt_forward`; out: dL/dx; sums (5, N): of kept to by_spike.

    dL/du[t] = g(u[t]) (dL/ds[t] + by_spike dL/dw[t+1]) + kept dL/du[t+1] + by_membrane dL/dw[t+1],
    dL/dw[t] = left dL/dw[t+1] - gain dL/du[t], g the surrogate's slope; none goes through the reset.
    """
    one, zero, N = x.dtype.type(1), x.dtype.type(0), x.shape[2]
    top, sharp = x.dtype.type(alpha / 2), x.dtype.type(math.pi / 2 * alpha)
    dus, dws, slope = np.zeros((hi - lo, N), x.dtype), np.zeros((hi - lo, N), x.dtype), np.empty(N, x.dtype)
    total = np.zeros((5, N), x.dtype)
    of_kept, of_gain, of_left, of_membrane, of_spike = total[0], total[1], total[2], total[3], total[4]
    for t in range(x.shape[0] - 1, -1, -1):
        for b in range(lo, hi):
            to, du, dw = out[t, b], dus[b - lo], dws[b - lo]
            if t >= lengths[b]:
                to[:] = zero
                continue
            xs, up, u, w = x[t, b], upstream[t, b], us[t, b], ws[t, b]
            for n in range(N):
                far = sharp * (u[n] - one)
                slope[n] = top / (one + far * far)
            for n in range(N):
                to[n] = up[n] + by_spike[n] * dw[n]
            for n in range(N):
                du[n] = kept[n] * du[n] + to[n] * slope[n]
            for n in range(N):
                du[n] += by_membrane[n] * dw[n]
            for n in range(N):
                dw[n] *= left[n]
            for n in range(N):
                dw[n] -= gain[n] * du[n]
            for n in range(N):
                to[n] = gain[n] * du[n]
            for n in range(N):
                of_gain[n] += du[n] * (xs[n] - w[n])
            if t > 0:
                u, w, s = us[t - 1, b], ws[t - 1, b], fired[t - 1, b]
                for n in range(N):
                    of_kept[n] += du[n] * (u[n] - s[n])
                for n in range(N):
                    of_left[n] += dw[n] * w[n]
                for n in range(N):
                    of_membrane[n] += dw[n] * u[n]
                for n in range(N):
                    of_spike[n] += dw[n] * s[n]
        if t % FLUSH == 0:
            for k in range(5):
                for n in range(N):
                    sums[k, n] += total[k, n]
            total[:] = zero
