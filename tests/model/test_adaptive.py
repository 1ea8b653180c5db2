import numpy as np
import pytest
import torch
from spikingjelly.activation_based import surrogate

from spikescr.model.adaptive import AdaptiveLIF
from spikescr.model.neuron import soften


@pytest.fixture
def lif() -> AdaptiveLIF:
    torch.manual_seed(0)
    return AdaptiveLIF(6).double()


def fired(lif: AdaptiveLIF, current: torch.Tensor) -> torch.Tensor:
    spikes: torch.Tensor = lif(current, torch.ones_like(current[..., :1]))
    return spikes


def told(lif: AdaptiveLIF, current: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spikes and membranes by the equations of the paper, from silence."""
    step = np.exp(lif.timestep.detach().numpy())
    al, b_w = (np.exp(-np.exp(p.detach().numpy()) * step) for p in (lif.membrane, lif.adaptation))
    a, b = lif.by_membrane.detach().numpy(), lif.by_spike.detach().numpy()
    u = w = s = np.zeros(current.shape[1:])
    spikes, membranes = [], []
    for x in current:
        w = b_w * w + a * u + b * s
        u = al * (u - s) + (1 - al) * (x - w)
        s = (u >= 1).astype(float)
        spikes.append(s)
        membranes.append(u)
    return np.array(spikes), np.array(membranes)


@pytest.fixture
def current() -> np.ndarray:
    return np.random.default_rng(0).normal(3.0, 4.0, (40, 3, 6))


def test_spikes_are_those_of_the_equations(lif: AdaptiveLIF, current: np.ndarray) -> None:
    with torch.no_grad():
        lif.timestep.uniform_(-0.3, 0.3)
    spikes, membranes = told(lif, current)
    assert 0.05 < spikes.mean() < 0.6
    found = fired(lif, torch.from_numpy(current)).detach().numpy()
    np.testing.assert_array_equal(found, spikes)
    for sample, neuron in ((0, 0), (2, 5)):
        at = (slice(None), sample, neuron)
        np.testing.assert_allclose(lif.membranes(current[at], found[at] > 0, neuron), membranes[at], rtol=0, atol=1e-12)


def test_gradients_are_those_of_the_equations_but_for_the_reset(lif: AdaptiveLIF, current: np.ndarray) -> None:
    soften(lif, 0.8)
    upstream, x = torch.from_numpy(np.random.default_rng(1).normal(size=current.shape)), torch.from_numpy(current)
    given = x.clone().requires_grad_()
    (fired(lif, given) * upstream).sum().backward()
    found = {name: p.grad for name, p in lif.named_parameters()} | {"current": given.grad}
    lif.zero_grad()
    step, twice = torch.exp(lif.timestep), x.clone().requires_grad_()
    al, b_w = (torch.exp(-torch.exp(rate) * step) for rate in (lif.membrane, lif.adaptation))
    u = w = s = torch.zeros(current.shape[1:], dtype=x.dtype)
    spikes = []
    for x_t in twice:
        w = b_w * w + lif.by_membrane * u + lif.by_spike * s
        u = al * (u - s.detach()) + (1 - al) * (x_t - w)
        s = surrogate.ATan(alpha=0.8)(u - 1.0)
        spikes.append(s)
    (torch.stack(spikes) * upstream).sum().backward()
    expected = {name: p.grad for name, p in lif.named_parameters()} | {"current": twice.grad}
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12, msg=name)


def test_fixed_constants_are_the_learnt_ones_in_seconds(lif: AdaptiveLIF, current: np.ndarray) -> None:
    learnt = lif.constants()
    lif.fix(0.025)
    fixed = lif.constants()
    for name, numbers in vars(learnt).items():
        np.testing.assert_allclose(getattr(fixed, name).detach(), numbers.detach(), rtol=1e-12)
    np.testing.assert_array_equal(fired(lif, torch.from_numpy(current)).detach(), told(lif, current)[0])


def test_a_constant_current_is_answered_less_and_less(lif: AdaptiveLIF) -> None:
    with torch.no_grad():
        lif.by_membrane.zero_()
        lif.by_spike.fill_(0.5)
    spikes = fired(lif, torch.full((80, 1, 6), 4.0, dtype=torch.float64)).detach()
    assert (spikes[:20].sum(0) > spikes[60:].sum(0)).all()


def test_all_parameters_learn_and_stay_within_their_bounds(lif: AdaptiveLIF, current: np.ndarray) -> None:
    fired(lif, torch.from_numpy(current)).square().sum().backward()
    for name, parameter in lif.named_parameters():
        assert float(parameter.grad.abs().max()) > 0, name
    with torch.no_grad():
        lif.by_membrane.fill_(7.0)
        lif.by_spike.fill_(-1.0)
    constants = lif.constants()
    assert float(constants.by_membrane.detach().max()) == 1.0
    assert float(constants.by_spike.detach().min()) == 0.0
