import torch
from spikingjelly.activation_based import neuron, surrogate

from spikescr.model.parametric import ParametricLIF


def test_it_is_spikingjellys_parametric_lif_spikes_and_gradients() -> None:
    reference = neuron.ParametricLIFNode(
        init_tau=2.0, decay_input=False, surrogate_function=surrogate.ATan(alpha=5.0), detach_reset=True, step_mode="m"
    ).double()
    ours = ParametricLIF().double()
    assert float(ours.w.detach()) == float(reference.w.detach()) == 0.0
    generator = torch.Generator().manual_seed(0)
    for w in (0.0, 0.8, -1.3):
        x = torch.randn(30, 3, 7, generator=generator, dtype=torch.float64)
        weights = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        found = []
        for module in (reference, ours):
            module.reset()
            module.w.data.fill_(w)
            module.w.grad = None
            current = x.clone().requires_grad_()
            spikes = module(current)
            (spikes * weights).sum().backward()
            found.append((spikes.detach(), current.grad, module.w.grad))
        (spikes, gradient, by_w), (our_spikes, our_gradient, our_by_w) = found
        assert torch.equal(our_spikes, spikes)
        assert 0.1 < float(spikes.mean()) < 0.5
        torch.testing.assert_close(our_gradient, gradient, rtol=1e-11, atol=1e-13)
        torch.testing.assert_close(our_by_w, by_w, rtol=1e-11, atol=1e-13)
        assert float(by_w.abs()) > 1e-3


def test_fixed_decay_takes_the_place_of_the_learnt_one() -> None:
    lif = ParametricLIF().double()
    lif.fix_decay(0.25)
    assert lif.decay == 0.25
    assert list(lif.parameters()) == []
    # 0.9; 0.225 + 0.8 = 1.025 fires; 0.9; 0.225 + 0.7 = 0.925
    current = torch.tensor([0.9, 0.8, 0.9, 0.7], dtype=torch.float64)[:, None, None]
    assert lif(current).flatten().tolist() == [0, 1, 0, 0]
