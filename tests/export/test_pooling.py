"""Pools folded into synapses, against torch's own pools and convolutions."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import avg_pool2d, conv2d

from spikescr.export.layers import convolved
from spikescr.export.pooling import Convolution, Pool, before_convolution, before_dense, pooled


@settings(max_examples=80)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(0, 1)),
    st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(0, 2), st.integers(1, 2), st.integers(1, 2)),
    st.tuples(st.integers(3, 9), st.integers(3, 9)),
    st.integers(0, 2**32),
)
def test_a_pool_before_a_convolution_is_a_wider_kernel(pool, taps, size, seed) -> None:
    kernel, stride, padding = pool
    tap, by, zeros, dilation, groups = taps
    given = Pool((kernel, kernel), (stride, stride), (padding, padding), 1.0)
    if 2 * padding > kernel or min(pooled(size, given)) < 1:
        return
    rng = np.random.default_rng(seed)
    weight, x = rng.normal(size=(4, 4 // groups, tap, tap)), rng.normal(size=(1, 4, *size))
    convolution = Convolution((by, by), (zeros, zeros), (dilation, dilation), groups)
    if min(convolved(pooled(size, given), (tap, tap), convolution)) < 1:
        return
    found = before_convolution(weight, convolution, given, size)
    sums = avg_pool2d(torch.tensor(x), kernel, stride, padding) * kernel**2
    expected = conv2d(sums, torch.tensor(weight), None, by, zeros, dilation, groups).numpy()
    if found is None:
        assert zeros
        return
    wide, geometry = found
    actual = conv2d(
        torch.tensor(x), torch.tensor(wide), None, geometry.stride, geometry.padding, geometry.dilation, groups
    ).numpy()
    assert actual.shape == expected.shape
    assert np.allclose(actual, expected, rtol=0, atol=1e-12)
    dense = rng.normal(size=(3, sums[0].numel()))
    assert np.allclose(before_dense(dense, given, (4, *size)) @ x.ravel(), dense @ sums.numpy().ravel(), atol=1e-10)
