"""What is measured in each epoch, and the tables of it on disk."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated

from pydantic import Field

from spikescr.files import write_text


@dataclass(frozen=True)
class EpochMetrics:
    """One row of metrics.csv; equal trainings have equal rows.

    Attributes:
        epoch: From 1.
        lr: At the epoch's end.
        train_loss: Mean over the epoch, with dropout and augmentation.
        train_accuracy: The same.
        valid_loss: On the validation split, after the epoch.
        valid_accuracy: The same.
        firing_rate: Spikes per neuron and valid step on the validation split.
    """

    epoch: Annotated[int, Field(ge=1)]
    lr: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    train_loss: Annotated[float, Field(allow_inf_nan=False)]
    train_accuracy: Annotated[float, Field(ge=0, le=1)]
    valid_loss: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    valid_accuracy: Annotated[float, Field(ge=0, le=1)]
    firing_rate: Annotated[float, Field(ge=0, allow_inf_nan=False)]

    def better_than(self, other: EpochMetrics) -> bool:
        """By validation accuracy; of equal ones, by validation loss."""
        return (self.valid_accuracy, -self.valid_loss) > (other.valid_accuracy, -other.valid_loss)


def write_metrics(path: Path, rows: Sequence[EpochMetrics]) -> None:
    """Writes all rows as CSV; numbers with six significant digits."""
    _write(path, [field.name for field in fields(EpochMetrics)], (asdict(row).values() for row in rows))


def write_times(path: Path, seconds: Sequence[float]) -> None:
    """Writes when each epoch ended, in seconds of training, as CSV; apart from metrics.csv, for it never repeats."""
    _write(path, ["epoch", "seconds"], ((epoch, round(end, 3)) for epoch, end in enumerate(seconds, 1)))


def _write(path: Path, header: Sequence[str], rows: Iterable[Iterable[float]]) -> None:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow(f"{value:.6g}" if isinstance(value, float) else value for value in row)
    write_text(path, table.getvalue())
