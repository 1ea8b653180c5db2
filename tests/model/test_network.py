"""A sample's answer depends on its own valid steps alone."""

import numpy as np
import pytest
import torch
from helpers import SMALL, assert_every_layer_fires, calibrated_model, firing_rates, spikes_by_layer
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikescr.model import LIF, ModelConfig, SequenceBatchNorm, SpikeSCR, readout
from spikescr.model.layers import TimeConv

DEEP = SMALL.model_copy(update={"layers": 2})


@pytest.fixture(scope="module")
def calibrated() -> tuple[SpikeSCR, Tensor, Tensor, dict[str, Tensor], Tensor]:
    """A network of two blocks, its input, and spikes and logits of all samples run together."""
    model, x, steps = calibrated_model(DEEP, 11, samples=7, window=30)
    assert_every_layer_fires(firing_rates(model, x, steps))
    assert len(steps.unique()) >= 4
    return model, x, steps, *spikes_by_layer(model, x, steps)


@settings(max_examples=40)
@given(
    order=st.lists(st.integers(0, 6), min_size=1, max_size=9),  # any batch, repetitions included
    padding=st.integers(0, 40),
    garbage=st.sampled_from([0.0, 1.0, -7.5, 1e6]),
)
def test_spikes_do_not_depend_on_batch_order_or_padding(
    calibrated: tuple[SpikeSCR, Tensor, Tensor, dict[str, Tensor], Tensor],
    order: list[int],
    padding: int,
    garbage: float,
) -> None:
    model, x, steps, spikes, logits = calibrated
    some = steps[order]
    window = int(some.max()) + padding
    batch = torch.full((window, len(order), x.shape[2]), garbage, dtype=x.dtype)
    for column, sample in enumerate(order):
        batch[: steps[sample], column] = x[: steps[sample], sample]
    found, found_logits = spikes_by_layer(model, batch, some)
    assert len(found) == 33  # 1 embedding, 16 in each of 2 blocks
    for column, sample in enumerate(order):
        length = int(steps[sample])
        for name, of_layer in found.items():
            assert torch.equal(of_layer[:length, column], spikes[name][:length, sample]), name
            assert not of_layer[length:, column].any(), name
        np.testing.assert_allclose(found_logits[:length, column], logits[:length, sample], rtol=0, atol=1e-12)
        assert not found_logits[length:, column].any()


def test_statistics_and_gradients_do_not_depend_on_padding() -> None:
    model, x, steps = calibrated_model(SMALL.model_copy(update={"dropout": 0.0}), 12)
    model.train()
    found = []
    for window in (int(steps.max()), len(x) + 20):
        for module in model.modules():
            if isinstance(module, SequenceBatchNorm):
                module.reset_running_stats()
        batch = torch.full((window, *x.shape[1:]), 55.0, dtype=x.dtype)
        for sample, length in enumerate(steps.tolist()):
            batch[:length, sample] = x[:length, sample]
        model.zero_grad()
        readout(model(batch, steps), steps).square().sum().backward()
        found.append(
            {name: buffer.clone() for name, buffer in model.named_buffers()}
            | {f"{name} gradient": p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        )
    tight, padded = found
    assert tight.keys() == padded.keys()
    for name, values in tight.items():
        torch.testing.assert_close(padded[name], values, rtol=1e-9, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}")
    assert max(float(values.abs().max()) for name, values in tight.items() if "running_mean" in name) > 0.01


def test_batch_norm_takes_statistics_of_valid_steps() -> None:
    norm = SequenceBatchNorm(3).double()
    x = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 4
    valid = torch.ones(6, 2, 1, dtype=torch.float64)
    valid[4:, 1] = 0
    seen = torch.cat([x[:, 0], x[:4, 1]])
    expected = (x - seen.mean(0)) / torch.sqrt(seen.var(0, unbiased=False) + norm.eps) * valid
    torch.testing.assert_close(norm(x, valid), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(norm.running_mean, 0.1 * seen.mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * seen.var(0), rtol=1e-12, atol=0)
    everything = torch.ones_like(valid)
    flat = x.flatten(0, 1)
    expected = (x - flat.mean(0)) / torch.sqrt(flat.var(0, unbiased=False) + norm.eps)
    torch.testing.assert_close(norm(x, everything), expected, rtol=1e-12, atol=1e-12)


def test_convolution_is_centred_and_sees_zeros_outside() -> None:
    conv = TimeConv(2, 2, 5, groups=2, bias=False).double()
    x = torch.randn(7, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = np.zeros((7, 2))
    for t in range(7):
        for k in range(5):
            if 0 <= t + k - 2 < 7:
                expected[t] += conv.weight[:, 0, k].detach().numpy() * x[t + k - 2, 0].numpy()
    np.testing.assert_allclose(conv(x)[:, 0].detach().numpy(), expected, rtol=0, atol=1e-15)


def test_gradients_reach_every_parameter() -> None:
    model, x, steps = calibrated_model(DEEP, 13)
    model.train()
    loss = torch.nn.functional.cross_entropy(readout(model(x, steps), steps), torch.arange(len(steps)) % DEEP.classes)
    loss.backward()
    # The batch mean takes away what a bias before a batch normalisation adds: gradient 0 but for rounding.
    without = {f"{name}.synapse.bias" for name, module in model.named_modules() if hasattr(module, "synapse")}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        largest = float(parameter.grad.abs().max())
        assert largest < 1e-12 if name in without else largest > 1e-6, f"{name}: {largest}"


def test_every_bias_counts_in_eval_mode() -> None:
    model, x, steps = calibrated_model(SMALL, 14)
    readout(model(x, steps), steps)[:, 0].sum().backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or float(p.grad.abs().max()) < 1e-7]
    assert still == []


def test_calibrated_model_fires_in_every_layer_and_the_untrained_one_does_not() -> None:
    model, x, steps = calibrated_model(SMALL, 15)
    assert len(firing_rates(model, x, steps)) == sum(isinstance(m, LIF) for m in model.modules()) == 17
    assert_every_layer_fires(firing_rates(model, x, steps))
    fresh = SpikeSCR(SMALL).double().eval()
    with pytest.raises(AssertionError, match="fire too little"):
        assert_every_layer_fires(firing_rates(fresh, x, steps))


def test_readout_sums_softmax_over_valid_steps() -> None:
    logits = torch.tensor([[[0.0, np.log(3)]], [[np.log(4), 0.0]], [[9.0, 9.0]]], dtype=torch.float64)
    y = readout(logits, torch.tensor([2]))
    torch.testing.assert_close(y, torch.tensor([[0.25 + 0.8, 0.75 + 0.2]], dtype=torch.float64))


def test_head_has_a_logit_per_class() -> None:
    config = ModelConfig(inputs=3, classes=4, heads=1, width=8)
    logits = SpikeSCR(config)(torch.zeros(5, 2, 3), torch.tensor([5, 2]))
    assert logits.shape == (5, 2, 4)
