"""What holds for the whole network holds for every ablation and baseline."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import SMALL, VARIANTS, assert_every_layer_fires, calibrated_model, firing_rates, spikes_by_layer
from pydantic import TypeAdapter, ValidationError

from spikescr.model import AnyModelConfig, DelaysConfig, ModelConfig, Network, RecurrentConfig, build, readout
from spikescr.model.blocks import SGLE


@pytest.mark.parametrize("name", VARIANTS)
def test_spikes_do_not_depend_on_batch_order_or_padding(name: str) -> None:
    model, x, steps = calibrated_model(VARIANTS[name], 1, samples=5, window=16)
    assert_every_layer_fires(firing_rates(model, x, steps))
    expected, expected_logits = spikes_by_layer(model, x, steps)
    order = [3, 0, 3, 2]
    batch = torch.full((int(steps[order].max()) + 9, len(order), x.shape[2]), 7.5, dtype=x.dtype)
    for column, sample in enumerate(order):
        batch[: steps[sample], column] = x[: steps[sample], sample]
    found, logits = spikes_by_layer(model, batch, steps[order])
    assert found.keys() == expected.keys()
    for column, sample in enumerate(order):
        length = int(steps[sample])
        for layer, spikes in found.items():
            assert torch.equal(spikes[:length, column], expected[layer][:length, sample]), layer
            assert not spikes[length:, column].any(), layer
        np.testing.assert_allclose(
            logits[:length, column], expected_logits[:length, sample], rtol=0, atol=1e-12, err_msg=name
        )
        assert not logits[length:, column].any()


@pytest.mark.parametrize("name", VARIANTS)
def test_gradients_reach_every_parameter_and_do_not_depend_on_padding(name: str) -> None:
    config = VARIANTS[name].model_copy(update={"dropout": 0.0})
    model, x, steps = calibrated_model(config, 2, samples=6, window=16)
    model.train()
    model.anneal(0.1)
    found = []
    for padding in (0, 6):
        batch = torch.cat([x, torch.full((padding, *x.shape[1:]), 5.0, dtype=x.dtype)])
        model.zero_grad()
        labels = torch.arange(len(steps)) % config.classes
        torch.nn.functional.cross_entropy(readout(model(batch, steps), steps), labels).backward()
        found.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    # The batch mean takes away what a bias before a batch normalisation adds.
    without = {f"{n}.synapse.bias" for n, module in model.named_modules() if hasattr(module, "synapse")}
    for n, _ in model.named_parameters():
        torch.testing.assert_close(found[1][n], found[0][n], rtol=1e-9, atol=1e-12)
        assert n in without or float(found[0][n].abs().max()) > 1e-7, n


def parameters(model: Network) -> int:
    return sum(p.numel() for p in model.parameters())


def test_switches_take_away_the_parameters_of_their_part() -> None:
    n, k = SMALL.width, SMALL.kernel
    norm = 2 * n
    full = parameters(build(SMALL))
    rotary = parameters(build(SMALL.model_copy(update={"position": "none"})))
    assert rotary == full  # turning has no weights
    without_sgu = SMALL.model_copy(update={"gating_unit": False})
    sgu = n * n + n + norm + (n * n + n + norm)  # the gate's layer, half of the split
    assert parameters(build(without_sgu)) == full - sgu
    without_convolution = without_sgu.model_copy(update={"separable_convolution": False})
    separable = (n * n + n + norm) + (k * n + norm) + (n * n + n + norm)
    assert parameters(build(without_convolution)) == full - sgu - separable
    learnt = SMALL.model_copy(update={"neuron": "parametric"})
    assert parameters(build(learnt)) == full + 17  # one constant for each layer of LIFs
    adaptive = SMALL.model_copy(update={"neuron": "adaptive"})
    behind_norms = (1 + 4 + 5 + 2 * (SMALL.mlp_ratio + 1)) * n  # embedding; q, k, v, out; convolution; MLPs
    assert parameters(build(adaptive)) == full + 5 * behind_norms


def test_residual_stream_is_real_with_sinusoidal_positions_alone() -> None:
    for name, whole in (("sinusoidal", False), ("sinusoidal_lif", True), ("no position", True)):
        model, x, steps = calibrated_model(VARIANTS[name], 3, samples=4, window=16)
        seen: list[torch.Tensor] = []
        block = model.get_submodule("blocks.0")
        assert isinstance(block, SGLE)
        handle = block.register_forward_pre_hook(lambda _m, inputs, seen=seen: seen.append(inputs[0]))
        with torch.no_grad():
            model(x, steps)
        handle.remove()
        assert torch.equal(seen[0], seen[0].round()) is whole, name


def test_configurations_are_told_apart_by_family() -> None:
    adapter: TypeAdapter[AnyModelConfig] = TypeAdapter(AnyModelConfig)
    for config in (ModelConfig(), DelaysConfig(), RecurrentConfig()):
        assert adapter.validate_json(config.model_dump_json()) == config
        assert adapter.validate_python(config) == config
    assert adapter.validate_python({"width": 64}) == ModelConfig(width=64)  # files of before there were families
    with pytest.raises(ValidationError, match="family must be one of spikescr, dcls, recurrent, adlif, spikcommander"):
        adapter.validate_python({"family": "lstm"})
    with pytest.raises(ValidationError, match="heads"):
        adapter.validate_python({"family": "dcls", "heads": 4})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"separable_convolution": False}, "nothing feeds the gating_unit; switch it off too"),
        ({"position": "learnt"}, "position"),
        ({"family": "dcls", "taps": 4}, "taps 4 must be odd"),
        ({"family": "recurrent", "neuron": "adaptive"}, "neuron\n +Input should be 'lif' or 'parametric'"),
    ],
)
def test_switches_that_do_not_fit_are_refused(config: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(AnyModelConfig).validate_python(config)


def test_names_tell_what_was_changed() -> None:
    assert ModelConfig().name == "1L-8-128"
    assert ModelConfig(position="none", neuron="parametric").name == "1L-8-128, parametric, no position"
    assert ModelConfig(gating_unit=False, separable_convolution=False).name == (
        "1L-8-128, no SGU, no separable convolution"
    )
    assert DelaysConfig().name == "DCLS 2L-256, delays to 10"
    assert ModelConfig(neuron="adaptive", attention="causal").name == "1L-8-128, adaptive, causal attention"
    assert RecurrentConfig(neuron="parametric").name == "recurrent 1L-256, parametric"
