"""Readouts against loops written from their definition, and labels: what is counted as right, what is refused."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import nir
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import spikescr
from spikescr.cli import main
from spikescr.errors import DataError, UsageError
from spikescr.readouts import READOUTS
from spikescr.sim.counting.decisions import final_steps
from spikescr.sim.recording import read_out

DT = 1e-3


def by_hand(readout: str, outputs: np.ndarray) -> np.ndarray:
    """(K,) from (steps, K), by the table of docs/nir.md."""
    answer = np.zeros(outputs.shape[1])
    for step in outputs:
        match readout:
            case "softmax_sum":
                answer += np.exp(step) / np.exp(step).sum()
            case "sum":
                answer += step
            case "mean":
                answer += step / len(outputs)
            case "last":
                answer = step
            case "votes":
                if len(set(step.tolist())) > 1:
                    answer[step.tolist().index(max(step.tolist()))] += 1
    return answer


@pytest.mark.parametrize("readout", READOUTS)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_readouts_are_what_a_loop_over_valid_steps_says(readout: str, data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    steps, samples, classes = (data.draw(st.integers(1, n)) for n in (7, 3, 4))
    spiking = data.draw(st.booleans())
    outputs = rng.integers(0, 2, (steps, samples, classes)).astype(float)
    if not spiking:
        outputs += rng.normal(size=outputs.shape)
    valid = rng.integers(1, steps + 1, samples)
    answers = read_out(readout, outputs, valid)
    for sample, last in enumerate(valid):
        np.testing.assert_allclose(answers[sample], by_hand(readout, outputs[:last, sample]), rtol=1e-12, atol=1e-12)
    told = answers.argmax(axis=1)
    for sample, final in enumerate(final_steps(outputs, valid, readout)):
        for step in range(max(final - 1, 0), valid[sample]):
            running = by_hand(readout, outputs[: step + 1, sample])
            if classes > 1 and np.diff(np.sort(running)[-2:]) < 1e-9:
                continue  # a draw that rounding may decide
            assert (running.argmax() == told[sample]) == (step >= final)


def test_no_valid_step_gives_no_answer() -> None:
    assert read_out("last", np.ones((2, 1, 3)), np.array([0])).tolist() == [[0, 0, 0]]


def test_another_readout_is_refused() -> None:
    with pytest.raises(UsageError, match="'first': it must be one of softmax_sum, sum"):
        read_out("first", np.ones((1, 1, 1)), np.array([1]))


def counter(**metadata: object) -> nir.NIRGraph:
    """Three neurons that fire where their channel's count is at least 1: a spiking output."""
    n = np.ones(3)
    nodes = {
        "input": nir.Input(np.array([3])),
        "fc": nir.Linear(np.eye(3)),
        "if": nir.IF(n / DT, n * 0.9, 0 * n),
        "output": nir.Output(np.array([3])),
    }
    return nir.NIRGraph(nodes, list(itertools.pairwise(nodes)), metadata=metadata)


X = np.array(  # (T, B, 3): sample 0 fires 1, 1, 2; sample 1 fires 0 at first, then nothing
    [[[0, 1, 0], [1, 0, 0]], [[0, 1, 0], [0, 0, 0]], [[0, 0, 1], [0, 0, 0]]], float
)


@pytest.mark.parametrize("backend", ["fast", pytest.param("lava", marks=pytest.mark.lava)])
def test_a_spiking_output_is_read_out(backend: str) -> None:
    graph = counter(**{"spikescr.readout": "mean", "spikescr.classes": json.dumps(["no", "yes", "on"])})
    run = spikescr.simulate(graph, X, dt=DT, input_signal="spikes", labels=[1, 2], backend=backend)
    assert run.answers is not None
    np.testing.assert_allclose(run.answers, [[0, 2 / 3, 1 / 3], [1 / 3, 0, 0]])
    assert (run.audit.labels, run.audit.predicted) == (("yes", "on"), ("yes", "no"))
    assert run.accuracy == 0.5
    assert run.audit.decisions[:, 0].tolist() == [0, 0]


def test_readout_and_accuracy_without_metadata() -> None:
    run = spikescr.simulate(counter(), X, dt=DT, input_signal="spikes", labels=[2, 0], readout="last")
    assert run.audit.predicted == ("2", "0")
    assert run.accuracy == 1
    assert run.audit.decisions[:, 0].tolist() == [2, 0]
    plain = spikescr.simulate(counter(), X, dt=DT, input_signal="spikes")
    assert (plain.answers, plain.accuracy, len(plain.audit.decisions)) == (None, None, 0)


def test_what_cannot_be_read_out_is_told() -> None:
    with pytest.raises(UsageError, match=r"spikescr\.readout is None; give readout \(--readout\): softmax_sum, sum,"):
        spikescr.simulate(counter(), X, dt=DT, labels=[0, 1])
    with pytest.raises(UsageError, match=r"spikescr\.readout is 'first'"):
        spikescr.simulate(counter(**{"spikescr.readout": "first"}), X, dt=DT, labels=[0, 1])
    for labels, told in (
        ([0], r"labels: must hold 2 whole numbers, the class of each sample; it has int64 \(1,\)"),
        ([0.0, 1.0], "it has float64"),
        ([0, 3], "the class of sample 1 is 3, must be 0 to 2, a channel of the output"),
    ):
        with pytest.raises(DataError, match=told):
            spikescr.simulate(counter(), X, dt=DT, labels=labels, readout="sum")


def test_labels_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    nir.write("net.nir", counter(**{"spikescr.readout": "sum", "spikescr.dt": DT}))
    np.save("x.npy", X)
    np.save("y.npy", np.array([1, 2]))

    def spikescr_says(*arguments: str) -> str:
        run = CliRunner().invoke(main, list(arguments), catch_exceptions=False)
        assert run.exit_code == 0, run.output
        return run.output

    assert "accuracy: 50.00 %, 1 of 2" in spikescr_says("simulate", "net.nir", "--input", "x.npy", "--labels", "y.npy")
    folder = Path("net-simulation")
    assert json.loads((folder / "summary.json").read_text())["accuracy"] == 0.5
    rows = (folder / "predictions.csv").read_text().splitlines()
    assert rows[0].startswith("recording,label,predicted,steps,ac,")
    assert [row.split(",")[:4] for row in rows[1:]] == [["0", "1", "1", "3"], ["1", "2", "0", "3"]]
    spikescr_says("report", "net-simulation")
    text = (folder / "report.md").read_text()
    assert "Of 2 samples the network named 50.00 % correctly" in text
    assert "--labels=y.npy" in text
    assert "Sample 0: the network says 1, which is right." in text
    assert "of a sample; until its output" in text
    spikescr_says("energy", "net-simulation")
    spikescr_says("simulate", "net.nir", "--input", "x.npy")  # predictions of an earlier run do not stay
    assert not (folder / "predictions.csv").exists()


def test_labels_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    nir.write("net.nir", counter(**{"spikescr.readout": "sum", "spikescr.dt": DT}))
    np.save("x.npy", X)
    Path("broken.npy").write_bytes(b"no array")
    np.save("objects.npy", np.array([{}, {}], dtype=object))
    for name, told in (("none.npy", "no such file"), ("y.csv", "must be one array, .npy"),
                       ("broken.npy", "cannot be read as .npy"), ("objects.npy", "may hold code")):  # fmt: skip
        run = CliRunner().invoke(main, ["simulate", "net.nir", "--input", "x.npy", "--labels", name])
        assert (run.exit_code, run.stdout) == (1, "")
        assert f"{name}: " in run.stderr
        assert told in run.stderr
    run = CliRunner().invoke(main, ["simulate", "--labels", "y.npy"])
    assert run.exit_code == 2
    assert "--labels: it needs a GRAPH to run" in run.stderr
