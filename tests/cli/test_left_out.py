"""Recordings that cannot be read: train, evaluate and simulate name them, leave them out and go on with the others."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from helpers import write_tones

from spikescr.cli import main
from spikescr.files import sha256

TRAIN = ["steps=20", "model.heads=2", "model.width=8", "batch_size=16", "threads=1", "epochs=1"]
DAMAGED = {
    "train": "low/00000004_nohash_1.wav",
    "valid": "high/00000001_nohash_0.wav",
    "test": "low/00000000_nohash_2.wav",
}


def spikescr(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs: `damaged`, of a data set with a recording of each split cut short, and `clean`, of one without them."""
    root = tmp_path_factory.mktemp("left-out")
    damaged = write_tones(root / "damaged-tones")
    clean = Path(shutil.copytree(damaged, root / "clean-tones"))
    for name in DAMAGED.values():
        (clean / name).unlink()
        (damaged / name).write_bytes((damaged / name).read_bytes()[:-100])
    for list_name in ("validation_list.txt", "testing_list.txt"):
        lines = (clean / list_name).read_text().splitlines()
        (clean / list_name).write_text("".join(f"{line}\n" for line in lines if line not in DAMAGED.values()))
    for name in ("damaged", "clean"):
        trained = spikescr("train", "--data", f"folder:{root / name}-tones", "--run", root / name, *TRAIN)
        assert trained.exit_code == 0, trained.stderr
        (root / f"{name}.txt").write_text(trained.stderr)
        assert spikescr("export", "--run", root / name).exit_code == 0
    return root


def told(text: str, root: Path, *splits: str) -> None:
    for split in splits:
        assert f"left out: {root / 'damaged-tones' / DAMAGED[split]}: truncated: the header promises" in text


def test_training_leaves_them_out_and_says_so(root: Path) -> None:
    text = (root / "damaged.txt").read_text()
    assert text.count("recordings cannot be read and are left out:") == 2
    assert "1 of 30 recordings cannot be read" in text
    told(text, root, "train", "valid")
    with (root / "damaged/left-out.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["recording", "fault"]
    assert [row[0] for row in rows[1:]] == sorted((DAMAGED["train"], DAMAGED["valid"]))
    assert all(row[1].startswith(f"{root / 'damaged-tones' / row[0]}: truncated") for row in rows[1:])
    assert not (root / "clean/left-out.csv").exists()
    assert "left out" not in (root / "clean.txt").read_text()


def test_the_rest_trains_as_if_they_had_never_been_there(root: Path) -> None:
    one, other = ((root / name / "metrics.csv").read_text() for name in ("damaged", "clean"))
    assert one == other


def test_a_training_is_not_resumed_with_other_recordings(root: Path, tmp_path: Path) -> None:
    run = shutil.copytree(root / "damaged", tmp_path / "run")
    data = shutil.copytree(root / "damaged-tones", tmp_path / "damaged-tones")
    (data / DAMAGED["train"]).write_bytes((data / DAMAGED["train"]).read_bytes() + bytes(100))
    found = spikescr("train", "--data", f"folder:{data}", "--run", run, *TRAIN, "--resume")
    assert found.exit_code == 2
    assert "recordings (was (29, 19), is (30, 19))" in found.stderr
    assert "left_out" in found.stderr


def test_evaluation_leaves_them_out_and_says_so(root: Path) -> None:
    found = spikescr("evaluate", "--run", root / "damaged", "--csv")
    assert found.exit_code == 0, found.stderr
    told(found.stderr, root, "test")
    assert "1 of 10 recordings cannot be read" in found.stderr
    content = json.loads((root / "damaged/evaluation/test.json").read_text())
    assert (content["recordings"], list(content["left_out"])) == (9, [DAMAGED["test"]])
    with (root / "damaged/evaluation/test-answers.csv").open(newline="") as file:
        answers = [row["recording"] for row in csv.DictReader(file)]
    assert len(answers) == 9
    assert DAMAGED["test"] not in answers


@pytest.mark.parametrize("options", [(), ("--chunk-size", "1"), ("--chunk-size", "4", "--workers", "2")], ids=" ".join)
def test_simulation_leaves_them_out_and_says_so(root: Path, options: tuple[str, ...]) -> None:
    found = spikescr("simulate", "--run", root / "damaged", *options)
    assert found.exit_code == 0, found.stderr
    told(found.stderr, root, "test")
    assert found.stderr.count("recordings cannot be read and are left out:") == 1
    content = json.loads((root / "damaged/simulation/summary.json").read_text())
    assert (content["samples"], list(content["left_out"])) == (9, [DAMAGED["test"]])
    assert spikescr("simulate", "--run", root / "clean").exit_code == 0
    expected = json.loads((root / "clean/simulation/summary.json").read_text())
    assert expected["left_out"] is None
    assert (content["totals"], content["accuracy"]) == (expected["totals"], expected["accuracy"])
    for name in ("counts.csv", "predictions.csv"):
        assert sha256(root / "damaged/simulation" / name) == sha256(root / "clean/simulation" / name)


def test_spikes_are_recorded_of_the_others(root: Path) -> None:
    found = spikescr("simulate", "--run", root / "damaged", "--chunk-size", 1, "--record", "spikes")
    assert found.exit_code == 0, found.stderr
    assert len(list((root / "damaged/simulation/spikes").glob("*.h5"))) == 9


def test_a_recording_that_was_asked_for_is_refused(root: Path) -> None:
    for words in (["simulate", "--recording", DAMAGED["test"]], ["simulate", "--recording", DAMAGED["valid"]]):
        found = spikescr(*words, "--run", root / "damaged")
        assert found.exit_code == 1
        assert found.stderr.startswith(f"error: {root / 'damaged-tones' / words[-1]}: truncated: the header promises")


def test_too_little_that_is_left_is_refused(root: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(root / "clean-tones", tmp_path / "tones"))
    names = (data / "testing_list.txt").read_text().splitlines()
    for name in names[:-4]:
        (data / name).write_bytes(b"RIFF")
    for command in ("evaluate", "simulate"):
        found = spikescr(command, "--run", root / "clean", "--data", f"folder:{data}")
        assert found.exit_code == 1, command
        assert f"error: 5 of 9 recordings cannot be read, the first: {data / names[0]}: no readable" in found.stderr
        assert found.stderr.endswith("mend or remove them: spikescr data check lists all\n")
    (data / names[0]).write_bytes((root / "clean-tones" / names[0]).read_bytes())
    found = spikescr("evaluate", "--run", root / "clean", "--data", f"folder:{data}")
    assert found.exit_code == 0, found.stderr
    assert np.count_nonzero(["left out: " in line for line in found.stderr.splitlines()]) == 4
