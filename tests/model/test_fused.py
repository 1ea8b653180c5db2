"""What a CPU computes in one go is what the plain equations give."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers import SMALL, calibrated_model
from torch import Tensor, nn

from spikescr.model import LIF, ModelConfig, SequenceBatchNorm, SpikeSCR, fused, fused_layers, kernels, neuron, readout
from spikescr.model.adaptive import AdaptiveLIF
from spikescr.model.backends import FUSED, PLAIN, install
from spikescr.model.config import AdaptiveConfig
from spikescr.model.families import build
from spikescr.model.fused_layers import product
from spikescr.model.layers import Current, Masked, Replaceable, Spiking, SpikingLayer, TimeConv, valid_mask
from spikescr.model.neuron import soften
from spikescr.model.rotary import Rotary
from spikescr.model.statistics import Statistics

T, B, N = 23, 20, 10
STEPS = torch.randint(8, T + 1, (B,), generator=torch.Generator().manual_seed(1))


def drawn(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def both(
    module: nn.Module, run: Callable[[Tensor, bool], Tensor], x: Tensor
) -> list[tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]]:
    """Output, gradients and buffers, fused and plain, from the same random state; `run` is told whether fused."""
    found = []
    state = {name: value.clone() for name, value in module.state_dict().items()}
    for backend in (FUSED, PLAIN):
        install(module, backend)
        module.load_state_dict(state)
        module.zero_grad()
        torch.manual_seed(7)
        given = x.clone().requires_grad_()
        out = run(given, backend is FUSED)
        (out * drawn(*out.shape, dtype=out.dtype, seed=5)).sum().backward()
        assert given.grad is not None
        gradients = {"x": given.grad} | {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}
        found.append((out.detach(), gradients, {name: b.clone() for name, b in module.named_buffers()}))
    return found


def assert_equal(found: list[tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]], tolerance: float) -> None:
    """Outputs to the bit, gradients and buffers to a tolerance of the largest."""
    (out, gradients, buffers), (plain_out, plain_gradients, plain_buffers) = found
    assert torch.equal(out, plain_out)
    assert gradients.keys() == plain_gradients.keys()
    largest = max(float(g.abs().max()) for g in plain_gradients.values())
    for name, expected in plain_gradients.items():
        scale = float(expected.abs().max())
        scale = largest if scale < 1e-4 * largest else scale  # of a bias before a normalisation only rounding is left
        assert float((gradients[name] - expected).abs().max()) <= tolerance * scale, name
    for name, expected in plain_buffers.items():
        torch.testing.assert_close(buffers[name], expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-13)])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("layer", ["normalised", "gated", "alone"])
def test_neurons(layer: str, dropout: float, dtype: torch.dtype, tolerance: float) -> None:
    """SN(BN(y)), SN(BN(y) gate), SN(y), each with dropout: from the same y, spikes are the same to the bit."""
    spiking = Spiking(dropout).to(dtype)
    norm = SequenceBatchNorm(N).to(dtype)
    nn.init.uniform_(norm.weight, 0.6, 1.4, generator=torch.Generator().manual_seed(2))
    nn.init.uniform_(norm.bias, 0.0, 0.8, generator=torch.Generator().manual_seed(3))
    valid = valid_mask(STEPS, T, dtype)
    gate = (drawn(T, B, N, dtype=dtype, seed=9) > 0).to(dtype)
    module = nn.ModuleDict({"spiking": spiking, "norm": norm})

    def run(y: Tensor, one_go: bool) -> Tensor:
        if layer == "alone":
            return spiking(y, valid)
        given = gate if layer == "gated" else None
        if one_go:
            statistics = norm.take_statistics(y, STEPS)
            mask = spiking.dropout.mask(y)
            out: Tensor = fused.Fire.apply(y, norm.weight, norm.bias, given, mask, STEPS, statistics)
        else:
            current = norm(y, valid)
            out = spiking(current if given is None else current * given, valid) * valid
        return out

    found = both(module, run, 0.7 * drawn(T, B, N, dtype=dtype) + 0.4)
    rate = float((found[0][0] != 0).double().mean())
    assert 0.05 < rate < 0.6
    assert_equal(found, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_adaptive_neurons(dropout: float, dtype: torch.dtype, tolerance: float) -> None:
    """From the same currents, until each sample's end; they fire where no current arrives any more, and are masked."""
    torch.manual_seed(0)
    spiking, valid = Spiking(dropout), valid_mask(STEPS, T, dtype)
    spiking.lif = AdaptiveLIF(N)
    soften(spiking.to(dtype), 0.8)
    found = both(spiking, lambda x, _: spiking(x * valid, valid), 3 * drawn(T, B, N, dtype=dtype) + 3)
    assert set(found[0][1]) == {"x", *(f"lif.{name}" for name, _ in spiking.lif.named_parameters())}
    assert 0.05 < float((found[0][0] != 0).double().mean()) < 0.6
    assert_equal(found, tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradient_of_the_gate(dtype: torch.dtype) -> None:
    y, gate = drawn(T, B, N, dtype=dtype) + 0.6, (drawn(T, B, N, dtype=dtype, seed=4) > 0).to(dtype)
    lengths, valid = STEPS, valid_mask(STEPS, T, dtype)
    statistics = Statistics.from_batch(y, lengths, torch.zeros(N, dtype=dtype), 1e-5, False)
    ones, zeros = torch.ones(N, dtype=dtype), torch.zeros(N, dtype=dtype)
    a, b = gate.clone().requires_grad_(), gate.clone().requires_grad_()
    weights = drawn(T, B, N, dtype=dtype, seed=5)
    (fused.Fire.apply(y, ones, zeros, a, None, lengths, statistics) * weights).sum().backward()
    scale, shift = statistics.affine(ones, zeros)
    (LIF()((y * scale + shift) * valid * b) * valid * weights).sum().backward()
    assert a.grad is not None
    assert b.grad is not None
    assert float(b.grad.abs().max()) > 0.1
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-6)


def test_normalisation_is_smooth_and_its_gradient_that_of_torch() -> None:
    norm = SequenceBatchNorm(3).double()
    nn.init.uniform_(norm.weight, 0.6, 1.4)
    valid = valid_mask(torch.tensor([4, 6, 2]), 6, torch.float64)
    x = drawn(6, 3, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: norm(x, valid), x)
    chosen = valid.flatten().bool()
    reference = nn.BatchNorm1d(3).double()
    reference.load_state_dict(SequenceBatchNorm(3).double().state_dict() | {"weight": norm.weight.detach()})
    weights = drawn(6, 3, 3, seed=2)
    (mine,) = torch.autograd.grad((norm(x, valid) * weights).sum(), x)
    (theirs,) = torch.autograd.grad((reference(x.reshape(-1, 3)[chosen]) * weights.reshape(-1, 3)[chosen]).sum(), x)
    torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("part", ["linear", "dense convolution", "depthwise convolution", "rotation"])
def test_smooth_parts(part: str) -> None:
    x = drawn(T, 3, 8)
    if part == "rotation":
        rotary = Rotary(4)
        module: nn.Module = rotary

        def run(x: Tensor, one_go: bool) -> Tensor:
            assert (rotary.trained_by is not None) == one_go
            return rotary(x, 2)
    else:
        synapse = {
            "linear": nn.Linear(8, 6),
            "dense convolution": TimeConv(8, 6, 3),
            "depthwise convolution": TimeConv(8, 8, 7, groups=8, bias=False),
        }[part]
        current = Current(synapse).double()
        module = current

        def run(x: Tensor, one_go: bool) -> Tensor:
            return product(current, x) if one_go else current.synapse(x)

    (out, gradients, _), (plain_out, plain_gradients, _) = both(module, run, x)
    torch.testing.assert_close(out, plain_out, rtol=1e-12, atol=1e-12)
    for name, expected in plain_gradients.items():
        if not name.endswith("bias"):  # zero: a batch normalisation follows
            torch.testing.assert_close(gradients[name], expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("dropout", "alpha", "attention"),
    [(0.0, 5.0, "full"), (0.1, 5.0, "full"), (0.1, 2.0, "full"), (0.1, 5.0, "causal")],
)
def test_a_whole_network_trains_alike(dropout: float, alpha: float, attention: str) -> None:
    model, x, steps = calibrated_model(SMALL.model_copy(update={"dropout": dropout, "attention": attention}), 21)
    model.train()
    soften(model, alpha)
    found = both(model, lambda x, _: readout(model(x, steps), steps), x)
    (out, gradients, buffers), (plain_out, plain_gradients, plain_buffers) = found
    torch.testing.assert_close(out, plain_out, rtol=1e-11, atol=1e-11)
    largest = max(float(g.abs().max()) for g in plain_gradients.values())
    assert largest > 1e-2
    for name, expected in plain_gradients.items():
        torch.testing.assert_close(gradients[name], expected, rtol=1e-9, atol=1e-10 * largest, msg=name)
    for name, expected in plain_buffers.items():
        torch.testing.assert_close(buffers[name], expected, rtol=1e-11, atol=1e-11, msg=name)


@pytest.mark.parametrize(
    "config",
    [SMALL.model_copy(update={"neuron": "adaptive"}), AdaptiveConfig(inputs=SMALL.inputs, width=16, dropout=0.1)],
    ids=["spikescr", "adlif"],
)
def test_a_network_of_adaptive_neurons_trains_alike(config: Any) -> None:
    torch.manual_seed(3)
    model, steps = build(config).double().train(), torch.tensor([11, 17, 8, 17, 14])
    for norm in model.modules():
        if isinstance(norm, SequenceBatchNorm):
            nn.init.uniform_(norm.bias, 1.0, 4.0)

    def run(x: Tensor, one_go: bool) -> Tensor:
        layers = [module.trained_by for module in model.modules() if isinstance(module, SpikingLayer)]
        assert layers == [fused_layers.adaptive_layer if one_go else None] * len(layers)
        return readout(model(x, steps), steps)

    found = both(model, run, drawn(17, 5, SMALL.inputs))
    (out, gradients, _), (plain_out, plain_gradients, _) = found
    torch.testing.assert_close(out, plain_out, rtol=1e-11, atol=1e-11)
    largest = max(float(g.abs().max()) for g in plain_gradients.values())
    assert min(float(g.abs().max()) for name, g in plain_gradients.items() if name.endswith("by_spike")) > 0
    for name, expected in plain_gradients.items():
        torch.testing.assert_close(gradients[name], expected, rtol=1e-9, atol=1e-10 * largest, msg=name)


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    found = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        model, x, steps = calibrated_model(SMALL, 22, samples=19)
        install(model.train(), FUSED)
        torch.manual_seed(0)
        y, total = drawn(T, B, N), np.zeros(())
        total = kernels.run(kernels.moments, B, y, torch.zeros(N), STEPS, sums=(2, N))
        spikes = model.sem(x, valid_mask(steps, len(x), x.dtype))
        found.append((total, spikes.detach()))
    torch.set_num_threads(1)
    assert np.array_equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_an_error_in_a_helper_thread_is_raised() -> None:
    def kernel(lo: int, hi: int) -> None:
        raise ValueError(f"{lo} to {hi}")

    torch.set_num_threads(2)
    try:
        with pytest.raises(ValueError, match=r"\d+ to \d+"):
            kernels.run(kernel, 40)
    finally:
        torch.set_num_threads(1)


def test_a_forked_process_computes_with_threads_of_its_own() -> None:
    x, centre, lengths = drawn(T, B, N), torch.zeros(N, dtype=torch.float64), STEPS

    def total() -> np.ndarray:
        found: np.ndarray = kernels.run(kernels.moments, B, x, centre, lengths, sums=(2, N))
        return found

    torch.set_num_threads(2)
    try:
        expected = total()  # the parent's pool has its thread now
        queue = multiprocessing.get_context("fork").SimpleQueue()
        child = multiprocessing.get_context("fork").Process(target=lambda: queue.put(total()))
        child.start()
        child.join(timeout=60)
        finished = child.exitcode
        child.kill()
        child.join()
    finally:
        torch.set_num_threads(1)
    assert finished == 0
    assert np.array_equal(queue.get(), expected)


def test_layers_with_other_neurons_or_normalisations_stay_plain() -> None:
    class Other(LIF):
        pass

    layer = SpikingLayer(nn.Linear(4, 4), 0.1)
    assert fused_layers.fused(layer) is not None
    layer.current.norm = Masked()
    assert fused_layers.fused(layer) is None
    layer = SpikingLayer(nn.Linear(4, 4), 0.1)
    layer.lif = Other()
    assert fused_layers.fused(layer) is None


@pytest.mark.parametrize(
    ("change", "plain"),
    [
        ({}, set()),
        ({"position": "none"}, {"SpikingSelfAttention"}),
        ({"gating_unit": False}, set()),
        ({"attention": "causal"}, set()),
        ({"neuron": "parametric"}, {"SpikingSelfAttention", "SpikingGatedConvolution", "Spiking", "SpikingLayer"}),
        ({"neuron": "adaptive"}, {"SpikingSelfAttention", "SpikingGatedConvolution"}),
    ],
)
def test_what_stays_plain_in_a_network(change: dict[str, object], plain: set[str]) -> None:
    model = SpikeSCR(ModelConfig.model_validate(SMALL.model_dump() | change))
    install(model, FUSED)
    found = {type(module).__name__: module.trained_by for module in model.modules() if isinstance(module, Replaceable)}
    assert {name for name, by in found.items() if by is None} == plain


def test_eval_mode_and_a_network_nobody_installed_in_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, steps = calibrated_model(SMALL, 23)
    for kernel in ("fire_forward", "turn"):
        monkeypatch.setattr(fused.kernels, kernel, None)
    monkeypatch.setattr(neuron, "_CompiledLIF", neuron._WindowLIF)
    model.train()
    model(x, steps)
    install(model, FUSED)
    with torch.no_grad():
        model.eval()(x, steps)
    with pytest.raises(TypeError, match="not callable"):
        model.train()(x, steps)
