"""`spikescr energy` as a user runs it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from helpers import calibrated_model

from spikescr.cli import main
from spikescr.export.fold import fold
from spikescr.export.to_nir import to_nir
from spikescr.model import ModelConfig
from spikescr.quantities import si
from spikescr.sim.counting.account import Account
from spikescr.sim.counting.saved import Audit
from spikescr.sim.fast.backend import FastBackend
from spikescr.sim.lowering.lower import lower
from spikescr.sim.run import run_batches


def make_run(folder: Path, window: int, dt: float) -> Path:
    """A run folder that holds an audit."""
    config = ModelConfig(inputs=6, classes=3, layers=1, heads=2, width=8, mlp_ratio=1, kernel=3)
    model, x, steps = calibrated_model(config, samples=4, window=window)
    program = lower(to_nir(fold(model), steps=window, dt=dt, signal="values"))
    account = Account(program)
    with FastBackend(program, 4) as backend:
        for batch in run_batches(program, backend, x.transpose(0, 1).numpy(), steps.numpy()):
            account.add(batch.recording.counts, batch.valid, batch.output)
    audit = Audit.from_account(account, list("abcd"), list("xxyy"), list("xxyx"), {"backend": "fast"})
    (folder / "simulation").mkdir(parents=True)
    audit.save(folder / "simulation" / "audit.npz")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("runs")
    return make_run(root / "long", 30, 1 / 30), make_run(root / "short", 15, 1 / 15)


def energy(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["energy", *map(str, arguments)])


def test_table_of_conventions_and_the_way_between_two(runs: tuple[Path, Path]) -> None:
    result = energy(runs[0], "--from", "executed", "--to", "spikingjelly", "--layers", "--per-step")
    assert result.exit_code == 0, result.output
    for word in ("executed", "quadratic", "graded", "paper", "spikingjelly", "neurobench", "syops"):
        assert f"\n {word} " in result.output
    assert "From executed to spikingjelly" in result.output
    assert "neuron updates" in result.output
    assert "operations that no cause explains: 0\n" in result.output
    assert "predictions were final at step" in result.output
    assert "memory traffic, apart (32-bit words)" in result.output
    assert "blocks.0.mlp1.expand" in result.output


def test_json_has_conventions_and_leaves_nothing_unexplained(runs: tuple[Path, Path], tmp_path: Path) -> None:
    file = tmp_path / "energy.json"
    assert energy(runs[0], "--json", file).exit_code == 0
    found = json.loads(file.read_text())
    assert found["unexplained_operations"] == 0
    for convention in found["conventions"].values():
        assert convention["joules"] == pytest.approx(0.9e-12 * convention["ac"] + 4.6e-12 * convention["mac"])
    way = found["reconciliation"]
    total = sum(cause["joules"] for cause in way["causes"].values())
    assert (way["from"], way["to"]) == ("paper", "executed")
    difference = found["conventions"]["executed"]["joules"] - found["conventions"]["paper"]["joules"]
    assert total == pytest.approx(difference, rel=1e-9)
    assert np.sum(found["per_step"]["mean_j"]) == pytest.approx(found["conventions"]["executed"]["joules"])
    layers = sum(layer["joules"]["executed"] for layer in found["layers"])
    assert layers == pytest.approx(found["conventions"]["executed"]["joules"])
    assert found["about"] == {"backend": "fast"}


def test_runs_are_compared(runs: tuple[Path, Path], tmp_path: Path) -> None:
    file = tmp_path / "change.json"
    result = energy("--compare", *runs, "--json", file)
    assert result.exit_code == 0, result.output
    found = json.loads(file.read_text())["runs"]
    first, second = (found[str(run)] for run in runs)
    assert (first["steps_per_second"], second["steps_per_second"]) == (30, 15)
    change = second["change"]
    assert change["change"] == pytest.approx(second["joules"] / first["joules"] - 1)
    assert change["low"] <= change["change"] <= change["high"]
    assert f"{100 * change['change']:+.1f} %" in result.output


def test_runs_of_other_recordings_are_told(runs: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "other" / "simulation"
    other.mkdir(parents=True)
    replace(Audit.load(runs[0] / "simulation" / "audit.npz"), recordings=tuple("efgh")).save(other / "audit.npz")
    assert "other recordings" not in energy("--compare", *runs).output
    result = energy("--compare", *runs, other.parent)
    assert f"{other.parent}: other recordings than of {runs[0]}; their intervals are drawn apart" in " ".join(
        result.output.split()
    )


def test_own_constants_are_used(runs: tuple[Path, Path], tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        '[cost.mine]\ntitle = "t"\nbits = 8\nac_pj = 0\nmac_pj = 0\nyear = 2026\nsource = "here: and there"\n'
    )
    result = energy(runs[0], "--constants", own, "--cost", "mine")
    assert result.exit_code == 0, result.output
    assert "by convention of counting, mine" in result.output
    assert "memory traffic, apart (8-bit words)" in result.output


def test_a_run_in_fixed_point_is_charged_with_integers_beside(runs: tuple[Path, Path], tmp_path: Path) -> None:
    audit = Audit.load(runs[0] / "simulation" / "audit.npz")
    (tmp_path / "simulation").mkdir()
    replace(audit, about={"precision": "loihi2"}).save(tmp_path / "simulation" / "audit.npz")
    result = energy(tmp_path, "--json", tmp_path / "a.json")
    constants = json.loads((tmp_path / "a.json").read_text())["constants"]
    ac, mac = audit.charge("executed").sum(axis=0) / audit.samples
    eight = ac * 0.03e-12 + mac * (0.2e-12 + 0.03e-12)  # a MAC multiplies and adds
    assert constants["horowitz2014-45nm-int8"]["executed_j"] == pytest.approx(eight)
    assert f"computed in fixed point: {si(eight, 'J')} by horowitz2014-45nm-int8, beside " in result.output
    assert f"32 ({si(ac * 0.1e-12 + mac * 3.2e-12, 'J')})" in result.output
    assert "fixed point" not in energy(runs[0]).output


FRONT_END = {
    "title": "log-mel of sound",
    "stages": [
        {"name": "window", "rule": "a", "additions": 0, "multiplications": 100},
        {"name": "mel filters", "rule": "b", "additions": 7, "multiplications": 7},
        {"name": "levels", "rule": "c", "additions": 5, "multiplications": 2, "each": "recording"},
    ],
    "frames_per_step": 2,
    "not_counted": "the microphone",
}


def with_front_end(run: Path, folder: Path, front_end: object) -> Audit:
    audit = Audit.load(run / "simulation" / "audit.npz")
    (folder / "simulation").mkdir()
    replace(audit, about={"front_end": front_end}).save(folder / "simulation" / "audit.npz")
    return audit


def test_what_comes_before_the_network_stands_beside_it(runs: tuple[Path, Path], tmp_path: Path) -> None:
    audit = with_front_end(runs[0], tmp_path, FRONT_END)
    result = energy(tmp_path, "--json", tmp_path / "a.json")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "a.json").read_text())
    frames = 2 * audit.valid.mean()
    additions, multiplications = 7 * frames + 5, 107 * frames + 2
    joules = (additions * 0.9 + multiplications * 3.7) * 1e-12
    before = found["before_network"]
    assert (before["additions"], before["multiplications"]) == pytest.approx((additions, multiplications))
    assert before["joules"] == pytest.approx(joules) == sum(stage["joules"] for stage in before["stages"])
    assert before["stages"][1]["joules"] == pytest.approx(7 * frames * 4.6e-12)  # each a MAC
    beside = [line.split()[-2:] for line in result.output.splitlines() if line.startswith((" executed ", " graded "))]
    assert beside[0] == beside[1] == si(joules, "J").split()
    assert f"log-mel of sound, {si(joules, 'J')} per recording" in result.output
    assert "not counted: the microphone" in result.output
    plain = tmp_path / "b.json"
    assert energy(runs[0], "--json", plain).exit_code == 0
    networks = [json.loads(file.read_text())["conventions"] for file in (tmp_path / "a.json", plain)]
    assert networks[0] == networks[1], "it is in no figure of the network"


def test_without_a_price_of_multiplications_the_front_end_has_none(runs: tuple[Path, Path], tmp_path: Path) -> None:
    with_front_end(runs[0], tmp_path, FRONT_END)
    result = energy(tmp_path, "--cost", "loihi2018", "--json", tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text())["before_network"]["joules"] is None
    assert "no price" in result.output


def test_a_front_end_that_nobody_counted_is_told(runs: tuple[Path, Path], tmp_path: Path) -> None:
    with_front_end(runs[0], tmp_path, {"title": "spikes of a cochlea", "not_counted": "the cochlea"})
    result = energy(tmp_path)
    assert "before the network, in no figure of it: spikes of a cochlea; not counted: the cochlea" in result.output
    assert "Before the network" not in result.output
    assert "before the network" not in energy(runs[0]).output


def test_a_damaged_front_end_is_refused(runs: tuple[Path, Path], tmp_path: Path) -> None:
    with_front_end(runs[0], tmp_path, {"title": "a", "stages": [{"name": "b", "additions": -1}]})
    result = energy(tmp_path)
    assert result.exit_code == 1
    assert "audit.npz: audit: " in result.output
    assert "front_end" in result.output


def test_energies_without_multiplications_are_told(runs: tuple[Path, Path]) -> None:
    told = "has no energy of a MAC: these energies are of AC alone"
    assert f"loihi2018 {told}" in energy(runs[0], "--cost", "loihi2018").output
    assert told not in energy(runs[0]).output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cost = 3", "own.toml: cost must be tables [cost.NAME], found 3"),
        ("memory = []", "own.toml: memory must be tables [memory.NAME], found []"),
        ("cost.mine = 3", "own.toml: cost.mine must be a table, found 3"),
        (
            '[cost.loihi2018]\ntitle = "t"\nbits = 8\nac_pj = 1\nyear = 2026\nsource = "s"',
            "own.toml: loihi2018 is the name of constants that are known already; take another",
        ),
    ],
)
def test_constants_that_cannot_be_used_are_named(
    runs: tuple[Path, Path], tmp_path: Path, text: str, message: str
) -> None:
    own = tmp_path / "own.toml"
    own.write_text(text)
    result = energy(runs[0], "--constants", own)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize(
    ("arguments", "message", "status"),
    [
        (["--cost", "gold"], "gold: no such constants (--cost); known: horowitz2014-45nm-fp32", 2),
        (["--from", "me"], "--from me: no such convention; known: executed", 2),
        (["--compare"], "--compare needs two runs or more", 2),
        (["--compare", "{}", "{}", "--layers"], "--layers: is told of one run, not with --compare", 2),
        (["--compare", "{}", "{}", "--per-step"], "--per-step: is told of one run, not with --compare", 2),
        (["--compare", "{}", "{}", "--from", "paper"], "--from: is told of one run, not with --compare", 2),
        (["{}", "{}"], "one run at a time; several are compared with --compare", 2),
        (["nowhere"], "nowhere/simulation/audit.npz does not exist; make it with: spikescr simulate --run nowhere", 1),
    ],
)
def test_wrong_use_is_one_line(runs: tuple[Path, Path], arguments: list[str], message: str, status: int) -> None:
    result = energy(*(argument.format(runs[0]) for argument in arguments))
    assert result.exit_code == status
    assert message in result.output
    assert "Traceback" not in result.output
