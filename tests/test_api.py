"""`import spikescr` as a notebook uses it: names, laziness, types, examples, and what the functions give."""

from __future__ import annotations

import doctest
import inspect
import json
import subprocess
import sys
from pathlib import Path

import nir
import numpy as np
import pytest
import torch
from helpers import SMALL, calibrated_model

import spikescr
from spikescr import dialect
from spikescr.checkpoint import CheckpointInfo, save_checkpoint
from spikescr.data.frontend import FrontEnd
from spikescr.data.preprocessing import Normaliser, Preprocessing
from spikescr.errors import CheckpointError, GraphError, SpikescrError, UsageError
from spikescr.export.deploy import deploy
from spikescr.export.fold import fold
from spikescr.files import sha256
from spikescr.training import TrainConfig

ROOT = Path(__file__).parents[1]
NAMES = ["__version__", "audit", "fit", "listen", "load", "simulate", "to_nir", "verify"]
HERE = ["audit", "fit", "listen", "load", "simulate", "to_nir", "verify"]
STEPS = 20


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs/demo, which has a checkpoint and nothing else."""
    root = tmp_path_factory.mktemp("api")
    model, _, _ = calibrated_model(SMALL, 4, dtype=torch.float32, window=STEPS)
    front_end = FrontEnd.design(8000, steps=STEPS, bands=SMALL.inputs)
    info = CheckpointInfo(
        model=SMALL,
        classes=("yes", "no", "grün", "up", "down"),
        preprocessing=Preprocessing(
            front_end=front_end, normaliser=Normaliser(mean=(-40.0,) * SMALL.inputs, std=(1.0,) * SMALL.inputs)
        ),
        training=TrainConfig(seed=7, steps=STEPS),
        epoch=3,
        valid_loss=0.5,
        valid_accuracy=0.75,
    )
    (root / "runs/demo").mkdir(parents=True)
    save_checkpoint(root / "runs/demo/model.safetensors", model, info)
    return root


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    """Input (T, B, C) that makes every layer fire, and its valid steps (B,)."""
    _, x, _ = calibrated_model(SMALL, 4, dtype=torch.float32, window=STEPS)
    return x.numpy()


def test_public_names() -> None:
    assert spikescr.__all__ == NAMES
    assert set(NAMES) <= set(dir(spikescr))
    assert set(NAMES) - {"__version__"} == set(spikescr._HOMES)
    with pytest.raises(AttributeError, match="has no attribute 'simulat'"):
        _ = spikescr.simulat


def test_importing_needs_no_package_but_the_standard_library() -> None:
    code = "import sys, spikescr; spikescr.__all__; dir(spikescr); print(*{m.partition('.')[0] for m in sys.modules})"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    ).stdout.split()
    heavy = {"torch", "numpy", "nir", "numba", "scipy", "lava", "pydantic", "click", "rich", "h5py"}
    assert "spikescr" in found
    assert not heavy & set(found)


def test_types_are_shipped() -> None:
    assert (ROOT / "spikescr/py.typed").exists()
    assert '"spikescr" = ["py.typed"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("name", HERE)
def test_docstrings_tell_everything_and_their_examples_run(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    function = getattr(spikescr, name)
    text = inspect.getdoc(function)
    assert text is not None
    for section in ("Args:", "Returns:", "Raises:", "Example:"):
        assert section in text
    told = text[text.index("Args:") : text.index("Raises:")]
    signature = inspect.signature(function)
    assert all(f"{parameter}:" in told for parameter in signature.parameters)
    assert all(p.annotation is not p.empty for p in signature.parameters.values())
    monkeypatch.chdir(place)
    (test,) = doctest.DocTestFinder(recurse=False).find(function, name, globs={})
    assert test.examples
    assert any(example.want for example in test.examples)
    failed, _ = doctest.DocTestRunner().run(test, out=sys.stdout.write)
    assert not failed, capsys.readouterr().out


def test_page_tells_every_public_name() -> None:
    page = (ROOT / "docs/api.md").read_text()
    for name in NAMES[1:]:
        assert f"`spikescr.{name}(" in page


@pytest.mark.parametrize("path", ["runs/demo", "runs/demo/model.safetensors"])
def test_load_takes_a_run_folder_or_a_checkpoint(place: Path, path: str) -> None:
    net = spikescr.load(place / path)
    assert not net.training
    assert net.info.classes == ("yes", "no", "grün", "up", "down")
    assert net.info.valid_accuracy == 0.75
    assert net.source == sha256(place / "runs/demo/model.safetensors")


def test_load_names_what_is_missing(place: Path) -> None:
    with pytest.raises(CheckpointError, match=r"other\.safetensors does not exist"):
        spikescr.load(place / "other.safetensors")
    with pytest.raises(SpikescrError, match=r"runs.model\.safetensors does not exist; make it with: spikescr train"):
        spikescr.load(str(place / "runs"))


def test_to_nir_gives_what_export_writes(place: Path, tmp_path: Path) -> None:
    net = spikescr.load(place / "runs/demo")
    nir.write(tmp_path / "api.nir", spikescr.to_nir(net))
    nir.write(tmp_path / "command.nir", deploy(place / "runs/demo/model.safetensors"))
    assert (tmp_path / "api.nir").read_bytes() == (tmp_path / "command.nir").read_bytes()
    nir.write(tmp_path / "folded.nir", spikescr.to_nir(fold(net, 1 / STEPS), steps=STEPS, dt=1 / STEPS))
    assert (tmp_path / "folded.nir").read_bytes() == (tmp_path / "command.nir").read_bytes()


def test_to_nir_asks_for_what_a_network_does_not_tell(place: Path) -> None:
    net = spikescr.load(place / "runs/demo")
    with pytest.raises(UsageError, match="steps 40: the network was trained with 20"):
        spikescr.to_nir(net, steps=40)
    fresh, _, _ = calibrated_model(SMALL)
    with pytest.raises(UsageError, match="give steps, and dt"):
        spikescr.to_nir(fresh, dt=0.1)


def test_verify_finds_no_difference_and_one_that_is_put_in(place: Path, x: np.ndarray, tmp_path: Path) -> None:
    net = spikescr.load(place / "runs/demo")
    graph = spikescr.to_nir(net)
    steps = [STEPS, 7, 12, 1, 15, 3]
    found = spikescr.verify(net, graph, x, steps=steps, backend="fast")
    assert (found.differing, found.passed) == (0, True)
    assert all(layer.spikes > 0 for layer in found.layers)
    assert sum(layer.compared for layer in found.layers) == sum(steps) * sum(
        np.prod(node.v_threshold.shape) for node in graph.nodes.values() if isinstance(node, nir.LIF)
    )
    graph.nodes["blocks.0.ssa.v.synapse"].weight[3] += 0.25
    nir.write(tmp_path / "damaged.nir", graph)
    found = spikescr.verify(net, tmp_path / "damaged.nir", x, steps=steps, backend="fast", batch_size=2)
    assert found.divergence is not None
    assert (found.divergence.layer, found.divergence.neuron) == ("blocks.0.ssa.v.lif", 3)
    assert found.differing > 0
    assert not found.passed
    assert "first divergence: blocks.0.ssa.v.lif" in repr(found)
    assert "first divergence: blocks.0.ssa.v.lif" in found._repr_html_()


@pytest.mark.parametrize(
    ("shape", "steps", "message"),
    [
        ((STEPS + 1, 2, SMALL.inputs), None, "T at most 20"),
        ((STEPS, 2, SMALL.inputs + 1), None, f"x must be .T, B, {SMALL.inputs}."),
        ((STEPS, SMALL.inputs), None, "has shape"),
        ((STEPS, 0, SMALL.inputs), None, "B at least 1"),
        ((10, 2, SMALL.inputs), [10, 11], "from 1 to 10"),
        ((10, 2, SMALL.inputs), [10], "steps must be integers"),
        ((10, 2, SMALL.inputs), [1.5, 2.0], "steps must be integers"),
    ],
)
def test_verify_refuses_other_shapes(place: Path, shape: tuple[int, ...], steps: object, message: str) -> None:
    net = spikescr.load(place / "runs/demo")
    with pytest.raises(UsageError, match=message):
        spikescr.verify(net, spikescr.to_nir(net), np.zeros(shape), steps=steps, backend="fast")  # type: ignore[arg-type]


def test_fit_is_that_of_the_command(place: Path, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from spikescr.cli import main

    graph = spikescr.to_nir(spikescr.load(place / "runs/demo"))
    nir.write(tmp_path / "model.nir", graph)
    command = CliRunner().invoke(main, ["fit", str(tmp_path / "model.nir"), "--json", str(tmp_path / "fit.json")])
    assert command.exit_code == 0
    told = json.loads((tmp_path / "fit.json").read_text())
    for given in (graph, tmp_path / "model.nir", str(tmp_path / "model.nir")):
        found = spikescr.fit(given, chip="loihi2")
        assert (found.cores, found.chips, found.fits) == (told["total"]["cores"], 1, told["fits"])
    assert repr(found).splitlines()[0] == f"Loihi 2: fits, {found.cores} cores on 1 chip"
    html = found._repr_html_()
    assert html.count("<tr>") == len(told["layers"]) + 2
    with pytest.raises(UsageError, match="no chip loihi3"):
        spikescr.fit(graph, chip="loihi3")
    with pytest.raises(GraphError, match=r"missing\.nir"):
        spikescr.fit(tmp_path / "missing.nir")


def test_notices_of_fit_are_told(tmp_path: Path) -> None:
    ones = np.ones(3)
    graph = nir.NIRGraph.from_list(nir.Affine(weight=np.eye(3), bias=ones), nir.IF(r=ones, v_threshold=ones))
    told: list[str] = []
    assert spikescr.fit(graph, notify=told.append).cores == 1
    assert told == ["the graph has no seconds per step; its delays are taken as steps of 1 s"]
    assert dialect.DT not in graph.metadata


def test_notices_of_simulate_are_told() -> None:
    lif = nir.LIF(tau=np.full(2, 0.5e-3), r=np.ones(2), v_leak=np.zeros(2), v_threshold=np.ones(2))
    graph = nir.NIRGraph.from_list(nir.Linear(weight=np.eye(2)), lif)
    told: list[str] = []
    spikescr.simulate(graph, np.zeros((3, 1, 2)), dt=1e-3, notify=told.append)
    (note,) = told
    assert "shorter than the step" in note
    assert "dt (--dt)" in note


def test_results_show_themselves_as_short_tables(place: Path, x: np.ndarray, tmp_path: Path) -> None:
    graph = spikescr.to_nir(spikescr.load(place / "runs/demo"))
    run = spikescr.simulate(graph, x, steps=[STEPS] * 6)
    run.save(tmp_path / "audit.npz")
    for result, row in ((run, "executed"), (spikescr.audit(tmp_path / "audit.npz"), "paper"), (run.counts, "sem.lif")):
        lines = repr(result).splitlines()
        assert any(line.startswith(f"{row} ") for line in lines)
        assert 5 < len(lines) < 60
        assert f">{row}</td>" in result._repr_html_()
    assert f"outputs (T, B, N): output ({STEPS}, 6, 5)" in repr(run)


def test_names_are_escaped_in_notebooks() -> None:
    from spikescr.tables import ShortTable

    table = ShortTable("a < b", ("layer", "n"), [("<img>", "1")], ["c & d"])
    assert table.text() == "a < b\nlayer  n\n<img>  1\nc & d"
    assert "<img>" not in table.html()
    assert "&lt;img&gt;" in table.html()
    assert "c &amp; d" in table.html()
