from __future__ import annotations

import json
import random
import re
import signal
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from commands import Command, spikescr
from helpers import write_tones

from spikescr.cli import main
from spikescr.runs import JobFolder
from spikescr.training.recipes import recipe_names

SMALL = ["model.heads=2", "model.width=16", "batch_size=8", "threads=1", "epochs=2", "student.epochs=2"]


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tones(tmp_path_factory.mktemp("data") / "tones")


@pytest.fixture(scope="module")
def job(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> JobFolder:
    """A whole job, through the command."""
    job = JobFolder(tmp_path_factory.mktemp("job"))
    words = ["distill", "--data", f"folder:{tones}", "--curriculum", "20,10", "--run", str(job.path), *SMALL]
    found = CliRunner().invoke(main, words)
    assert found.exit_code == 0, found.stderr
    table = found.stdout.splitlines()
    assert re.match(rf" +20 +\d of 2 +[\d.]+% +[\d.]+ +none +{job.path}/stage-020", table[1])
    assert re.match(rf" +10 +\d of 2 +[\d.]+% +[\d.]+ +20 steps +{job.path}/stage-010", table[2])
    return job


def results(job: JobFolder) -> dict[str, bytes]:
    names = ("model.safetensors", "metrics.csv", "config.json", "curriculum.json")
    return {str(path.relative_to(job.path)): path.read_bytes() for path in job.path.rglob("*") if path.name in names}


@pytest.mark.lava
def test_a_stage_is_a_run_folder_for_the_other_commands(job: JobFolder) -> None:
    run = job.stage(10)
    for words in (["export"], ["verify", "--limit", "2"], ["simulate", "--limit", "2"], ["evaluate"]):
        found = CliRunner().invoke(main, [*words, "--run", str(run.path)])
        assert found.exit_code == 0, found.stderr
    compared = json.loads(run.verification.read_text())
    assert compared["differing_spikes"] == 0
    assert json.loads((run.evaluation / "test.json").read_text())["steps_per_second"] == 10


def test_a_missing_stage_names_the_command_that_makes_it(job: JobFolder) -> None:
    found = CliRunner().invoke(main, ["export", "--run", str(job.stage(40).path)])
    assert f"make it with: spikescr distill --run {job.path}\n" in found.stderr


def test_a_teacher_that_is_trained_already_takes_the_place_of_the_first_stage(
    job: JobFolder, tones: Path, tmp_path: Path
) -> None:
    again = JobFolder(tmp_path / "again")
    words = ["distill", "--data", f"folder:{tones}", "--curriculum", "20,10", "--run", str(again.path), *SMALL]
    found = CliRunner().invoke(main, [*words, "--teacher", str(job.stage(20).path), "--keep", "1"])
    assert found.exit_code == 0, found.stderr
    assert not again.stage(20).path.exists()
    assert again.stage(10).checkpoint.read_bytes() == job.stage(10).checkpoint.read_bytes()
    kept = [len(list(each.stage(10).checkpoints.iterdir())) for each in (job, again)]
    assert kept == [2, 1]


@pytest.mark.slow
def test_killed_at_random_it_ends_with_the_same_bytes(job: JobFolder, tones: Path, tmp_path: Path) -> None:
    rng = random.Random(4)
    again = JobFolder(tmp_path / "again")
    words = ["--data", f"folder:{tones}", "--curriculum", "20,10", "--run", str(again.path), "--resume", *SMALL]
    kills = 0
    for _ in range(8):
        command = Command("distill", *words, cwd=tmp_path)
        deadline = time.monotonic() + 60
        while not again.record.exists() and command.returncode is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(rng.uniform(0.2, 3.0))
        if command.returncode is not None:
            break
        command.send_signal(signal.SIGKILL if kills % 2 else signal.SIGTERM)
        command.wait(timeout=60)
        kills += 1
    assert kills >= 1
    last = spikescr("distill", *words, cwd=tmp_path)
    assert last.returncode == 0, last.stderr
    assert results(again) == results(job)


def test_resume_alone_continues_what_is_there(job: JobFolder) -> None:
    before = results(job)
    found = CliRunner().invoke(main, ["distill", "--resume", "--run", str(job.path)])
    assert found.exit_code == 0, found.stderr
    assert results(job) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--curriculum", "100;40"], "'100;40' is no list of numbers like 100,40"),
        (["--curriculum", "100"], "error: --curriculum: a curriculum needs two or more"),
        (["curriculum=100"], "error: curriculum=100: give it as curriculum (--curriculum)"),
        (["steps=100"], "error: steps=100: unknown key"),
        (["ssc-40"], "error: 'ssc-40' is a recipe of spikescr train; try: spikescr train ssc-40"),
        (["distillation.tau=2"], "error: distillation.tau=2: unknown key"),
        (["--resume", "--run", "nowhere"], "error: nothing to resume in nowhere; say what to begin with"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_status_2(arguments: list[str], message: str) -> None:
    found = CliRunner().invoke(main, ["distill", *arguments])
    assert found.exit_code == 2
    assert message in found.stderr


def test_recipes_are_listed() -> None:
    lines = CliRunner().invoke(main, ["distill", "--list"]).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["recipe", *recipe_names("distill")]


def test_dry_run_shows_every_stage() -> None:
    words = ["distill", "ssc", "--dry-run", "model.width=16", "model.heads=2", "--curriculum", "20,10", "epochs=1"]
    found = CliRunner().invoke(main, words)
    assert found.exit_code == 0, found.stderr
    assert "\ncurriculum=[20,10]\n" in found.stdout
    assert [line.split()[:2] for line in found.stdout.splitlines()[-3:-1]] == [["20", "1"], ["10", "400"]]
