"""A sweep of curricula: one budget for all, a direct control, the same after an interruption as without one."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from spikescr.cli import main
from spikescr.data import DataSet, open_data
from spikescr.errors import UsageError
from spikescr.model.config import ModelConfig
from spikescr.runs import JobFolder
from spikescr.training.config import CurriculumConfig, Student
from spikescr.workflows.sweep import SweepRecord, SweepResult, Trial, draw_sweep, half_interval, plan, sweep

CURRICULA = ((20, 10), (10,))


@pytest.fixture(scope="module")
def curriculum_config(tones: Path) -> CurriculumConfig:
    return CurriculumConfig(
        data=f"folder:{tones}",
        window_s=0.5,
        epochs=1,
        batch_size=16,
        threads=1,
        model=ModelConfig(inputs=20, heads=2, width=8, kernel=3),
        curriculum=(20, 10),
        student=Student(epochs=1),
    )


def run(config: CurriculumConfig, folder: Path, *, resume: bool = False, stop_after: int = 10**9) -> SweepResult:
    """A sweep that is stopped after so many optimisation steps."""
    steps = 0

    def count(_: object) -> None:
        nonlocal steps
        steps += 1

    def data(seed: int) -> DataSet:
        return open_data(config.data, seed=seed)

    return sweep(
        config, data, JobFolder(folder), curricula=CURRICULA, seeds=2, resume=resume, on_step=count,
        stop=lambda: steps >= stop_after,
    )  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(curriculum_config: CurriculumConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    assert not run(curriculum_config, folder).interrupted
    return folder


def test_every_curriculum_takes_the_same_epochs_and_is_tested_once(undisturbed: Path) -> None:
    record = json.loads((undisturbed / "sweep.json").read_text())
    assert record["budget"] == 2
    assert [(t["seed"], t["curriculum"]) for t in record["trials"]] == [
        (0, [10]), (0, [20, 10]), (1, [10]), (1, [20, 10]),
    ]  # fmt: skip
    epochs = {
        f"{path.parent.parent.name}/{path.parent.name}": len(path.read_text().splitlines()) - 1
        for path in undisturbed.rglob("metrics.csv")
    }
    one, two = ("10-seed0/stage-010", "20-10-seed0/stage-010")
    assert (epochs[one], epochs[two], epochs["20-10-seed0/stage-020"]) == (2, 1, 1)
    for trial in record["trials"]:
        job = JobFolder(undisturbed / f"{'-'.join(map(str, trial['curriculum']))}-seed{trial['seed']}")
        tested = json.loads((job.stage(10).evaluation / "test.json").read_text())
        assert (tested["correct"], tested["recordings"]) == (trial["right"], trial["recordings"])
    with (undisturbed / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["curriculum"] for row in rows] == ["10", "20-10"]
    assert rows[0]["gain"] == ""
    rights = {(t["seed"], len(t["curriculum"])): t["right"] / t["recordings"] for t in record["trials"]}
    assert float(rows[1]["gain"]) == pytest.approx(np.mean([rights[seed, 2] - rights[seed, 1] for seed in (0, 1)]))


@pytest.mark.parametrize("stop_after", [7])  # in a curriculum
def test_a_sweep_that_was_stopped_goes_on_to_the_same_results(
    curriculum_config: CurriculumConfig, undisturbed: Path, tmp_path: Path, stop_after: int
) -> None:
    assert run(curriculum_config, tmp_path, stop_after=stop_after).interrupted
    assert run(curriculum_config, tmp_path, resume=True, stop_after=2).interrupted
    assert not run(curriculum_config, tmp_path, resume=True).interrupted
    for path in [
        "sweep.json",
        "sweep.csv",
        *(p.relative_to(undisturbed) for p in undisturbed.rglob("model.safetensors")),
    ]:
        assert (tmp_path / path).read_bytes() == (undisturbed / path).read_bytes(), path
    with pytest.raises(UsageError, match=r"a sweep with other settings cannot be resumed: config\.lr"):
        run(curriculum_config.model_copy(update={"lr": 0.5}), tmp_path, resume=True)


def test_what_cannot_be_compared_is_refused(curriculum_config: CurriculumConfig) -> None:
    assert plan(curriculum_config, [(20, 10), (40, 20, 10), (10,)], 12) == (((10,), (20, 10), (40, 20, 10)), 12)
    assert plan(curriculum_config, [(20, 10)], None) == (((10,), (20, 10)), 2)
    for curricula, budget, message in (
        ([(20, 10), (40, 20)], None, r"must end with the same steps, these end with \[10, 20\]"),
        ([(40, 20, 10), (20, 10)], 8, r"a budget of 8 epochs cannot be shared evenly .* give 12"),
        ([(20, 20)], None, "curriculum 20-20: must name steps per second"),
    ):
        with pytest.raises(UsageError, match=message):
            plan(curriculum_config, curricula, budget)


def test_intervals_are_students(curriculum_config: CurriculumConfig, tmp_path: Path) -> None:
    assert half_interval([0.5]) is None
    # standard deviation 0.1, t of two degrees of freedom 4.303
    assert half_interval([0.7, 0.8, 0.9]) == pytest.approx(4.303 * 0.1 / 3**0.5)
    trials = [
        Trial(curriculum=c, seed=seed, valid_accuracy=0.5, right=right, recordings=10)
        for c, rights in (((10,), (5, 6, 7)), ((20, 10), (7, 8, 9)))
        for seed, right in enumerate(rights)
    ]
    record = SweepRecord(config=curriculum_config, curricula=((10,), (20, 10)), seeds=3, budget=2, trials=trials)
    control, row = SweepResult(record, interrupted=False).rows()
    assert (control.gain, row.stage_epochs) == (None, 1)
    assert row.gain == pytest.approx(0.2)
    assert row.gain_interval == pytest.approx(0.0, abs=1e-12)  # two more are right with every seed
    draw_sweep(SweepResult(record, interrupted=False), tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_prints_the_table_and_refuses_what_means_nothing(tones: Path, tmp_path: Path) -> None:
    words = [
        "distill", "--data", f"folder:{tones}", "--sweep", "20,10;10", "--seeds", "1", "--run", str(tmp_path / "sweep"),
        "window_s=0.5", "model.inputs=20", "model.heads=2", "model.width=8", "model.kernel=3", "batch_size=16",
        "threads=1", "--budget", "2",
    ]  # fmt: skip
    found = CliRunner().invoke(main, words)
    assert found.exit_code == 0, found.output
    assert "over the direct one" in found.stdout
    assert "20, 10" in found.stdout
    dry = CliRunner().invoke(main, [*words, "--dry-run"])
    assert dry.exit_code == 0, dry.output
    assert "that is one seed; 1 of them take 1 times as long" in dry.output
    for wrong, message in (
        ([*words, "--curriculum", "20,10"], "--curriculum: means nothing with --sweep"),
        (["distill", "--seeds", "2"], "--seeds: means nothing without --sweep"),
        (["distill", "--sweep", "20,x"], "is no list of numbers"),
    ):
        found = CliRunner().invoke(main, wrong)
        assert found.exit_code == 2
        assert message in found.output
