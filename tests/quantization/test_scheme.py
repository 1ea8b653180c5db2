"""Scales that are chosen, networks made of them, fine-tuning, the file."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers import SMALL, VARIANTS, assert_every_layer_fires, calibrated_model, firing_rates
from safetensors import safe_open
from torch import Tensor

from spikescr.checkpoint import CheckpointInfo, load_checkpoint
from spikescr.data import DataSet
from spikescr.dialect import REGISTER
from spikescr.errors import CheckpointError, ExportError, UsageError
from spikescr.export.fold import fold
from spikescr.export.reference import trace
from spikescr.export.to_nir import to_nir
from spikescr.model import Network
from spikescr.model.fixed import FixedLIF
from spikescr.model.layers import SequenceDropout
from spikescr.quantization.calibrate import calibrate
from spikescr.quantization.file import QuantizedInfo, decays, load_quantized, save_quantized
from spikescr.quantization.finetune import TuneResult, best_of, finetune
from spikescr.quantization.measure import layer_reports, saturations
from spikescr.quantization.scheme import Group, attention_error, attention_theta, groups, in_integers
from spikescr.runs import RunFolder
from spikescr.sim.fast.backend import FastBackend
from spikescr.sim.lowering.lower import lower
from spikescr.training.batches import Split
from spikescr.training.config import TrainConfig
from spikescr.training.evaluate import evaluate
from spikescr.training.loop import train
from spikescr.training.running import Progress
from spikescr.training.sources import Spectra

WINDOW = 24
LAYERS = ("dcls", "axonal", "dcls parametric", "recurrent", "recurrent parametric")
QUANTIZED = ("SMALL", "no position", "causal", "no SGU", "no separable convolution", "parametric", *LAYERS)


@pytest.fixture(scope="module")
def network() -> tuple[Network, Split]:
    """A folded network in which every layer fires, and its recordings."""
    model, x, steps = calibrated_model(SMALL, seed=1, samples=8, window=WINDOW)
    values = x.transpose(0, 1).contiguous()
    return fold(model), Split(values, steps, torch.zeros(len(steps), dtype=torch.long))


def quantized(network: tuple[Network, Split], bits: int = 8, **choices: object) -> Network:
    folded, split = network
    arguments = {"criterion": "range", "bits": {}, "default": bits} | choices
    return in_integers(folded, calibrate(folded, split, **arguments), WINDOW)  # type: ignore[arg-type]


def test_every_layer_still_fires_and_most_spikes_stay(network: tuple[Network, Split]) -> None:
    folded, split = network
    model, x = quantized(network), split.values.transpose(0, 1)
    assert_every_layer_fires(firing_rates(model, x, split.steps))
    before, after = (trace(m, split.values.numpy(), split.steps.numpy()) for m in (folded, model))
    changed = [(before.spikes[name] != after.spikes[name]).mean() for name in before.spikes]
    assert max(changed) < 0.15
    assert changed[0] < 0.02  # the first layer has the others' changes not
    assert all(isinstance(m, FixedLIF) for m in model.modules() if hasattr(m, "v_threshold"))


@pytest.mark.parametrize("bits", [8, 5])
@pytest.mark.parametrize("name", QUANTIZED)
def test_the_graph_fires_every_spike_of_the_network_in_integers(name: str, bits: int) -> None:
    config = SMALL if name == "SMALL" else VARIANTS[name]
    model, x, steps = calibrated_model(config, seed=4, samples=6, window=WINDOW)
    folded = fold(model, 1 / 40)
    split = Split(x.transpose(0, 1).contiguous(), steps, torch.zeros(len(steps), dtype=torch.long))
    fixed = quantized((folded, split), bits, criterion="error")
    program = lower(to_nir(fixed, steps=WINDOW, dt=1 / 40))
    assert program.fixed
    expected = trace(fixed, split.values.numpy(), steps.numpy())
    assert_every_layer_fires({k: s.sum() / (int(steps.sum()) * s.shape[-1]) for k, s in expected.spikes.items()})
    clock = (np.arange(WINDOW)[:, None] < steps.numpy()).astype(float)[..., None]
    inputs = {"input": x.numpy().astype(float), "clock": clock}
    found = FastBackend(program, len(steps)).run(inputs)
    for layer, spikes in expected.spikes.items():
        late = program[layer].latency or 0
        np.testing.assert_array_equal(found.spikes[layer][late : late + WINDOW], spikes, err_msg=layer)
    late = program["output"].latency or 0
    np.testing.assert_array_equal(found.outputs["output"][late : late + WINDOW], expected.logits)


def test_counts_at_the_input_are_no_messages() -> None:
    model, x, steps = calibrated_model(SMALL, seed=1, samples=4, window=WINDOW, counts=True)
    split = Split(x.transpose(0, 1).contiguous(), steps, torch.zeros(len(steps), dtype=torch.long))
    scheme = calibrate(fold(model), split, criterion="range", bits={}, default=8)
    assert {layer.input_step for layer in scheme.layers.values()} == {None}


def test_scales_keep_currents_and_biases_within_their_registers(network: tuple[Network, Split]) -> None:
    folded, split = network
    for criterion in ("range", "error"):
        scheme = calibrate(folded, split, criterion=criterion, bits={}, default=8)  # type: ignore[arg-type]
        for group in groups(folded):
            s, chosen = scheme.layers[group.name], slice(*group.channels)
            assert group.current.synapse.bias is not None
            bias = group.current.synapse.bias.detach()[chosen]
            assert (s.bias_levels(bias) * s.bias_step - bias * s.theta).abs().max() <= s.bias_step / 2
            assert 0 <= s.exponent <= 7
            assert 2 <= s.theta <= REGISTER
            if criterion == "range":  # nothing is clipped, and what is largest is nearly the last level
                levels = s.weight_levels(group.current.synapse.weight.detach()[chosen])
                assert 64 <= levels.abs().max() <= 128


def test_twice_the_largest_current_that_was_seen_does_not_wrap(network: tuple[Network, Split]) -> None:
    folded, quiet = copy.deepcopy(network[0]), network[1]
    split = Split(quiet.values * 30, quiet.steps, quiet.labels)
    largest: dict[str, float] = {}
    for group in groups(folded):  # what the layers are given at most, seen from outside

        def keep(_m: object, _i: object, current: Tensor, group: Group = group) -> None:
            largest[group.name] = float(current[..., slice(*group.channels)].abs().max())

        group.current.register_forward_hook(keep)
    folded(split.values.transpose(0, 1), split.steps)
    assert largest["sem"] > 64
    for criterion in ("range", "error"):
        scheme = calibrate(folded, split, criterion=criterion, bits={}, default=8)  # type: ignore[arg-type]
        for name, layer in scheme.layers.items():
            assert 2 * largest[name] * layer.theta <= REGISTER, name


def test_least_error_is_less_than_that_of_the_range_where_bits_are_few(network: tuple[Network, Split]) -> None:
    folded, split = network
    x = split.values.transpose(0, 1)

    def error(criterion: str) -> float:
        """Of the first layer's currents, in thresholds."""
        model = quantized(network, 4, criterion=criterion)
        valid = (torch.arange(WINDOW)[:, None] < split.steps).unsqueeze(-1).double()
        real, fixed = folded.sem.current(x, valid), model.sem.current(x, valid)  # type: ignore[union-attr, operator]
        return float((fixed / model.sem.lif.theta - real).square().mean())  # type: ignore[union-attr, operator]

    assert error("error") < error("range")


def test_bits_by_layer(network: tuple[Network, Split]) -> None:
    folded, split = network
    scheme = calibrate(folded, split, criterion="range", bits={"head": 4, "*.ssa.*": 6}, default=8)
    assert scheme.head_bits == 4
    found = {name: layer.bits for name, layer in scheme.layers.items()}
    assert {bits for name, bits in found.items() if ".ssa." in name} == {6}
    assert {bits for name, bits in found.items() if ".ssa." not in name} == {8}
    with pytest.raises(UsageError, match=r"^nothing\*: no layer has such a name; there are sem, "):
        calibrate(folded, split, criterion="range", bits={"nothing*": 6}, default=8)


@pytest.mark.parametrize(("what", "reach"), [("biases", 2e4), ("currents", 1e6)])
def test_more_than_registers_hold_is_refused(network: tuple[Network, Split], what: str, reach: float) -> None:
    folded, split = copy.deepcopy(network[0]), network[1]
    synapse = folded.sem.current.synapse  # type: ignore[union-attr]
    with torch.no_grad():
        (synapse.bias.fill_(reach) if what == "biases" else synapse.weight.fill_(reach))  # type: ignore[operator,union-attr]
    with pytest.raises(ExportError, match=r"^sem: its currents reach .* thresholds, its biases .*registers hold"):
        calibrate(folded, split, criterion="range", bits={}, default=8)


def test_attention_holds_all_that_it_can_sum_up() -> None:
    assert attention_theta(16, 40) == (128, 512)  # 131071 / 640 = 204.8, down to 128; times sqrt(16)
    assert attention_error(16, 40) == 0
    power, theta = attention_theta(8, 100)
    assert (power, theta) == (128, 362)  # 131071 / 800 = 163.8; 128 sqrt(8) = 362.04
    assert attention_error(8, 100) == pytest.approx(362 / (128 * 8**0.5) - 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sinusoidal", r"^model.position=sinusoidal adds real numbers to spikes"),
        ("adaptive", r"^model.neuron=adaptive cannot be quantized: the neuron in integers .* no second state"),
        ("adlif", r"^model.neuron=adaptive cannot be quantized"),
        ("commander", r"^model.family=spikcommander cannot be quantized: its attention sums over time in integrators"),
    ],
)
def test_networks_that_are_no_integers_are_refused(name: str, message: str) -> None:
    model, x, steps = calibrated_model(VARIANTS[name], seed=0, window=WINDOW)
    split = Split(x.transpose(0, 1).contiguous(), steps, torch.zeros(len(steps), dtype=torch.long))
    with pytest.raises(ExportError, match=message):
        calibrate(fold(model, 1 / 40), split, criterion="range", bits={}, default=8)


def test_report_counts_what_levels_change(network: tuple[Network, Split]) -> None:
    folded, split = network
    scheme = calibrate(folded, split, criterion="error", bits={}, default=4)
    reports = {report.layer: report for report in layer_reports(folded, scheme)}
    group = next(iter(groups(folded)))
    weight, s = group.current.synapse.weight.detach().numpy(), scheme.layers[group.name]
    level = 2 ** (9 - 4 + s.exponent) / (s.theta * (s.input_step or 1))
    exact = np.rint(weight / level)
    found = reports[group.name]
    assert found.clipped == ((exact < -8) | (exact > 7)).sum()
    assert found.zeroed == ((exact == 0) & (weight != 0)).sum()
    kept = np.clip(exact, -8, 7) * level
    assert found.error == pytest.approx(np.linalg.norm(kept - weight) / np.linalg.norm(weight))
    assert list(reports)[-1] == "head"


def test_saturation_is_counted(network: tuple[Network, Split]) -> None:
    _, split = network
    model = quantized(network)
    model(split.values.transpose(0, 1), split.steps)
    assert set(saturations(model).values()) == {0}
    lif = model.sem.lif  # type: ignore[union-attr]
    lif(torch.full((3, 1, SMALL.width), 2.0**17))  # type: ignore[operator]
    assert saturations(model)["sem.lif"] == 3 * SMALL.width


@pytest.fixture(scope="module")
def trained(tones: Path, dataset: DataSet, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A small network that tells the two words apart."""
    from spikescr.model.config import ModelConfig

    model = ModelConfig(inputs=20, heads=2, width=16, kernel=7)
    config = TrainConfig(data=dataset.spec, steps=20, window_s=0.5, epochs=6, batch_size=8, threads=1, model=model)
    run = RunFolder(tmp_path_factory.mktemp("run"))
    train(config, dataset, run)
    return run


def prepared(trained: RunFolder, dataset: DataSet) -> tuple[Network, Split, Split, CheckpointInfo]:
    from spikescr.data import load

    model, info = load_checkpoint(trained.checkpoint)
    splits = (Split.from_features(load(dataset.split(name), info.preprocessing)) for name in ("train", "valid"))
    return (fold(model, 1 / 20).float(), *splits, info)  # type: ignore[return-value]


def test_finetuning_lowers_the_loss_of_few_bits_and_keeps_the_best(
    trained: RunFolder, dataset: DataSet, tmp_path: Path
) -> None:
    folded, split, valid, info = prepared(trained, dataset)
    scheme = calibrate(folded, split, criterion="range", bits={}, default=4)

    def tuned(name: str, **more: Any) -> tuple[dict[str, Tensor], TuneResult]:
        model = in_integers(folded, scheme, WINDOW)
        given = {"epochs": 4, "lr": 2e-3} | more
        source = Spectra(split, info.training.augmentation, seed=info.training.seed)
        found = finetune(model, scheme, source, valid, info, RunFolder(tmp_path / name), **given)
        if not found.interrupted:
            assert evaluate(model, valid, info.training.batch_size) == best_of(found.epochs).valid
        return model.state_dict(), found

    ruined = tuned("ruined", lr=1e3)[1]  # at once: what is kept is what came
    assert best_of(ruined.epochs).epoch == 0

    weights, found = tuned("whole")
    assert [f.epoch for f in found.epochs] == [0, 1, 2, 3, 4]
    losses = [f.train_loss for f in found.epochs]
    assert losses[-1] is not None
    assert losses[1] is not None
    assert losses[-1] < losses[1]
    assert best_of(found.epochs).valid == max((f.valid for f in found.epochs), key=lambda v: (v.accuracy, -v.loss))
    assert not RunFolder(tmp_path / "whole").checkpoint.exists()

    seen: list[Progress] = []
    stopping = {"on_step": seen.append, "stop": lambda: len(seen) == 6}
    assert tuned("again", **stopping)[1].interrupted
    assert len(seen) == 6
    with pytest.raises(UsageError, match=r"cannot be resumed: config.epochs \(was 4, is 5\)"):
        tuned("again", resume=True, epochs=5)
    again, resumed = tuned("again", resume=True)
    assert resumed == found
    for name, tensor in weights.items():  # as if nothing had happened
        assert torch.equal(tensor, again[name]), name


def test_finetuning_has_the_surrogates_of_the_training(trained: RunFolder, dataset: DataSet, tmp_path: Path) -> None:
    folded, split, valid, info = prepared(trained, dataset)
    training = info.training.model_copy(update={"surrogate_alpha": 0.8})
    scheme = calibrate(folded, split, criterion="range", bits={}, default=4)
    model = in_integers(folded, scheme, WINDOW)
    source = Spectra(split, training.augmentation, seed=training.seed)
    about = info.model_copy(update={"training": training})
    finetune(model, scheme, source, valid, about, RunFolder(tmp_path), epochs=1, lr=1e-3)
    assert {module.alpha for module in model.modules() if isinstance(module, FixedLIF)} == {0.8}


def test_file_gives_the_same_network(trained: RunFolder, dataset: DataSet, tmp_path: Path) -> None:
    folded, split, _, _ = prepared(trained, dataset)
    model, path = saved(trained, folded, split, tmp_path)
    quantized = load_quantized(path, fold)
    x, steps, _ = split.batch(torch.arange(5))
    one, two = (trace(m, x.transpose(0, 1).numpy(), steps.numpy()) for m in (model.double().eval(), quantized.model))
    for name, spikes in one.spikes.items():
        np.testing.assert_array_equal(spikes, two.spikes[name])
    np.testing.assert_array_equal(one.logits, two.logits)


@pytest.mark.parametrize("name", ["parametric", *LAYERS])
def test_file_keeps_delays_and_decays(name: str, trained: RunFolder, tmp_path: Path) -> None:
    _, trained_info = load_checkpoint(trained.checkpoint)
    config = VARIANTS[name].model_copy(
        update={"classes": len(trained_info.classes), "inputs": trained_info.model.inputs}
    )
    model, x, steps = calibrated_model(config, seed=4, samples=6, window=WINDOW)
    split = Split(x.transpose(0, 1).contiguous(), steps, torch.zeros(len(steps), dtype=torch.long))
    folded = fold(model, 1 / 20)
    scheme = calibrate(folded, split, criterion="range", bits={}, default=8)
    source = trained_info.model_copy(update={"model": config})
    window = source.preprocessing.front_end.window_steps
    fixed = in_integers(folded, scheme, window)
    about = QuantizedInfo(
        source=source, source_sha256="0", layers=dict(scheme.layers), head_scale=scheme.head_scale,
        head_bits=scheme.head_bits, criterion="range", epochs=0, decays=decays(fixed),
    )  # fmt: skip
    path = tmp_path / "model.safetensors"
    save_quantized(path, fixed, about)
    read = load_quantized(path, fold).model
    one, two = (trace(m, split.values.numpy(), steps.numpy()) for m in (fixed, read))
    for layer, spikes in one.spikes.items():
        np.testing.assert_array_equal(spikes, two.spikes[layer], err_msg=layer)
    np.testing.assert_array_equal(one.logits, two.logits)
    if about.decays:
        lost = about.model_copy(update={"decays": {}})
        save_quantized(path, fixed, lost)
        with pytest.raises(CheckpointError, match=r"decays: none for .*lif, which has learnt its own"):
            load_quantized(path, fold)


@pytest.mark.parametrize("name", ["dcls", "axonal", "recurrent"])
def test_delays_and_recurrent_weights_are_finetuned_in_integers(name: str) -> None:
    """What training computes is what runs, and gradients reach the weights; delays stay what they are."""
    model, x, steps = calibrated_model(VARIANTS[name], seed=4, samples=6, window=WINDOW)
    split = Split(x.transpose(0, 1).contiguous(), steps, torch.zeros(len(steps), dtype=torch.long))
    fixed = quantized((fold(model), split))
    for parameter in fixed.parameters():
        parameter.requires_grad_(True)
    for module in fixed.modules():
        if isinstance(module, SequenceDropout):
            module.probability = 0.0
    expected = fixed(x, steps)
    fixed.train()
    logits = fixed(x, steps)
    assert torch.equal(logits, expected)
    logits.square().sum().backward()
    for parameter_name, parameter in fixed.named_parameters():
        if parameter_name.endswith("position"):
            assert parameter.grad is None
        else:
            assert parameter.grad is not None
            assert float(parameter.grad.abs().max()) > 0, parameter_name


def saved(trained: RunFolder, folded: Network, split: Split, folder: Path) -> tuple[Network, Path]:
    scheme = calibrate(folded, split, criterion="error", bits={"head": 5}, default=7)
    _, info = load_checkpoint(trained.checkpoint)
    path = folder / "model.safetensors"
    model = in_integers(folded, scheme, info.preprocessing.front_end.window_steps)
    about = QuantizedInfo(
        source=info, source_sha256="0", layers=dict(scheme.layers), head_scale=scheme.head_scale,
        head_bits=scheme.head_bits, criterion="error", epochs=0,
    )  # fmt: skip
    save_quantized(path, model, about)
    return model, path


def test_damaged_files_are_refused(trained: RunFolder, dataset: DataSet, tmp_path: Path) -> None:
    folded, split, _, _ = prepared(trained, dataset)
    _, path = saved(trained, folded, split, tmp_path)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = file.metadata()["spikescr"]

    def refused(message: str, tensors: dict[str, Tensor] = tensors, about: str = about) -> None:
        safetensors.torch.save_file(tensors, path, {"spikescr": about})
        with pytest.raises(CheckpointError, match=message):
            load_quantized(path, fold)

    refused("sem.bias is missing", {k: t for k, t in tensors.items() if k != "sem.bias"})
    refused("extra does not belong to the model", {**tensors, "extra": tensors["sem.bias"].clone()})
    refused(r"sem.bias must be I8 \(16,\), is F32", {**tensors, "sem.bias": tensors["sem.bias"].float()})
    content = json.loads(about)
    refused("has quantized network format 7", about=json.dumps({**content, "format": 7}))
    refused("head_bits", about=json.dumps({**content, "head_bits": 9}))
    fewer = {name: layer for name, layer in content["layers"].items() if name != "sem"}
    refused("levels of more than 5 bits", {**tensors, "head.weight": tensors["head.weight"].clone().fill_(16)})
    refused("criterion", about=json.dumps({**content, "criterion": "luck"}))
    refused("was not written by spikescr", about="[]")
    sem = content["layers"]["sem"]
    for change, message in (
        ({"theta": 2**40}, "layers.sem.theta: .*131071"),
        ({"bits": "7"}, "layers.sem.bits: .*integer"),
        ({"channels": [0, 8]}, r"layers.sem.channels must be \(0, 16\), is \(0, 8\)"),
        ({"input_step": float("nan")}, "layers.sem.input_step: .*finite"),
    ):
        refused(message, about=json.dumps({**content, "layers": {**content["layers"], "sem": {**sem, **change}}}))
    more = {**content["layers"], "more": sem}
    refused("layers.more: the model has no such", about=json.dumps({**content, "layers": more}))
    refused("no scheme for sem", about=json.dumps({**content, "layers": fewer}))
    path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="damaged or no safetensors file"):
        load_quantized(path, fold)
