"""Convolutions over time of many taps between many channels, by products of spectra.

y[t] = sum_k w_k x[t - k + K // 2] takes T K products for each pair of channels. Its discrete Fourier transform takes
one complex product for each frequency, three real ones (Karatsuba): (a + bi)(c + di) from ac, bd and (a + b)(c + d).
All of it is linear before and after these, so that there are three constant matrices A, B, C, real, with

    y = C ((A x) * (B w))

over P points: 67 in place of 440 products for T = 40, K = 11. A transform of numbers that are all of one magnitude
rounds no worse than the sum itself (Toom's and Winograd's points, fewer still, would).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

BLOCK = 100
"""Steps at a time: of more, transforms would cost more than the products that they save, and spectra fill memory."""


@lru_cache(maxsize=64)
def points(steps: int, taps: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Matrices A (P, T), B (P, K), C (T, P) of a convolution aligned with its middle tap, 0 outside of the steps."""
    half = taps // 2
    period = steps + half  # what wraps around comes from, or falls on, steps that are not asked for
    time = torch.arange(steps, dtype=torch.float64)
    tap = torch.arange(taps, dtype=torch.float64) - half
    of_x, of_w, of_y = [], [], []
    for frequency in range(period // 2 + 1):
        angle = 2 * math.pi * frequency / period
        x_real, x_imaginary = torch.cos(angle * time), -torch.sin(angle * time)
        w_real, w_imaginary = torch.cos(angle * tap), -torch.sin(angle * tap)
        if frequency in (0, period / 2):  # real
            of_x.append(x_real)
            of_w.append(w_real)
            of_y.append(x_real / period)
            continue
        of_x += [x_real, x_imaginary, x_real + x_imaginary]
        of_w += [w_real, w_imaginary, w_real + w_imaginary]
        # With p = ac, q = bd, r = (a + b)(c + d): real part p - q, imaginary r - p - q; and twice, for -frequency.
        cos, sin = 2 / period * x_real, -2 / period * x_imaginary
        of_y += [cos + sin, sin - cos, -sin]
    a, b, c = torch.stack(of_x), torch.stack(of_w), torch.stack(of_y, dim=1)
    return a.to(device, dtype), b.to(device, dtype), c.to(device, dtype)


class _Product(torch.autograd.Function):
    """y = C ((A x) * (B w)), and what goes back through it; spectra are kept, not made again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        (steps, batch, inputs), (taps, outputs, _) = x.shape, w.shape
        of_x = (a @ x.reshape(steps, -1)).view(-1, batch, inputs)
        of_w = (b @ w.reshape(taps, -1)).view(-1, outputs, inputs)
        ctx.save_for_backward(of_x, of_w, a, b, c)
        return (c @ torch.bmm(of_x, of_w.mT).view(c.shape[1], -1)).view(steps, batch, outputs)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        of_x, of_w, a, b, c = ctx.saved_tensors
        (of_g,) = upstream
        of_g = (c.mT @ of_g.reshape(len(of_g), -1)).view(len(of_x), of_x.shape[1], -1)
        x = w = None
        if ctx.needs_input_grad[0]:
            x = (a.mT @ torch.bmm(of_g, of_w).view(len(a), -1)).view(-1, *of_x.shape[1:])
        if ctx.needs_input_grad[1]:
            w = (b.mT @ torch.bmm(of_g.mT, of_x).view(len(b), -1)).view(-1, *of_w.shape[1:])
        return x, w, None, None, None


def convolution(x: Tensor, w: Tensor) -> Tensor:
    """y[t] = sum_k x[t - k + K // 2] w_k^T, 0 outside of the steps.

    Args:
        x: (T, B, in).
        w: (K, out, in), K odd.

    Returns:
        (T, B, out), equal to the sum but for rounding.
    """
    steps, batch, half = len(x), x.shape[1], len(w) // 2
    if steps <= BLOCK:
        return _product(x, w)
    blocks = math.ceil(steps / BLOCK)
    x = functional.pad(x, (0, 0, 0, 0, half, blocks * BLOCK - steps + half))
    windows = rearrange(x.unfold(0, BLOCK + 2 * half, BLOCK), "n b i t -> t (n b) i")
    y = rearrange(_product(windows, w)[half : half + BLOCK], "t (n b) o -> (n t) b o", b=batch)
    return y[:steps]


def _product(x: Tensor, w: Tensor) -> Tensor:
    return _Product.apply(x, w, *points(len(x), len(w), x.dtype, x.device))
