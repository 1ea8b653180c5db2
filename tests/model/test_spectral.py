import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikescr.model.spectral import BLOCK, convolution


def direct(x: Tensor, w: Tensor) -> Tensor:
    """The sum as it is written."""
    steps, half = len(x), len(w) // 2
    rows = []
    for t in range(steps):
        terms = [x[t - k + half] @ w[k].T for k in range(len(w)) if 0 <= t - k + half < steps]
        rows.append(sum(terms, torch.zeros(x.shape[1], w.shape[1], dtype=x.dtype)))
    return torch.stack(rows)


def outcome(apply: object, x: Tensor, w: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x, w = x.clone().requires_grad_(), w.clone().requires_grad_()
    y = apply(x, w)
    (y * upstream).sum().backward()
    return y.detach(), x.grad, w.grad


@settings(max_examples=40)
@given(st.integers(1, 30), st.sampled_from([1, 3, 5, 11, 41]), st.integers(0, 2**31))
def test_products_of_spectra_are_the_convolution_and_so_are_their_gradients(steps: int, taps: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, w, upstream = (
        torch.randn(*shape, dtype=torch.float64, generator=generator)
        for shape in ((steps, 2, 3), (taps, 4, 3), (steps, 2, 4))
    )
    for found, expected in zip(outcome(convolution, x, w, upstream), outcome(direct, x, w, upstream), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12 * float(1 + expected.abs().max()))


@pytest.mark.parametrize("steps", [BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 37])
def test_long_recordings_go_in_blocks_that_do_not_show(steps: int) -> None:
    generator = torch.Generator().manual_seed(steps)
    x, w, upstream = (
        torch.randn(*shape, dtype=torch.float64, generator=generator)
        for shape in ((steps, 1, 2), (7, 2, 2), (steps, 1, 2))
    )
    for found, expected in zip(outcome(convolution, x, w, upstream), outcome(direct, x, w, upstream), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12 * float(1 + expected.abs().max()))


def test_single_precision_rounds_no_worse_than_a_millionth_of_the_largest() -> None:
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(40, 16, 64, generator=generator) < 0.15).float()
    w, upstream = torch.randn(11, 32, 64, generator=generator), torch.randn(40, 16, 32, generator=generator)
    exact = outcome(direct, x.double(), w.double(), upstream.double())
    for found, expected in zip(outcome(convolution, x, w, upstream), exact, strict=True):
        assert float((found - expected).abs().max() / expected.abs().max()) < 1e-6
