"""Steps of autograd that a CPU computes in one go, float32 or float64; `fused_layers` puts layers together from them.

Values after a sample's end are zero, and no gradient comes back through them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from spikescr.model import adaptive_kernels, attention_kernels, events, kernels
from spikescr.model.neuron import ALPHA
from spikescr.model.statistics import Statistics


def _matrix_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """X W^T + b by oneDNN, which is faster here than what `linear` calls, where this torch has it for this type."""
    if x.dtype == torch.float32 and torch.backends.mkldnn.is_available():
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return functional.linear(x, weight, bias)


class Product(torch.autograd.Function):
    """X W^T + b for x (T, B, in), W (out, in); in bfloat16 if asked for, forward and backward, results as x is.

    Where x is mostly 0, as spikes are, only its events are multiplied (`events`); not in bfloat16.

    The gradient of b is zero: a batch normalisation follows, which takes away what b adds (rounding would leave some
    noise, which Adam would scale up to whole steps).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, bf16: bool) -> Tensor:
        """Currents (T, B, out)."""
        flat = x.reshape(-1, x.shape[-1])
        if bf16:
            flat, weight = flat.bfloat16(), weight.bfloat16()
            bias = None if bias is None else bias.bfloat16()
        ctx.save_for_backward(flat, weight)
        ctx.has_bias = bias is not None
        ctx.few = not bf16 and events.few(flat)
        product = events.product if ctx.few else _matrix_product
        return product(flat, weight, bias).to(x.dtype).view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None, None]:
        """Gradients of x, W, b."""
        x, weight = ctx.saved_tensors
        up, dx = upstream.reshape(-1, upstream.shape[-1]).to(x.dtype), None
        if ctx.needs_input_grad[0]:
            dx = _matrix_product(up, weight.T, None).to(upstream.dtype).view(*upstream.shape[:-1], -1)
        dw = events.weight_gradient(x, up) if ctx.few else (up.T @ x).to(upstream.dtype)
        db = upstream.new_zeros(upstream.shape[-1])
        return dx, dw, db if ctx.has_bias else None, None


class Depthwise(torch.autograd.Function):
    """y[t] = sum_k W[:, 0, k] x[t + k - K // 2] per channel, zeros outside the window; x (T, B, N), W (N, 1, K)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        """Currents (T, B, N)."""
        x, taps = x.contiguous(), weight[:, 0].T.contiguous()
        ctx.save_for_backward(x, taps)
        out = torch.empty_like(x)
        kernels.run(kernels.depthwise, x.shape[1], x, taps, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of x, W."""
        x, taps = ctx.saved_tensors
        upstream = upstream.contiguous()
        dx = torch.empty_like(x)
        kernels.run(kernels.depthwise, x.shape[1], upstream, taps.flip(0).contiguous(), dx)
        total = kernels.run(kernels.depthwise_weight, x.shape[1], x, upstream, sums=tuple(taps.shape))
        return dx, torch.from_numpy(total).to(x).T[:, None]


class Fire(torch.autograd.Function):
    """SN(BN(y) gate), dropped out: y (T, B, N), statistics given; SN(y gate) without them.

    With r = 1 / sqrt(var + eps), a = gamma r, the current is (y a + (beta - mean a)) gate. Backward, c the current
    before the gate, M valid steps: dbeta = sum dc, dgamma = sum dc (y - mean) r, and
    dy = a (dc - (dbeta + (y - mean) r dgamma) / M), the sums over all processes.
    """

    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        gamma: Tensor | None,
        beta: Tensor | None,
        gate: Tensor | None,
        mask: Tensor | None,
        lengths: Tensor,
        statistics: Statistics | None,
        alpha: float = ALPHA,
    ) -> Tensor:
        """Spikes (T, B, N), times the mask (B, N) of a dropout."""
        y = y.contiguous()
        gate = None if gate is None else gate.contiguous()
        scale = shift = None
        if statistics is not None:
            assert gamma is not None
            assert beta is not None
            scale, shift = statistics.affine(gamma, beta)
        out, membrane = torch.empty_like(y), y.new_zeros(y.shape[1:])
        kernels.run(kernels.fire_forward, y.shape[1], y, scale, shift, gate, membrane, mask, lengths, out)
        ctx.save_for_backward(y, scale, shift, gate, mask, lengths)
        ctx.statistics, ctx.alpha = statistics, alpha
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of y, gamma, beta, gate."""
        y, scale, shift, gate, mask, lengths = ctx.saved_tensors
        statistics: Statistics | None = ctx.statistics
        mean, rate = (None, None) if statistics is None else (statistics.mean, statistics.rate)
        dc = torch.empty_like(y)
        dgate = None if gate is None else torch.empty_like(y)
        before = torch.zeros_like(y[0])
        given = (y, scale, shift, gate, before, mask, lengths, mean, rate, ctx.alpha, upstream.contiguous(), dc, dgate)
        sums = kernels.run(kernels.fire_backward, y.shape[1], *given, sums=(2, y.shape[2]))
        if statistics is None:
            return dc, None, None, dgate, None, None, None, None
        own = torch.from_numpy(sums)
        a, b, c = statistics.backward_affine(scale, statistics.over_all(own))
        kernels.run(kernels.affine, y.shape[1], dc, y, a, b, c, lengths)
        dbeta, dgamma = own.to(y.dtype)
        return dc, dgamma, dbeta, dgate, None, None, None, None


class Adapt(torch.autograd.Function):
    """Spikes of adaptive LIFs (`adaptive.AdaptiveLIF`) for currents (T, B, N), 0 after a sample's end."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, lengths: Tensor, alpha: float, *constants: Tensor) -> Tensor:
        """Spikes (T, B, N); the constants, (N,) each, are those of `adaptive.Constants` in their order."""
        x = x.contiguous()
        us, ws, out = (torch.empty_like(x) for _ in range(3))
        given = (x, *constants, lengths, us, ws, out)
        kernels.run(adaptive_kernels.adapt_forward, x.shape[1], *given)
        ctx.save_for_backward(*given)
        ctx.alpha = alpha
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x and the constants."""
        x, *others = ctx.saved_tensors
        dx = torch.empty_like(x)
        given = (x, *others, ctx.alpha, upstream.contiguous(), dx)
        sums = kernels.run(adaptive_kernels.adapt_backward, x.shape[1], *given, sums=(5, x.shape[2]))
        return dx, None, None, *torch.from_numpy(sums).to(x)


class Rotation(torch.autograd.Function):
    """The first pairs of x (T, B, N) turned by their step, and the rest as it is: cosines and sines (T, pairs)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """The turned pairs (T, B, 2 pairs), the rest (T, B, N - 2 pairs)."""
        ctx.save_for_backward(cos, sin)
        turned = x.new_empty(*x.shape[:-1], 2 * cos.shape[1])
        kernels.run(kernels.turn, x.shape[1], x.contiguous(), cos, sin, turned)
        return turned, x[..., turned.shape[-1] :]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, rest: Tensor) -> tuple[Tensor, None, None]:
        """Gradients turned back."""
        cos, sin = ctx.saved_tensors
        dx = upstream.new_empty(*upstream.shape[:-1], upstream.shape[-1] + rest.shape[-1])
        kernels.run(kernels.turn, dx.shape[1], upstream.contiguous(), cos, -sin, dx)
        dx[..., upstream.shape[-1] :] = rest
        return dx, None, None


class Streaming(torch.autograd.Function):
    """y[t] = q[t] A[t] for each head, A[t] = sum over u <= t of k[u] v[u]^T; q, k, v (T, B, N).

    Backward, with G[t] = sum over u >= t of q[u] dy[u]^T: dq[t] = A[t] dy[t], dk[t] = G[t] v[t], dv[t] = G[t]^T k[t].
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        """Products (T, B, N)."""
        q, k, v = (x.contiguous() for x in (q, k, v))
        ctx.save_for_backward(q, k, v)
        ctx.heads = heads
        out = torch.empty_like(q)
        chunks = -(-q.shape[1] // attention_kernels.SAMPLES)
        kernels.run(attention_kernels.stream, q.shape[1], q, k, v, heads, out, chunks=chunks)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Gradients of q, k, v."""
        q, k, v = ctx.saved_tensors
        of_q, of_k, of_v = (torch.empty_like(x) for x in (q, k, v))
        given = (q, k, v, ctx.heads, upstream.contiguous(), of_q, of_k, of_v)
        chunks = -(-q.shape[1] // attention_kernels.SAMPLES)
        kernels.run(attention_kernels.stream_back, q.shape[1], *given, chunks=chunks)
        return of_q, of_k, of_v, None
