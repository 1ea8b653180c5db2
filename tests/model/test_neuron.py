import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor

from spikescr.model import LIF
from spikescr.model.neuron import soften


def currents(dtype: torch.dtype, steps: int = 50) -> Tensor:
    """Currents that make neurons fire at different rates, some of them exactly at the threshold."""
    generator = torch.Generator().manual_seed(3)
    x = 0.5 + 0.8 * torch.randn(steps, 4, 33, generator=generator, dtype=dtype)
    x[:, 0] = (4 * x[:, 0]).round() / 4  # quarters: h meets the threshold exactly
    return x


def stock_lif(alpha: float = 5.0) -> neuron.LIFNode:
    return neuron.LIFNode(
        tau=2.0,
        decay_input=False,
        v_threshold=1.0,
        v_reset=0.0,
        surrogate_function=surrogate.ATan(alpha=alpha),
        detach_reset=True,
        step_mode="m",
    )


def lif_in_numpy(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    v, spikes = np.zeros_like(x[0]), np.zeros_like(x)
    for t in range(len(x)):
        h = v * (1 - 1 / 2.0) + x[t]
        spikes[t] = h >= 1
        v = h * (1 - spikes[t])
    return spikes, v


@pytest.mark.parametrize("alpha", [5.0, 2.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_spikes_and_gradients_are_those_of_spikingjelly(dtype: torch.dtype, tolerance: float, alpha: float) -> None:
    weights = torch.randn(50, 4, 33, generator=torch.Generator().manual_seed(4), dtype=dtype)
    found = []
    own = LIF()
    soften(own, alpha)
    for lif in (own, stock_lif(alpha)):
        x = currents(dtype).requires_grad_()
        spikes = lif(x)
        (spikes * weights).sum().backward()
        found.append((spikes.detach(), x.grad, lif.v))
    (spikes, gradient, v), (stock_spikes, stock_gradient, stock_v) = found
    assert 0.2 < spikes.mean() < 0.6
    assert torch.equal(spikes, stock_spikes)
    assert torch.equal(v, stock_v)
    torch.testing.assert_close(gradient, stock_gradient, rtol=tolerance, atol=tolerance)


def test_spikes_and_membrane_are_those_of_the_equations() -> None:
    x = currents(torch.float64)
    spikes, v = lif_in_numpy(x.numpy())
    lif = LIF()
    np.testing.assert_array_equal(lif(x).numpy(), spikes)
    np.testing.assert_array_equal(lif.v.numpy(), v)
    at_threshold = (x[0, 0] == 1.0).sum()
    assert at_threshold > 0, "the case h = threshold does not occur"


def test_state_carries_over_until_reset() -> None:
    x = currents(torch.float64)
    whole, lif = LIF()(x), LIF()
    assert torch.equal(torch.cat([lif(x[:20]), lif(x[20:])]), whole)
    assert not torch.equal(lif(x), whole)
    lif.reset()
    assert torch.equal(lif(x), whole)
