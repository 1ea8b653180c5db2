"""Layers in integers against loops in Python's own integers, and the gradients that they pretend to have."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from spikescr.model import Current, Masked, TimeConv
from spikescr.model.fixed import (
    FixedCurrent,
    FixedHead,
    FixedLIF,
    FixedRecurrentLIF,
    FixedRotary,
    GroupScheme,
    update,
)
from spikescr.model.layers import SequenceBatchNorm
from spikescr.model.neuron import soften
from spikescr.model.recurrent import RecurrentLIF

SCHEME = GroupScheme(channels=(0, 3), bits=4, exponent=2, bias_exponent=1, theta=200)


def lif_loop(currents: list[int], theta: int, dv: int) -> tuple[list[int], int]:
    """Spikes of one neuron and what was saturated, as Lava's PyLifModelBitAcc computes it."""
    v, spikes, saturated = 0, [], 0
    for current in currents:
        u = (current << 6) + 2**31
        u = u % 2**32 - 2**31  # an int32
        if u > 2**23:
            u -= 2**24
        elif u <= -(2**23):
            u += 2**24
        saturated += u != current << 6
        left = (abs(v) * (4096 - dv) >> 12) * (1 if v >= 0 else -1)
        v = left + u
        cut = min(max(v, 1 - 2**23), 2**23 - 1)
        saturated += cut != v
        spikes.append(int(cut > (theta - 1) << 6))
        v = 0 if spikes[-1] else cut
    return spikes, saturated


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(max_examples=60)
@given(data=st.data())
def test_neurons_are_the_loop_in_integers(dtype: torch.dtype, data: st.DataObject) -> None:
    # Currents are exact in float32 below 2^24 / 64.
    most = 2**17 + 999 if dtype == torch.float32 else 2**28
    currents = data.draw(st.lists(st.integers(-most, most), min_size=1, max_size=20))
    theta, dv = data.draw(st.integers(1, 2**17)), data.draw(st.sampled_from([0, 1, 1000, 2048, 4095]))
    neuron = FixedLIF(theta, 1 - dv / 4096)
    spikes = neuron(torch.tensor(currents, dtype=dtype).reshape(-1, 1, 1))
    expected, saturated = lif_loop(currents, theta, dv)
    # A v times 4096 - dv is exact in float32 for shifts alone; the neuron takes float64 for the others.
    assert spikes.flatten().tolist() == expected
    assert neuron.saturated == saturated


def test_decay_in_float32_does_not_round_up() -> None:
    # 5,485,434 * 4095 / 4096 = 5,484,094.77; the product in float32 would make it 5,484,095.
    membrane, saturated = update(torch.tensor([5_485_434.0]), torch.tensor([0.0]), 1)
    assert (membrane.item(), saturated.item()) == (5_484_094, 0)


@pytest.mark.parametrize("alpha", [5.0, 0.8])
def test_gradient_is_that_of_real_membranes(alpha: float) -> None:
    theta = 64
    lif = FixedLIF(theta, 0.5)
    soften(lif, alpha)
    currents = torch.tensor([40.0, 30.0, 10.0, 70.0, -20.0, 50.0]).reshape(-1, 1, 1).requires_grad_()
    weights = torch.tensor([1.0, -2.0, 3.0, 0.5, 1.5, -1.0])
    (lif(currents).flatten() * weights).sum().backward()
    # By hand in real numbers: h = v / 2 + c / theta, slope of ATan(alpha) at h - 1, reset detached.
    h, v = [], 0.0
    for c in currents.detach().flatten().tolist():
        h.append(math.trunc(64 * v * theta / 2) / (64 * theta) + c / theta)
        v = 0.0 if h[-1] > (theta - 1) / theta else h[-1]
    expected, later = [0.0] * 6, 0.0
    for t in reversed(range(6)):
        slope = alpha / 2 / (1 + (math.pi / 2 * alpha * (h[t] - 1)) ** 2)
        later = float(weights[t]) * slope + (0.0 if h[t] > (theta - 1) / theta else 0.5) * later
        expected[t] = later / theta
    assert currents.grad is not None
    np.testing.assert_allclose(currents.grad.flatten().numpy(), expected, rtol=1e-5)


def recurrent(width: int, theta: int, dv: int, generator: torch.Generator) -> tuple[FixedRecurrentLIF, RecurrentLIF]:
    """Neurons in integers, and the same in real numbers whose weights are levels."""
    scheme = GroupScheme(channels=(0, width), bits=6, exponent=1, bias_exponent=0, theta=theta)
    real = RecurrentLIF(width, learn=False).double()
    real.fix_decay(1 - dv / 4096)
    levels = torch.randint(-31, 32, (width, width), generator=generator).double()
    real.recurrent.weight.data.copy_(levels * scheme.step * scheme.scale)
    return FixedRecurrentLIF(copy.deepcopy(real), theta, scheme), real


@pytest.mark.parametrize("dv", [0, 1000, 2048, 4095])
def test_recurrent_neurons_are_the_loop_in_integers(dv: int) -> None:
    generator, theta, width, ends = torch.Generator().manual_seed(dv), 300, 5, (20, 13)
    fixed, _ = recurrent(width, theta, dv, generator)
    current = torch.randint(-200, 400, (20, 2, width), generator=generator).double()
    valid = (torch.arange(20)[:, None] < torch.tensor(ends)).unsqueeze(-1).double()
    found = fixed(current * valid, valid).detach()
    weights = (fixed.recurrent.weight.detach() * theta).round().long().tolist()
    for sample, end in enumerate(ends):
        v, before = [0] * width, [0] * width
        for t in range(end):
            arriving = [
                int(current[t, sample, n]) + sum(w * s for w, s in zip(weights[n], before, strict=True))
                for n in range(width)
            ]
            left = [(abs(u) * (4096 - dv) >> 12) * (1 if u >= 0 else -1) for u in v]
            v = [kept + 64 * a for kept, a in zip(left, arriving, strict=True)]
            before = [int(u > 64 * (theta - 1)) for u in v]
            v = [0 if s else u for u, s in zip(v, before, strict=True)]
            assert found[t, sample].tolist() == before, (sample, t)
    assert 0.05 < float(found.mean()) < 0.8
    arriving = fixed.arriving(current * valid, valid, found).detach()
    np.testing.assert_array_equal(FixedLIF(theta, 1 - dv / 4096)(arriving), found)


@pytest.mark.parametrize("alpha", [5.0, 0.8])
def test_gradients_of_recurrent_neurons_are_those_of_real_numbers(alpha: float) -> None:
    generator, theta = torch.Generator().manual_seed(3), 2**14
    fixed, real = recurrent(4, theta, 2048, generator)
    for lif in (fixed, real):
        soften(lif, alpha)
    weights = torch.randn(4, 4, generator=generator).double().mul(30).round() / 64
    for neurons in (fixed, real):
        neurons.recurrent.weight.data.copy_(weights)
    fixed.scheme = GroupScheme(channels=(0, 4), bits=8, exponent=7, bias_exponent=0, theta=theta)  # step 256 = 1 / 64
    current = (torch.rand(12, 2, 4, generator=generator).double() * theta).round().requires_grad_()
    given, valid, upstream = current.detach().div(theta).requires_grad_(), torch.ones(12, 1, 1), torch.randn(12, 2, 4)
    one, two = fixed(current, valid), real(given, valid)
    np.testing.assert_array_equal(one.detach(), two.detach())
    for spikes in (one, two):
        (spikes * upstream).sum().backward()
    assert current.grad is not None
    assert given.grad is not None
    np.testing.assert_allclose(current.grad * theta, given.grad, rtol=0, atol=2e-3 * float(given.grad.abs().max()))
    found, expected = fixed.recurrent.weight.grad, real.recurrent.weight.grad
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3 * float(expected.abs().max()))


def folded(synapse: nn.Linear | TimeConv) -> Current:
    current = Current(synapse)
    assert isinstance(current.norm, SequenceBatchNorm)
    current.norm = Masked("bias")
    return current


def test_currents_are_levels_times_steps_within_the_bits() -> None:
    synapse = nn.Linear(2, 3)
    # step = 2^(9 - 4 + 2) = 128 units of 1 / 200: a level is 0.64; 4 bits reach from -8 to 7 levels.
    synapse.weight.data = torch.tensor([[0.64, -0.33], [4.48, 4.9], [-5.12, -9.0]])
    # bias step = 2^(1 + 1) = 4 units: 0.02.
    synapse.bias.data = torch.tensor([0.02, -0.031, 9.0])
    fixed = FixedCurrent(folded(synapse), {"layer": SCHEME})
    weight, bias = fixed.integers()
    assert weight.tolist() == [[128, -128], [7 * 128, 7 * 128], [-8 * 128, -8 * 128]]
    assert bias.tolist() == [4, -8, 127 * 4]  # -0.031 is -1.55 levels; 9.0 is cut
    valid = torch.tensor([1.0, 0.0]).reshape(2, 1, 1)
    x = torch.tensor([[1.0, 2.0], [3.0, 3.0]]).reshape(2, 1, 2)
    assert fixed(x, valid)[:, 0].tolist() == [[-124, 2680, -2564], [0, 0, 0]]


def test_real_inputs_are_messages_of_eight_bits() -> None:
    scheme = GroupScheme(channels=(0, 1), bits=8, exponent=0, bias_exponent=0, theta=100, input_step=0.5)
    synapse = nn.Linear(1, 1)
    synapse.weight.data, synapse.bias.data = torch.tensor([[0.4]]), torch.zeros(1)
    fixed = FixedCurrent(folded(synapse), {"layer": scheme})
    # A unit of weight is 1 / (100 * 0.5), a level two units: 0.4 is 10 levels, 20 units.
    x = torch.tensor([0.74, -1.3, 70.0, -70.0]).reshape(4, 1, 1)
    assert fixed(x, torch.ones(4, 1, 1)).flatten().tolist() == [20, -60, 127 * 20, -128 * 20]


def test_gradients_of_weights_are_those_of_real_numbers() -> None:
    torch.manual_seed(0)
    synapse = nn.Linear(4, 3).double()
    scheme = GroupScheme(channels=(0, 3), bits=8, exponent=3, bias_exponent=3, theta=3000)
    fixed, x = FixedCurrent(folded(synapse), {"layer": scheme}), torch.rand(5, 2, 4).round().double()
    upstream = torch.rand(5, 2, 3).double()
    (fixed(x, torch.ones(5, 2, 1).double()) * upstream).sum().backward()
    assert synapse.weight.grad is not None
    assert synapse.bias.grad is not None
    np.testing.assert_allclose(synapse.weight.grad, 3000 * torch.einsum("tbo,tbi->oi", upstream, x))
    np.testing.assert_allclose(synapse.bias.grad, 3000 * upstream.sum((0, 1)))


def test_rotary_tables_never_make_a_threshold_of_what_is_none() -> None:
    rotary = FixedRotary(16)
    cos, sin = rotary.tables(100)
    angles = np.arange(100)[:, None] * 10000.0 ** (-np.arange(8) / 8)
    for units, table in ((cos, np.cos(angles)), (sin, np.sin(angles))):
        levels = units / 32
        np.testing.assert_array_equal(levels, np.rint(levels))
        np.testing.assert_array_equal(np.abs(units) == FixedRotary.theta, np.abs(table) == 1)
        assert np.abs(levels / 127 - table).max() <= 1 / 127
        assert np.abs(levels / 127 - table)[np.abs(table) < 0.99].max() <= 0.5 / 127 + 1e-12
    x = torch.zeros(3, 1, 16)
    x[:, 0, 0] = 1
    np.testing.assert_array_equal(rotary(x, 1)[:, 0, :2], np.stack([cos[:3, 0], sin[:3, 0]], axis=1))


def test_head_gives_real_logits() -> None:
    head = nn.Linear(2, 2, bias=False)
    head.weight.data = torch.tensor([[0.2, -0.1], [1.0, 3.0]])
    fixed = FixedHead(head, scale=0.05, bits=6)  # a level is 8 units, 0.4; from -32 to 31 levels
    assert fixed.levels().tolist() == [[0, 0], [2, 8]]  # 0.2 is half a level: to even
    logits: Tensor = fixed(torch.tensor([[1.0, 2.0]]))
    np.testing.assert_allclose(logits.detach(), [[0.0, 0.8 + 2 * 3.2]], rtol=1e-6)
