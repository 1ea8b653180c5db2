import numpy as np
import pytest
import torch

from spikescr.model import valid_mask
from spikescr.model.recurrent import RecurrentLIF


@pytest.mark.parametrize("learn", [False, True])
def test_neurons_hear_each_other_one_step_later_and_fall_silent_at_the_end(learn: bool) -> None:
    torch.manual_seed(0)
    lif = RecurrentLIF(5, learn=learn).double()
    lif.recurrent.weight.data.mul_(3)
    if learn:
        lif.w.data.fill_(0.7)
    decay = 1 - 1 / (1 + np.exp(-0.7)) if learn else 0.5
    assert lif.decay == pytest.approx(decay, rel=1e-15)
    steps = torch.tensor([9, 5])
    valid = valid_mask(steps, 11, torch.float64)
    current = (0.4 + torch.randn(11, 2, 5, dtype=torch.float64)) * valid
    spikes = lif(current, valid).detach()
    weight = lif.recurrent.weight.detach().numpy()
    rate = []
    for b in range(2):
        v, s = np.zeros(5), np.zeros(5)
        for t in range(11):
            h = decay * v + current[t, b].numpy() + (weight @ s if t < steps[b] else 0)
            s = (h >= 1).astype(float)
            v = h * (1 - s)
            np.testing.assert_array_equal(spikes[t, b].numpy(), s)
            rate.append(s.mean())
    assert 0.1 < np.mean(rate) < 0.6
    assert not spikes[9:, 0].any()
    assert not spikes[5:, 1].any()
    arriving = lif.arriving(current, valid, spikes).detach().numpy()
    np.testing.assert_allclose(
        arriving[1:9, 0], current[1:9, 0].numpy() + spikes[:8, 0].numpy() @ weight.T, rtol=0, atol=1e-14
    )


def test_learnt_constant_and_recurrent_weights_have_gradients_through_time() -> None:
    torch.manual_seed(0)
    lif = RecurrentLIF(5, learn=True).double()
    valid = torch.ones(11, 2, 1, dtype=torch.float64)
    current = torch.randn(11, 2, 5, dtype=torch.float64, requires_grad=True)
    lif(current, valid)[-1].sum().backward()
    assert float(lif.w.grad.abs()) > 1e-6
    assert float(lif.recurrent.weight.grad.abs().max()) > 1e-6
    assert float(current.grad[5].abs().max()) > 1e-9
    assert [name for name, _ in RecurrentLIF(5, learn=False).named_parameters()] == ["recurrent.weight"]


def test_what_fires_at_the_last_step_reaches_nobody() -> None:
    lif = RecurrentLIF(1, learn=False).double()
    lif.recurrent.weight.data.fill_(2.0)
    current = torch.tensor([1.0, 0, 0, 0, 0], dtype=torch.float64)[:, None, None]
    for steps, expected in ((5, [1, 1, 1, 1, 1]), (3, [1, 1, 1, 0, 0])):
        assert lif(current, valid_mask(torch.tensor([steps]), 5, torch.float64)).flatten().tolist() == expected
