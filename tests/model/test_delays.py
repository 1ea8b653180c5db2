import numpy as np
import pytest
import torch
from helpers import VARIANTS

from spikescr.model import build
from spikescr.model.delays import FINAL_SIGMA, AxonalLinear, Delayed, DelayedLinear


@pytest.fixture
def layer() -> DelayedLinear:
    torch.manual_seed(0)
    return DelayedLinear(4, 3, 7).double().eval()


def test_every_synapse_waits_its_own_delay(layer: DelayedLinear) -> None:
    x = torch.randn(12, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weight, delays = layer.weight.detach().numpy(), np.rint(3 * (1 + layer.position.detach().numpy())).astype(int)
    assert len(np.unique(delays)) >= 4
    expected = np.zeros((12, 2, 3))
    for t in range(12):
        for j in range(3):
            for i in range(4):
                past = t - delays[j, i] + 3  # aligned with the middle of the kernel
                if 0 <= past < 12:
                    expected[t, :, j] += weight[j, i] * x[past, :, i].numpy()
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(layer.delays().numpy(), delays)
    np.testing.assert_array_equal(layer.float().delays().numpy(), delays)


def test_training_spreads_each_weight_over_a_gaussian_around_its_delay(layer: DelayedLinear) -> None:
    layer.train()
    layer.sigma = 0.8
    kernel, position = layer.kernel().detach().numpy(), layer.position.detach().numpy()
    weight = layer.weight.detach().numpy()
    for j in range(3):
        for i in range(4):
            gaussian = np.exp(-0.5 * ((np.arange(7) - 3 * (1 + position[j, i])) / 0.8) ** 2)
            np.testing.assert_allclose(
                kernel[:, j, i], weight[j, i] * gaussian / gaussian.sum(), rtol=1e-12, atol=1e-15
            )
    layer(torch.randn(9, 2, 4, dtype=torch.float64)).square().sum().backward()
    assert float(layer.position.grad.abs().min()) > 1e-9


@pytest.mark.parametrize("sigma", [FINAL_SIGMA, 1.0, 4.0])
def test_far_ends_of_narrow_gaussians_are_zero_and_never_subnormal(sigma: float) -> None:
    torch.manual_seed(0)
    layer = DelayedLinear(16, 16, 25).train()
    layer.sigma = sigma
    kernel = layer.kernel()
    kernel.square().sum().backward()
    for values in (kernel, layer.weight.grad, layer.position.grad):
        assert values is not None
        assert not torch.any((values != 0) & (values.abs() < torch.finfo(torch.float32).tiny))
    distance = (torch.arange(25)[:, None, None] - 12 * (1 + layer.position.detach())).double()
    gaussian = torch.exp(-0.5 * (distance / sigma) ** 2)
    gaussian /= gaussian.sum(0)
    assert torch.all(kernel[gaussian > 1e-15] != 0)
    torch.testing.assert_close(kernel.detach().double(), layer.weight.detach() * gaussian, rtol=1e-4, atol=1e-15)


def test_gradients_of_weights_and_delays_are_those_of_the_equation(layer: DelayedLinear) -> None:
    layer.train()
    layer.sigma = 0.8
    x = torch.randn(9, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    layer(x).square().sum().backward()
    weight, position = (p.detach().clone().requires_grad_() for p in (layer.weight, layer.position))
    gaussian = torch.exp(-0.5 * ((torch.arange(7) - 3 * (1 + position[..., None])) / 0.8) ** 2)
    kernel = weight[..., None] * gaussian / gaussian.sum(-1, keepdim=True)
    y = torch.nn.functional.conv1d(x.permute(1, 2, 0), kernel.flip(-1), padding=3)
    y.square().sum().backward()
    torch.testing.assert_close(layer.weight.grad, weight.grad, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(layer.position.grad, position.grad, rtol=1e-10, atol=1e-12)


def test_every_axon_waits_its_own_delay() -> None:
    torch.manual_seed(0)
    layer = AxonalLinear(4, 3, 7).double().eval()
    x = torch.randn(12, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weight, delays = layer.weight.detach().numpy(), np.rint(3 * (1 + layer.position.detach().numpy())).astype(int)
    assert len(np.unique(delays)) >= 3
    expected = np.zeros((12, 2, 3))
    for t in range(12):
        for i in range(4):
            past = t - delays[i] + 3  # aligned with the middle of the kernel
            if 0 <= past < 12:
                expected[t] += x[past, :, i, None].numpy() * weight[:, i]
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=0, atol=1e-14)


def test_gradients_of_an_axons_delay_are_those_of_the_equation() -> None:
    torch.manual_seed(0)
    layer = AxonalLinear(4, 3, 7).double()
    layer.sigma = 0.8
    x = torch.randn(9, 2, 4, dtype=torch.float64)
    layer(x).square().sum().backward()
    weight, position = (p.detach().clone().requires_grad_() for p in (layer.weight, layer.position))
    gaussian = torch.exp(-0.5 * ((torch.arange(7) - 3 * (1 + position[:, None])) / 0.8) ** 2)
    kernel = weight[..., None] * (gaussian / gaussian.sum(-1, keepdim=True))
    torch.nn.functional.conv1d(x.permute(1, 2, 0), kernel.flip(-1), padding=3).square().sum().backward()
    torch.testing.assert_close(layer.weight.grad, weight.grad, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(layer.position.grad, position.grad, rtol=1e-10, atol=1e-12)


def test_delays_stay_within_the_kernel(layer: DelayedLinear) -> None:
    layer.train()
    layer.position.data[0] = 5.0
    layer.kernel()
    assert float(layer.position.detach().max()) == 1.0
    assert int(layer.delays().max()) == 6


def test_gaussians_narrow_over_the_first_quarter_of_the_training() -> None:
    model = build(VARIANTS["dcls"])
    widths = []
    for progress in (0.0, 0.125, 0.25, 1.0):
        model.anneal(progress)
        widths.append([m.sigma for m in model.modules() if isinstance(m, Delayed)])
    start = 5 / 2
    middle = (start * FINAL_SIGMA) ** 0.5  # half way on a logarithmic scale
    np.testing.assert_allclose(widths, [[s] * 2 for s in (start, middle, 0.5, 0.5)], rtol=1e-12)
