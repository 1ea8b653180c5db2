"""`spikescr fit` as a user runs it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nir
import numpy as np
import pytest
from click.testing import CliRunner, Result
from commands import may_write, spikescr
from helpers import calibrated_model

from spikescr.cli import main
from spikescr.export.fold import fold
from spikescr.export.to_nir import to_nir
from spikescr.files import sha256
from spikescr.model import ModelConfig
from spikescr.runs import RunFolder
from spikescr.sim.counting.account import Account
from spikescr.sim.counting.saved import Audit
from spikescr.sim.fast.backend import FastBackend
from spikescr.sim.lowering.lower import lower
from spikescr.sim.run import run_batches
from spikescr.workflows.fit import fit_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a graph and the audit of its simulation."""
    folder = tmp_path_factory.mktemp("run")
    config = ModelConfig(inputs=6, classes=3, layers=1, heads=2, width=8, mlp_ratio=1, kernel=3)
    model, x, steps = calibrated_model(config, samples=4, window=15)
    graph = to_nir(fold(model), steps=15, dt=1 / 15, signal="values")
    nir.write(folder / "model.nir", graph)
    program = lower(graph)
    account = Account(program)
    with FastBackend(program, 4) as backend:
        for batch in run_batches(program, backend, x.transpose(0, 1).numpy(), steps.numpy()):
            account.add(batch.recording.counts, batch.valid, batch.output)
    about = {"backend": "fast", "files": {"model.nir": sha256(folder / "model.nir")}}
    audit = Audit.from_account(account, list("abcd"), list("xxyy"), list("xxyx"), about)
    (folder / "simulation").mkdir()
    audit.save(folder / "simulation" / "audit.npz")
    return folder


def fit(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["fit", *map(str, arguments)])


def test_table_json_and_csv_agree(run: Path, tmp_path: Path) -> None:
    result = fit("--run", run, "--json", tmp_path / "a.json", "--csv", tmp_path / "a.csv", "--strict")
    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads((tmp_path / "a.json").read_text())
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["layer"] for row in rows] == [layer["layer"] for layer in found["layers"]]
    assert sum(int(row["memory_bytes"]) for row in rows) == found["total"]["memory_bytes"]
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
    for row in rows:
        assert f"{int(row['neurons']):,}" in lines[row["layer"]].split()
    assert found["fits"]
    assert f"{found['total']['cores']} of 128 cores, 1 chip" in result.stdout
    assert "fits (assumed: input axons, output axons, axon bytes, parameter bytes)" in result.stdout
    assert found["limits"]["memory"]["source"] in found["sources"]


def test_spikes_are_those_of_the_simulation(run: Path, tmp_path: Path) -> None:
    result = fit("--run", run, "--json", tmp_path / "a.json")
    found = json.loads((tmp_path / "a.json").read_text())
    audit = Audit.load(run / "simulation" / "audit.npz")
    spikes = {row["layer"]: row["spikes_between_cores"] for row in found["layers"]}
    fired = audit.counts["fired"][audit.operations.index("blocks.0.mlp1.contract.lif")].sum()
    # to the relays of the residual sum and to the pointwise layer, a core each
    assert spikes["blocks.0.mlp1.contract"] == pytest.approx(2 * fired / (audit.samples * audit.period))
    assert fired > 0
    estimate = found["estimate"]
    operations = sum(audit.counts[kind].sum() for kind in ("ac", "mac", "bias")) / audit.samples
    assert estimate["synaptic"] == pytest.approx(operations)
    assert estimate["updates"] == found["total"]["neurons"] * audit.period
    assert "estimate, one recording: " in result.stdout
    assert "never to be added" in result.stdout
    fitted = found["fitted"]
    assert fitted["terms"]["neuron_access"]["count"] == found["total"]["neurons"] * fitted["steps"]
    assert fitted["steps"] > audit.period  # and a step for each layer of the longest way
    events = sum(amount["count"] for name, amount in fitted["terms"].items() if name.startswith("synapse"))
    assert events == pytest.approx(operations)
    assert f"decided by the {fitted['deciding']} (" in result.stdout
    assert "energy within 12 %" in result.stdout


def test_graph_and_simulation_stay_as_they_are_while_it_reads_them(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, load = list[bool](), Audit.load

    def loaded(path: Path) -> Audit:
        found.append(may_write(run))
        return load(path)

    monkeypatch.setattr(Audit, "load", loaded)
    fit_run(RunFolder(run))
    assert found == [False]
    assert may_write(run)


def test_another_graph_or_a_file_alone_gives_upper_bounds(run: Path, tmp_path: Path) -> None:
    alone = fit(run / "model.nir")
    assert "an upper bound" in alone.stdout
    assert "estimate" not in alone.stdout
    (tmp_path / "simulation").mkdir()
    (tmp_path / "simulation" / "audit.npz").write_bytes((run / "simulation" / "audit.npz").read_bytes())
    one = np.ones(2)
    nir.write(tmp_path / "model.nir", nir.NIRGraph.from_list(nir.Linear(np.ones((2, 3))), nir.LIF(one, one, one, one)))
    other = fit("--run", tmp_path)
    assert other.exit_code == 0, other.output
    assert "an upper bound" in other.stdout
    assert "is of another graph" in other.stderr
    assert "no seconds per step" in other.stderr


def test_the_network_in_integers_is_taken_where_there_is_one(run: Path, tmp_path: Path) -> None:
    (tmp_path / "loihi2").mkdir()
    graph = nir.read(run / "model.nir")
    for name, node in graph.nodes.items():
        if name.startswith("blocks.0.mlp1.expand.synapse"):
            node.metadata["spikescr.bits"] = 5
    nir.write(tmp_path / "loihi2" / "model.nir", graph)
    (tmp_path / "model.nir").write_bytes(b"not this one")
    assert fit("--run", tmp_path, "--csv", tmp_path / "a.csv").exit_code == 0
    with (tmp_path / "a.csv").open() as file:
        bits = {row["layer"]: row["bits"] for row in csv.DictReader(file)}
    assert bits.pop("blocks.0.mlp1.expand") == "5"
    assert set(bits.values()) == {"8"}
    assert fit("--run", tmp_path, "--bits", "3", "--csv", tmp_path / "a.csv").exit_code == 0
    with (tmp_path / "a.csv").open() as file:
        assert {row["bits"] for row in csv.DictReader(file)} == {"3"}


def test_what_does_not_fit_is_told_and_strict_makes_it_an_error(run: Path) -> None:
    plain = fit("--run", run, "--chip", "loihi1")
    assert plain.exit_code == 0
    assert "exceeded: blocks.0.ssa.attention: programmable: " in plain.stdout
    assert "does not fit: 5 limits exceeded" in plain.stdout
    strict = fit("--run", run, "--chip", "loihi1", "--strict")
    assert strict.exit_code == 1
    assert strict.stderr == f"error: {run}/model.nir does not fit Loihi\n"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--chip", "loihi3"), 2, "error: no chip loihi3; known: loihi2, loihi1\n"),
        (("a.nir", "--run", "b"), 2, "error: give a GRAPH or --run, not both\n"),
        (("absent.nir",), 1, "error: absent.nir: no such file; make one with: spikescr export --to nir\n"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], status: int, message: str) -> None:
    result = fit(*arguments)
    assert (result.exit_code, result.stderr) == (status, message)


def test_a_table_that_cannot_be_written_leaves_no_json_of_the_other_call(run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("old")
    result = fit("--run", run, "--json", tmp_path / "a.json", "--csv", tmp_path / "absent/a.csv")
    assert result.exit_code == 1
    assert f"{tmp_path}/absent/a.csv" in result.stderr
    assert (tmp_path / "a.json").read_text() == "old"


def test_as_a_process(run: Path) -> None:
    found = spikescr("fit", "--run", run, cwd=run)
    assert (found.returncode, found.stderr) == (0, "")
    assert "model.nir on Loihi 2" in found.stdout
    assert spikescr("fit", "--run", run, "--chip", "loihi1", "--strict", cwd=run).returncode == 1
