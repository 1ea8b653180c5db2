"""`spikescr export --to netx` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest
from click.testing import CliRunner, Result
from helpers import calibrated_model

from spikescr.cli import main
from spikescr.export.builder import GraphBuilder
from spikescr.export.fold import fold
from spikescr.export.to_nir import to_nir
from spikescr.files import sha256

DT = 0.01


def export(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["export", "--to", "netx", *map(str, arguments)])


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    build = GraphBuilder(DT)
    x = build.input("input", 2, "spikes")
    x = build.lif("a.lif", build.linear("a", x, np.array([[0.5, 0.25], [1.0, -0.5]]), np.array([0.25, 0.0])))
    build.output("output", x)
    nir.write(tmp_path / "chain.nir", build.graph({"spikescr.dt": DT}))
    return tmp_path / "chain.nir"


def test_table_note_and_file(chain: Path, tmp_path: Path) -> None:
    found = export("--graph", chain, "--out", tmp_path / "a.net")
    assert found.exit_code == 0, found.stderr
    (row,) = (line for line in found.stdout.splitlines() if "a.lif" in line)
    # the largest weight is a threshold, 128 units: a power of two that holds all weights
    assert " ".join(row.split()) == "a.lif dense 2 128 -64..128 0 127 4096 2048 0..32 0 0.0e+00 1"
    assert "note: netx has no clock" in found.stderr
    assert (
        "note: a.lif: truncation takes less than 0.00024 from a membrane; a membrane that lacks less than 0.0078 fires"
        in (found.stderr)
    )
    assert f"wrote {tmp_path / 'a.net'} (1 layers, latency 1 steps" in found.stdout
    with h5py.File(tmp_path / "a.net") as file:
        assert file["layer/1/weight"][()].tolist() == [[64, 32], [128, -64]]
        assert file["layer/1/bias"][()].tolist() == [32, 0]
        assert file.attrs["source_sha256"] == sha256(chain)
        assert "spikescr" in json.loads(file.attrs["versions"])


def test_nested_graphs_are_opened(tmp_path: Path) -> None:
    """A layer of a graph within a graph is the same layer, under the name that simulate gives it."""
    one = np.ones(3)
    first, weight = nir.Linear(np.array([[0.5, 0.25], [1.0, -0.5], [0.25, 0.0]])), np.eye(3)
    lif = nir.LIF(2 * DT * one, 2 * one, 0 * one, one, 0 * one)
    inner = nir.NIRGraph.from_list(nir.Linear(weight), lif)
    nested = nir.NIRGraph.from_list(first, nir.IF(one, one, 0 * one), inner)
    nested.nodes["deep"] = nir.NIRGraph.from_list(nested.nodes.pop("nirgraph"))
    nested.edges = [tuple("deep" if end == "nirgraph" else end for end in edge) for edge in nested.edges]
    flat = nir.NIRGraph.from_list(first, nir.IF(one, one, 0 * one), nir.Linear(weight), lif)
    layers = {}
    for name, graph in (("nested", nested), ("flat", flat)):
        nir.write(tmp_path / f"{name}.nir", graph)
        found = export("--graph", tmp_path / f"{name}.nir", "--dt", str(DT), "--out", tmp_path / f"{name}.net")
        assert found.exit_code == 0, found.stderr
        with h5py.File(tmp_path / f"{name}.net") as file:
            content: dict[str, list[float]] = {}
            file["layer"].visititems(
                lambda key, item, content=content: (
                    content.update({key: item[()].tolist()}) if isinstance(item, h5py.Dataset) else None
                )
            )
            layers[name] = content
            names = [file[f"layer/{number}"].attrs["node"] for number in (1, 2)]
        assert names == (["if", "deep.nirgraph.lif"] if name == "nested" else ["if", "lif"])
    assert layers["nested"] == layers["flat"]


def test_a_nested_graph_of_two_inputs_is_refused(tmp_path: Path) -> None:
    inner = nir.NIRGraph(
        {
            "a": nir.Input(np.array([2])),
            "b": nir.Input(np.array([2])),
            "lif": nir.LIF(*(2 * DT * np.ones(2), 2 * np.ones(2), np.zeros(2), np.ones(2))),
            "output": nir.Output(np.array([2])),
        },
        [("a", "lif"), ("b", "lif"), ("lif", "output")],
    )
    nodes = {"input": nir.Input(np.array([2])), "inner": inner, "output": nir.Output(np.array([2]))}
    edges = [("input", "inner"), ("inner", "output")]
    nir.write(tmp_path / "a.nir", nir.NIRGraph(nodes, edges, type_check=False))
    found = export("--graph", tmp_path / "a.nir", "--dt", str(DT))
    assert found.exit_code == 1
    assert "nested graph: inner" in found.stderr


def test_file_goes_beside_the_graph_of_a_run(chain: Path) -> None:
    run = chain.parent / "run"
    run.mkdir()
    chain.rename(run / "model.nir")
    assert export("--run", run).exit_code == 0
    assert (run / "model.net").is_file()


def test_spikescr_is_refused_in_one_line(tmp_path: Path) -> None:
    nir.write(tmp_path / "model.nir", to_nir(fold(calibrated_model()[0]), steps=24, dt=DT))
    found = export("--graph", tmp_path / "model.nir")
    assert (found.exit_code, found.stdout) == (1, "")
    assert found.stderr.count("\n") == 1
    assert "attention: blocks.0.ssa.attention.product" in found.stderr
    assert "blocks.0.sgc.depthwise.synapse.tap0..6" in found.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.nir"]


def test_step_comes_from_the_file_or_the_option(chain: Path, tmp_path: Path) -> None:
    found = export("--graph", chain, "--dt", "0.02")
    assert (found.exit_code, found.stderr) == (2, f"error: {chain}: its metadata has spikescr.dt 0.01, not 0.02\n")
    graph = nir.read(chain)
    del graph.metadata["spikescr.dt"]
    nir.write(tmp_path / "other.nir", graph)
    found = export("--graph", tmp_path / "other.nir")
    assert found.exit_code == 2
    assert "give the seconds per step, dt (--dt)" in found.stderr
    assert export("--graph", tmp_path / "other.nir", "--dt", "0.01").exit_code == 0
    graph.metadata["dt"] = 0.01  # the word of others
    nir.write(tmp_path / "theirs.nir", graph)
    found = export("--graph", tmp_path / "theirs.nir", "--dt", "0.02")
    assert found.stderr == f"error: {tmp_path / 'theirs.nir'}: its metadata has dt 0.01, not 0.02\n"
    assert export("--graph", tmp_path / "theirs.nir").exit_code == 0


@pytest.mark.parametrize(
    ("metadata", "bad", "message"),
    [
        ({"spikescr.format": 2}, 1.0, "metadata spikescr.format is 2, this version reads 1; export again"),
        ({"spikescr.dt": -1.0}, 1.0, "the graph's metadata spikescr.dt must be a number above 0, is -1.0"),
        ({}, np.nan, "cannot hold these nodes: weights, biases or neurons' parameters that are no numbers: a.lif"),
    ],
)
def test_what_no_reader_may_take_is_refused(chain: Path, metadata: dict[str, float], bad: float, message: str) -> None:
    graph = nir.read(chain)
    graph.metadata |= metadata
    graph.nodes["a.synapse"].weight[0, 0] = bad
    nir.write(chain, graph)
    found = export("--graph", chain)
    assert found.exit_code == 1
    assert found.stderr.startswith(f"error: {chain}: ")
    assert message in found.stderr
    assert found.stderr.count("\n") == 1


def test_what_simulate_runs_is_taken(tmp_path: Path) -> None:
    """An Output of another shape and one constant for a layer, as in files of the NIR paper: nir's type check fails."""
    one = np.ones(1)
    nodes = {
        "input": nir.Input(np.array([3])),
        "fc": nir.Linear(np.full((4, 3), 0.5)),
        "lif": nir.LIF(one * 2.5e-3, one, one * 0, one * 0.1),
        "output": nir.Output(np.array([1, 1, 4])),
    }
    path = tmp_path / "loose.nir"
    nir.write(path, nir.NIRGraph(nodes, [*zip(list(nodes), list(nodes)[1:], strict=False)], type_check=False))
    found = export("--graph", path, "--dt", "1e-4")
    assert found.exit_code == 0, found.stderr
    assert "lif: membranes decay by 164/4096 a step for 0.04; truncation takes" in found.stderr


def test_a_layer_of_nothing_but_zeros_is_refused_by_name(tmp_path: Path) -> None:
    one = np.ones(10)
    weight = np.random.default_rng(0).uniform(-1 / 28, 1 / 28, (10, 784))
    nodes = {
        "input": nir.Input(np.array([784])),
        "fc": nir.Linear(weight),
        "lif": nir.CubaLIF(tau_syn=one * 0.005, tau_mem=one * 0.02, r=one, v_leak=one * 0, v_threshold=one),
        "output": nir.Output(np.array([10])),
    }
    nir.write(tmp_path / "small.nir", nir.NIRGraph(nodes, [*zip(list(nodes), list(nodes)[1:], strict=False)]))
    found = export("--graph", tmp_path / "small.nir", "--dt", "1e-4")
    assert (found.exit_code, found.stderr.count("\n")) == (1, 1)
    assert f"error: {tmp_path / 'small.nir'}: lif: its weights reach 3.6e-06 thresholds" in found.stderr
    assert not (tmp_path / "small.net").exists()


def test_what_simulate_refuses_is_refused_with_the_file_named(tmp_path: Path) -> None:
    one = np.ones(2)
    nodes = {
        "input": nir.Input(np.array([2])),
        "fc": nir.Affine(np.eye(2) / 2, one / 4),
        "lif": nir.LIF(one * 0.02, one, one * 0, one),
        "output": nir.Output(np.array([2])),
    }
    path = tmp_path / "scalar.nir"
    nir.write(path, nir.NIRGraph(nodes, [*zip(list(nodes), list(nodes)[1:], strict=False)]))
    with h5py.File(path, "r+") as file:
        del file["node/nodes/fc/bias"]
        file["node/nodes/fc/bias"] = 0.25
    found = export("--graph", path, "--dt", "1e-3")
    assert (found.exit_code, found.stderr) == (1, f"error: {path}: fc: bias has shape (), must have (2,)\n")


def test_options_that_contradict_are_refused(tmp_path: Path) -> None:
    assert export("--graph", "a.nir", "--run", tmp_path).exit_code == 2
    found = CliRunner().invoke(main, ["export", "--graph", "a.nir"])
    assert (found.exit_code, found.stdout) == (2, "")
    assert "belong to --to netx" in found.stderr


def test_a_file_that_would_not_fit_is_not_written(tmp_path: Path) -> None:
    # 5,000 inputs of one neuron: a core of Loihi 2 hears 4,096
    build = GraphBuilder(DT)
    x = build.input("input", 5000, "spikes")
    build.output("output", build.lif("a.lif", build.linear("a", x, np.full((1, 5000), 2.0**-12))))
    nir.write(tmp_path / "wide.nir", build.graph({"spikescr.dt": DT}))
    found = export("--graph", tmp_path / "wide.nir", "--out", tmp_path / "a.net")
    assert found.exit_code == 1
    assert "does not fit Loihi 2: a: input axons: 5,000 against 4,096 source neurons per core" in found.stderr
    assert not (tmp_path / "a.net").exists()


@pytest.mark.parametrize(
    "words",
    [["fit"], ["export", "--to", "netx"], ["export", "--to", "sanafe", "--example", "x.npy", "--out", "files"]],
    ids=lambda words: words[2] if len(words) > 1 else words[0],
)
def test_a_run_whose_graph_is_of_another_network_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.ones((3, 2)))
    build = GraphBuilder(DT)
    x = build.linear("a", build.input("input", 2, "spikes"), np.array([[0.5, 0.25], [1.0, -0.5]]), np.zeros(2))
    build.output("output", build.lif("a.lif", x))
    nir.write("model.nir", build.graph({"spikescr.dt": DT, "spikescr.steps": 3}))
    alone = CliRunner().invoke(main, [*words, "--run", "."])
    assert alone.exit_code == 0, alone.output
    Path("model.safetensors").write_bytes(b"trained since")
    found = CliRunner().invoke(main, [*words, "--run", "."])
    assert found.exit_code == 1
    assert "model.nir was exported from another checkpoint than model.safetensors; export again with" in found.stderr
