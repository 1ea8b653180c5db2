"""`spikescr simulate GRAPH --input FILE` as a user runs it: graphs that have nothing to do with speech, and our own."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from commands import spikescr
from helpers import SMALL, calibrated_model
from torch.nn import functional

from spikescr.cli import main
from spikescr.export.fold import fold
from spikescr.export.reference import trace
from spikescr.export.to_nir import to_nir

DT = 1e-3


def ok(*arguments: str | Path, cwd: Path) -> str:
    """What a command prints that must succeed."""
    run = spikescr("simulate", *arguments, cwd=cwd)
    assert run.returncode == 0, run.stderr
    return run.stdout


def refused(*arguments: str, status: int = 1) -> str:
    """The one line of a command that must fail; in this process, there are many of them."""
    run = CliRunner().invoke(main, ["simulate", *arguments])
    assert run.exit_code == status, run.output
    assert run.stderr.count("\n") == 1
    return run.stderr.removeprefix("error: ").strip()


def neurons(*shape: int, **metadata: object) -> nir.LIF:
    one = np.ones(shape)
    return nir.LIF(2 * DT * one, 2 * one, 0 * one, 0.75 * one, 0 * one, metadata=metadata)


def weights(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Multiples of 1/8, none of them 0: that would be no synapse."""
    found = rng.integers(-4, 8, shape) / 8
    return np.where(found == 0, 1, found)


def image_graph() -> tuple[nir.NIRGraph, np.ndarray]:
    """Convolution, neurons, pool, flatten, readout on images of 2 x 6 x 6; weights are multiples of 1/8."""
    rng = np.random.default_rng(0)
    weight = weights(rng, 3, 2, 3, 3)
    two = np.array([2, 2])
    nodes = {
        "input": nir.Input(np.array([2, 6, 6])),
        "conv": nir.Conv2d((6, 6), weight, 1, 1, 1, 1, np.zeros(3)),
        "lif": neurons(3, 6, 6),
        "pool": nir.SumPool2d(two, two, 0 * two),
        "flat": nir.Flatten({"input": np.array([3, 3, 3])}, 0),
        "fc": nir.Affine(weights(rng, 4, 27), weights(rng, 4)),
        "li": nir.LI(4 * DT * np.ones(4), np.ones(4), np.zeros(4)),
        "output": nir.Output(np.array([4])),
    }
    names = list(nodes)
    return nir.NIRGraph(nodes, list(itertools.pairwise(names))), weight


@pytest.mark.lava
def test_images_in_lava_and_compiled(tmp_path: Path) -> None:
    graph, weight = image_graph()
    nir.write(tmp_path / "image.nir", graph)
    x = (np.random.default_rng(1).random((10, 3, 2, 6, 6)) < 0.4).astype(float)
    np.save(tmp_path / "x.npy", x)
    text = ok("image.nir", "--input", "x.npy", "--dt", "1e-3", "--input-signal", "spikes", "--backend", "both",
              "--record", "v,spikes", cwd=tmp_path)  # fmt: skip
    assert "fast and Lava: 0 of 3,240 spikes and 0 of" in text
    folder = tmp_path / "image-simulation"

    # The first layer, by PyTorch: forward Euler of tau = 2 dt, r = 2.
    currents = functional.conv2d(torch.tensor(x).flatten(0, 1), torch.tensor(weight), padding=1).numpy()
    v, spikes = np.zeros((3, 108)), []
    for current in currents.reshape(10, 3, 108):
        v = 0.5 * v + current
        spikes.append(v > 0.75)
        v[spikes[-1]] = 0
    recorded = nir.read_data(folder / "spikes.h5").nodes["lif"].observables["spikes"]
    assert recorded.dt == DT
    np.testing.assert_array_equal(recorded.data, np.stack(spikes).transpose(1, 0, 2))
    assert 0.1 < recorded.data.mean() < 0.9
    membranes = nir.read_data(folder / "v.h5").nodes
    assert {name: node.observables["v"].shape for name, node in membranes.items()} == {
        "lif": (3, 10, 108),
        "li": (3, 10, 4),
    }
    with np.load(folder / "outputs.npz") as outputs:
        np.testing.assert_array_equal(outputs["output"], membranes["li"].observables["v"].data.transpose(1, 0, 2))

    summary = json.loads((folder / "summary.json").read_text())
    fired = int(recorded.data.sum())
    met = functional.conv2d(torch.tensor(x).flatten(0, 1), torch.ones(3, 2, 3, 3, dtype=torch.float64), padding=1)
    synapses = {"conv": int(met.sum()), "pool": fired, "fc": 4 * fired}  # windows of the pool do not overlap
    assert {o["operation"]: o["ac"] for o in summary["operations"] if o["ac"]} == synapses
    assert summary["totals"]["ac"] == sum(synapses.values())
    assert summary["totals"]["mac"] == 0
    assert summary["totals"]["bias"] == 10 * 3 * 4
    assert summary["energy"]["events_j"] == pytest.approx(0.9e-12 * sum(synapses.values()))
    assert summary["differing"] == {"spikes": 0, "counts": 0}
    with (folder / "counts.csv").open() as file:
        rows = list(csv.DictReader(file))
    for kind, total in summary["totals"].items():
        assert sum(int(row[kind]) for row in rows) == total, kind


def recurrent_graph(**metadata: object) -> nir.NIRGraph:
    """A recurrent layer in a graph of its own, as snnTorch writes it, behind a synapse."""
    rng = np.random.default_rng(2)
    inner = nir.NIRGraph(
        {"input": nir.Input(np.array([5])), "lif": neurons(5), "w_rec": nir.Linear(weights(rng, 5, 5)),
         "output": nir.Output(np.array([5]))},
        [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")],
    )  # fmt: skip
    nodes = {
        "input": nir.Input(np.array([3])),
        "fc": nir.Linear(weights(rng, 5, 3)),
        "rnn": inner,
        "output": nir.Output(np.array([5])),
    }
    return nir.NIRGraph(nodes, [("input", "fc"), ("fc", "rnn"), ("rnn", "output")], metadata=metadata)


def recurrent_spikes(graph: nir.NIRGraph, x: np.ndarray, *, soft: bool) -> np.ndarray:
    """The same written out: x (T, 3) -> spikes (T, 5)."""
    inner = graph.nodes["rnn"].nodes
    v, s, found = np.zeros(5), np.zeros(5), []
    for now in x:
        v = 0.5 * v + graph.nodes["fc"].weight @ now + inner["w_rec"].weight @ s
        s = (v > 0.75).astype(float)
        v = np.where(s, v - 0.75 if soft else 0, v)
        found.append(s)
    return np.array(found)


@pytest.mark.lava
@pytest.mark.parametrize("soft", [False, True], ids=["hard reset", "soft reset"])
def test_recurrent_graph_in_lava_with_counts(tmp_path: Path, soft: bool) -> None:
    graph = recurrent_graph(dt=DT, **({"reset_mechanism": "subtract"} if soft else {}))
    nir.write(tmp_path / "rnn.nir", graph)
    x = np.random.default_rng(3).integers(0, 9, (12, 3)) / 8
    np.savez(tmp_path / "x.npz", input=x)
    run = spikescr("simulate", "rnn.nir", "--input", "x.npz", "--backend", "lava", "--out", "out", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    told = "rnn.lif -> rnn.w_rec closes a cycle without a delay: it carries what rnn.lif put out in the step before"
    assert run.stderr == f"note: {told}\n"
    with np.load(tmp_path / "out/outputs.npz") as outputs:
        spikes = outputs["output"][:, 0]
    expected = recurrent_spikes(graph, x, soft=soft)
    assert 0.2 < expected.mean() < 0.8
    np.testing.assert_array_equal(spikes, expected)
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    counts = {o["operation"]: (o["ac"], o["mac"]) for o in summary["operations"]}
    assert counts["fc"] == (0, 5 * np.count_nonzero(x))
    assert counts["rnn.w_rec"] == (5 * int(expected[:-1].sum()), 0)
    assert counts["rnn.lif"] == (0, 0)


def test_a_reset_that_the_file_does_not_say_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    graph = recurrent_graph(dt=DT)
    nir.write("rnn.nir", graph)
    nir.write("says.nir", recurrent_graph(dt=DT, reset_mechanism="subtract"))
    x = np.random.default_rng(3).integers(0, 9, (12, 3)) / 8
    np.savez("x.npz", input=x)
    run = CliRunner().invoke(main, ["simulate", "rnn.nir", "--input", "x.npz", "--reset", "subtract", "--out", "out"])
    assert run.exit_code == 0, run.output
    with np.load("out/outputs.npz") as outputs:
        np.testing.assert_array_equal(outputs["output"][:, 0], recurrent_spikes(graph, x, soft=True))
    told = refused("says.nir", "--input", "x.npz", "--reset", "zero")
    assert told == "says.nir: rnn.lif (LIF): metadata reset_mechanism is subtract; it cannot be run with zero"


def write_forms(folder: Path, x: np.ndarray) -> dict[str, str]:
    """The same input (T, B, 3) of spike counts in every form that is taken; name -> file."""
    T, B, N = x.shape
    np.save(folder / "x.npy", x)
    np.savez(folder / "x.npz", input=x.astype(np.uint8))
    with h5py.File(folder / "x.h5", "w") as file:
        file["input"] = x.astype(np.float32)
    grid = nir.TimeGriddedData(x.transpose(1, 0, 2), DT)
    nir.write_data(folder / "grid.h5", nir.NIRGraphData({"input": nir.NIRNodeData({"spikes": grid})}))
    events = [np.argwhere(x[:, b]) for b in range(B)]
    longest = max(map(len, events))
    idx, time = np.full((B, longest), -1), np.full((B, longest), np.inf)
    value = np.zeros((B, longest))
    for b, found in enumerate(events):
        idx[b, : len(found)], time[b, : len(found)] = found[:, 1], (found[:, 0] + 0.25) * DT
        value[b, : len(found)] = x[found[:, 0], b, found[:, 1]]
    valued = nir.ValuedEventData(idx, time, N, T * DT, value)
    nir.write_data(folder / "events.h5", nir.NIRGraphData({"input": nir.NIRNodeData({"spikes": valued})}))
    return {name: name for name in ("x.npy", "x.npz", "x.h5", "grid.h5", "events.h5")}


def test_every_form_of_input_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    graph = recurrent_graph(dt=DT)
    nir.write(tmp_path / "rnn.nir", graph)
    x = np.random.default_rng(4).poisson(0.5, (9, 2, 3)).astype(float)
    expected = np.stack([recurrent_spikes(graph, x[:, b], soft=False) for b in range(2)], axis=1)
    for file in write_forms(tmp_path, x):
        arguments = ["simulate", "rnn.nir", "--input", file, "--out", f"{file}.out", "--input-signal", "spikes"]
        run = CliRunner().invoke(main, arguments)
        assert run.exit_code == 0, run.stderr
        with np.load(tmp_path / f"{file}.out/outputs.npz") as outputs:
            np.testing.assert_array_equal(outputs["output"], expected, err_msg=file)


def test_events_of_one_channel_in_one_step_add_up(tmp_path: Path) -> None:
    nodes = {"in": nir.Input(np.array([2])), "out": nir.Output(np.array([2]))}
    nir.write(tmp_path / "wire.nir", nir.NIRGraph(nodes, [("in", "out")]))
    # 0.3 / 0.1 is 2.9999999999999996: step 3 all the same
    idx, time = np.array([[0, 0, 1, -1]]), np.array([[0.0, 0.05, 0.3, np.inf]])
    data = nir.NIRGraphData({"in": nir.NIRNodeData({"spikes": nir.EventData(idx, time, 2, 0.4)})})
    nir.write_data(tmp_path / "events.h5", data)
    ok("wire.nir", "--input", "events.h5", "--dt", "0.1", cwd=tmp_path)
    with np.load(tmp_path / "wire-simulation/outputs.npz") as outputs:
        assert outputs["out"][:, 0].tolist() == [[2, 0], [0, 0], [0, 0], [0, 1]]


def test_steps_cut_or_lengthen_a_run(tmp_path: Path) -> None:
    nir.write(tmp_path / "rnn.nir", recurrent_graph(dt=DT))
    np.save(tmp_path / "x.npy", np.ones((6, 3)))
    for steps in (4, 9):
        ok("rnn.nir", "--input", "x.npy", "--steps", str(steps), cwd=tmp_path)
        summary = json.loads((tmp_path / "rnn-simulation/summary.json").read_text())
        assert summary["steps"] == summary["executed_steps"] == steps
        assert summary["operations"][0]["mac"] == 15 * min(steps, 6)  # after its end the input is zero


def test_recorded_data_of_nested_graphs_are_nested_as_nir_has_it(tmp_path: Path) -> None:
    graph = recurrent_graph(dt=DT)
    nir.write(tmp_path / "rnn.nir", graph)
    x = (np.random.default_rng(4).random((7, 3)) < 0.5).astype(float)
    np.save(tmp_path / "x.npy", x)
    ok("rnn.nir", "--input", "x.npy", "--record", "spikes", cwd=tmp_path)
    recorded = nir.read_data(tmp_path / "rnn-simulation" / "spikes.h5")
    recorded.check_nodes(graph)
    spikes = recorded.nodes["rnn"].nodes["lif"].observables["spikes"].data
    np.testing.assert_array_equal(spikes[0], recurrent_spikes(graph, x, soft=False))
    assert spikes.any()


def test_more_steps_than_memory_has_room_for_are_refused_before_they_are_run(tmp_path: Path) -> None:
    nir.write(tmp_path / "rnn.nir", recurrent_graph(dt=DT))
    np.save(tmp_path / "x.npy", np.ones((6, 3)))
    told = refused(str(tmp_path / "rnn.nir"), "--input", str(tmp_path / "x.npy"), "--steps", "1000000000")
    assert (
        f"{tmp_path / 'rnn.nir'}: a run of 1,000,000,000 steps, with inputs, outputs and counts of one sample" in told
    )
    assert "; give fewer steps (--steps) or a longer dt (--dt), or allow more (--max-memory)" in told


def test_our_own_graph_runs_on_a_file_too(tmp_path: Path) -> None:
    """The clock ticks as long as the input lasts; the window's rest is quiet."""
    model, x, _ = calibrated_model(SMALL, seed=3, samples=2, window=20)
    folded = fold(model)
    nir.write(tmp_path / "model.nir", to_nir(folded, steps=20, dt=0.01))
    values = x.numpy()[:17]
    np.save(tmp_path / "x.npy", values)
    ok("model.nir", "--input", "x.npy", "--record", "spikes", cwd=tmp_path)
    padded = np.concatenate([values, np.zeros((3, *values.shape[1:]))]).transpose(1, 0, 2)
    expected = trace(folded, padded, np.full(2, 17))
    with np.load(tmp_path / "model-simulation/outputs.npz") as outputs:
        np.testing.assert_allclose(outputs["output"][:17], expected.logits[:17], rtol=0, atol=1e-12)
    recorded = nir.read_data(tmp_path / "model-simulation/spikes.h5").nodes
    assert recorded.keys() == expected.spikes.keys()
    for name, spikes in expected.spikes.items():
        assert recorded[name].observables["spikes"].data.sum() == spikes.sum() > 0, name


def test_graph_with_a_clock_runs_with_its_own_step_only(tmp_path: Path) -> None:
    model, x, _ = calibrated_model(SMALL, seed=3, samples=2, window=20)
    nir.write(tmp_path / "model.nir", to_nir(fold(model), steps=20, dt=0.01))
    np.save(tmp_path / "x.npy", x.numpy())
    inputs = ["--input", str(tmp_path / "x.npy"), "--out", str(tmp_path / "out")]
    message = refused(str(tmp_path / "model.nir"), *inputs, "--dt", "0.001")
    assert "the graph's metadata has spikescr.dt 0.01; with a clock" in message
    assert "it cannot be run with 0.001" in message
    ok(str(tmp_path / "model.nir"), *inputs, "--dt", "0.01", cwd=tmp_path)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph, inputs that do not fit, and things that are no graphs."""
    folder = tmp_path_factory.mktemp("files")
    nir.write(folder / "rnn.nir", recurrent_graph(dt=DT))
    two = {"a": nir.Input(np.array([2])), "b": nir.Input(np.array([2])), "out": nir.Output(np.array([2]))}
    nir.write(folder / "two.nir", nir.NIRGraph(two, [("a", "out"), ("b", "out")], metadata={"dt": DT}))
    nir.write(folder / "timeless.nir", recurrent_graph())
    x = np.ones((5, 3))
    np.save(folder / "x.npy", x)
    np.save(folder / "wide.npy", np.ones((5, 4)))
    np.save(folder / "empty.npy", np.ones((0, 3)))
    np.save(folder / "half.npy", x / 2)
    np.save(folder / "nan.npy", np.where(np.arange(15).reshape(5, 3) == 7, np.nan, 1))
    np.save(folder / "text.npy", np.array(["a"]))
    np.save(folder / "complex.npy", x * 1j)
    with h5py.File(folder / "group.h5", "w") as file:
        file["input/data"] = x
    np.save(folder / "object.npy", np.array([None]), allow_pickle=True)
    np.savez(folder / "other.npz", output=x)
    np.savez(folder / "lengths.npz", a=np.ones((5, 2)), b=np.ones((6, 2)))
    np.savez(folder / "one.npz", a=np.ones((5, 2)))
    (folder / "x.csv").write_text("1,2,3\n")
    (folder / "broken.h5").write_bytes(b"no HDF5")
    grid = nir.NIRNodeData({"spikes": nir.TimeGriddedData(np.ones((1, 5, 3)), 0.5)})
    nir.write_data(folder / "slow.h5", nir.NIRGraphData({"input": grid}))
    late = nir.NIRNodeData({"spikes": nir.EventData(np.array([[1]]), np.array([[9.0]]), 3, 0.005)})
    nir.write_data(folder / "late.h5", nir.NIRGraphData({"input": late}))
    return folder


REFUSED = {
    "width": (["rnn.nir", "wide.npy"], "wide.npy: 'input' has shape (5, 4), must have (T, 3) or (T, samples, 3)"),
    "empty": (["rnn.nir", "empty.npy"], "empty.npy: 'input' is empty, its shape is (0, 3)"),
    "nan": (["rnn.nir", "nan.npy"], "nan.npy: 'input' is nan at step 2, sample 0, channel 1"),
    "text": (["rnn.nir", "text.npy"], "text.npy: 'input' must hold real numbers, not <U1"),
    "complex": (["rnn.nir", "complex.npy"], "complex.npy: 'input' must hold real numbers, not complex128"),
    "group": (["rnn.nir", "group.h5"], "group.h5: 'input' is a group, must be an array"),
    "pickle": (["rnn.nir", "object.npy"], "object.npy: Object arrays cannot be loaded: they may hold code"),
    "half a spike": (
        ["rnn.nir", "half.npy", "--input-signal", "spikes"],
        "half.npy: 'input' carries spikes, must be whole numbers, 0 or more; it is 0.5 at step 0, sample 0, channel 0",
    ),
    "missing": (["rnn.nir", "other.npz"], "other.npz: has nothing for the input 'input'; found output"),
    "one of two": (["two.nir", "one.npz"], "one.npz: has nothing for the input 'b'; found a"),
    "one array for two": (["two.nir", "x.npy"], "x.npy: one array for a graph with the inputs a, b; give .npz or"),
    "lengths": (["two.nir", "lengths.npz"], "lengths.npz: all inputs must have the same steps: a 5, b 6"),
    "format": (["rnn.nir", "x.csv"], "x.csv: an input must be one of .npy, .npz, .h5, .hdf5, .nir"),
    "no file": (["rnn.nir", "none.npy"], "none.npy: no such file"),
    "broken": (["rnn.nir", "broken.h5"], "broken.h5: no readable HDF5 file ("),
    "other steps": (["rnn.nir", "slow.h5"], "slow.h5: 'input' has steps of 0.5 s, the graph is run with 0.001 s"),
    "late event": (["rnn.nir", "late.h5"], "late.h5: 'input' has an event of channel 1 at 9.0 s, outside of its own"),
    "no dt": (["timeless.nir", "x.npy"], "timeless.nir: the graph's metadata must have spikescr.dt, seconds per step"),
    "no graph": (["x.npy", "x.npy"], "x.npy: no readable HDF5 file"),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_told_in_one_line(
    files: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    graph, data, *options = arguments
    monkeypatch.chdir(files)
    assert refused(graph, "--input", data, *options).startswith(message)
    assert not list(files.glob("*-simulation"))


MISUSED = {
    "nothing to feed": (["rnn.nir"], "rnn.nir: what it is to be fed with is missing; give --input FILE"),
    "recordings": (["rnn.nir", "--input", "x.npy", "--split", "test"], "--split: rnn.nir is run on --input, not on"),
    "no graph": (["--input", "x.npy"], "--input: it needs a GRAPH to run"),
    "record": (
        ["rnn.nir", "--input", "x.npy", "--record", "u"],
        "record (--record) u: only spikes and v can be recorded",
    ),
    "membranes of recordings": (
        ["--record", "v"],
        "--record v: of recordings only spikes are recorded; of a GRAPH with --input",
    ),
    "dt": (["rnn.nir", "--input", "x.npy", "--dt", "-1"], "--dt -1.0: must be a number of seconds above 0"),
    "precision": (
        ["rnn.nir", "--input", "x.npy", "--backend", "lava", "--precision", "float32"],
        "--precision float32: Lava runs in float64",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), MISUSED.values(), ids=MISUSED.keys())
def test_options_that_mean_nothing_are_refused(
    files: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(files)
    assert refused(*arguments, status=2).startswith(message)


def test_a_membrane_without_end_names_the_graph_and_its_input(tmp_path: Path) -> None:
    nodes = {
        "input": nir.Input(np.array([1])),
        "w": nir.Linear(np.ones((1, 1))),
        "n": nir.LIF(*(np.array([value]) for value in (2 * DT, 20.0, 0.0, 0.75, 0.0))),  # a gain of 10
        "output": nir.Output(np.array([1])),
    }
    nir.write(tmp_path / "net.nir", nir.NIRGraph(nodes, [("input", "w"), ("w", "n"), ("n", "output")]))
    np.save(tmp_path / "x.npy", np.full((3, 1, 1), 1e308))
    told = refused(str(tmp_path / "net.nir"), "--input", str(tmp_path / "x.npy"), "--dt", str(DT))
    assert f"{tmp_path / 'net.nir'} on {tmp_path / 'x.npy'}: fast: n at step" in told
    assert "is not finite" in told


@pytest.mark.parametrize("backend", ["fast", pytest.param("lava", marks=pytest.mark.lava)])
@pytest.mark.parametrize("spiking", [True, False])
def test_a_sum_that_overflows_is_one_line(tmp_path: Path, backend: str, spiking: bool) -> None:
    """No warning of NumPy's before it; and of a graph without neurons, whose outputs are no numbers, too."""
    three = np.ones(3)
    nodes = {"input": nir.Input(np.array([3])), "w": nir.Linear(np.ones((3, 3)))}
    if spiking:
        nodes["n"] = nir.LIF(2 * DT * three, 2 * three, 0 * three, three, 0 * three)
    nodes["output"] = nir.Output(np.array([3]))
    nir.write(tmp_path / "net.nir", nir.NIRGraph(nodes, [*itertools.pairwise(nodes)]))
    np.save(tmp_path / "x.npy", np.full((2, 3), 1e308))
    words = ["net.nir", "--input", "x.npy", "--dt", str(DT), "--backend", backend]
    found = spikescr("simulate", *words, cwd=tmp_path)
    assert found.returncode == 1
    assert found.stderr.count("\n") == 1, found.stderr
    place = f"{backend}: n at step 0" if spiking else "output at step 0: channel 0 of sample 0 is inf"
    assert found.stderr.startswith(f"error: net.nir on x.npy: {place}")
