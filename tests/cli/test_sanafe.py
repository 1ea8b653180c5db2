"""`spikescr export --to sanafe` as a user runs it."""

from __future__ import annotations

import itertools
from pathlib import Path

import nir
import numpy as np
import pytest
from click.testing import CliRunner, Result

from spikescr.cli import main


def export(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["export", "--to", "sanafe", *map(str, arguments)])


@pytest.fixture
def net(tmp_path: Path) -> Path:
    one = np.ones(4)
    nodes = {
        "input": nir.Input(np.array([3]), metadata={"spikescr.signal": "spikes"}),
        "w": nir.Affine(weight=np.eye(4, 3), bias=0.5 * one),
        "out.lif": nir.LIF(tau=2e-3 * one, r=2 * one, v_leak=0 * one, v_threshold=one, v_reset=0 * one),
        "output": nir.Output(np.array([4])),
    }
    path = tmp_path / "net.nir"
    nir.write(path, nir.NIRGraph(nodes, list(itertools.pairwise(nodes)), metadata={"spikescr.dt": 1e-3}))
    return path


def test_chip_network_and_mapping_are_written(net: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.eye(5, 3))
    found = export("--graph", net, "--example", tmp_path / "x.npy", "--out", tmp_path / "there")
    assert found.exit_code == 0, found.output
    assert "simulate 6 steps" in found.output
    network = (tmp_path / "there" / "network.yaml").read_text().splitlines()
    # spikes of channel 1, and the bias as what a clock sends
    assert "        - 1: [spikes: [0, 1, 0, 0, 0]]" in network
    assert "    - name: clock__0" in network
    assert "  - out_lif.0..3: [core: 0.0]" in network
    assert '  - input__0.2: [core: 0.4, soma: "inputs[3]"]' in network
    arch = (tmp_path / "there" / "arch.yaml").read_text()
    assert "energy_message_out: 1.11e-10" in arch
    assert "latency_sync: {1: 6e-07, 2: 1e-06" in arch


def test_the_first_sample_is_taken(net: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.stack([np.eye(5, 3), np.zeros((5, 3))], axis=1))
    assert export("--graph", net, "--example", tmp_path / "x.npy", "--out", tmp_path / "there").exit_code == 0
    assert "- 1: [spikes: [0, 1, 0, 0, 0]]" in (tmp_path / "there" / "network.yaml").read_text()


@pytest.mark.parametrize(
    ("spikes", "words"),
    [(np.full((5, 3), 0.5), "give 0 and 1 alone"), (np.zeros((5, 2)), "give (T, ...) with 3 channels a step")],
)
def test_an_example_that_is_none_is_told(net: Path, tmp_path: Path, spikes: np.ndarray, words: str) -> None:
    np.save(tmp_path / "x.npy", spikes)
    found = export("--graph", net, "--example", tmp_path / "x.npy", "--out", tmp_path / "there")
    assert found.exit_code == 2
    assert words in found.output
    assert not (tmp_path / "there").exists()


def test_what_is_missing_is_told(net: Path) -> None:
    found = export("--graph", net)
    assert found.exit_code == 2
    assert "wants --example SPIKES.npy and --out FOLDER" in found.output


ONE = np.ones(4)
REFUSED = {
    "what SANA-FE does not do": (nir.LI(tau=2e-3 * ONE, r=ONE, v_leak=0 * ONE), "SANA-FE"),
    "what cannot be run": (nir.LIF(tau=-ONE, r=ONE, v_leak=0 * ONE, v_threshold=ONE, v_reset=0 * ONE), "tau"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_names_the_file_and_the_node(case: str, tmp_path: Path) -> None:
    node, words = REFUSED[case]
    nodes = {
        "input": nir.Input(np.array([3]), metadata={"spikescr.signal": "spikes"}),
        "w": nir.Affine(weight=np.eye(4, 3), bias=0.5 * ONE),
        "last": node,
        "output": nir.Output(np.array([4])),
    }
    graph = nir.NIRGraph(nodes, list(itertools.pairwise(nodes)), metadata={"spikescr.dt": 1e-3})
    nir.write(tmp_path / "net.nir", graph)
    np.save(tmp_path / "x.npy", np.eye(5, 3))
    found = export("--graph", tmp_path / "net.nir", "--example", tmp_path / "x.npy", "--out", tmp_path / "there")
    assert found.exit_code == 1
    assert found.stderr.startswith(f"error: {tmp_path}/net.nir: ")
    assert "last" in found.stderr
    assert words in found.stderr
    assert found.stderr.count("\n") == 1
    assert not (tmp_path / "there").exists()
