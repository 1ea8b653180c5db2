"""spikescr evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from spikescr.cli.console import notices, output
from spikescr.cli.options import max_memory
from spikescr.cli.text import percent, wide_console
from spikescr.runs import DEFAULT_RUN, RunFolder

if TYPE_CHECKING:
    from spikescr.training.assess import Assessment, Share

MOST_COLUMNS = 20
"""Classes up to which the terminal shows the confusion matrix."""
WORST = 10
"""How many classes and speakers it shows otherwise, those with the lowest accuracy."""

MOST_ANSWERS = 40
"""Recordings without labels of which it shows the answer."""

EPILOG = """
\b
Examples:
  spikescr evaluate
      the test split, in PyTorch; writes runs/latest/evaluation/test.json
  spikescr evaluate --split valid --csv --png --run runs/ssc
      also tables and a picture
  spikescr evaluate --data folder:my_recordings --split all
      other recordings of the same classes, or of some of them; recordings that lie in the folder itself have no label:
      the answers alone are shown, and written as CSV

Confidence is read in two ways: softmax, that of the readout, which training takes for probabilities; time mean, the
mean over time of the probabilities at each step. Expected calibration error: |accuracy - confidence| in 15 bins of
equal width from 0 to 1, weighted by recordings.
"""


@click.command(epilog=EPILOG)
@click.option("--run", "folder", type=click.Path(path_type=Path), default=DEFAULT_RUN, show_default=True)
@click.option("--data", help="Data set instead of the one trained on, named as for train.")
@click.option("--split", type=click.Choice(["train", "valid", "test", "all"]), default="test", show_default=True)
@click.option("--limit", type=click.IntRange(1), help="Only the first so many recordings.")
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True)
@click.option("--csv", "tables", is_flag=True, help="Also write the confusion matrix and every answer as CSV.")
@click.option("--png", "picture", is_flag=True, help="Also draw confusion and reliability.")
@max_memory
def command(
    folder: Path, data: str | None, split: str, limit: int | None, batch_size: int, tables: bool, picture: bool
) -> None:
    """Accuracy, confusion and confidence of the trained network on a split."""
    with notices().status("Loading torch and SpikingJelly"):
        from spikescr.workflows.evaluate import evaluate_run

    evaluated = evaluate_run(
        RunFolder(folder),
        data=data,
        split=split,
        limit=limit,
        batch_size=batch_size,
        tables=tables,
        picture=picture,
    )
    if evaluated.assessment is None:
        _list(evaluated.answers)
    else:
        _show(evaluated.assessment, evaluated.classes)
    for each in evaluated.written:
        output().print(f"wrote {each}", soft_wrap=True)


def _list(answers: tuple[tuple[str, str, float], ...]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    more = f"; the first {MOST_ANSWERS}" if len(answers) > MOST_ANSWERS else ""
    table = Table(title=f"{len(answers)} recordings without labels{more}", box=SIMPLE_HEAD)
    table.add_column("recording", overflow="fold")
    table.add_column("answer", no_wrap=True)
    table.add_column("confidence", justify="right", no_wrap=True)
    for name, said, confidence in answers[:MOST_ANSWERS]:
        table.add_row(name, said, percent(confidence))
    wide_console().print(table)


def _show(assessment: Assessment, classes: tuple[str, ...]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    console = wide_console()
    if len(classes) <= MOST_COLUMNS:
        table = Table(title="Answers (columns) to labels (rows)", box=SIMPLE_HEAD)
        table.add_column("", no_wrap=True)
        for number in range(len(classes)):
            table.add_column(str(number), justify="right", no_wrap=True)
        for number, row in enumerate(assessment.confusion):
            counts = [str(count) if count else "" for count in row]
            table.add_row(f"{number} {classes[number]}", *counts)
        console.print(table)
    _lowest("classes", assessment.classes)
    if assessment.speakers is not None:
        _lowest("speakers", assessment.speakers)
    table = Table(title="Confidence against correctness", box=SIMPLE_HEAD)
    for column in ("confidence", "mean", "accuracy", "ECE", "MCE"):
        table.add_column(column, justify="left" if column == "confidence" else "right", no_wrap=True)
    for name, calibration in assessment.reliability.items():
        numbers = (
            percent(calibration.confidence),
            percent(assessment.accuracy),
            f"{calibration.ece:.4f}",
            f"{calibration.mce:.4f}",
        )
        table.add_row(name.replace("_", " "), *numbers)
    console.print(table)
    low, high = assessment.interval
    console.print(
        f"{assessment.recordings} recordings, accuracy {percent(assessment.accuracy, 2)} "
        f"(95 %: {percent(low, 2)} to {percent(high, 2)}), loss {assessment.loss:.4f}"
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
