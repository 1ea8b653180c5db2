"""`spikescr export --module` and `verify --module` as a user runs them, on a file of the user's own."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import nir
import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner, Result

from spikescr.cli import main

NET = """
import torch
from torch import nn
from spikingjelly.activation_based import functional, layer, neuron

def make():
    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Conv2d(1, 4, 3, bias=False), layer.BatchNorm2d(4), neuron.IFNode(v_threshold=0.3), layer.MaxPool2d(2),
        layer.Flatten(), layer.Linear(36, 5), neuron.LIFNode(v_threshold=0.1),
    )
    functional.set_step_mode(net, "m")
    return net

def gated():
    return nn.Sequential(nn.Linear(3, 4), nn.Sigmoid())

def twice():
    return nn.Sequential(nn.Linear(3, 4), nn.Sigmoid(), nn.Softmax(-1))

def nothing():
    return 3

def broken():
    return nn.Linear(0.5, 3)
"""


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((4, 3, 1, 8, 8)))
    return tmp_path


def exported(folder: Path, factory: str, *more: str | Path) -> Result:
    spec = f"{folder / 'net.py'}:{factory}"
    return run("export", "--module", spec, "--dt", "0.001", "--out", folder / "net.nir", *more)


def test_export_and_verify(folder: Path) -> None:
    found = exported(folder, "make", "--shape", "4,3,1,8,8")
    assert found.exit_code == 0, found.stderr
    assert "Folded against unfolded" in found.stdout
    graph = nir.read(folder / "net.nir")
    assert type(graph.nodes["0"]) is nir.Conv2d
    assert graph.metadata["spikescr.steps"] == 4
    spec = f"{folder / 'net.py'}:make"
    found = run("verify", "--module", spec, folder / "net.nir", "--input", folder / "x.npy", "--backend", "fast")
    assert found.exit_code == 0, found.stderr
    assert "3 samples: 0 differing spikes" in found.stdout
    told = json.loads((folder / "net.verify.json").read_text())
    assert told["passed"]
    assert {row["layer"] for row in told["layers"]} == {"2", "3", "6"}
    assert not [row["layer"] for row in told["layers"] if row["silent"]]


def test_all_that_is_refused_stands_in_the_table_of_check(folder: Path) -> None:
    found = exported(folder, "twice", "--shape", "4,3,3")
    assert found.exit_code == 1
    table = [line.split()[:3] for line in found.stdout.splitlines() if "Sigmoid" in line or "Softmax" in line]
    assert table == [["1", "Sigmoid", "sigmoid"], ["2", "Softmax", "softmax"]]
    assert "2 refused" in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_weights_are_loaded_and_a_graph_of_others_is_found_out(folder: Path, name: str) -> None:
    assert exported(folder, "make", "--example", folder / "x.npy").exit_code == 0
    from spikescr.workflows.modules import load_module

    spec = f"{folder / 'net.py'}:make"
    state = {key: value.clone() for key, value in load_module(spec).state_dict().items()}
    state["0.weight"] = state["0.weight"].flip(0)
    if name.endswith(".pt"):
        torch.save(state, folder / name)
    else:
        safetensors.torch.save_file(state, folder / name)
    arguments = ("verify", "--module", spec, folder / "net.nir", "--input", folder / "x.npy", "--backend", "fast")
    found = run(*arguments, "--weights", folder / name)
    assert found.exit_code == 1
    assert "spikes and" in found.stderr
    assert "first divergence: 2, step" in found.stdout
    assert exported(folder, "make", "--example", folder / "x.npy", "--weights", folder / name).exit_code == 0
    assert run(*arguments, "--weights", folder / name).exit_code == 0


def test_a_pickle_is_not_opened(folder: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return Path.write_text, (folder / "trap", "sprung")  # type: ignore[return-value]

    (folder / "w.pt").write_bytes(pickle.dumps(Trap()))
    found = exported(folder, "make", "--shape", "4,3,1,8,8", "--weights", folder / "w.pt")
    assert found.exit_code == 1
    assert "no .pt of tensors alone" in found.stderr
    assert not (folder / "trap").exists()


@pytest.mark.parametrize(
    ("factory", "more", "status", "message"),
    [
        ("gated", ("--shape", "4,3,3"), 1, "sigmoid"),
        ("absent", ("--shape", "4,3,3"), 2, "there is no absent in"),
        ("nothing", ("--shape", "4,3,3"), 1, "gives what is of type int, no torch.nn.Module"),
        ("broken", ("--shape", "4,3,3"), 1, "fails with TypeError"),
        ("make", (), 2, "give the input's shape"),
        ("make", ("--shape", "4,x"), 2, "whole numbers above 0"),
        ("make", ("--shape", "4,3,1,8,8", "--run", "runs/demo"), 2, "without --run and --graph"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(
    folder: Path, factory: str, more: tuple[str, ...], status: int, message: str
) -> None:
    found = exported(folder, factory, *more)
    assert found.exit_code == status
    assert message in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1
    assert not (folder / "net.nir").exists()


def test_a_graph_of_a_run_is_no_module_s(folder: Path) -> None:
    assert run("verify", folder / "net.nir").exit_code == 2
    assert run("export", "--weights", folder / "w.pt").exit_code == 2
