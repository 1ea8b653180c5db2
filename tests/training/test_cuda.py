"""What a GPU computes is what a CPU does; skipped where there is none."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch
from helpers import SMALL, VARIANTS, calibrated_model, spikes_by_layer
from torch import Tensor

from spikescr.data import DataSet
from spikescr.model import AnyModelConfig, DelaysConfig, readout
from spikescr.model.backends import deviation, install, pick, spikingjelly_window
from spikescr.model.layers import TimeConv
from spikescr.runs import RunFolder
from spikescr.training import TrainConfig
from spikescr.training.devices import Devices
from spikescr.training.loop import train
from spikescr.training.state import Checkpoints, load_state

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
CUDA = torch.device("cuda")
WIDE_DELAYS = DelaysConfig(inputs=64, classes=5, layers=2, width=64, taps=5)


def test_the_kernels_of_spikingjelly_are_used() -> None:
    backend = pick(CUDA)
    assert backend.window is spikingjelly_window
    assert deviation(backend, CUDA) is None


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())
def test_a_network_gives_the_spikes_and_gradients_of_the_cpu(config: AnyModelConfig) -> None:
    model, x, steps = calibrated_model(config)
    expected, _ = spikes_by_layer(model, x, steps)
    found, _ = spikes_by_layer(model.to(CUDA), x.to(CUDA), steps.to(CUDA))
    assert all(torch.equal(found[name].cpu()[: len(spikes)], spikes) for name, spikes in expected.items())
    gradients = []
    for device in ("cpu", "cuda"):
        model.to(device).train().zero_grad()
        for module in model.modules():
            if hasattr(module, "probability"):
                module.probability = 0.0  # masks of other generators are other masks
        readout(model(x.to(device), steps.to(device)), steps.to(device)).square().sum().backward()
        gradients.append({n: p.grad.cpu().clone() for n, p in model.named_parameters() if p.grad is not None})
    largest = max(float(g.abs().max()) for g in gradients[0].values())
    assert largest > 1e-3
    for name, gradient in gradients[0].items():
        assert float((gradients[1][name] - gradient).abs().max()) <= 1e-9 * largest, name


def test_kernels_are_not_compiled_for_every_length_of_a_window() -> None:
    kernels = importlib.import_module("spikingjelly._ops.lif.triton")
    model, x, steps = calibrated_model(SMALL, dtype=torch.float32, samples=64, window=47)
    install(model.to(CUDA).train(), pick(CUDA))

    def compiled(window: int) -> int:
        valid = steps.clamp(max=window).to(CUDA)
        readout(model(x[:window].to(CUDA), valid), valid).square().sum().backward()
        each = (kernels._forward_kernel, kernels._backward_kernel)
        return sum(len(caches[0]) for kernel in each for caches in kernel.device_caches.values())

    first = compiled(33)
    assert first > 0
    assert [compiled(window) for window in range(34, 48)] == [first] * 14


@pytest.mark.parametrize("config", [SMALL, WIDE_DELAYS], ids=["spikescr", "dcls"])
def test_spikes_in_float32_are_those_of_the_cpu(config: AnyModelConfig) -> None:
    Devices()
    model, x, steps = calibrated_model(config, dtype=torch.float32, samples=64, window=100)
    expected, _ = spikes_by_layer(model, x, steps)
    install(model.to(CUDA), pick(CUDA))
    found, _ = spikes_by_layer(model, x.to(CUDA), steps.to(CUDA))
    different = sum(int((found[name].cpu()[: len(spikes)] != spikes).sum()) for name, spikes in expected.items())
    assert different <= 1e-4 * sum(spikes.numel() for spikes in expected.values())


def test_convolutions_are_not_rounded_to_less_than_float32() -> None:
    Devices()
    convolution = TimeConv(64, 64, 7).to(CUDA)
    x = torch.randn(50, 8, 64, device=CUDA)
    with torch.no_grad():
        found, exact = convolution(x), convolution.double()(x.double())
    assert float((found - exact).abs().max()) < 1e-5 * float(exact.abs().max())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_runs_there_and_is_resumed(
    config: TrainConfig, dataset: DataSet, tmp_path: Path, precision: str
) -> None:
    config = config.model_copy(update={"precision": precision, "precision_limit": 1.0})
    run, again = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "again")
    result = train(config, dataset, run)
    latest = Checkpoints(run.checkpoints).latest()
    assert latest is not None
    assert load_state(latest).environment.device == "cuda"
    seen: list[object] = []
    train(config, dataset, again, on_step=seen.append, stop=lambda: len(seen) == 6)
    resumed = train(config, dataset, again, resume=True)
    for one, other in zip(result.epochs, resumed.epochs, strict=True):
        losses: tuple[Tensor, ...] = tuple(torch.tensor([m.train_loss, m.valid_loss]) for m in (one, other))
        torch.testing.assert_close(*losses, rtol=1e-2, atol=1e-3)
