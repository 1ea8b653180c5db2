"""Products in bfloat16: what they change is counted, refused beyond the limit, and written down."""

from __future__ import annotations

import json
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner
from helpers import SMALL, VARIANTS, calibrated_model, spikes_by_layer
from torch import Tensor, nn
from torch.nn import functional

from spikescr.cli import main
from spikescr.data import DataSet
from spikescr.errors import SpikescrError
from spikescr.model import AnyModelConfig, Current, Network, SpikingLayer, valid_mask
from spikescr.model.fused_layers import product
from spikescr.runs import RunFolder
from spikescr.training import TrainConfig, running
from spikescr.training.batches import Split
from spikescr.training.devices import Devices
from spikescr.training.loop import train
from spikescr.training.precision import Drift, measure, products
from spikescr.training.running import Progress


def split_of(x: Tensor, steps: Tensor) -> Split:
    return Split(x.transpose(0, 1).contiguous(), steps, torch.zeros_like(steps))


def rounded(model: Network) -> Network:
    """A copy whose matrix products are computed in bfloat16 by other means: from the operands, after the fact."""
    model = deepcopy(model)

    def again(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        (x,), bias = inputs, None if module.bias is None else module.bias.bfloat16()
        if isinstance(module, nn.Linear):
            return functional.linear(x.bfloat16(), module.weight.bfloat16(), bias).float()
        assert isinstance(module, nn.Conv1d)
        x = x.permute(1, 2, 0).bfloat16()
        y = functional.conv1d(x, module.weight.bfloat16(), bias, padding=module.padding)
        return y.float().permute(2, 0, 1)

    for module in model.modules():
        if isinstance(module, Current) and getattr(module.synapse, "groups", 1) == 1:
            module.synapse.register_forward_hook(again)
    return model


@pytest.mark.parametrize("config", [SMALL, VARIANTS["sinusoidal"], VARIANTS["recurrent"]])
def test_the_rate_is_the_share_of_neuron_steps_that_differ(config: AnyModelConfig) -> None:
    model, x, steps = calibrated_model(config, samples=9, window=40, dtype=torch.float32)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = measure(model, model.state_dict(), split_of(x, steps), 64, Devices(), fresh=False)
    order = steps.argsort(stable=True)
    x, steps = x[: int(steps.max()), order], steps[order]
    plain, _ = spikes_by_layer(model, x, steps)
    other, _ = spikes_by_layer(rounded(model), x, steps)
    valid = valid_mask(steps, len(x), x.dtype)[..., 0].numpy().astype(bool)
    one, two = (np.concatenate([s.numpy()[valid].ravel() for s in by.values()]) for by in (plain, other))
    assert 0 < np.mean(one != two) < 0.2
    assert found.rate == np.mean(one != two)
    assert found.firing_rate == one.mean(dtype=np.float64)
    assert (found.neuron_steps, found.recordings) == (one.size, 9)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_an_untrained_network_is_measured_with_the_statistics_of_a_batch() -> None:
    model, x, steps = calibrated_model(SMALL, dtype=torch.float32)
    silent = {
        name: torch.full_like(tensor, 1e6) if name.endswith("running_var") else tensor
        for name, tensor in model.state_dict().items()
    }
    stale = measure(model, silent, split_of(x, steps), 64, Devices(), fresh=False)
    fresh = measure(model, silent, split_of(x, steps), 64, Devices(), fresh=True)
    true = measure(model, model.state_dict(), split_of(x, steps), 64, Devices(), fresh=False)
    assert stale.firing_rate < 0.5 * true.firing_rate
    assert fresh.firing_rate == pytest.approx(true.firing_rate, rel=0.1)


def test_a_layer_in_bfloat16_is_the_same_fused_and_plain_and_all_else_stays_float32() -> None:
    layer = SpikingLayer(nn.Linear(12, 7), 0.0).train()
    x = torch.randint(0, 4, (9, 5, 12)).float()
    valid = valid_mask(torch.tensor([9, 9, 6, 8, 4]), 9, x.dtype)
    upstream = torch.randn(9, 5, 7)
    found = []
    for through in (partial(product, layer.current), layer.current.through_synapse):
        given = (x * valid).requires_grad_()
        layer.zero_grad()
        with products(layer, "bf16"):
            y = through(given)
        y.backward(upstream)
        weight = layer.current.synapse.weight.grad
        assert weight is not None
        assert {t.dtype for t in (y, given.grad, weight)} == {torch.float32}
        found.append((y.detach(), given.grad, weight.clone()))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
    exact = layer.current.synapse(x * valid).detach()
    error = float((found[0][0] - exact).abs().max())
    assert 0 < error < 2**-7 * float(exact.abs().max())
    after = product(layer.current, x * valid).detach()  # once the block is left
    torch.testing.assert_close(after, exact, rtol=1e-5, atol=1e-6)
    assert torch.equal(found[0][0], found[0][0].bfloat16().float())


@pytest.fixture
def reduced(config: TrainConfig) -> TrainConfig:
    return config.model_copy(update={"precision": "bf16", "precision_limit": 1.0})


def test_a_limit_of_zero_refuses_before_training(reduced: TrainConfig, dataset: DataSet, tmp_path: Path) -> None:
    with pytest.raises(
        SpikescrError,
        match=r"^precision=bf16 changes \d+\.\d\d% of neuron-steps before the training \(firing rate \d+\.\d\d%\), "
        r"more than precision_limit=0: train with precision=fp32, or raise precision_limit; nothing was trained$",
    ):
        train(reduced.model_copy(update={"precision_limit": 0.0}), dataset, RunFolder(tmp_path))
    assert list(tmp_path.iterdir()) == []


def content(run: RunFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run.checkpoint, run.metrics, run.precision)}


def test_a_run_in_bfloat16_records_the_rates_and_can_be_resumed(
    reduced: TrainConfig, dataset: DataSet, tmp_path: Path
) -> None:
    run, again = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "again")
    result = train(reduced, dataset, run)
    written = json.loads(run.precision.read_text())
    assert list(written) == ["precision", "precision_limit", "start", "end"]
    assert (written["precision"], written["precision_limit"]) == ("bf16", 1.0)
    for when in ("start", "end"):
        assert written[when] == result.drift[when].model_dump()
        assert result.drift[when].recordings == 20
        assert result.drift[when].firing_rate > 0
    assert 0 < result.drift["start"].rate < 0.5
    assert {tensor.dtype for tensor in safetensors.torch.load_file(run.checkpoint).values()} == {
        torch.float32,
        torch.int64,
    }
    seen: list[Progress] = []
    train(reduced, dataset, again, on_step=seen.append, stop=lambda: len(seen) == 6)
    train(reduced, dataset, again, resume=True)
    assert content(again) == content(run)
    plain = train(reduced.model_copy(update={"precision": "fp32"}), dataset, run)
    assert plain.drift == {}
    assert plain.epochs != result.epochs
    assert not run.precision.exists()


def test_too_many_at_the_end_are_refused_with_all_kept(
    reduced: TrainConfig, dataset: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = iter((0.004, 0.02))

    def given(*arguments: Any, **options: Any) -> Drift:
        return Drift(rate=next(rates), firing_rate=0.1, neuron_steps=1000, recordings=20)

    monkeypatch.setattr(running, "measure", given)
    run = RunFolder(tmp_path)
    with pytest.raises(
        SpikescrError,
        match=rf"^precision=bf16 changes 2.00% of neuron-steps after the training \(firing rate 10.00%\), more than "
        rf"precision_limit=0.01: .*; the float32 weights of the best epoch are in {run.checkpoint}$",
    ):
        train(reduced.model_copy(update={"precision_limit": 0.01}), dataset, run)
    assert len(run.metrics.read_text().splitlines()) == 3
    assert json.loads(run.precision.read_text())["end"]["rate"] == 0.02


def test_the_command_prints_the_rates(tones: Path, tmp_path: Path) -> None:
    options = ["steps=20", "epochs=1", "model.heads=2", "model.width=16", "precision=bf16", "precision_limit=1"]
    found = CliRunner().invoke(main, ["train", "--data", f"folder:{tones}", "--run", str(tmp_path), *options])
    assert found.exit_code == 0, found.stderr
    written = json.loads((tmp_path / "precision.json").read_text())
    start, end = (f"{written[when]['rate']:.2%}" for when in ("start", "end"))
    assert f"of neuron-steps {start} at the start, {end} at the end; limit 100.00%" in found.stdout
    assert f"{tmp_path}/precision.json" in found.stdout
