"""spikescr evaluate."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spikescr.cli.console import notices, output
from spikescr.cli.text import percent, wide_console
from spikescr.runs import DEFAULT_RUN, RunFolder

if TYPE_CHECKING:
    from spikescr.data import Item
    from spikescr.training.assess import Answers, Assessment, Share

MOST_COLUMNS = 20
"""Classes up to which the terminal shows the confusion matrix."""
WORST = 10
"""How many classes and speakers it shows otherwise, those with the lowest accuracy."""

EPILOG = """
\b
Examples:
  spikescr evaluate
      the test split, in PyTorch; writes runs/latest/evaluation/test.json
  spikescr evaluate --split valid --csv --png --run runs/ssc
      also tables and a picture
  spikescr evaluate --data folder:my_recordings
      other recordings of the same classes

Confidence is read in two ways: softmax, that of the readout, which training takes for probabilities; time mean, the
mean over time of the probabilities at each step. Expected calibration error: |accuracy - confidence| in 15 bins of
equal width from 0 to 1, weighted by recordings.
"""


@dataclass(frozen=True)
class _Trained:
    """What the choice of recordings needs to know of a checkpoint."""

    path: Path
    classes: tuple[str, ...]
    data: str
    seed: int


@click.command(epilog=EPILOG)
@click.option("--run", "folder", type=click.Path(path_type=Path), default=DEFAULT_RUN, show_default=True)
@click.option("--data", help="Data set instead of the one trained on, named as for train.")
@click.option("--split", type=click.Choice(["train", "valid", "test"]), default="test", show_default=True)
@click.option("--limit", type=click.IntRange(1), help="Only the first so many recordings.")
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True)
@click.option("--csv", "tables", is_flag=True, help="Also write the confusion matrix and every answer as CSV.")
@click.option("--png", "picture", is_flag=True, help="Also draw confusion and reliability.")
def command(
    folder: Path, data: str | None, split: str, limit: int | None, batch_size: int, tables: bool, picture: bool
) -> None:
    """Accuracy, confusion and confidence of the trained network on a split."""
    with notices().status("Loading torch and SpikingJelly"):
        from spikescr.checkpoint import load_checkpoint
        from spikescr.data import load
        from spikescr.data.picture import require_matplotlib
        from spikescr.files import replacing_together, sha256, write_text
        from spikescr.provenance import versions
        from spikescr.training.assess import answer, assess
        from spikescr.workflows.deployed import choose_recordings

    if picture:
        require_matplotlib()
    run = RunFolder(folder)
    run.require(run.checkpoint)
    with run.locked():
        model, info = load_checkpoint(run.checkpoint)
        trained = _Trained(run.checkpoint, info.classes, info.training.data, info.training.seed)
        items = choose_recordings(trained, data=data, split=split, limit=limit, recording=None)
        answers = answer(model, load(items, info.preprocessing), batch_size)
        found = assess(answers, info.classes, [item.speaker for item in items])
        name = run.evaluation.name
        names = [f"{name}/{split}{ending}" for ending in (".json", "-confusion.csv", "-answers.csv", ".png")]
        content = {
            "data": data or info.training.data,
            "split": split,
            "limit": limit,
            "seed": info.training.seed,
            "steps_per_second": info.training.steps,
            "checkpoint": sha256(run.checkpoint),
            "versions": versions("spikescr", "torch", "spikingjelly", "numpy"),
            **found.as_json(),
        }
        with replacing_together(run.path, names) as stage:
            path = RunFolder(stage).evaluation / f"{split}.json"
            path.parent.mkdir()
            written = [path.name]
            write_text(path, json.dumps(content, indent=2) + "\n")
            if tables:
                written += _write_tables(path, items, answers, found, info.classes)
            if picture:
                written.append(_draw(path.with_suffix(".png"), found, info.classes))
    _show(found, info.classes)
    for each in written:
        output().print(f"wrote {run.evaluation / each}", soft_wrap=True)


def _write_tables(
    path: Path, items: tuple[Item, ...], answers: Answers, found: Assessment, classes: tuple[str, ...]
) -> list[str]:
    from spikescr.files import write_text

    confusion: list[list[object]] = [
        ["label", *classes],
        *([name, *row] for name, row in zip(classes, found.confusion, strict=True)),
    ]
    confidence = answers.confidence()
    rows: list[list[object]] = [["recording", "speaker", "label", "predicted", "right", *confidence]]
    for i, item in enumerate(items):
        label, predicted = int(answers.labels[i]), int(answers.predicted[i])
        numbers = [f"{values[i]:.6g}" for values in confidence.values()]
        rows.append(
            [item.name, item.speaker or "", classes[label], classes[predicted], int(label == predicted), *numbers]
        )
    written = []
    for name, table in (("confusion", confusion), ("answers", rows)):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(table)
        written.append(f"{path.stem}-{name}.csv")
        write_text(path.with_name(written[-1]), text.getvalue())
    return written


def _draw(path: Path, found: Assessment, classes: tuple[str, ...]) -> str:
    """The confusion matrix, rows in shares of their class, and confidence against accuracy."""
    import numpy as np
    from matplotlib.figure import Figure

    from spikescr.files import replacing

    counts = np.array(found.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(4.0, 0.3 * len(classes) + 1.5)
    figure = Figure(figsize=(side + 5, side + 0.8), layout="constrained")
    figure.suptitle(f"{found.recordings} recordings, accuracy {found.accuracy:.2%}")
    left, right = figure.subplots(1, 2, width_ratios=(side, 4))
    image = left.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    left.set_xticks(range(len(classes)), classes, rotation=90)
    left.set_yticks(range(len(classes)), classes)
    left.set_xlabel("answer")
    left.set_ylabel("label")
    for i, k in np.argwhere(counts > 0):
        left.text(k, i, counts[i, k], ha="center", va="center", fontsize=7, color="w" if shares[i, k] > 0.5 else "k")
    figure.colorbar(image, ax=left, label="share of the class", shrink=0.8)
    right.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--")
    for name, of in found.reliability.items():
        points = [(b.confidence, b.accuracy) for b in of.bins if b.confidence is not None]
        right.plot(*zip(*points, strict=True), marker="o", label=f"{name.replace('_', ' ')}: ECE {of.ece:.3f}")
    right.set_box_aspect(1)
    right.set_xlim(0, 1)
    right.set_ylim(0, 1)
    right.set_xlabel("confidence")
    right.set_ylabel("accuracy")
    right.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
    return path.name


def _show(found: Assessment, classes: tuple[str, ...]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    console = wide_console()
    if len(classes) <= MOST_COLUMNS:
        table = Table(title="Answers (columns) to labels (rows)", box=SIMPLE_HEAD)
        table.add_column("", no_wrap=True)
        for number in range(len(classes)):
            table.add_column(str(number), justify="right", no_wrap=True)
        for number, row in enumerate(found.confusion):
            counts = [str(count) if count else "" for count in row]
            table.add_row(f"{number} {classes[number]}", *counts)
        console.print(table)
    _lowest("classes", found.classes)
    if found.speakers is not None:
        _lowest("speakers", found.speakers)
    table = Table(title="Confidence against correctness", box=SIMPLE_HEAD)
    for column in ("confidence", "mean", "accuracy", "ECE", "MCE"):
        table.add_column(column, justify="left" if column == "confidence" else "right", no_wrap=True)
    for name, of in found.reliability.items():
        numbers = (percent(of.confidence), percent(found.accuracy), f"{of.ece:.4f}", f"{of.mce:.4f}")
        table.add_row(name.replace("_", " "), *numbers)
    console.print(table)
    low, high = found.interval
    console.print(
        f"{found.recordings} recordings, accuracy {percent(found.accuracy, 2)} "
        f"(95 %: {percent(low, 2)} to {percent(high, 2)}), loss {found.loss:.4f}"
    )


def _lowest(what: str, shares: tuple[Share, ...]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    lowest = sorted(shares, key=lambda share: (share.accuracy, share.name))[:WORST]
    title = (
        f"By {what}" if len(lowest) == len(shares) else f"The {WORST} {what} of {len(shares)} with the lowest accuracy"
    )
    table = Table(title=title, box=SIMPLE_HEAD)
    table.add_column(what, no_wrap=True)
    columns = ("recordings", "correct", "accuracy", *(["precision"] if what == "classes" else []))
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for share in lowest:
        row = [share.name, str(share.recordings), str(share.correct), percent(share.accuracy)]
        table.add_row(*row, *([percent(share.precision)] if what == "classes" else []))
    wide_console().print(table)
