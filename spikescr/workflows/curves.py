"""Learning curves of runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from spikescr.documents import read_rows
from spikescr.errors import UsageError
from spikescr.extras import require
from spikescr.files import replacing
from spikescr.runs import RunFolder
from spikescr.training.metrics import EpochMetrics

PANELS = (
    ("loss", "Loss (cross-entropy, nats)", 1.0, (("train_loss", "--"), ("valid_loss", "-"))),
    ("accuracy", "Accuracy (%)", 100.0, (("train_accuracy", "--"), ("valid_accuracy", "-"))),
    ("rate", "Firing rate, validation (% of neurons per step)", 100.0, (("firing_rate", "-"),)),
    ("lr", "Learning rate", 1.0, (("lr", "-"),)),
)
SUFFIXES = (".pdf", ".png", ".svg")


def draw_curves(runs: Sequence[RunFolder], file: Path) -> None:
    """Draws the learning curves of runs, one colour each; training dashed, validation solid.

    Args:
        runs: with metrics.csv.
        file: the picture; its suffix tells the format.

    Raises:
        UsageError: the suffix is none of SUFFIXES.
        SpikescrError: a run has no metrics.
        MissingExtraError: matplotlib is not installed.
    """
    if file.suffix not in SUFFIXES:
        raise UsageError(f"{file}: a picture's name must end with one of {', '.join(SUFFIXES)}")
    tables = {str(run.path): read_metrics(run) for run in runs}
    require("matplotlib", "a picture of learning curves")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    for axes, (_, label, factor, lines) in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        for colour, (name, table) in enumerate(tables.items()):
            for column, style in lines:
                values = [factor * value for value in table[column]]
                dots = "." if len(values) == 1 else None
                legend = name if style == "-" else None
                axes.plot(table["epoch"], values, style, color=f"C{colour % 10}", label=legend, marker=dots)
        axes.set(xlabel="Epoch", ylabel=label)
        axes.grid(alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=min(len(runs), 3))
    with replacing(file) as temporary:
        figure.savefig(temporary, dpi=150)


def read_metrics(run: RunFolder) -> dict[str, list[float]]:
    """The columns of a run's metrics.csv.

    Raises:
        SpikescrError: it is not there, or is no table of metrics; the message names the file.
    """
    rows = read_rows(run.require(run.metrics), EpochMetrics, f"make it again: {run.make_command(run.metrics)}")
    columns = ["epoch", *(column for *_, lines in PANELS for column, _ in lines)]
    return {column: [float(getattr(row, column)) for row in rows] for column in columns}
