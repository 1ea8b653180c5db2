from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from helpers import write_tones

from spikescr.checkpoint import load_checkpoint
from spikescr.cli import main
from spikescr.cli.train import OPTIONS
from spikescr.model.config import DelaysConfig, ModelConfig
from spikescr.runs import RunFolder
from spikescr.training import Augmentation, TrainConfig

SMALL = ["--steps", "20", "--heads", "2", "--width", "16", "--batch-size", "8", "--threads", "1"]


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tones(tmp_path_factory.mktemp("data") / "tones")


def spikescr(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """The command as a user starts it."""
    script = Path(sys.executable).with_name("spikescr")
    return subprocess.Popen([script, *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Standard output, without the blanks that fill a table's lines, and standard error."""
    out, err = process.communicate(timeout=120)
    return "".join(f"{line.rstrip()}\n" for line in out.splitlines()), err


def configuration(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> TrainConfig:
    """The configuration with which `spikescr train` would open its data."""
    import spikescr.data

    class Opened(Exception):  # noqa: N818
        pass

    found: list[Any] = []

    def train(config: TrainConfig, *_: object, **__: object) -> None:
        found.append(config)
        raise Opened

    monkeypatch.setattr(spikescr.data, "open_data", lambda spec, seed: None)
    monkeypatch.setattr("spikescr.training.loop.train", train)
    CliRunner().invoke(main, ["train", *arguments])
    (config,) = found
    return config


def test_two_steps_leave_a_run_that_can_be_used(tones: Path, tmp_path: Path) -> None:
    arguments = ("--data", f"folder:{tones}", "--epochs", "1", "--batch-size", "16", *SMALL[:6], "--seed", "3")
    process = spikescr("train", *arguments, cwd=tmp_path)
    out, err = finished(process)
    assert (process.returncode, err) == (0, "")
    run = RunFolder(tmp_path / "runs/latest")
    names = ["checkpoints", "config.json", "metrics.csv", "model.safetensors", "times.csv"]
    assert sorted(path.name for path in run.path.iterdir()) == names
    model, info = load_checkpoint(run.checkpoint)
    parameters = sum(p.numel() for p in model.parameters())
    assert f"1L-2-16, {parameters:,} parameters ({parameters / 2**20:.2f} in the paper's unit of 2^20)" in out
    assert f"folder:{tones}, 2 classes, 20 steps per second" in out
    assert re.search(r"best epoch +1 of 1\n", out)
    assert f"validation accuracy  {info.valid_accuracy:.2%}\n" in out
    for path in ("model.safetensors", "metrics.csv", "times.csv", "config.json"):
        assert f" runs/latest/{path}\n" in out
    assert (info.training.seed, info.training.steps, info.classes) == (3, 20, ("high", "low"))
    assert json.loads(run.config.read_text())["model"]["width"] == 16
    with run.metrics.open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1"]


@pytest.mark.slow
def test_ctrl_c_ends_early_with_what_is_done_saved(tones: Path, tmp_path: Path) -> None:
    process = spikescr("train", "--data", f"folder:{tones}", "--epochs", "100000", *SMALL, cwd=tmp_path)
    run = RunFolder(tmp_path / "runs/latest")
    deadline = time.monotonic() + 60
    while not run.metrics.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = finished(process)
    assert process.returncode == 130, err
    assert "note: finishing the current step; once more ends at once\n" in err
    stopped = re.search(
        r"note: stopped after epoch (\d+) of 100000, step \d of the next; continue with: spikescr train --resume\n", err
    )
    assert stopped
    _, info = load_checkpoint(run.checkpoint)
    assert f"best epoch           {info.epoch} of {stopped[1]}\n" in out
    assert len(run.metrics.read_text().splitlines()) == 1 + int(stopped[1])


@pytest.mark.parametrize("again", [False, True])
def test_ctrl_c_while_training(tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool) -> None:
    """Once: the current step is finished. Twice: the program ends at once."""
    from spikescr.training import loop

    def interrupted_step(self: loop._Training, *arguments: Any) -> tuple[float, int]:
        os.kill(os.getpid(), signal.SIGINT)  # the first before the handler is there, which ends the program
        return step(self, *arguments)

    def step_and_interrupt(self: loop._Training, *arguments: Any) -> tuple[float, int]:
        found = step(self, *arguments)
        steps.append(found)
        if len(steps) == 2:
            os.kill(os.getpid(), signal.SIGINT)
            if again:
                os.kill(os.getpid(), signal.SIGINT)
        return found

    step, steps = loop._Training._step, []
    arguments = ["train", "--data", f"folder:{tones}", "--run", str(tmp_path), *SMALL]
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(loop._Training, "_step", step_and_interrupt)
    found = CliRunner().invoke(main, arguments)
    assert len(steps) == 2
    assert found.exit_code == 130
    if again:
        assert found.stderr.splitlines()[-1] == "error: interrupted"
        assert list(tmp_path.iterdir()) == []
    else:
        assert found.stderr.splitlines()[-1] == (
            "note: stopped after epoch 0 of 40, step 2 of the next; "
            f"continue with: spikescr train --run {tmp_path} --resume"
        )
        assert [path.name for path in tmp_path.rglob("*.safetensors")] == ["00000-000002.safetensors"]
    assert signal.getsignal(signal.SIGINT) is before
    monkeypatch.setattr(loop._Training, "_step", interrupted_step)
    found = CliRunner().invoke(main, arguments)
    assert (found.exit_code, found.stderr.splitlines()[-1]) == (130, "error: interrupted")


def test_defaults_are_those_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    assert configuration(monkeypatch) == TrainConfig()


def test_every_option_reaches_its_field(monkeypatch: pytest.MonkeyPatch) -> None:
    options = (
        "--data folder:x --steps 30 --window 1.5 --epochs 7 --batch-size 9 --lr 0.003 --warmup 2.5 --weight-decay 0.04 "
        "--seed 11 --layers 3 --heads 4 --width 24 --mlp-ratio 5 --dropout 0.6 --shift 8 --threads 13 "
        "--family spikescr --position none --gating-unit no --separable-convolution no --neuron parametric"
    )
    assert {*options.split()[::2], "--taps"} == {flag for flag, *_ in OPTIONS}
    assert configuration(monkeypatch, *options.split()) == TrainConfig(
        data="folder:x",
        steps=30,
        window_s=1.5,
        epochs=7,
        batch_size=9,
        lr=0.003,
        warmup_epochs=2.5,
        weight_decay=0.04,
        seed=11,
        threads=13,
        augmentation=Augmentation(shift=8),
        model=ModelConfig(
            layers=3,
            heads=4,
            width=24,
            mlp_ratio=5,
            dropout=0.6,
            position="none",
            gating_unit=False,
            separable_convolution=False,
            neuron="parametric",
        ),
    )


def test_a_baseline_has_defaults_and_options_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    given = configuration(monkeypatch, "--family", "dcls", "--taps", "7")
    assert given.model == DelaysConfig(taps=7)
    found = CliRunner().invoke(main, ["train", "--family", "dcls", "--heads", "4"])
    assert found.exit_code == 2
    assert "error: --heads: Extra inputs are not permitted (got 4)" in found.stderr


def test_augmentation_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    config = configuration(monkeypatch, "--no-augment", "--shift", "3")
    assert config == TrainConfig(augmentation=None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--momentum", "0.9"], "No such option '?:?.*--momentum"),
        (["--epochs", "many"], "Invalid value for '--epochs': 'many' is not a valid integer"),
        (["--epochs", "0"], "error: --epochs: Input should be greater than or equal to 1 \\(got 0\\)"),
        (["--window", "-1"], "error: --window: Input should be greater than 0"),
        (["--lr", "nan"], "error: --lr: Input should be"),
        (["--heads", "3"], "error: model: width 128 must be an even number of channels for each of 3 heads"),
        (["--dropout", "1", "--layers", "0"], "error: --dropout: Input should be less than 1.*; --layers: "),
        (["--data", "nowhere"], "error: unknown data set 'nowhere'"),
        (["extra"], "unexpected extra argument"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_status_2(arguments: list[str], message: str) -> None:
    found = CliRunner().invoke(main, ["train", *arguments])
    assert found.exit_code == 2
    assert re.search(message, found.stderr), found.stderr


def test_divergence_is_told_in_one_line(tones: Path, tmp_path: Path) -> None:
    found = CliRunner().invoke(
        main, ["train", "--data", f"folder:{tones}", "--run", str(tmp_path), *SMALL, "--lr", "1e30", "--warmup", "0"]
    )
    assert found.exit_code == 1
    assert re.fullmatch(
        r"error: the loss is nan in epoch \d+, step \d+: lower --lr \(1e\+30\); .*",
        found.stderr.strip().splitlines()[-1],
    )
