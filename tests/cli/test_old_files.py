"""Files as nir 0.1.0 and 0.2.0 wrote them: described, and run where they are whole; what they leave open is told.

The layouts are those of files that these versions wrote; both were installed to write them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result

from spikescr.cli import main

DT = 1e-3
FOUR = np.ones(4)
WEIGHT = np.full((4, 3), 0.3)
LIF = {"tau": 2 * DT * FOUR, "r": 2 * FOUR, "v_leak": 0 * FOUR, "v_threshold": FOUR, "type": "LIF"}
CUBA = {"tau_mem": 4 * DT * FOUR, "tau_syn": 2 * DT * FOUR, "r": FOUR, "v_leak": 0 * FOUR, "v_threshold": FOUR}
CONV = {"weight": np.ones((2, 1, 3, 3)), "bias": np.zeros(2), "groups": 1, "type": "Conv2d"} | {
    field: np.array([1, 1]) for field in ("stride", "padding", "dilation")
}
Node = Mapping[str, Any]


def write(path: Path, nodes: Mapping[str, Node], version: str | None) -> Path:
    """A chain: a group `node` with `nodes`, `edges` and `type`; 0.2.0 told its version, 0.1.0 did not."""
    with h5py.File(path, "w") as file:
        if version is not None:
            file["version"] = version
        file["node/type"] = "NIRGraph"
        file["node/edges"] = list(itertools.pairwise(nodes))
        for name, fields in nodes.items():
            for field, value in fields.items():
                file[f"node/nodes/{name}/{field}"] = value
    return path


def old(version: str, *, image: bool = False) -> dict[str, Node]:
    """Nodes with the fields of a version: 0.1.0 had a whole number for an Output's shape, no shape in Flatten."""
    first, last = np.array([1, 6, 6] if image else [3]), 4 if version == "0.1.0" else np.array([4])
    flatten = {"start_dim": 1, "end_dim": -1} if version == "0.1.0" else {"start_dim": 0, "end_dim": -1}
    if version != "0.1.0":
        flatten["input_type"] = np.array([2, 6, 6])
    between: dict[str, Node] = {"fc": {"weight": WEIGHT, "bias": 0 * FOUR, "type": "Affine"}, "lif": LIF}
    if image:
        between = {
            "conv": CONV,
            "flat": {**flatten, "type": "Flatten"},
            "lin": {"weight": np.full((4, 72), 0.1), "type": "Linear"},
            "if": {"r": FOUR / DT, "v_threshold": FOUR, "type": "IF"},
            "delay": {"delay": DT * FOUR, "type": "Delay"},
            "scale": {"scale": FOUR, "type": "Scale"},
            "cuba": {**CUBA, "type": "CubaLIF"},
        }
    ends = ({"shape": first, "type": "Input"}, {"shape": last, "type": "Output"})
    return {"input": ends[0], **between, "output": ends[1]}


def spikescr(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def told(*names: str) -> str:
    return f"note: {', '.join(names)}: the file has no v_reset, as those of nir up to 1.0.4, whose neurons subtract"


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_a_chain_runs_either_way(tmp_path: Path, version: str) -> None:
    file = write(tmp_path / "old.nir", old(version), None if version == "0.1.0" else version)
    np.save(tmp_path / "x.npy", np.ones((6, 3)))
    shown = spikescr("inspect", file)
    assert shown.exit_code == 0
    assert "3 > 4" in shown.stdout
    assert told("lif") in shown.stderr
    assert "cannot run" not in shown.stderr
    expected = {}
    for reset in ("zero", "subtract"):
        v, expected[reset] = 0.0, list[float]()
        for _ in range(6):
            v = 0.5 * v + (0.3 + 0.3 + 0.3)
            expected[reset].append(float(v > 1))
            v = (v - 1 if reset == "subtract" else 0.0) if v > 1 else v
    assert expected["zero"] != expected["subtract"]
    for words, reset in (([], "zero"), (["--reset", "zero"], "zero"), (["--reset", "subtract"], "subtract")):
        found = spikescr("simulate", file, "--input", tmp_path / "x.npy", "--dt", DT, "--out", tmp_path / "out", *words)
        assert found.exit_code == 0, found.stderr
        assert (told("lif") in found.stderr) == (not words)
        outputs = np.load(tmp_path / "out/outputs.npz")["output"]
        np.testing.assert_array_equal(outputs[:, 0], np.repeat(np.array(expected[reset])[:, None], 4, axis=1))


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_every_node_of_that_time_runs(tmp_path: Path, version: str) -> None:
    file = write(tmp_path / "old.nir", old(version, image=True), None if version == "0.1.0" else version)
    np.save(tmp_path / "x.npy", np.ones((6, 1, 6, 6)))
    shown = spikescr("inspect", file)
    assert shown.exit_code == 0
    assert "1x6x6 > 2x6x6" in shown.stdout
    assert told("cuba", "if") in shown.stderr
    found = spikescr("simulate", file, "--input", tmp_path / "x.npy", "--dt", DT, "--out", tmp_path / "out")
    assert found.exit_code == 0, found.stderr


def test_a_list_without_ends_is_described_and_told_what_it_lacks(tmp_path: Path) -> None:
    """As `NIRGraph.from_list` of 0.1.0 made them: nodes have numbers, no Input and no Output."""
    nodes = old("0.1.0")
    file = write(tmp_path / "old.nir", {"0": nodes["fc"], "1": nodes["lif"]}, None)
    np.save(tmp_path / "x.npy", np.ones((6, 3)))
    shown = spikescr("inspect", file)
    assert shown.exit_code == 0
    assert "note: spikescr simulate cannot run it: 0: nothing leads into this Affine" in shown.stderr
    found = spikescr("simulate", file, "--input", tmp_path / "x.npy", "--dt", DT)
    assert found.exit_code == 1
    assert found.stderr.startswith(f"error: {file}: the graph has no Input that data could be fed to; give it one")
