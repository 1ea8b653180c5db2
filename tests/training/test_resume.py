from __future__ import annotations

import errno
import json
import logging
import math
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import safetensors.torch
import torch
from click.testing import CliRunner

from spikescr.checkpoint import load_checkpoint
from spikescr.cli import main
from spikescr.data import DataSet
from spikescr.errors import CheckpointError, SpikescrError, UsageError
from spikescr.model.config import (
    AdaptiveConfig,
    AnyModelConfig,
    CommanderConfig,
    DelaysConfig,
    ModelConfig,
    RecurrentConfig,
)
from spikescr.runs import RunFolder
from spikescr.tensors import METADATA_KEY
from spikescr.training import Augmentation, TrainConfig
from spikescr.training.draws import derived_seed
from spikescr.training.loop import train
from spikescr.training.objective import CrossEntropy
from spikescr.training.running import Progress
from spikescr.training.state import Checkpoints, load_state

ROOT = Path(__file__).parents[2]


def results(run: RunFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run.checkpoint, run.metrics, run.config)}


def stopping_at(epoch: int, step: int) -> dict[str, Any]:
    """Arguments of `train` that end it with that step."""
    seen: list[Progress] = []
    return {
        "on_step": seen.append,
        "stop": lambda: bool(seen) and (seen[-1].epoch, seen[-1].step) == (epoch, step),
    }


@pytest.fixture(scope="module")
def whole(config: TrainConfig, dataset: DataSet, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The folder of a training that nothing disturbed, made once: no test changes it."""
    run = RunFolder(tmp_path_factory.mktemp("undisturbed"))
    train(config, dataset, run)
    return run


@pytest.fixture(scope="module")
def undisturbed(whole: RunFolder) -> dict[str, bytes]:
    return results(whole)


@pytest.mark.parametrize("stops", [[(1, 1)], [(1, 4)], [(2, 4)], [(1, 2), (1, 3), (2, 3)]])
def test_a_resumed_training_ends_with_the_same_bytes(
    config: TrainConfig, dataset: DataSet, undisturbed: dict[str, bytes], tmp_path: Path, stops: list[tuple[int, int]]
) -> None:
    run = RunFolder(tmp_path / "run")
    for place in stops:
        torch.manual_seed(99)  # another process has other random states
        train(config, dataset, run, resume=True, **stopping_at(*place))
    result = train(config, dataset, run, resume=True)
    assert results(run) == undisturbed
    assert not result.interrupted
    assert [m.epoch for m in result.epochs] == [1, 2]
    assert len(run.times.read_text().splitlines()) == 3


@pytest.mark.parametrize(
    "model",
    [
        ModelConfig(inputs=20, heads=2, width=16, kernel=7, neuron="adaptive"),
        DelaysConfig(inputs=20, width=16, taps=5, neuron="adaptive"),
        DelaysConfig(inputs=20, width=16, taps=5, delays="axonal"),
        AdaptiveConfig(inputs=20, width=16),
        CommanderConfig(inputs=20, heads=2, width=16, kernel=7, window=10),
        RecurrentConfig(inputs=20, width=16),
    ],
    ids=["adaptive", "dcls adaptive", "axonal", "adlif", "spikcommander", "recurrent"],
)
def test_every_family_is_resumed_to_the_same_bytes(
    config: TrainConfig, dataset: DataSet, tmp_path: Path, model: AnyModelConfig
) -> None:
    config = config.model_copy(update={"model": model})
    whole, halved = (RunFolder(tmp_path / name) for name in ("whole", "halved"))
    train(config, dataset, whole)
    for place in ((1, 3), (2, 2)):
        torch.manual_seed(99)
        train(config, dataset, halved, resume=True, **stopping_at(*place))
    train(config, dataset, halved, resume=True)
    assert results(halved) == results(whole)


def test_a_finished_training_has_nothing_left_to_resume(
    config: TrainConfig, dataset: DataSet, whole: RunFolder, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    run = RunFolder(Path(shutil.copytree(whole.path, tmp_path / "run")))
    run.checkpoint.unlink()
    result = train(config, dataset, run, resume=True, on_step=lambda _: pytest.fail("it trained"))
    assert len(result.epochs) == 2
    assert results(run) == undisturbed  # the best weights are in the state


def test_a_kill_between_state_and_results_is_made_good(
    config: TrainConfig,
    dataset: DataSet,
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from spikescr.training import keeper

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    run = RunFolder(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(keeper, "packed", kill)
        with pytest.raises(Killed):
            train(config, dataset, run)
    assert not run.checkpoint.exists()
    train(config, dataset, run, resume=True, **stopping_at(2, 1))
    assert load_checkpoint(run.checkpoint)[1].epoch == 1
    train(config, dataset, run, resume=True)
    assert results(run) == undisturbed


@pytest.mark.parametrize("keep", [1, 3])
def test_the_last_states_are_kept(config: TrainConfig, dataset: DataSet, tmp_path: Path, keep: int) -> None:
    config = config.model_copy(update={"epochs": 4})
    run = RunFolder(tmp_path)
    train(config, dataset, run, keep=keep)
    assert [path.name for path in Checkpoints(run.checkpoints).paths()] == [
        f"0000{epoch}-000000.safetensors" for epoch in range(5 - keep, 5)
    ]


def test_states_of_an_earlier_training_are_not_mistaken_for_those_of_a_new_one(
    config: TrainConfig, dataset: DataSet, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path)
    train(config, dataset, run)
    train(config.model_copy(update={"seed": 5}), dataset, run, **stopping_at(1, 2))
    (path,) = Checkpoints(run.checkpoints).paths()
    assert path.name == "00000-000002.safetensors"
    assert load_state(path).setting.config.seed == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 0.5}, r"config.lr \(was 0.01, is 0.5\)"),
        ({"epochs": 3, "seed": 4}, r"config.epochs \(was 2, is 3\); config.seed \(was 0, is 4\)"),
        ({"augmentation": Augmentation(shift=2)}, r"config.augmentation.shift \(was 5, is 2\)"),
        ({"augmentation": None}, r"config.augmentation.*"),
        ({"steps": 25}, r"config.steps \(was 20, is 25\); preprocessing.front_end.*"),
    ],
)
def test_other_settings_are_refused_by_name(
    config: TrainConfig, dataset: DataSet, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    run = RunFolder(tmp_path)
    train(config, dataset, run, **stopping_at(1, 2))
    before = [path.read_bytes() for path in Checkpoints(run.checkpoints).paths()]
    with pytest.raises(UsageError, match=rf"other settings cannot be resumed: {message}; give what it was begun with"):
        train(config.model_copy(update=changes), dataset, run, resume=True)
    assert [path.read_bytes() for path in Checkpoints(run.checkpoints).paths()] == before


def test_other_recordings_and_another_objective_are_refused(
    config: TrainConfig, dataset: DataSet, tmp_path: Path
) -> None:
    class Other(CrossEntropy):
        def identity(self) -> dict[str, str]:
            return {"objective": "other"}

    run = RunFolder(tmp_path)
    train(config, dataset, run, **stopping_at(1, 2))
    fewer = replace(dataset, items=dict(dataset.items) | {"train": dataset.split("train")[1:]})
    with pytest.raises(UsageError, match=r"cannot be resumed: .*recordings \(was \(30, 20\), is \(29, 20\)\)"):
        train(config, fewer, run, resume=True)
    with pytest.raises(UsageError, match=r"objective.objective \(was 'cross-entropy', is 'other'\)"):
        train(config, dataset, run, resume=True, objective=Other())


def test_other_versions_are_told(
    config: TrainConfig, dataset: DataSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = RunFolder(tmp_path)
    train(config, dataset, run, **stopping_at(1, 2))
    path = Checkpoints(run.checkpoints).latest()
    assert path is not None
    rewrite(path, lambda content: content["environment"]["versions"].update(torch="1.0"))
    with caplog.at_level(logging.WARNING):
        train(config, dataset, run, resume=True)
    assert "results may differ in rounding: versions.torch (was '1.0', is " in caplog.text


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    with safetensors.safe_open(path, "pt") as file:
        content = json.loads(file.metadata()[METADATA_KEY])
    tensors = safetensors.torch.load_file(path)
    change(content)
    safetensors.torch.save_file(tensors, path, {METADATA_KEY: json.dumps(content)})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), r"is damaged or no safetensors file .*; remove it to"),
        (
            lambda path: safetensors.torch.save_file({"a": torch.zeros(1)}, path),
            "is no state of .*; remove",
        ),
        (
            lambda path: rewrite(path, lambda c: c.update(format=9)),
            "has state of a training format 9, this .* reads 1",
        ),
        (lambda path: rewrite(path, lambda c: c["progressed"].pop("step")), None),
        (lambda path: rewrite(path, lambda c: c["progressed"].update(step="x")), r"progressed.step: .* \(got 'x'\)"),
    ],
)
def test_a_state_that_cannot_be_used_is_named(
    config: TrainConfig, dataset: DataSet, tmp_path: Path, damage: Callable[[Path], object], message: str | None
) -> None:
    run = RunFolder(tmp_path)
    train(config, dataset, run)
    path = Checkpoints(run.checkpoints).latest()
    assert path is not None
    damage(path)
    if message is None:
        train(config, dataset, run, resume=True)  # a count that is left out is zero
        return
    with pytest.raises(CheckpointError, match=f"{path}:? {message}"):
        train(config, dataset, run, resume=True)
    path.unlink()
    assert train(config, dataset, run, resume=True).epochs[-1].epoch == 2


@pytest.mark.parametrize("resumed", [False, True])
def test_a_full_disk_leaves_the_last_good_state(
    config: TrainConfig,
    dataset: DataSet,
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    resumed: bool,
) -> None:
    def full(self: Path, content: bytes) -> int:
        if self.name.endswith("00002-000000.safetensors"):
            self.touch()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, content)

    run = RunFolder(tmp_path / "run")
    if resumed:
        train(config, dataset, run, **stopping_at(2, 1))
    write = Path.write_bytes
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        last = "00001-000001" if resumed else "00001-000000"
        with pytest.raises(
            SpikescrError,
            match=rf"checkpoints/00002-000000.safetensors: No space left on device while saving epoch 2; the last good "
            rf"checkpoint is .*/{last}.safetensors; make room and continue with: spikescr train --run .* --resume",
        ):
            train(config, dataset, run, resume=resumed)
    assert list(run.path.rglob(".*")) == []
    train(config, dataset, run, resume=True)
    assert results(run) == undisturbed


@pytest.mark.slow
def test_a_file_size_limit_is_told_in_one_line(tones: Path, tmp_path: Path) -> None:
    """A real write that fails half-way: the limit lets the small files through, the state not."""
    options = ["--data", f"folder:{tones}", "steps=20", "model.heads=2", "model.width=16", "epochs=1"]
    found = subprocess.run(
        [sys.executable, "-m", "spikescr", "train", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
        timeout=300,
    )
    assert found.returncode == 1
    (line,) = found.stderr.splitlines()
    assert line == (
        "error: runs/latest/checkpoints/00001-000000.safetensors: File too large while saving epoch 1; "
        "nothing was saved; make room and begin again"
    )
    assert list((tmp_path / "runs/latest").rglob("*.*")) == []


def test_a_folder_that_must_not_be_written_is_told_before_training(config: TrainConfig, dataset: DataSet) -> None:
    user = os.geteuid()
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        try:
            if user == 0:  # whom permissions do not bind
                os.seteuid(65534)
            with pytest.raises(SpikescrError, match=rf"^{folder} cannot be written to: Permission denied; choose ano"):
                train(config, dataset, RunFolder(Path(folder)), on_step=lambda progress: pytest.fail("it trained"))
        finally:
            os.seteuid(user)
        assert list(Path(folder).iterdir()) == []


def test_a_folder_below_a_file_is_told_in_one_line(tones: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file/run"
    found = CliRunner().invoke(main, ["train", "--data", f"folder:{tones}", "--run", str(folder)])
    assert (found.exit_code, found.stdout) == (1, "")
    assert found.stderr == f"error: {folder} cannot be made a run folder: Not a directory\n"


def test_weights_that_are_no_numbers_are_not_saved(
    config: TrainConfig, dataset: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path)
    train(config, dataset, run, **stopping_at(1, 2))
    steps = 0

    def broken(self: torch.optim.AdamW) -> None:
        nonlocal steps
        steps += 1
        step(self)
        with torch.no_grad():
            self.param_groups[0]["params"][0].fill_(math.inf)

    step = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", broken)
    with pytest.raises(
        SpikescrError,
        match=r"weight holds values that are no numbers in epoch 1, step 3: lower lr",
    ):
        train(config, dataset, run, resume=True, **stopping_at(1, 3))
    assert [path.name for path in Checkpoints(run.checkpoints).paths()] == ["00000-000002.safetensors"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["lr=0.5"], "config.lr (was 0.01, is 0.5)"),
        (["model.width=32", "lr=0.5"], "config.lr (was 0.01, is 0.5); config.model.width (was 16, is 32)"),
        (["--seed", "4"], "config.seed (was 0, is 4)"),
        (["augmentation=none"], "config.augmentation; give what it was begun with"),
        (["digits", "--data", "folder:{data}"], "config.steps (was 20, is 40)"),
    ],
)
def test_the_command_resumes_with_what_was_begun_and_refuses_other_options(
    config: TrainConfig, dataset: DataSet, tmp_path: Path, options: list[str], message: str
) -> None:
    run = RunFolder(tmp_path / "run")
    train(config, dataset, run, **stopping_at(1, 2))
    words = [word.format(data=dataset.root) for word in options]
    found = CliRunner().invoke(main, ["train", "--run", str(run.path), "--resume", *words])
    assert found.exit_code == 2
    assert f"error: {run.path}: a training with other settings cannot be resumed: " in found.stderr
    assert message.format() in found.stderr


def test_nothing_to_resume(tones: Path, tmp_path: Path) -> None:
    """Alone it is refused: which recipe was meant is not known. With a recipe it begins."""
    found = CliRunner().invoke(main, ["train", "--run", str(tmp_path), "--resume"])
    assert (found.exit_code, found.stderr) == (
        2,
        f"error: nothing to resume in {tmp_path}; say what to begin with: spikescr train --list\n",
    )
    options = ["--data", f"folder:{tones}", "steps=20", "model.heads=2", "model.width=16", "epochs=1", "batch_size=8"]
    found = CliRunner().invoke(main, ["train", "--run", str(tmp_path), "--resume", *options])
    assert found.exit_code == 0, found.stderr
    assert f"note: nothing to resume in {tmp_path}; starting from the beginning\n" in found.stderr
    assert RunFolder(tmp_path).checkpoint.exists()


def test_the_command_resumes(
    config: TrainConfig, dataset: DataSet, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    train(config, dataset, run, **stopping_at(2, 1))
    found = CliRunner().invoke(main, ["train", "--run", str(run.path), "--resume", "lr=0.01"])
    assert found.exit_code == 0, found.stderr
    assert results(run) == undisturbed


def test_draws_are_unrelated_and_repeatable() -> None:
    places = [(seed, *place) for seed in (0, 1) for place in ((0, 1), (1, 0), (0, 1, 0), (0,))]
    seeds = [derived_seed(*place) for place in places]
    assert len(set(seeds)) == len(seeds)
    assert seeds == [derived_seed(*place) for place in places]
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.slow
def test_killed_at_random_it_ends_with_the_same_bytes(tones: Path, tmp_path: Path) -> None:
    options = ["steps=20", "model.heads=2", "model.width=16", "batch_size=8", "epochs=40"]
    script, file = ROOT / "benchmarks/resume.py", tmp_path / "result.json"
    command = [script, "--kills", "2", "--seed", "3", "--data", f"folder:{tones}", "--json", file, "--", *options]
    found = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, timeout=300)
    assert found.returncode == 0, found.stdout + found.stderr
    result = json.loads(file.read_text())
    assert result["equal"] == {"model.safetensors": True, "metrics.csv": True, "config.json": True}
    assert len(result["kills"]) == 2


def test_a_better_network_takes_with_it_what_was_made_of_the_one_before(
    config: TrainConfig, dataset: DataSet, tmp_path: Path
) -> None:
    """A graph of epoch 1 beside the weights of epoch 2 would be simulated as the network's own."""
    run = RunFolder(tmp_path / "run")
    train(config, dataset, run, **stopping_at(2, 1))
    before = run.checkpoint.read_bytes()
    run.graph.write_text("of epoch 1")
    train(config, dataset, run, resume=True)
    assert run.checkpoint.read_bytes() != before  # or this proves nothing
    assert not run.graph.exists()
    run.graph.write_text("of epoch 2")
    train(config, dataset, run, resume=True)  # nothing is left to do
    assert run.graph.exists()


def test_a_kill_between_two_files_leaves_those_of_one_epoch(
    config: TrainConfig,
    dataset: DataSet,
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The metrics of an epoch cannot be written: weights and configuration stay those of the one before."""
    run = RunFolder(tmp_path / "run")
    train(config, dataset, run, **stopping_at(2, 1))
    before = results(run)

    def full(path: Path, rows: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr("spikescr.training.keeper.write_metrics", full)
        with pytest.raises(SpikescrError, match=rf"^{run.metrics}: No space left on device while saving epoch 2"):
            train(config, dataset, run, resume=True)
    assert results(run) == before
    train(config, dataset, run, resume=True)
    assert results(run) == undisturbed
