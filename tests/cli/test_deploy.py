"""export, simulate and verify as a user runs them, on a small network trained by the same command line."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import nir
import numpy as np
import pytest
from commands import spikescr
from helpers import write_tones

from spikescr.runs import RunFolder

pytestmark = pytest.mark.lava
TRAIN = ["steps=20", "model.heads=2", "model.width=16", "batch_size=16", "threads=1", "epochs=3"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which train, export, simulate and verify have run, in this order."""
    root = tmp_path_factory.mktemp("work")
    write_tones(root / "tones", takes=4)
    for arguments in (
        ["train", "--data", "folder:tones", *TRAIN],
        ["export", "--to", "nir"],
        ["simulate", "--steps", "20", "--batch-size", "3"],
        ["verify", "--batch-size", "3", "--stall-seconds", "90"],
    ):
        run = spikescr(*arguments, cwd=root)
        assert run.returncode == 0, run.stderr
        assert run.stderr == ""
    return root


@pytest.fixture
def copied(workplace: Path, tmp_path: Path) -> Path:
    """A copy of the workplace that a test may damage."""
    return Path(shutil.copytree(workplace, tmp_path / "copy"))


def test_commands_share_the_run_folder(workplace: Path) -> None:
    found = sorted(str(p.relative_to(workplace / "runs/latest")) for p in (workplace / "runs/latest").rglob("*.*"))
    assert found == [
        "checkpoints/00002-000000.safetensors",
        "checkpoints/00003-000000.safetensors",
        "config.json",
        "metrics.csv",
        "model.nir",
        "model.safetensors",
        "simulation/audit.npz",
        "simulation/counts.csv",
        "simulation/predictions.csv",
        "simulation/summary.json",
        "times.csv",
        "verify.json",
    ]


def test_summary_totals_are_the_sums_of_the_counts(workplace: Path) -> None:
    folder = RunFolder(workplace / "runs/latest").simulation
    summary = json.loads((folder / "summary.json").read_text())
    with (folder / "counts.csv").open() as file:
        rows = list(csv.DictReader(file))
    for column, total in summary["totals"].items():
        assert sum(int(row[column]) for row in rows) == total, column
    assert summary["totals"]["ac"] > 0
    energy = summary["energy"]
    totals = summary["totals"]
    assert energy["events_j"] == pytest.approx((0.9 * totals["ac"] + 4.6 * totals["mac"]) * 1e-12, rel=1e-12)
    assert energy["formula_j"] == pytest.approx(
        (0.9 * totals["formula_ac"] + 4.6 * totals["formula_mac"]) * 1e-12, rel=1e-12
    )
    for kind in ("ac", "mac"):
        explained = sum(cause[kind] for cause in energy["causes"].values())
        assert totals[kind] - totals[f"formula_{kind}"] == explained
    assert summary["samples"] == 8  # one test speaker, two words, four takes
    assert summary["steps"] == 20
    assert summary["seed"] == 0
    assert set(summary["files"]) == {"model.nir", "model.safetensors"}
    before = summary["before_network"]
    (transform,) = (stage for stage in before["stages"] if stage["stage"] == "Fourier transform")
    assert transform["additions"] == pytest.approx(11722 * summary["valid_steps"] / 8)  # 1024 points, a frame a step
    assert before["joules"] > 0


def test_predictions_give_the_accuracy_of_the_summary(workplace: Path) -> None:
    folder = RunFolder(workplace / "runs/latest").simulation
    summary = json.loads((folder / "summary.json").read_text())
    with (folder / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert sum(row["label"] == row["predicted"] for row in rows) / 8 == summary["accuracy"]
    assert sum(int(row["mac"]) for row in rows) == summary["totals"]["mac"]


def test_verify_reports_every_layer_without_a_difference(workplace: Path) -> None:
    report = json.loads(RunFolder(workplace / "runs/latest").verification.read_text())
    assert report["differing_spikes"] == 0
    assert report["differing_predictions"] == 0
    assert len(report["layers"]) == 17
    assert report["first_divergence"] is None
    assert report["recordings"] == 8


def test_graph_alone_says_how_to_prepare_a_recording(workplace: Path) -> None:
    metadata = nir.read(workplace / "runs/latest/model.nir").metadata
    assert json.loads(metadata["spikescr.classes"]) == ["high", "low"]
    data = json.loads(metadata["spikescr.data"])
    assert data["preprocessing"]["front_end"]["steps"] == 20
    assert len(data["preprocessing"]["normaliser"]["mean"]) == 140
    assert metadata["spikescr.dt"] == 1 / 20


def test_one_recording_step_by_step(copied: Path) -> None:
    name = "low/00000000_nohash_2.wav"
    run = spikescr("simulate", "--recording", name, "--per-step", cwd=copied)
    assert run.returncode == 0, run.stderr
    assert "Per executed step" in run.stdout
    summary = json.loads((copied / "runs/latest/simulation/summary.json").read_text())
    assert summary["samples"] == 1
    assert summary["recording"] == name


def test_damaged_weight_in_the_graph_is_found_and_explained(copied: Path) -> None:
    path = copied / "runs/latest/model.nir"
    graph = nir.read(path)
    graph.nodes["blocks.0.ssa.v.synapse"].weight[3] += 0.25
    nir.write(path, graph)
    run = spikescr("verify", cwd=copied)
    assert run.returncode == 1
    assert "first divergence: blocks.0.ssa.v.lif" in run.stdout
    assert "neuron 3" in run.stdout
    assert "predictions differ from PyTorch's" in run.stderr
    first = json.loads((copied / "runs/latest/verify.json").read_text())["first_divergence"]
    assert first["layer"] == "blocks.0.ssa.v.lif"
    assert first["neuron"] == 3
    assert (first["membrane_pytorch"] >= 1) == first["expected"]
    assert (first["membrane_lava"] >= 1) == first["executed"]
    assert first["expected"] != first["executed"]


@pytest.mark.parametrize("damage", ["negated head", "output one step early"])
def test_damage_behind_the_last_neuron_is_found(copied: Path, damage: str) -> None:
    """No neuron follows the head: only logits and predictions can tell."""
    path = copied / "runs/latest/model.nir"
    graph = nir.read(path)
    if damage == "negated head":
        graph.nodes["head.synapse"].weight *= -1
    else:
        graph.nodes["output"].metadata["spikescr.latency"] -= 1
    nir.write(path, graph)
    run = spikescr("verify", cwd=copied)
    assert run.returncode == 1
    report = json.loads((copied / "runs/latest/verify.json").read_text())
    assert report["differing_spikes"] == 0
    assert report["largest_logit_difference"] > 1e-3
    assert not report["passed"]
    assert "0 spikes and" in run.stderr


def test_new_graph_takes_old_results_away_and_the_same_graph_leaves_them(copied: Path) -> None:
    run = RunFolder(copied / "runs/latest")
    assert spikescr("export", cwd=copied).returncode == 0
    assert (run.simulation / "summary.json").exists()
    assert run.verification.exists()

    graph = nir.read(run.graph)
    graph.nodes["head.synapse"].weight *= 2
    nir.write(run.graph, graph)
    assert spikescr("export", cwd=copied).returncode == 0
    assert not run.simulation.exists()
    assert not run.verification.exists()


def test_other_readout_is_refused(copied: Path) -> None:
    path = copied / "runs/latest/model.nir"
    graph = nir.read(path)
    graph.metadata["spikescr.readout"] = "last_step"
    nir.write(path, graph)
    run = spikescr("simulate", cwd=copied)
    assert run.returncode == 1
    assert "metadata spikescr.readout is 'last_step', only softmax_sum can be run" in run.stderr


def test_path_with_brackets_is_shown_as_it_is(copied: Path) -> None:
    shutil.copytree(copied / "runs/latest", copied / "runs/a[/x]")
    run = spikescr("export", "--run", "runs/a[/x]", cwd=copied)
    assert run.returncode == 0, run.stderr
    assert "wrote runs/a[/x]/model.nir" in run.stdout


def test_silent_layer_is_reported_as_proving_nothing(copied: Path) -> None:
    """No spike of V ever: attention is silent, and the comparison of its neurons is no evidence."""
    from spikescr.checkpoint import load_checkpoint, save_checkpoint

    checkpoint = copied / "runs/latest/model.safetensors"
    model, info = load_checkpoint(checkpoint)
    model.blocks[0].ssa.v.current.norm.bias.data.fill_(-100.0)
    save_checkpoint(checkpoint, model, info)
    assert spikescr("export", "--to", "nir", cwd=copied).returncode == 0
    run = spikescr("verify", cwd=copied)
    assert run.returncode == 0
    silent = [line for line in run.stdout.splitlines() if "silent: proves nothing" in line]
    assert [line.split()[0] for line in silent][:2] == ["blocks.0.ssa.v.lif", "blocks.0.ssa.attention.lif"]


def test_graph_of_another_checkpoint_is_refused(copied: Path) -> None:
    from spikescr.checkpoint import load_checkpoint, save_checkpoint

    checkpoint = copied / "runs/latest/model.safetensors"
    model, info = load_checkpoint(checkpoint)
    with np.errstate(all="raise"):
        model.head.weight.data.mul_(2)
    save_checkpoint(checkpoint, model, info)
    run = spikescr("verify", cwd=copied)
    assert run.returncode == 1
    assert "was exported from another checkpoint" in run.stderr
    assert "spikescr export --to nir" in run.stderr


REFUSED = {
    "other steps": (["simulate", "--steps", "40"], 2, "was made for 20 steps per second, not 40"),
    "no such recording": (["simulate", "--recording", "low/nobody.wav"], 2, "has no recording 'low/nobody.wav'"),
    "unknown option": (["simulate", "--stepz", "20"], 2, "No such option"),
    "unknown target": (["export", "--to", "onnx"], 2, "'onnx' is not one of 'nir', 'netx', 'sanafe'"),
    "no run": (["simulate", "--run", "nowhere"], 1, "nowhere/model.nir does not exist; make it with: spikescr export"),
    "no checkpoint": (["export", "--run", "nowhere"], 1, "make it with: spikescr train --run nowhere"),
    "other classes": (["simulate", "--data", "folder:other"], 2, "choose a data set with the same classes"),
}


@pytest.mark.parametrize(("arguments", "status", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_meant_is_one_line(copied: Path, arguments: list[str], status: int, message: str) -> None:
    write_tones(copied / "other", takes=1)
    (copied / "other/low").rename(copied / "other/deep")
    for listed in copied.glob("other/*.txt"):
        listed.write_text(listed.read_text().replace("low/", "deep/"))
    run = spikescr(*arguments, cwd=copied)
    assert run.returncode == status
    assert message in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("content", [b"", b"not HDF5 at all", b"\x89HDF\r\n\x1a\n" + bytes(500)])
def test_unreadable_graph_is_named(copied: Path, content: bytes) -> None:
    (copied / "runs/latest/model.nir").write_bytes(content)
    run = spikescr("simulate", cwd=copied)
    assert run.returncode == 1
    assert run.stderr.startswith("error: runs/latest/model.nir: no readable HDF5 file")
    assert run.stderr.count("\n") == 1


def test_foreign_graph_without_preprocessing_is_refused_by_name(copied: Path) -> None:
    nodes = {"input": nir.Input(np.array([2])), "fc": nir.Linear(np.eye(2)), "output": nir.Output(np.array([2]))}
    graph = nir.NIRGraph(nodes, [("input", "fc"), ("fc", "output")])
    nir.write(copied / "runs/latest/model.nir", graph)
    run = spikescr("simulate", cwd=copied)
    assert run.returncode == 1
    assert "metadata lacks spikescr.data, spikescr.classes, spikescr.checkpoint" in run.stderr
