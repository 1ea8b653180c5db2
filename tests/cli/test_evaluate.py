from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from helpers import write_tones

from spikescr.checkpoint import load_checkpoint
from spikescr.cli import main
from spikescr.data import load, open_data
from spikescr.files import replacing_together, sha256
from spikescr.runs import RunFolder
from spikescr.training.batches import Split
from spikescr.training.evaluate import evaluate

TRAIN = ["steps=20", "model.heads=2", "model.width=16", "batch_size=16", "threads=1", "epochs=3"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    root = tmp_path_factory.mktemp("evaluate")
    tones = write_tones(root / "tones")
    found = CliRunner().invoke(main, ["train", "--data", f"folder:{tones}", "--run", str(root / "run"), *TRAIN])
    assert found.exit_code == 0, found.stderr
    return RunFolder(root / "run")


def evaluated(run: RunFolder, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["evaluate", "--run", str(run.path), *arguments])


def test_the_test_split_is_evaluated_and_written_down(run: RunFolder) -> None:
    found = evaluated(run, "--csv", "--png", "--batch-size", "3")
    assert found.exit_code == 0, found.stderr
    model, info = load_checkpoint(run.checkpoint)
    items = open_data(info.training.data).split("test")
    expected = evaluate(model, Split.from_features(load(items, info.preprocessing)), 64)
    content = json.loads((run.evaluation / "test.json").read_text())
    assert (content["recordings"], content["correct"]) == (10, round(10 * expected.accuracy))
    assert content["accuracy"] == expected.accuracy
    assert content["loss"] == pytest.approx(expected.loss, rel=1e-5)
    assert (content["split"], content["data"], content["checkpoint"]) == (
        "test",
        info.training.data,
        sha256(run.checkpoint),
    )
    assert [speaker["name"] for speaker in content["speakers"]] == ["00000000"]
    assert f"10 recordings, accuracy {100 * expected.accuracy:.2f} %" in found.stdout
    assert "0 high" in found.stdout
    with (run.evaluation / "test-confusion.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["label", "high", "low"]
    assert [[int(n) for n in row[1:]] for row in rows[1:]] == content["confusion"]
    with (run.evaluation / "test-answers.csv").open() as file:
        answers = list(csv.DictReader(file))
    assert [row["recording"] for row in answers] == [item.name for item in items]
    assert sum(int(row["right"]) for row in answers) == content["correct"]
    assert {row["speaker"] for row in answers} == {"00000000"}
    assert (run.evaluation / "test.png").read_bytes().startswith(b"\x89PNG")
    assert f"wrote {run.evaluation}/test.png\n" in found.stdout


def test_another_split_and_fewer_recordings(run: RunFolder) -> None:
    found = evaluated(run, "--split", "valid", "--limit", "7")
    assert found.exit_code == 0, found.stderr
    content = json.loads((run.evaluation / "valid.json").read_text())
    assert (content["recordings"], content["split"], content["limit"]) == (7, "valid", 7)


def test_faults_are_told_in_one_line(run: RunFolder, tmp_path: Path) -> None:
    missing = tmp_path / "none"
    found = evaluated(RunFolder(missing))
    assert (found.exit_code, found.stderr) == (
        1,
        f"error: {missing}/model.safetensors does not exist; make it with: spikescr train --run {missing}\n",
    )
    other = write_tones(tmp_path / "tones")
    (other / "high").rename(other / "higher")
    for name in ("validation_list.txt", "testing_list.txt"):
        (other / name).unlink()
    found = evaluated(run, "--data", f"folder:{other}")
    assert found.exit_code == 2
    assert "has the classes higher, low, " in found.stderr


def test_a_new_training_removes_the_old_ones_evaluation(run: RunFolder, tmp_path: Path) -> None:
    fresh = RunFolder(tmp_path)
    fresh.evaluation.mkdir()
    (fresh.evaluation / "test.json").write_text("{}")
    with replacing_together(fresh.path, fresh.derived):
        pass
    assert not fresh.evaluation.exists()


def test_recordings_of_some_words_in_no_split_are_evaluated(run: RunFolder, tmp_path: Path) -> None:
    own = write_tones(tmp_path / "own", takes=1)
    for unneeded in ("high", "validation_list.txt", "testing_list.txt"):
        path = own / unneeded
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    found = evaluated(run, "--data", f"folder:{own}", "--split", "all", "--csv")
    assert found.exit_code == 0, found.stderr
    content = json.loads((run.evaluation / "all.json").read_text())
    assert content["recordings"] == 6
    assert [share["name"] for share in content["classes"]] == ["low"]
    assert content["confusion"][0] == [0, 0]
    assert sum(content["confusion"][1]) == 6


def test_recordings_without_labels_give_answers_alone(run: RunFolder, tmp_path: Path) -> None:
    tones = write_tones(tmp_path / "tones", takes=1)
    own = tmp_path / "own"
    own.mkdir()
    for word in ("high", "low"):
        shutil.copy(tones / word / "00000003_nohash_0.wav", own / f"{word}-one.wav")
    found = evaluated(run, "--data", f"folder:{own}")
    assert found.exit_code == 0, found.stderr
    assert "accuracy" not in found.stdout
    with (run.evaluation / "test-answers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["recording"], row["label"], row["right"]) for row in rows] == [
        ("high-one.wav", "", ""),
        ("low-one.wav", "", ""),
    ]
    assert {row["predicted"] for row in rows} <= {"high", "low"}
    shown = [line.split()[:2] for line in found.stdout.splitlines()]
    assert all([row["recording"], row["predicted"]] in shown for row in rows)
    content = json.loads((run.evaluation / "test.json").read_text())
    assert (content["recordings"], "accuracy" in content) == (2, False)

    simulate = ["simulate", "--data", f"folder:{own}", "--split", "all", "--run"]
    for arguments in (["export", "--to", "nir", "--run"], simulate, ["report"]):
        done = CliRunner().invoke(main, [*arguments, str(run.path)], catch_exceptions=False)
        assert done.exit_code == 0, done.stderr
    with (run.simulation / "predictions.csv").open() as file:
        executed = list(csv.DictReader(file))
    assert [(row["recording"], row["label"], row["predicted"]) for row in executed] == [
        (row["recording"], "", row["predicted"]) for row in rows
    ]
    assert json.loads((run.simulation / "summary.json").read_text())["accuracy"] is None
    assert "the network says" in run.report_text.read_text() + run.report.read_text()
