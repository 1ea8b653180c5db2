"""States of trainings: what does not fit what they say of themselves is refused at the door, naming file and field."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from helpers import SMALL, VARIANTS, calibrated_model
from torch import Tensor

from spikescr.data.frontend import FrontEnd
from spikescr.data.preprocessing import Normaliser, Preprocessing
from spikescr.errors import CheckpointError
from spikescr.model import AnyModelConfig, build, readout
from spikescr.tensors import METADATA_KEY
from spikescr.training import TrainConfig
from spikescr.training.metrics import EpochMetrics
from spikescr.training.state import Checkpoints, Environment, Progressed, Setting, TrainState, load_state

WEIGHT = "head.weight"
DRIFT = {"rate": 0.5, "firing_rate": 0.25, "neuron_steps": 10, "recordings": 2}
METRICS = EpochMetrics(1, 0.01, 1.5, 0.25, 1.25, 0.5, 0.125)


def state(sizes: AnyModelConfig, progressed: Progressed) -> TrainState:
    """Of a network after one real step of AdamW."""
    preprocessing = Preprocessing(
        front_end=FrontEnd.design(8000, steps=40, bands=sizes.inputs),
        normaliser=Normaliser(mean=(0.0,) * sizes.inputs, std=(1.0,) * sizes.inputs),
    )
    setting = Setting(
        config=TrainConfig(model=sizes),
        classes=tuple("abcdefghijklmnopqrstuvwxyz"[: sizes.classes]),
        preprocessing=preprocessing,
        recordings=(30, 20),
        objective={"objective": "cross-entropy"},
    )
    model, x, steps = calibrated_model(sizes, dtype=torch.float32)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
    readout(model(x, steps), steps).square().sum().backward()
    optimizer.step()
    names = [name for name, _ in model.named_parameters()]
    moments = {names[i]: tensors for i, tensors in optimizer.state_dict()["state"].items()}
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    best = {name: tensor.clone() for name, tensor in weights.items()} if progressed.best else {}
    return TrainState(setting, progressed, Environment(device="cpu", processes=1), weights, best, moments)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return Checkpoints(tmp_path / "checkpoints").save(state(SMALL, Progressed(epochs=[METRICS], seconds=[1.0], best=1)))


def rewrite(path: Path, change: Callable[[dict[str, Tensor], dict[str, Any]], object]) -> None:
    with safetensors.safe_open(path, "pt") as file:
        content = json.loads(file.metadata()[METADATA_KEY])
    tensors = safetensors.torch.load_file(path)
    change(tensors, content)
    safetensors.torch.save_file(tensors, path, {METADATA_KEY: json.dumps(content)})


@pytest.mark.parametrize("name", VARIANTS)
def test_states_of_every_family_come_back(tmp_path: Path, name: str) -> None:
    written = state(VARIANTS[name], Progressed(step=1, seen=8, correct=3, loss=1.5))
    found = load_state(Checkpoints(tmp_path / "checkpoints").save(written))
    assert found.progressed == written.progressed
    assert found.best == {}
    for part, expected in ((found.model, written.model), *zip_values(found.optimizer, written.optimizer)):
        assert {key: tensor.tolist() for key, tensor in part.items()} == {k: t.tolist() for k, t in expected.items()}


def zip_values(one: dict[str, Any], other: dict[str, Any]) -> list[tuple[Any, Any]]:
    assert one.keys() == other.keys()
    return [(one[name], other[name]) for name in one]


def without(part: str) -> Callable[[dict[str, Tensor], dict[str, Any]], None]:
    def remove(tensors: dict[str, Tensor], _content: dict[str, Any]) -> None:
        for name in [name for name in tensors if name.startswith(part)]:
            del tensors[name]

    return remove


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("best/"), r"best/.* is missing"),
        (without(f"model/{WEIGHT}"), f"model/{WEIGHT} is missing"),
        (without(f"optimizer/{WEIGHT}/exp_avg_sq"), f"optimizer/{WEIGHT}/exp_avg_sq is missing"),
        (without("optimizer/"), r"optimizer/.* is missing"),
        (lambda t, c: t.update(more=torch.zeros(2)), "more does not belong to the model"),
        (lambda t, c: t.update({"best/more": torch.zeros(2)}), "best/more does not belong"),
        (
            lambda t, c: t.update({f"best/{WEIGHT}": torch.zeros(2)}),
            rf"best/{WEIGHT} must be F32 \(5, 16\), is F32 \(2,\)",
        ),
        (lambda t, c: t.update({f"model/{WEIGHT}": t[f"model/{WEIGHT}"].double()}), f"model/{WEIGHT} must be F32"),
        (lambda t, c: t[f"best/{WEIGHT}"].fill_(math.inf), f"best/{WEIGHT} holds values that are no numbers"),
        (lambda t, c: t[f"optimizer/{WEIGHT}/exp_avg"].fill_(math.nan), "exp_avg holds values that are no numbers"),
        (lambda t, c: t[f"optimizer/{WEIGHT}/exp_avg_sq"].fill_(-1), "exp_avg_sq holds negative values"),
        (lambda t, c: t[f"optimizer/{WEIGHT}/step"].fill_(-1), "step holds negative values"),
        (lambda t, c: c["progressed"].update(best=0), r"progressed: best must be one of the 1 epochs .* is 0"),
        (lambda t, c: c["progressed"].update(best=2), r"progressed: best must be one of the 1 epochs .* is 2"),
        (lambda t, c: c["progressed"].update(epochs=[]), r"progressed: seconds has 1 entries, epochs 0"),
        (lambda t, c: c["progressed"].update(elapsed=math.nan), "progressed.elapsed: .*finite"),
        (lambda t, c: c["progressed"].update(step=-1), "progressed.step: .*greater than or equal to 0"),
        (lambda t, c: c["progressed"].update(step=3), "progressed: correct 0, seen 0 do not fit step 3"),
        (lambda t, c: c["progressed"].update(correct=1), "progressed: correct 1, seen 0 do not fit step 0"),
        (lambda t, c: c["progressed"].update(seen=1), "progressed: correct 0, seen 1 do not fit step 0"),
        (lambda t, c: c["progressed"].update(seconds=[-1.0]), "progressed.seconds.0: .*greater than or equal to 0"),
        (lambda t, c: c["progressed"].update(elapsed=-1.0), "progressed.elapsed: .*greater than or equal to 0"),
        (
            lambda t, c: c["progressed"].update(drift={"middle": DRIFT}),
            "progressed: drift is measured at start and end, not at middle",
        ),
        (lambda t, c: c["progressed"]["epochs"][0].update(epoch=7), "progressed: epochs must be numbered from 1"),
        (lambda t, c: c["progressed"]["epochs"][0].update(valid_accuracy=7), "epochs.0.valid_accuracy: .* 1"),
        (lambda t, c: c["progressed"]["epochs"][0].update(valid_loss=math.nan), "epochs.0.valid_loss: .*finite"),
        (lambda t, c: c["setting"].update(recordings=[0, 20]), "setting.recordings.0: .*greater"),
        (lambda t, c: c["setting"]["classes"].pop(), "setting: the model has 5 classes, the file names 4"),
        (lambda t, c: c["setting"]["config"]["model"].update(layers=10**6), "setting.config.model.layers: .*1000"),
        (lambda t, c: c["setting"]["config"].update(lr="0.1"), "setting.config.lr: .*valid number"),
        (lambda t, c: c["environment"].update(processes=0), "environment.processes: .*greater"),
    ],
)
def test_what_does_not_fit_is_refused(path: Path, change: Callable[..., object], message: str) -> None:
    load_state(path)
    rewrite(path, change)
    with pytest.raises(CheckpointError, match=f"{path}: .*{message}.*; remove it to continue from"):
        load_state(path)


def test_optimiser_tensors_before_the_first_step_are_refused(tmp_path: Path) -> None:
    path = Checkpoints(tmp_path / "checkpoints").save(state(SMALL, Progressed()))
    with pytest.raises(CheckpointError, match=r"optimizer/.* does not belong to the model"):
        load_state(path)


def test_every_parameter_of_every_family_is_trained() -> None:
    """Or the tensors that a state must hold would not be those that an optimiser keeps."""
    for sizes in VARIANTS.values():
        assert all(parameter.requires_grad for parameter in build(sizes).parameters())
