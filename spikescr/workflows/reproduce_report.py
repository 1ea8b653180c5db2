"""What a reproduction found, row by row, beside what is printed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from spikescr.extras import require
from spikescr.files import replacing, replacing_together, write_csv, write_text
from spikescr.provenance import versions
from spikescr.training.assess import wilson
from spikescr.workflows.reproduce_plan import Plan, PlannedRow
from spikescr.workflows.reproduce_training import Outcome
from spikescr.workflows.sweep import half_interval

RECORD, TABLE, PICTURE = "reproduce.json", "reproduce.csv", "reproduce.png"
FORMAT = 1
FIELDS = (
    "row", "table", "printed", "seeds", "of", "parameters", "best", "best_low", "best_high", "last", "last_low",
    "last_high", "interval", "valid", "source", "differs",
)  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """A share of right answers, and its interval of 95 %.

    kind: "t", Student's over seeds; "wilson", over the answers of a single one.
    """

    mean: float
    low: float
    high: float
    kind: Literal["t", "wilson"]

    @classmethod
    def of(cls, right: Sequence[int], recordings: Sequence[int]) -> Figure:
        """From right answers and recordings of each seed, at least one."""
        shares = [r / n for r, n in zip(right, recordings, strict=True)]
        mean, half = float(np.mean(shares)), half_interval(shares)
        if half is None:
            return cls(mean, *wilson(right[0], recordings[0]), "wilson")
        return cls(mean, mean - half, mean + half, "t")


@dataclass(frozen=True)
class RowResult:
    """A row of a table, reproduced.

    Attributes:
        name: See `Row`.
        table: See `Row`.
        printed: Accuracy, a share.
        source: Where that is printed.
        differs: What is not as it was there; None: nothing that we know of.
        seeds: Trainings that are done.
        of: That are planned; 0: this version cannot train it.
        parameters: Of the network; None before a training is done.
        best: On the test split, after the epoch that did best on the validation split; None likewise.
        last: On the test split, after the last epoch.
        valid: Mean of the best epochs' accuracy of validation.
        outcomes: Of each seed.
    """

    name: str
    table: str
    printed: float
    source: str
    differs: str | None
    seeds: int
    of: int
    parameters: int | None = None
    best: Figure | None = None
    last: Figure | None = None
    valid: float | None = None
    outcomes: tuple[Outcome, ...] = ()

    def as_cells(self) -> dict[str, Any]:
        """One value for each of `FIELDS`, None where there is none; shares from 0 to 1."""
        cells: dict[str, Any] = dict.fromkeys(FIELDS)
        cells |= {"row": self.name, "table": self.table, "printed": self.printed, "seeds": self.seeds, "of": self.of}
        cells |= {"parameters": self.parameters, "valid": self.valid, "source": self.source, "differs": self.differs}
        for name, figure in (("best", self.best), ("last", self.last)):
            if figure is not None:
                cells |= {name: figure.mean, f"{name}_low": figure.low, f"{name}_high": figure.high}
                cells["interval"] = figure.kind
        return cells


@dataclass(frozen=True)
class Report:
    """rows: in the order of the table, those that this version cannot train at the end. about: what they are of."""

    rows: tuple[RowResult, ...]
    about: dict[str, Any]

    @classmethod
    def of(cls, plan: Plan, outcomes: Mapping[str, Outcome]) -> Report:
        """The rows of a plan; outcomes: of the trainings that are done, by key."""
        request = plan.request
        table = request.table
        rows = [_row(planned, plan, outcomes) for planned in plan.rows]
        for row, why in plan.unavailable:
            source = row.source or table.source
            rows.append(RowResult(row.name, row.table, row.printed / 100, source, f"not available: {why}", 0, 0))
        about = {
            "tables": table.about,
            "data": plan.data,
            "as_printed": plan.data.partition(":")[0] == table.data
            and request.epochs is None
            and request.limit is None,
            "seeds": plan.seeds,
            "epochs": request.epochs,
            "limit": request.limit,
            "threads": request.threads,
        }
        return cls(tuple(rows), about)


def _row(planned: PlannedRow, plan: Plan, outcomes: Mapping[str, Outcome]) -> RowResult:
    row, table = planned.row, plan.request.table
    done = tuple(outcomes[training.key] for training in planned.trainings if training.key in outcomes)
    said = [text for text in (table.differs, row.differs) if text is not None]
    result = RowResult(
        name=row.name,
        table=row.table,
        printed=row.printed / 100,
        source=row.source or table.source,
        differs="; ".join(said) or None,
        seeds=len(done),
        of=len(planned.trainings),
    )
    if not done:
        return result
    recordings = [outcome.recordings for outcome in done]
    found: dict[str, Any] = {
        "parameters": done[0].parameters,
        "best": Figure.of([outcome.best.right for outcome in done], recordings),
        "last": Figure.of([outcome.last.right for outcome in done], recordings),
        "valid": float(np.mean([outcome.best.valid_accuracy for outcome in done])),
        "outcomes": done,
    }
    return replace(result, **found)


def write_report(folder: Path, report: Report) -> None:
    """Writes reproduce.json and reproduce.csv, as one; equal trainings give equal files. An earlier picture goes."""
    rows = [
        row.as_cells() | {"trainings": [outcome.model_dump(exclude={"seconds", "format"}) for outcome in row.outcomes]}
        for row in report.rows
    ]
    content = {"format": FORMAT, **report.about, "versions": versions("spikescr", "torch", "spikingjelly", "numpy")}
    cells = [row.as_cells() for row in report.rows]
    with replacing_together(folder, (RECORD, TABLE, PICTURE)) as stage:
        write_text(stage / RECORD, json.dumps({**content, "rows": rows}, indent=1) + "\n")
        write_csv(stage / TABLE, FIELDS, [["" if row[f] is None else row[f] for f in FIELDS] for row in cells])


def draw_report(report: Report, file: Path) -> None:
    """Every row of which a training is done: printed, best and last epoch, with their intervals.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    require("matplotlib", "a picture (--png)")
    from matplotlib.figure import Figure as Picture

    rows = [row for row in report.rows if row.best is not None]
    picture = Picture(figsize=(8, 1.2 + 0.45 * len(rows)), layout="constrained")
    axes = picture.subplots()
    for place, row in enumerate(rows):
        axes.plot(100 * row.printed, place, "k|", markersize=14, label="printed" if place == 0 else None)
        for name, figure, shift, colour in (
            ("best epoch", row.best, -0.15, "C0"),
            ("last epoch", row.last, 0.15, "C1"),
        ):
            assert figure is not None
            bars = [[100 * (figure.mean - figure.low)], [100 * (figure.high - figure.mean)]]
            axes.errorbar(
                100 * figure.mean, place + shift, xerr=bars, fmt="o", color=colour, capsize=3,
                label=name if place == 0 else None,
            )  # fmt: skip
    axes.set_yticks(range(len(rows)), [f"{row.name} ({row.seeds})" for row in rows], fontsize="small")
    axes.invert_yaxis()
    axes.set(xlabel="Accuracy, test (%)")
    if rows:
        axes.legend(fontsize="small")
    axes.grid(alpha=0.3, axis="x")
    axes.set_title("row (seeds); bars: 95 %", fontsize="small")
    with replacing(file) as temporary:
        picture.savefig(temporary, dpi=150)
