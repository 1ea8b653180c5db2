"""early-exit and simulate --until-sure as a user runs them, on a small network with causal attention."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from helpers import write_tones

from spikescr.cli import main
from spikescr.runs import RunFolder

TRAIN = (
    "steps=20", "model.heads=2", "model.width=16", "model.attention=causal", "model.kernel=3", "batch_size=16",
    "threads=1", "epochs=3",
)  # fmt: skip


def spikescr(*words: str) -> Result:
    return CliRunner().invoke(main, words, env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a run was trained, its early exit learnt, and its test recordings simulated until sure."""
    root = tmp_path_factory.mktemp("work")
    write_tones(root / "tones", takes=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for words in (["train", "--data", "folder:tones", *TRAIN], ["export"]):
            found = spikescr(*words)
            assert found.exit_code == 0, found.output
        missing = spikescr("simulate", "--until-sure")
        assert missing.exit_code == 1
        assert "runs/latest/early-exit.json does not exist; make it with: spikescr early-exit" in missing.output
        for words in (["early-exit"], ["simulate", "--until-sure", "--chunk-size", "3"]):
            found = spikescr(*words)
            assert found.exit_code == 0, found.output
    return root


def test_the_rule_is_kept_with_what_it_gives(workplace: Path) -> None:
    kept = json.loads(RunFolder(workplace / "runs/latest").early_exit.read_text())
    assert kept["split"] == "valid"
    assert kept["chosen"]["rule"] == kept["rule"]
    assert kept["chosen"]["accuracy"] >= kept["whole"]["accuracy"]
    assert kept["chosen"]["joules"] <= kept["whole"]["joules"]
    assert kept["curve"][-1]["joules"] <= kept["whole"]["joules"]


def test_simulations_tell_what_was_executed_until_then(workplace: Path) -> None:
    folder = RunFolder(workplace / "runs/latest").simulation
    summary = json.loads((folder / "summary.json").read_text())
    with (folder / "early-exit.csv").open() as file:
        rows = list(csv.DictReader(file))
    with (folder / "predictions.csv").open() as file:
        whole = {row["recording"]: row for row in csv.DictReader(file)}
    assert len(rows) == summary["samples"] == len(whole)
    told = summary["until_sure"]
    assert told["accuracy"] == pytest.approx(sum(r["label"] == r["predicted"] for r in rows) / len(rows))
    assert told["joules"] == pytest.approx(sum(float(r["events_j"]) for r in rows) / len(rows))
    assert told["whole_joules"] == pytest.approx(sum(float(r["events_j"]) for r in whole.values()) / len(rows))
    assert any(int(row["step"]) < int(row["steps"]) for row in rows), "a rule that ends nothing shows nothing"
    for row in rows:
        full = whole[row["recording"]]
        assert row["predicted_at_end"] == full["predicted"]
        ended = int(row["step"]) < int(row["steps"])
        for kind in ("ac", "mac"):
            assert int(row[kind]) < int(full[kind]) if ended else int(row[kind]) == int(full[kind])


def test_a_rule_of_another_graph_is_refused(workplace: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    made = RunFolder(workplace / "runs/latest")
    for source, target in ((made.graph, run.graph), (made.checkpoint, run.checkpoint)):
        target.write_bytes(source.read_bytes())
    kept = json.loads(made.early_exit.read_text())
    run.early_exit.write_text(json.dumps(kept | {"files": {"model.nir": "0" * 64}}))
    monkeypatch.chdir(workplace)
    found = spikescr("simulate", "--until-sure", "--run", str(run.path))
    assert found.exit_code == 1
    assert f"was learnt with another graph; learn it again with: spikescr early-exit --run {run.path}" in found.output
    run.early_exit.write_text(json.dumps(kept | {"rule": {"lead": 0.5, "hold": 0}}))
    found = spikescr("simulate", "--until-sure", "--run", str(run.path))
    assert found.exit_code == 1
    assert "rule.hold" in found.output


def test_another_graph_takes_the_rule_away(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    run = RunFolder(Path("runs/latest"))
    assert spikescr("export").exit_code == 0
    assert run.early_exit.exists()  # it is the same graph
    run.graph.write_bytes(b"another")
    assert spikescr("export").exit_code == 0
    assert not run.early_exit.exists()
