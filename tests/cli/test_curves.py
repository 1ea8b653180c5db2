from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
from click.testing import CliRunner
from helpers import write_tones

from spikescr.cli import main
from spikescr.runs import RunFolder
from spikescr.training.metrics import EpochMetrics, write_metrics
from spikescr.workflows.curves import PANELS, read_metrics

HEADER = "epoch,lr,train_loss,train_accuracy,valid_loss,valid_accuracy,firing_rate\n"
SMALL = ["steps=20", "model.heads=2", "model.width=16", "batch_size=16", "threads=1", "epochs=2"]


def run_with(folder: Path, accuracies: list[float]) -> Path:
    folder.mkdir()
    rows = [EpochMetrics(i, 0.01 / i, 3.0 / i, 0.5 * a, 2.0 / i, a, 0.15) for i, a in enumerate(accuracies, 1)]
    write_metrics(RunFolder(folder).metrics, rows)
    return folder


def test_every_run_is_drawn_with_labelled_axes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    kept: list[Any] = []
    save = Figure.savefig

    def keep(self: Figure, *arguments: Any, **options: Any) -> None:
        kept.append(self)
        save(self, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    runs = [run_with(tmp_path / name, values) for name, values in (("a", [0.5, 0.75, 0.8]), ("b", [0.25]))]
    out = tmp_path / "curves.png"
    found = CliRunner().invoke(main, ["curves", *map(str, runs), "--out", str(out)])
    assert (found.exit_code, found.output) == (0, "")
    assert matplotlib.image.imread(out).shape[:2] == (1050, 1500)
    (figure,) = kept
    assert [axes.get_ylabel() for axes in figure.axes] == [label for _, label, *_ in PANELS]
    assert {axes.get_xlabel() for axes in figure.axes} == {"Epoch"}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [str(run) for run in runs]
    accuracy = figure.axes[1]
    drawn = [(list(line.get_xdata()), list(line.get_ydata()), line.get_linestyle()) for line in accuracy.lines]
    assert drawn == [
        ([1, 2, 3], [25, 37.5, 40], "--"),
        ([1, 2, 3], [50, 75, 80], "-"),
        ([1], [12.5], "--"),
        ([1], [25], "-"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "metrics.csv does not exist; make it with: spikescr train --run"),
        (
            "epoch,loss\n1,2\n",
            r"metrics\.csv: line 2: lr: Field required; train_loss: Field required; .*; make it again: ",
        ),
        (
            HEADER + "1,x,0.5,0.5,0.5,0.5,0.1\n",
            r"metrics\.csv: line 2: lr: Input should be a valid number.*\(got 'x'\)",
        ),
        (HEADER + "1,1,nan,0.5,0.5,0.5,0.1\n", r"metrics\.csv: line 2: train_loss: Input should be a finite number"),
        (HEADER + "1,1,1,0.5,0.5,0.5,0.1\n2,1\n", r"metrics\.csv: line 3: train_loss: .*\(got None\)"),
        (
            HEADER + "1,1,1,2,0.5,0.5,0.1\n",
            r"metrics\.csv: line 2: train_accuracy: Input should be less than or equal to 1",
        ),
        (HEADER + '1,"1,1\n', r"metrics\.csv: line 2: unexpected end of data"),
        (HEADER.encode() + b"\xff\n", rf"metrics\.csv: no text in UTF-8 \(invalid start byte at byte {len(HEADER)}\)"),
    ],
)
def test_a_run_without_metrics_is_named(tmp_path: Path, content: str | bytes | None, message: str) -> None:
    run = RunFolder(tmp_path)
    if content is not None:
        run.metrics.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = CliRunner().invoke(main, ["curves", str(tmp_path), "--out", str(tmp_path / "a.png")])
    assert found.exit_code == 1
    assert re.search(message, found.stderr), found.stderr
    assert not (tmp_path / "a.png").exists()


def test_an_empty_table_is_named(tmp_path: Path) -> None:
    run = run_with(tmp_path / "run", [])
    found = CliRunner().invoke(main, ["curves", str(run), "--out", str(tmp_path / "a.svg")])
    assert (found.exit_code, found.stderr) == (
        1,
        f"error: {run}/metrics.csv: has no row below the names of its columns; make it again: spikescr train --run "
        f"{run}\n",
    )


def test_other_formats_are_refused(tmp_path: Path) -> None:
    run = run_with(tmp_path / "run", [0.5])
    found = CliRunner().invoke(main, ["curves", str(run), "--out", str(tmp_path / "a.jpg")])
    assert found.exit_code == 2
    assert "a.jpg: a picture's name must end with one of .pdf, .png, .svg" in found.stderr


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TensorBoard's own, of protobuf and NumPy
def test_tensorboard_gets_the_metrics(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tones, run = write_tones(tmp_path / "tones"), tmp_path / "run"
    command = ["train", "--data", f"folder:{tones}", "--run", str(run), *SMALL, "--tensorboard"]
    found = CliRunner().invoke(main, command)
    assert found.exit_code == 0, found.stderr
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    table = read_metrics(RunFolder(run))
    assert set(events.Tags()["scalars"]) == table.keys() - {"epoch"}
    for name in table.keys() - {"epoch"}:
        assert [event.step for event in events.Scalars(name)] == [1, 2]
        assert [event.value for event in events.Scalars(name)] == pytest.approx(table[name], rel=1e-5)


def test_tensorboard_that_is_not_there_is_told_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    tones = write_tones(tmp_path / "tones", takes=1)
    command = ["train", "--data", f"folder:{tones}", "--run", str(tmp_path / "run"), *SMALL, "--tensorboard"]
    found = CliRunner().invoke(main, command)
    assert found.exit_code == 2
    assert found.stderr == (
        "error: writing for TensorBoard (--tensorboard) needs tensorboard, which is not installed: "
        "pip install 'spikescr[tensorboard]'\n"
    )
    assert not (tmp_path / "run").exists() or list((tmp_path / "run").iterdir()) == []
