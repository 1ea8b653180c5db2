"""SpikCommander beside the equations in NumPy loops, and its published number of parameters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from spikescr.model import CommanderConfig, Network, build
from spikescr.model.commander import LOOKAHEAD, HeadConvolution, OneStepLIF, ShiftedLIF, moving_sum


def parameters(model: Network) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_parameters_are_as_many_as_published() -> None:
    assert parameters(build(CommanderConfig())) == 190_664
    two = parameters(build(CommanderConfig(layers=2, heads=16, width=256, mlp_ratio=4, classes=35)))
    assert round(two / 1e6, 2) == 2.13


def test_shifted_neuron_is_that_with_a_reset_to_a_half() -> None:
    generator = torch.Generator().manual_seed(0)
    current = torch.randint(-20, 40, (30, 2, 5), generator=generator).double() / 64
    v, expected = np.full((2, 5), 0.5), []
    for x in current.numpy():  # SpikingJelly's LIFNode: v - (v - v_reset) / tau + x
        v = v - (v - 0.5) / 2 + x
        spike = v >= 1.0
        v = np.where(spike, 0.5, v)
        expected.append(spike)
    found = ShiftedLIF()(current)
    np.testing.assert_array_equal(found.numpy(), expected)
    assert 0.05 < np.mean(expected) < 0.6


def test_moving_sum_sees_as_far_ahead_as_back() -> None:
    x = torch.randint(0, 3, (60, 2, 3), generator=torch.Generator().manual_seed(1)).double()
    expected = [x[max(0, t - LOOKAHEAD) : t + LOOKAHEAD + 1].sum(0) for t in range(60)]
    assert torch.equal(moving_sum(x), torch.stack(expected))


def test_global_threshold_lets_values_through_where_the_recording_has_enough() -> None:
    total, values = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[[1.0, 1.0, 0.0]], [[0.0, 1.0, 1.0]]])
    assert OneStepLIF(0.25)(total, values).tolist() == [[[0.0, 1.0, 0.0]], [[0.0, 1.0, 1.0]]]


@pytest.mark.parametrize("across", [1, 3])
def test_convolution_of_values_is_its_equation_and_one_kernel_over_time(across: int) -> None:
    heads, depth, steps = 2, 4, 12
    torch.manual_seed(0)
    module = HeadConvolution(heads, depth, across).double()
    v = (torch.rand(steps, 1, heads * depth) < 0.4).double()
    image = v[:, 0].reshape(steps, heads, depth).numpy()
    mix = module.pointwise.weight.detach().numpy()[:, :, 0, 0]
    taps = module.depthwise.weight.detach().numpy()[:, 0]
    expected = np.zeros((steps, heads, depth))
    for t in range(steps):
        for h in range(heads):
            for d in range(depth):
                for k in range(9):
                    for j in range(across):
                        at, position = t + k - 4, d + j - across // 2
                        if 0 <= at < steps and 0 <= position < depth:
                            expected[t, h, d] += taps[h, k, j] * (mix[h] @ image[at, :, position])
    with torch.no_grad():
        found = module(v)[:, 0].numpy()
        whole = torch.nn.functional.conv1d(v.permute(1, 2, 0), module.kernel(), padding=4)[0].T.numpy()
    np.testing.assert_allclose(found, expected.reshape(steps, -1), rtol=0, atol=1e-12)
    np.testing.assert_allclose(whole, found, rtol=0, atol=1e-12)


def test_switches_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValidationError, match="one of local_attention, global_attention and convolution must stay on"):
        CommanderConfig(local_attention=False, global_attention=False, convolution=False)
    with pytest.raises(ValidationError, match="across 2 must be odd"):
        CommanderConfig(across=2)
