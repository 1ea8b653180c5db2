"""Folding: the model without batch normalisation does what the model with it does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import SMALL, assert_every_layer_fires, calibrated_model, firing_rates, spikes_by_layer
from torch import nn

from spikescr.errors import ExportError
from spikescr.export.fold import fold
from spikescr.model import Current, SpikeSCR


@pytest.mark.parametrize("seed", range(5))
def test_folded_model_fires_the_same_spikes_as_the_trained_one(seed: int) -> None:
    model, x, steps = calibrated_model(seed=seed)
    assert_every_layer_fires(firing_rates(model, x, steps))

    expected, expected_logits = spikes_by_layer(model, x, steps)
    found, logits = spikes_by_layer(fold(model), x, steps)

    assert found.keys() == expected.keys()
    for name, spikes in expected.items():
        assert torch.equal(found[name], spikes), name
    torch.testing.assert_close(logits, expected_logits, rtol=0, atol=1e-12)


def test_every_case_of_the_model_is_folded_by_its_equation() -> None:
    """Linear with bias, Linear without, dense and depthwise convolution: W' and b' from NumPy, with a large eps."""
    model, _, _ = calibrated_model()
    currents = {name: module for name, module in model.named_modules() if isinstance(module, Current)}
    for current in currents.values():
        current.norm.eps = 0.3  # large enough to be missed if it is forgotten
    folded = dict(fold(model).named_modules())

    kinds = set()
    for name, current in currents.items():
        synapse, norm = current.synapse, current.norm
        kinds.add((type(synapse).__name__, getattr(synapse, "groups", 1) > 1, synapse.bias is None))
        w = synapse.weight.detach().numpy()
        b = np.zeros(w.shape[0]) if synapse.bias is None else synapse.bias.detach().numpy()
        mean, var = norm.running_mean.numpy(), norm.running_var.numpy()
        gamma, beta = norm.weight.detach().numpy(), norm.bias.detach().numpy()
        scale = gamma / np.sqrt(var + 0.3)
        expected_w = np.stack([w[i] * scale[i] for i in range(len(w))])
        got = folded[name].synapse
        np.testing.assert_allclose(got.weight.numpy(), expected_w, rtol=1e-13)
        np.testing.assert_allclose(got.bias.numpy(), (b - mean) * scale + beta, rtol=1e-12, atol=1e-14)
    assert kinds == {
        ("Linear", False, False),
        ("Linear", False, True),
        ("TimeConv", False, False),
        ("TimeConv", True, True),
    }


def test_folding_leaves_the_given_model_as_it_was() -> None:
    model, _, _ = calibrated_model(dtype=torch.float32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fold(model)
    assert model.state_dict().keys() == before.keys()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
        assert value.dtype == before[name].dtype


def test_batch_normalisation_outside_of_a_current_is_named() -> None:
    model = SpikeSCR(SMALL)
    model.blocks[0].mlp1.extra = nn.BatchNorm1d(16)
    with pytest.raises(ExportError, match=r"blocks\.0\.mlp1\.extra: this BatchNorm1d cannot be folded"):
        fold(model)


def test_foreign_norm_in_a_current_is_named() -> None:
    model = SpikeSCR(SMALL)
    model.blocks[0].ssa.q.current.norm = nn.BatchNorm2d(16)
    with pytest.raises(ExportError, match=r"blocks\.0\.ssa\.q\.current\.norm: cannot fold BatchNorm2d"):
        fold(model)


def test_batch_normalisation_without_running_statistics_is_named() -> None:
    model = SpikeSCR(SMALL)
    norm = model.sem.current.norm
    norm.running_mean = norm.running_var = None
    with pytest.raises(ExportError, match=r"sem\.current\.norm: has no running statistics"):
        fold(model)
