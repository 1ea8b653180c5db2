"""Products that touch events alone are the products of all values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from spikescr.model import events, fused


def spikes(rows: int, inputs: int, density: float, generator: np.random.Generator) -> Tensor:
    """Small integers, as sums of spikes are, (rows, inputs)."""
    drawn = generator.integers(1, 5, (rows, inputs)) * (generator.random((rows, inputs)) < density)
    return torch.from_numpy(drawn)


@given(
    st.integers(1, 300),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([0.0, 0.05, 0.2, 0.5, 1.0]),
    st.sampled_from([torch.float32, torch.float64]),
    st.integers(1, 3),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
def test_products_of_integers_are_those_of_all_values_to_the_bit(
    rows: int, inputs: int, outputs: int, density: float, dtype: torch.dtype, threads: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    x = spikes(rows, inputs, density, generator)
    weight = torch.from_numpy(generator.integers(-99, 100, (outputs, inputs)))
    bias = torch.from_numpy(generator.integers(-99, 100, outputs))
    upstream = torch.from_numpy(generator.integers(-99, 100, (rows, outputs)))
    torch.set_num_threads(threads)
    try:
        product = events.product(x.to(dtype), weight.to(dtype), bias.to(dtype))
        plain = events.product(x.to(dtype), weight.to(dtype), None)
        gradient = events.weight_gradient(x.to(dtype), upstream.to(dtype))
    finally:
        torch.set_num_threads(1)
    assert torch.equal(product.long(), x @ weight.T + bias)
    assert torch.equal(plain.long(), x @ weight.T)
    assert torch.equal(gradient.long(), upstream.T @ x)


def test_real_products_do_not_depend_on_the_number_of_threads() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1000, 37, generator=generator) * (torch.rand(1000, 37, generator=generator) < 0.2)
    weight, upstream = torch.randn(29, 37, generator=generator), torch.randn(1000, 29, generator=generator)
    found = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append((events.product(x, weight, None), events.weight_gradient(x, upstream)))
    finally:
        torch.set_num_threads(1)
    for product, gradient in found[1:]:
        assert torch.equal(product, found[0][0])
        assert torch.equal(gradient, found[0][1])
    expected = upstream.double().T @ x.double()
    torch.testing.assert_close(found[0][1].double(), expected, rtol=0, atol=1e-6 * float(expected.abs().max()))


def test_a_few_events_are_told_from_many() -> None:
    generator = np.random.default_rng(0)
    for density, expected in ((0.0, True), (0.3, True), (0.5, False), (1.0, False)):
        x = spikes(2000, 64, density, generator).float()
        assert events.few(x) is expected
        assert events.few(-x) is expected


@pytest.mark.parametrize("density", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_those_of_a_linear_layer(
    density: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    gradient = events.weight_gradient
    monkeypatch.setattr(events, "weight_gradient", lambda *given: used.append(True) or gradient(*given))
    generator = torch.Generator().manual_seed(1)
    x = (torch.rand(11, 7, 16, generator=generator) < density).to(dtype)
    weight, upstream = (torch.randn(shape, generator=generator, dtype=dtype) for shape in ((9, 16), (11, 7, 9)))
    bias = torch.randn(9, generator=generator, dtype=dtype)
    found = []
    for product in (lambda x, w: fused.Product.apply(x, w, bias, False), lambda x, w: functional.linear(x, w, bias)):
        given = [value.clone().requires_grad_() for value in (x, weight)]
        out = product(*given)
        out.backward(upstream)
        found.append((out.detach(), *(value.grad for value in given)))
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    assert bool(used) is (density < events.DENSEST)
