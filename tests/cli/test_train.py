from __future__ import annotations

import csv
import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from commands import Command
from helpers import write_heidelberg, write_tones

from spikescr.checkpoint import load_checkpoint
from spikescr.cli import main
from spikescr.model import build
from spikescr.model.config import ModelConfig
from spikescr.runs import RunFolder
from spikescr.training import Augmentation, TrainConfig
from spikescr.training.recipes import recipe_names

SMALL = ["steps=20", "model.heads=2", "model.width=16", "batch_size=8", "threads=1"]


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tones(tmp_path_factory.mktemp("data") / "tones")


def finished(command: Command) -> tuple[str, str]:
    """Standard output, without the blanks that fill a table's lines, and standard error."""
    command.wait(timeout=120)
    return "".join(f"{line.rstrip()}\n" for line in command.stdout.splitlines()), command.stderr


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
    arguments = ("--data", f"folder:{tones}", "epochs=1", "batch_size=16", *SMALL[:3], "--seed", "3")
    command = Command("train", *arguments, cwd=tmp_path)
    out, err = finished(command)
    assert (command.returncode, err) == (0, "")
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
    command = Command("train", "--data", f"folder:{tones}", "epochs=100000", *SMALL, cwd=tmp_path)
    run = RunFolder(tmp_path / "runs/latest")
    deadline = time.monotonic() + 60
    while not run.metrics.exists():
        assert command.returncode is None, command.stderr
        assert time.monotonic() < deadline
        time.sleep(0.05)
    command.send_signal(signal.SIGINT)
    out, err = finished(command)
    assert command.returncode == 130, err
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
    from spikescr.training.running import Training

    def interrupted_step(self: Training, *arguments: Any) -> tuple[float, int]:
        os.kill(os.getpid(), signal.SIGINT)  # the first before the handler is there, which ends the program
        return step(self, *arguments)

    def step_and_interrupt(self: Training, *arguments: Any) -> tuple[float, int]:
        found = step(self, *arguments)
        steps.append(found)
        if len(steps) == 2:
            os.kill(os.getpid(), signal.SIGINT)
            if again:
                os.kill(os.getpid(), signal.SIGINT)
        return found

    step, steps = Training._step, []
    arguments = ["train", "--data", f"folder:{tones}", "--run", str(tmp_path), *SMALL]
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Training, "_step", step_and_interrupt)
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
    monkeypatch.setattr(Training, "_step", interrupted_step)
    found = CliRunner().invoke(main, arguments)
    assert (found.exit_code, found.stderr.splitlines()[-1]) == (130, "error: interrupted")


def test_defaults_are_those_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    assert configuration(monkeypatch) == configuration(monkeypatch, "digits") == TrainConfig()


def test_data_seed_and_changes_reach_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = ("steps=30", "lr=3e-3", "model.width=48", "model.position=none", "augmentation.shift=8", "threads=3")
    assert configuration(monkeypatch, *changes, "--data", "folder:x", "--seed", "11") == TrainConfig(
        data="folder:x",
        steps=30,
        lr=0.003,
        seed=11,
        threads=3,
        augmentation=Augmentation(shift=8),
        model=ModelConfig(width=48, position="none"),
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", "0.9"], "No such option '?:?.*--lr"),
        (["epochs=many"], r"error: epochs=many: Input should be a valid integer \(got many\)"),
        (["epochs=0"], r"error: epochs=0: Input should be greater than or equal to 1 \(got 0\)"),
        (["lr=NaN"], "error: lr=NaN: Input should be a finite number"),
        (["model.heads=3"], "error: model.heads=3: width 128 must be an even number of channels for each of 3 heads"),
        (["--seed", "-1"], "Invalid value for '--seed'"),
        (["--data", "nowhere"], "error: unknown data set 'nowhere'"),
        (["digits", "extra"], "error: one recipe, then KEY=VALUE: what are 'extra'"),
        (["ssc-10"], "error: unknown recipe 'ssc-10'; did you mean 'ssc-100'"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_status_2(arguments: list[str], message: str) -> None:
    found = CliRunner().invoke(main, ["train", *arguments])
    assert found.exit_code == 2
    assert re.search(message, found.stderr), found.stderr


def test_recipes_are_listed() -> None:
    lines = CliRunner().invoke(main, ["train", "--list"]).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["recipe", *recipe_names("train")]
    assert any(re.match("ssc-40-2l +ssc +40 +2L-16-256 +300 ", line) for line in lines)


def test_dry_run_needs_no_data_and_tells_keys_parameters_memory_and_time(tmp_path: Path) -> None:
    arguments = ["train", "ssc-40", "--dry-run", "model.width=32", "model.heads=2", "epochs=2", "--run", str(tmp_path)]
    found = CliRunner().invoke(main, arguments)
    assert found.exit_code == 0, found.stderr
    assert "\nmodel.width=32\n" in found.stdout
    model = build(ModelConfig(classes=35, width=32, heads=2, mlp_ratio=4))
    parameters = sum(p.numel() for p in model.parameters())
    assert f"1L-2-32, {parameters:,} parameters" in found.stdout
    assert "75466 recordings to train on, 9981 to validate, 35 classes" in found.stdout
    row = found.stdout.splitlines()[-2]
    # weights, gradients and two moments of 4 bytes; counts of one byte for (75466 + 9981) x 40 steps x 140 channels
    assert re.match(rf" +40 +2 +{parameters:,} +[\d.]+ [kMG]B +{16 * parameters / 1e3:.3g} kB +479 MB ", row)
    assert "an estimate" in found.stdout.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
    found = CliRunner().invoke(main, ["train", "--dry-run", "model.width=32", "model.heads=2"])
    assert "2160 recordings to train on, 480 to validate, 20 classes" in found.stdout
    assert " 59.1 MB " in found.stdout.splitlines()[-2]  # real numbers of 4 bytes for (2160 + 480) x 40 x 140


def test_dry_run_counts_the_recordings_that_are_there(tmp_path: Path) -> None:
    folder = write_heidelberg(tmp_path / "own", "ssc", {"train": 6, "valid": 4, "test": 4})
    words = ["train", "ssc-40", "--data", f"ssc:{folder}", "--dry-run", "model.width=32", "model.heads=2"]
    found = CliRunner().invoke(main, words)
    assert "6 recordings to train on, 4 to validate, 2 classes" in found.stdout, found.stderr


@pytest.mark.parametrize(
    ("setting", "advice"), [("lr=1e6", r"lower lr \(1e\+06\)"), ("weight_decay=1e6", r"lower weight_decay \(1e\+06\)")]
)
def test_divergence_is_told_in_one_line(tones: Path, tmp_path: Path, setting: str, advice: str) -> None:
    found = CliRunner().invoke(
        main, ["train", "--data", f"folder:{tones}", "--run", str(tmp_path), *SMALL, setting, "warmup_epochs=0"]
    )
    assert found.exit_code == 1
    last = found.stderr.strip().splitlines()[-1]
    cause = r"(the loss is nan|\S+ holds values that are no numbers)"
    assert re.fullmatch(rf"error: {cause} in epoch \d+, step \d+: {advice}; .*", last)
