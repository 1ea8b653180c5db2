"""`spikescr inspect` as a user runs it, on files of our own and of others."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest
from click.testing import CliRunner, Result
from helpers import calibrated_model

from spikescr.cli import main
from spikescr.export.fold import fold
from spikescr.export.to_nir import to_nir


def inspect(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)])


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    nir.write(folder / "model.nir", to_nir(fold(calibrated_model()[0]), steps=24, dt=0.025))
    return folder


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """One Affine and one LIF in float32, as Norse writes them."""
    one = np.ones(2, np.float32)
    nodes = (nir.Affine(np.ones((2, 3), np.float32), 0 * one), nir.LIF(0.0025 * one, one, 0 * one, 0.1 * one))
    nir.write(tmp_path / "foreign.nir", nir.NIRGraph.from_list(*nodes))
    return tmp_path / "foreign.nir"


def test_table_json_and_drawing_agree(run_folder: Path, tmp_path: Path) -> None:
    found = inspect("--run", run_folder, "--json", tmp_path / "a.json", "--svg", tmp_path / "a.svg")
    assert (found.exit_code, found.stderr) == (0, "")
    report = json.loads((tmp_path / "a.json").read_text())
    assert f"model.nir: {len(report['nodes'])} nodes, {len(report['edges'])} edges" in found.stdout
    rows = {line.split()[0]: line for line in found.stdout.splitlines() if line.startswith("  ") and line.split()}
    for node in report["nodes"]:
        assert (f"{node['type']} *" if not node["standard"] else node["type"]) in rows[node["name"]]
    for key in ("synapses", "neurons"):
        assert report["totals"]["all"][key] == sum(node[key] for node in report["nodes"]) > 0
    assert report["totals"]["all"]["operations"]["ac"] == sum(n["operations"]["ac"] for n in report["nodes"])
    assert report["metadata"]["spikescr.format"] == 1
    assert report["warnings"] == []
    assert ET.fromstring((tmp_path / "a.svg").read_text()).tag.endswith("svg")


def test_bits_and_precision_of_a_graph_in_fixed_point(run_folder: Path, tmp_path: Path) -> None:
    assert " bits" not in inspect("--run", run_folder).stdout
    graph = nir.read(run_folder / "model.nir")
    graph.nodes["head.synapse"].metadata["spikescr.bits"] = 7
    graph.metadata["spikescr.precision"] = "loihi2"
    nir.write(tmp_path / "fixed.nir", graph)
    found = inspect(tmp_path / "fixed.nir", "--json", tmp_path / "a.json")
    assert "state   bits" in found.stdout
    (head,) = (line for line in found.stdout.splitlines() if line.strip().startswith("head.synapse "))
    assert head.split()[-1] == "7"
    assert "spikescr.precision: loihi2\n" in found.stdout
    nodes = {node["name"]: node["bits"] for node in json.loads((tmp_path / "a.json").read_text())["nodes"]}
    assert nodes.pop("head.synapse") == 7
    assert set(nodes.values()) == {None}


def test_foreign_file_is_told_why_it_does_not_run(foreign: Path) -> None:
    found = inspect(foreign)
    assert found.exit_code == 0
    assert "Affine" in found.stdout
    assert "3 > 2" in found.stdout
    assert found.stderr == "note: the file has no step: to run it give dt (--dt), seconds per step\n"
    graph = nir.read(foreign)
    graph.metadata["dt"] = 1e-3
    nir.write(foreign.with_name("timed.nir"), graph)
    assert inspect(foreign.with_name("timed.nir")).stderr == ""  # and it has no window, which simulate does not need
    graph.nodes["lif"].tau[0] = 0
    for name, metadata in (("timed.nir", graph.metadata), ("still.nir", {})):
        graph.metadata = metadata
        nir.write(foreign.with_name(name), graph)
        told = inspect(foreign.with_name(name)).stderr
        assert told == "note: spikescr simulate cannot run it: lif: tau must be above 0, found 0.0\n"


def test_values_are_printed_node_by_node(foreign: Path) -> None:
    lines = inspect(foreign, "--values").stdout.splitlines()
    assert lines[:4] == [
        "input: Input 3 > 3, feeds affine",
        "affine: Affine 3 > 2, feeds lif",
        "    weight = [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]",
        "    bias = [0.0, 0.0]",
    ]
    assert "    tau = [0.0025, 0.0025]" in lines


def test_file_whose_shapes_contradict_is_shown_as_written(tmp_path: Path) -> None:
    nodes = {"input": nir.Input(np.array([3])), "a": nir.Linear(np.ones((2, 5))), "output": nir.Output(np.array([2]))}
    graph = nir.NIRGraph(nodes, [("input", "a"), ("a", "output")], type_check=False)
    nir.write(tmp_path / "wrong.nir", graph)
    found = inspect(tmp_path / "wrong.nir")
    assert found.exit_code == 0
    assert "5 > 2" in found.stdout
    assert "note: nir does not infer its shapes: " in found.stderr
    assert "note: spikescr simulate cannot run it: " in found.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["nothing.nir"], 1, "nothing.nir: no such file"),
        (["text.nir"], 1, "text.nir: no readable HDF5 file"),
        (["other.h5"], 1, "other.h5: not a readable NIR graph: it has no group 'node', but a"),
        (["text.nir", "--run", "runs/x"], 2, "give a FILE or --run, not both"),
        (["--run", "runs/x"], 1, "model.nir does not exist; make it with: spikescr export --to nir --run runs/x"),
    ],
)
def test_bad_input_gets_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.nir").write_text("text")
    with h5py.File("other.h5", "w") as file:
        file["a"] = 1
    found = inspect(*arguments)
    assert (found.exit_code, found.stdout) == (status, "")
    assert found.stderr.startswith("error: ")
    assert words in found.stderr
    assert found.stderr.count("\n") == 1


def test_graph_that_cannot_be_run_is_described_with_why(tmp_path: Path) -> None:
    ends = {"input": nir.Input(np.array([2])), "output": nir.Output(np.array([2]))}
    graph = nir.NIRGraph(ends, [("input", "output"), ("input", "lost")], type_check=False)
    nir.write(tmp_path / "edge.nir", graph)
    found = inspect(tmp_path / "edge.nir", "--json", tmp_path / "a.json", "--svg", tmp_path / "a.svg")
    assert found.exit_code == 0
    told = f"{tmp_path / 'edge.nir'}: the edge input -> lost names a node lost that the graph does not have"
    assert f"note: {told}\n" in found.stderr
    assert told in json.loads((tmp_path / "a.json").read_text())["warnings"]
    assert (tmp_path / "a.svg").exists()
