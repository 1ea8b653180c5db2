"""Energy and report of a simulation of any graph, by the commands and from Python."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import nir
import numpy as np
import pytest
from click.testing import CliRunner

import spikescr
from spikescr.cli import main
from spikescr.errors import DataError, UsageError
from spikescr.quantities import si

DT = 1e-3


def command(*arguments: str | Path) -> str:
    found = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.output


def chain(**metadata: object) -> nir.NIRGraph:
    """Three channels, four neurons, two leaky sums; weights of an eighth, one of them 0."""
    rng = np.random.default_rng(0)
    weight = rng.integers(1, 8, (4, 3)) / 8
    weight[0, 0] = 0
    four = np.ones(4)
    nodes = {
        "input": nir.Input(np.array([3])),
        "fc": nir.Affine(weight, np.array([0, 0.5, 0, 0])),
        "lif": nir.LIF(2 * DT * four, 2 * four, 0 * four, four, 0 * four),
        "head": nir.Linear(rng.integers(1, 8, (2, 4)) / 8),
        "li": nir.LI(4 * DT * np.ones(2), np.ones(2), np.zeros(2)),
        "output": nir.Output(np.array([2])),
    }
    names = list(nodes)
    return nir.NIRGraph(nodes, list(itertools.pairwise(names)), metadata=metadata)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """chain.nir, x.npy and what `simulate` made of them."""
    root = tmp_path_factory.mktemp("any")
    nir.write(root / "chain.nir", chain())
    np.save(root / "x.npy", (np.random.default_rng(1).random((12, 5, 3)) < 0.5).astype(float))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        command("simulate", "chain.nir", "--input", "x.npy", "--dt", DT, "--input-signal", "spikes")
    return root


def test_energy_of_any_graph_is_that_of_the_run(folder: Path, tmp_path: Path) -> None:
    text = command("energy", folder / "chain-simulation", "--json", tmp_path / "energy.json", "--layers", "--per-step")
    assert "Mean of 5 samples by convention of counting" in text
    assert "operations that no cause explains: 0" in text
    found = json.loads((tmp_path / "energy.json").read_text())
    summary = json.loads((folder / "chain-simulation/summary.json").read_text())
    assert set(found["conventions"]) == {
        "executed", "quadratic", "graded", "paper", "spikingjelly", "neurobench", "syops",
    }  # fmt: skip
    assert found["not_evaluated"] == {}
    assert found["accuracy"] is None
    assert found["decision"] is None
    assert 5 * found["conventions"]["executed"]["joules"] == pytest.approx(summary["energy"]["events_j"], rel=1e-12)
    assert 5 * found["conventions"]["paper"]["joules"] == pytest.approx(summary["energy"]["formula_j"], rel=1e-12)
    # 12 x 3 inputs of 0 and 1 and 11 weights that are not 0: the paper's rate x FLOPs are the events x synapses here.
    x, fired = np.load(folder / "x.npy"), summary["totals"]["fired"]
    reach = np.array([3, 4, 4])
    assert summary["totals"]["ac"] == int((x.sum(axis=(0, 1)) * reach).sum()) + 2 * fired
    # SpikingJelly charges the weight of 0, too, and 6 AC for each update but the first of each of the neurons.
    charged = 5 * found["conventions"]["spikingjelly"]["ac"]
    assert charged == int(4 * x.sum()) + 2 * fired + 5 * (6 * 12 * 4 - 4)


def test_graphs_are_compared_with_each_other(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    np.save(tmp_path / "more.npy", np.ones((12, 5, 3)))
    other = tmp_path / "other"
    more = ("--input", tmp_path / "more.npy", "--out", other)
    command("simulate", "chain.nir", *more, "--dt", DT, "--input-signal", "spikes")
    text = command("energy", "--compare", "chain-simulation", other)
    assert f"{other}: other samples than of chain-simulation" in text
    same = command("energy", "--compare", "chain-simulation", "chain-simulation")
    assert "other samples" not in same
    assert "+0.0 %" in same


def test_report_of_any_graph(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    command("report", "chain-simulation")
    text = (folder / "chain-simulation/report.md").read_text()
    assert text.startswith("# Energy report: chain")
    assert "Each of 5 samples took " in text
    for absent in ("Accuracy", "recording", "None", " nan "):
        assert absent not in text.replace("± recordings", ""), absent
    assert "## One sample" in text  # drawn again from the graph and its input
    assert "spikescr simulate chain.nir --input=x.npy --out=chain-simulation --dt=0.001" in text
    page = (folder / "chain-simulation/report.html").read_text()
    assert 'id="raster"' in page
    assert 'id="decision"' not in page


def test_report_places_any_graph_on_a_chip_as_fit_does(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    command("report", "chain-simulation")
    section = (folder / "chain-simulation/report.md").read_text().split("## On a neuromorphic chip")[1].split("## ")[0]
    told = chain(dt=DT)
    fit = spikescr.fit(told, audit=spikescr.audit("chain-simulation"))
    assert f"{fit.cores} of 128 cores of Loihi 2; no limit is exceeded." in section
    for row in fit.rows():
        assert f"| {row['layer']} | {row['neurons']} | {row['bits']} | {row['cores']} |" in section
    assert (
        f"and {si(fit.fitted.seconds, 's', zeros=True)} per sample of {fit.fitted.steps} steps of the chip" in section
    )


def test_report_says_why_a_graph_is_not_placed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    nodes = {"input": nir.Input(np.array([3])), "output": nir.Output(np.array([3]))}
    nir.write("wires.nir", nir.NIRGraph(nodes, list(itertools.pairwise(nodes)), metadata={"dt": DT}))
    np.save("x.npy", np.ones((4, 1, 3)))
    command("simulate", "wires.nir", "--input", "x.npy", "--input-signal", "spikes")
    command("report", "wires-simulation")
    text = (tmp_path / "wires-simulation/report.md").read_text()
    assert "Not placed: has no neurons and no synapses to be placed." in text


def test_report_draws_no_sample_of_an_input_that_changed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    kept = (folder / "x.npy").read_bytes()
    np.save("x.npy", np.zeros((12, 5, 3)))
    try:
        command("report", "chain-simulation")
        assert "## One sample" not in (folder / "chain-simulation/report.md").read_text()
        found = CliRunner().invoke(main, ["report", "chain-simulation", "--recording", "2"])
        assert found.exit_code == 1
        assert "the graph or its input is not where it was, or has changed" in found.stderr
    finally:
        (folder / "x.npy").write_bytes(kept)


def test_python_gives_what_the_command_gives(folder: Path) -> None:
    x = np.load(folder / "x.npy")
    run = spikescr.simulate(folder / "chain.nir", x, dt=DT, input_signal="spikes")
    read = spikescr.audit(folder / "chain-simulation")
    for convention in read.conventions:
        np.testing.assert_array_equal(run.energy(convention), read.energy(convention))
    np.testing.assert_array_equal(run.counts.table, read.counts.table)
    with np.load(folder / "chain-simulation/outputs.npz") as outputs:
        np.testing.assert_array_equal(run.outputs["output"], outputs["output"])
    assert run.spikes.keys() == {"lif"}
    assert run.spikes["lif"].shape == (12, 5, 4)
    assert run.counts.per_step("lif", "fired").sum() == run.spikes["lif"].sum() > 0
    assert "executed" in str(run)
    assert "<table>" in run._repr_html_()
    assert "head" in str(run.counts)
    assert ">head</td>" in run.counts._repr_html_()


def test_valid_steps_of_each_sample() -> None:
    """What x holds beyond a sample's own steps is not fed, and the formula's charge for them is called padding."""
    x = np.ones((6, 2, 3))
    run = spikescr.simulate(chain(dt=DT), x, steps=[6, 2], record=("spikes", "v"))
    alone = spikescr.simulate(chain(dt=DT), x[:2, 1], record=("v",))
    assert run.audit.valid.tolist() == [6, 2]
    np.testing.assert_array_equal(run.membranes["lif"][:2, [1]], alone.membranes["lif"])
    np.testing.assert_array_equal(run.counts.per_step("fc", "mac"), [22, 22, 11, 11, 11, 11])
    why = run.why("paper", "executed")
    np.testing.assert_allclose(why["padding"], [0, -4 * 11 * 4.6e-12])
    np.testing.assert_allclose(sum(why.values()), run.energy("executed") - run.energy("paper"), atol=1e-24)
    for steps in ([6], [6, 0], [6, 7], [6.0, 2.0]):
        with pytest.raises(DataError, match=r"x: steps must be 2 whole numbers from 1 to 6, one for each sample"):
            spikescr.simulate(chain(dt=DT), x, steps=steps)
    with pytest.raises(UsageError, match="v was not recorded"):
        _ = spikescr.simulate(chain(dt=DT), x).membranes
    with pytest.raises(UsageError, match=r"record \(--record\) u: only spikes and v"):
        spikescr.simulate(chain(dt=DT), x, record=("u",))
    with pytest.raises(DataError, match="x: has nothing for the input 'input'; found wrong"):
        spikescr.simulate(chain(dt=DT), {"wrong": x})


def test_latencies_are_taken_out() -> None:
    """What the graph says to be two steps late stands at the steps that made it."""
    soon = chain(dt=DT)
    soon.nodes["fc"].bias[:] = 0  # or the late neurons would see it two steps longer
    nodes = {**soon.nodes, "late": nir.Delay(np.full(3, 2 * DT))}
    for name in ("late", "fc", "lif", "head", "li", "output"):
        nodes[name].metadata["spikescr.latency"] = 2
    edges = [("input", "late"), ("late", "fc"), *(edge for edge in soon.edges if edge[0] != "input")]
    late = nir.NIRGraph(nodes, edges, metadata={"dt": DT, "spikescr.steps": 9})
    x = np.random.default_rng(3).random((9, 2, 3))
    run = spikescr.simulate(late, x)
    assert run.program.period == 9 + 2
    assert run.counts.per_step("fc", "mac")[:2].tolist() == [0, 0]
    for node in nodes.values():
        node.metadata.pop("spikescr.latency", None)
    wanted = spikescr.simulate(soon, x)
    np.testing.assert_array_equal(run.outputs["output"], wanted.outputs["output"])
    np.testing.assert_array_equal(run.spikes["lif"], wanted.spikes["lif"])
    assert 0 < run.spikes["lif"].mean() < 1
    np.testing.assert_array_equal(run.energy("paper"), wanted.energy("paper"))
