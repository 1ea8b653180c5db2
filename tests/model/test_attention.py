"""Causal attention: the sum as it is written, the same trained in one go, and nothing of what is still to come."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import SMALL, calibrated_model, spikes_by_layer
from torch import Tensor

from spikescr.model import ModelConfig, SpikeSCR
from spikescr.model.attention import CHUNK, CausalProduct
from spikescr.model.blocks import SpikingSelfAttention
from spikescr.model.fused_layers import causal_product

HEADS, DEPTH = 2, 4


def spikes(steps: int, samples: int = 5, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (steps, samples, HEADS * DEPTH)
    return [(torch.rand(shape, generator=generator, dtype=torch.float64) < rate).double() for rate in (0.3, 0.5, 0.4)]


def written_out(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """y[t] = q[t] A[t], A[t] = sum over u <= t of k[u] v[u]^T, entry by entry."""
    y = np.zeros(q.shape)
    for sample in range(q.shape[1]):
        for head in range(HEADS):
            channels = range(head * DEPTH, (head + 1) * DEPTH)
            A = np.zeros((q.shape[2], q.shape[2]))
            for t in range(len(q)):
                for i in channels:
                    for j in channels:
                        A[i, j] += k[t, sample, i] * v[t, sample, j]
                for i in channels:
                    for j in channels:
                        y[t, sample, j] += q[t, sample, i] * A[i, j]
    return y


@pytest.mark.parametrize("steps", [1, 7, CHUNK, CHUNK + 1, 3 * CHUNK - 1])
def test_every_position_sees_those_up_to_its_own(steps: int) -> None:
    given = spikes(steps)
    expected = written_out(*(x.numpy() for x in given))
    assert expected.max() > 0
    product = CausalProduct(HEADS)
    for got in (product.plain(*given), causal_product(product, *given)):
        np.testing.assert_array_equal(got.numpy(), expected)


@pytest.mark.parametrize("samples", [1, 3, 9])  # chunks of samples that are not full
def test_training_in_one_go_has_the_gradients_of_the_equation(samples: int) -> None:
    generator = torch.Generator().manual_seed(3)
    real = [torch.randn(21, samples, HEADS * DEPTH, generator=generator, dtype=torch.float64) for _ in range(4)]
    product, found = CausalProduct(HEADS), []
    for run in (product.plain, lambda *x: causal_product(product, *x)):
        given = [x.clone().requires_grad_() for x in real[:3]]
        y = run(*given)
        (y * real[3]).sum().backward()
        found.append([y.detach(), *(x.grad for x in given)])
    for ours, plain in zip(*reversed(found), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)


def test_what_comes_later_changes_no_attention_before() -> None:
    """Of the network with causal attention, beyond half a kernel; the full one looks ahead."""
    changed = {}
    for kind in ("causal", "full"):
        config = SMALL.model_copy(update={"attention": kind, "kernel": 1, "gating_unit": True})
        model, x, steps = calibrated_model(config, 4, window=30)
        assert isinstance(model, SpikeSCR)
        assert isinstance(model.blocks[0], torch.nn.Module)
        steps = torch.full_like(steps, 30)
        later = x.clone()
        later[20:] = x[20:].flip(0) + 0.5
        one, other = (spikes_by_layer(model, given, steps)[0]["blocks.0.mlp2.contract.lif"] for given in (x, later))
        differs = (one != other).flatten(1).any(dim=1).tolist()
        assert any(differs[20:])
        changed[kind] = any(differs[:19])  # the embedding looks one step ahead
    assert changed == {"causal": False, "full": True}


def test_attention_is_causal_where_the_configuration_says_so() -> None:
    assert ModelConfig(attention="causal").name == "1L-8-128, causal attention"
    assert ModelConfig.model_validate({"family": "spikescr"}).attention == "full"  # files of before it was a switch
    for kind in ("full", "causal"):
        ssa = SpikeSCR(SMALL.model_copy(update={"attention": kind})).get_submodule("blocks.0.ssa")
        assert isinstance(ssa, SpikingSelfAttention)
        assert (ssa.causal is not None) == (kind == "causal")
