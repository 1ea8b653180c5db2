"""quantize, and the commands that know its network, as a user runs them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nir
import numpy as np
import pytest
from commands import spikescr
from fixed.agreement import executed
from fixed.cases import draw, graph_of
from helpers import write_tones

from spikescr.sim.fast.backend import FastBackend

pytestmark = pytest.mark.lava
TRAIN = ["steps=20", "model.heads=2", "model.width=16", "batch_size=16", "threads=1", "epochs=3"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained network, quantized, simulated and verified."""
    root = tmp_path_factory.mktemp("work")
    write_tones(root / "tones", takes=4)
    for arguments in (
        ["train", "--data", "folder:tones", *TRAIN],
        ["quantize", "--bits", "6", "--layer-bits", "head=8", "--finetune", "1", "--lr", "1e-3"],
        ["simulate", "--precision", "loihi2", "--backend", "both"],
        ["verify", "--precision", "loihi2"],
    ):
        run = spikescr(*arguments, cwd=root)
        assert run.returncode == 0, run.stderr
    return root


def test_its_network_is_a_run_folder_of_its_own(workplace: Path) -> None:
    made = workplace / "runs/latest/loihi2"
    assert {p.name for p in made.iterdir()} == {
        "model.nir", "model.safetensors", "quantization.json", "simulation", "verify.json",
    }  # fmt: skip
    report = json.loads((made / "quantization.json").read_text())
    assert (report["bits"], report["lr"]) == (6, 1e-3)
    assert {layer["layer"]: layer["bits"] for layer in report["layers"]}["head"] == 8
    assert [f["epoch"] for f in report["finetuning"]] == [0, 1]
    assert set(report["validation"]) == {"float", "range", "error", "result"}


def test_integers_agree_in_pytorch_lava_and_the_compiled_backend(workplace: Path) -> None:
    made = workplace / "runs/latest/loihi2"
    verification = json.loads((made / "verify.json").read_text())
    assert (verification["differing_spikes"], verification["differing_predictions"]) == (0, 0)
    assert verification["spikes"] > 100
    summary = json.loads((made / "simulation/summary.json").read_text())
    assert summary["differing"] == {"spikes": 0, "counts": 0} or summary["differing"] == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    [
        ["model.family=dcls", "model.delays=axonal", "model.neuron=parametric", "model.width=32", "model.taps=5"],
        ["model.family=recurrent", "model.width=32"],
    ],
    ids=["axonal delays", "recurrent"],
)
def test_other_families_become_integers_too(network: list[str], copied: Path) -> None:
    for arguments in (
        ["train", "--data", "folder:tones", *TRAIN[:1], *TRAIN[3:5], "epochs=1", *network, "--run", "runs/other"],
        ["quantize", "--finetune", "1", "--run", "runs/other"],
        ["verify", "--precision", "loihi2", "--run", "runs/other"],
    ):
        run = spikescr(*arguments, cwd=copied)
        assert run.returncode == 0, run.stderr
    verification = json.loads((copied / "runs/other/loihi2/verify.json").read_text())
    assert (verification["differing_spikes"], verification["differing_predictions"]) == (0, 0)
    assert verification["spikes"] > 100


def test_what_saturates_is_told(copied: Path) -> None:
    path = copied / "runs/latest/loihi2/model.nir"
    graph = nir.read(path)
    graph.nodes["input"].metadata["spikescr.scale"] /= 20  # messages end at 127: most inputs are beyond
    nir.write(path, graph)
    run = spikescr("simulate", "--precision", "loihi2", cwd=copied)
    assert run.returncode == 0, run.stderr
    (line,) = (line for line in run.stdout.splitlines() if line.startswith("saturated, in fixed point: "))
    counts = json.loads((copied / "runs/latest/loihi2/simulation/summary.json").read_text())["totals"]["saturated"]
    assert counts > 1000
    assert line.startswith(f"saturated, in fixed point: {counts:,} inputs, currents and membranes (input ")


def test_graph_is_read_by_nir_alone_and_says_what_it_is(workplace: Path) -> None:
    graph = nir.read(workplace / "runs/latest/loihi2/model.nir")
    assert graph.metadata["spikescr.precision"] == "loihi2"
    assert graph.metadata["spikescr.format"] == 2
    assert graph.nodes["head.synapse"].metadata["spikescr.bits"] == 8
    assert graph.nodes["sem.lif"].v_threshold[0] == 64 * graph.nodes["sem.lif"].metadata["spikescr.vth"]


@pytest.fixture
def copied(workplace: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(workplace, tmp_path / "copy"))


def test_export_writes_its_graph_again(copied: Path) -> None:
    path = copied / "runs/latest/loihi2/model.nir"
    before = path.read_bytes()
    path.unlink()
    run = spikescr("export", "--to", "nir", "--run", "runs/latest/loihi2", cwd=copied)
    assert run.returncode == 0, run.stderr
    assert path.read_bytes() == before


def test_verify_finds_a_bias_that_was_changed_and_shows_integer_membranes(copied: Path) -> None:
    path = copied / "runs/latest/loihi2/model.nir"
    graph = nir.read(path)
    bias = graph.nodes["blocks.0.mlp1.expand.bias"]
    bias.weight = bias.weight + 2 ** (1 + bias.metadata["spikescr.exponent"]) * 20
    nir.write(path, graph)
    run = spikescr("verify", "--precision", "loihi2", cwd=copied)
    assert run.returncode == 1
    assert "first divergence: blocks.0.mlp1.expand.lif" in run.stdout
    report = json.loads((copied / "runs/latest/loihi2/verify.json").read_text())
    membranes = [report["first_divergence"][f"membrane_{name}"] for name in ("pytorch", "lava")]
    assert all(membrane == int(membrane) for membrane in membranes)
    assert membranes[0] != membranes[1]


def test_a_graph_of_another_network_is_not_verified(copied: Path) -> None:
    assert spikescr("quantize", "--bits", "5", "--criterion", "error", cwd=copied).returncode == 0
    report = json.loads((copied / "runs/latest/loihi2/quantization.json").read_text())
    assert (report["criterion"], set(report["validation"])) == ("error", {"float", "error", "result"})
    kept = workplace_graph(copied)
    assert spikescr("quantize", "--bits", "4", cwd=copied).returncode == 0
    workplace_graph(copied, kept)
    run = spikescr("verify", "--precision", "loihi2", cwd=copied)
    assert run.returncode == 1
    assert "was exported from another checkpoint" in run.stderr
    assert "spikescr quantize" in run.stderr


def workplace_graph(root: Path, content: bytes | None = None) -> bytes:
    path = root / "runs/latest/loihi2/model.nir"
    if content is not None:
        path.write_bytes(content)
    return path.read_bytes()


def test_quantizing_again_removes_what_came_of_the_last_network(copied: Path) -> None:
    assert spikescr("quantize", "--bits", "4", cwd=copied).returncode == 0
    made = copied / "runs/latest/loihi2"
    assert {p.name for p in made.iterdir()} == {"model.nir", "model.safetensors", "quantization.json"}


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["quantize", "--layer-bits", "head"], 2, "--layer-bits head: give NAME=BITS with 4 to 8 bits"),
        (["quantize", "--layer-bits", "head=9"], 2, "--layer-bits head=9: give NAME=BITS with 4 to 8 bits"),
        (["quantize", "--layer-bits", "tail=6"], 2, "tail: no layer has such a name; there are sem, "),
        (["quantize", "--run", "runs/latest/model.safetensors"], 2, "quantize takes a run folder, whose layers and"),
        (["quantize", "--run", "runs/none"], 1, "make it with: spikescr train --run runs/none"),
        (["simulate", "--precision", "loihi2", "--run", "runs/none"], 1, "spikescr quantize --run runs/none"),
    ],
)
def test_what_cannot_be_done_is_one_line(workplace: Path, arguments: list[str], status: int, message: str) -> None:
    run = spikescr(*arguments, cwd=workplace)
    assert run.returncode == status, run.stderr
    assert message in run.stderr
    assert "Traceback" not in run.stderr


def test_a_graph_in_fixed_point_of_any_origin_runs_on_a_file(tmp_path: Path) -> None:
    case = draw("graded", 0)
    nir.write(tmp_path / "layer.nir", graph_of(case))
    np.save(tmp_path / "x.npy", case.inputs["x"])
    run = spikescr("simulate", "layer.nir", "--input", "x.npy", "--out", "out", "--backend", "both", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "0 of" in run.stdout
    saturated = executed(case, FastBackend).counts.total("saturated")
    assert saturated
    assert f"saturated, in fixed point: {saturated:,} inputs, currents and membranes" in run.stdout
    run = spikescr("simulate", "layer.nir", "--input", "x.npy", "--precision", "loihi2", cwd=tmp_path)
    assert run.returncode == 2
    assert "layer.nir says itself whether it is in fixed point" in run.stderr
