"""The paper's tables of accuracy and energy with the columns of our runs beside them.

    python benchmarks/energy.py [--runs FOLDER] [--quick] [--json FILE]

A printed row (arXiv 2412.12858, tables 7 and 8) is filled by the run that has its data set, model, steps and kind of
training; rows without a run stay empty. Runs that answer to no printed row follow below. Runs are folders with an
exported graph; those not simulated yet are simulated on their whole test split (--quick: on 64 recordings).
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from spikescr.checkpoint import load_checkpoint
from spikescr.files import write_text
from spikescr.provenance import versions
from spikescr.quantities import si
from spikescr.runs import RunFolder
from spikescr.sim.counting import summary
from spikescr.sim.counting.energy import HOROWITZ_45NM
from spikescr.workflows.energy import open_audit
from spikescr.workflows.execution import Request, simulate_recordings


@dataclass(frozen=True)
class Printed:
    """A row of the paper's tables; parameters in units of 2^20, energy in joules."""

    data: str
    model: str
    steps: int
    distilled: bool
    parameters: float
    accuracy: float
    energy: float | None


Columns = dict[int, tuple[float, float | None, float]]


def _rows(data: str, model: str, parameters: float, table: Columns) -> list[Printed]:
    """table: steps -> accuracy trained directly, accuracy distilled (None: not printed), energy in mJ."""
    found = []
    for steps, (direct, distilled, millijoules) in table.items():
        found.append(Printed(data, model, steps, False, parameters, direct / 100, millijoules * 1e-3))
        if distilled is not None:
            found.append(Printed(data, model, steps, True, parameters, distilled / 100, None))
    return found


PRINTED = [
    *_rows("ssc", "1L-16-256", 1.63, {
        40: (79.12, 79.76, 0.0079), 100: (82.54, 82.99, 0.0171), 200: (83.96, None, 0.0270), 500: (85.22, None, 0.0472),
    }),
    *_rows("ssc", "2L-16-256", 3.15, {
        40: (79.23, 80.25, 0.0142), 100: (82.79, 83.69, 0.0314), 200: (84.47, None, 0.0537), 500: (85.57, None, 0.0920),
    }),
    *_rows("gsc", "1L-16-256", 1.63, {
        40: (94.50, 94.71, 0.0280), 100: (95.56, 95.90, 0.0675), 200: (95.67, None, 0.1326), 400: (95.84, None, 0.2533),
    }),
    *_rows("gsc", "2L-16-256", 3.15, {
        40: (94.54, 95.01, 0.0387), 100: (95.60, 96.08, 0.0939), 200: (95.94, None, 0.1886), 400: (96.05, None, 0.3379),
    }),
]  # fmt: skip


@dataclass(frozen=True)
class Ours:
    """What a run gave; energies are means over its recordings, J. whole: these are the whole test split."""

    run: str
    data: str
    model: str
    steps: int
    distilled: bool
    parameters: int
    recordings: int
    whole: bool
    accuracy: float
    paper: float
    executed: float

    @property
    def counted(self) -> str:
        """The number of recordings, and whether they are only a part."""
        return f"{self.recordings}{'' if self.whole else ' (part)'}"


def measured(run: RunFolder, quick: bool) -> Ours:
    """The figures of a run folder, simulated first where it was not yet."""
    if run.audit.exists():
        audit = open_audit(run.path)
    else:
        audit = simulate_recordings(run, Request(limit=64 if quick else None)).audit
    model, info = load_checkpoint(run.checkpoint)
    charged = summary.conventions(audit, HOROWITZ_45NM)
    return Ours(
        run=str(run.path),
        data=str(audit.about["data"]),
        model=info.model.name,
        steps=round(1 / audit.dt),
        distilled=json.loads(run.config.read_text()).get("distillation") is not None,
        parameters=sum(p.numel() for p in model.parameters()),
        recordings=audit.samples,
        whole=audit.about["split"] == "test" and audit.about["limit"] is None,
        accuracy=audit.accuracy,
        paper=charged["paper"]["joules"],
        executed=charged["executed"]["joules"],
    )


def pair(runs: list[Ours]) -> list[tuple[Printed | None, Ours | None]]:
    """Every printed row with its run, if there is one, then the runs without a row."""

    def answers(row: Printed, run: Ours) -> bool:
        same = (row.model, row.steps, row.distilled) == (run.model, run.steps, run.distilled)
        return same and run.data.split(":")[0] == row.data

    rows: list[tuple[Printed | None, Ours | None]] = []
    for row in PRINTED:
        rows += [(row, run) for run in runs if answers(row, run)] or [(row, None)]
    return rows + [(None, run) for run in runs if not any(answers(row, run) for row in PRINTED)]


def table_of(rows: list[tuple[Printed | None, Ours | None]]) -> Table:
    """The table for people."""
    table = Table(title="Printed (arXiv 2412.12858) and measured; parameters in units of 2^20", box=SIMPLE_HEAD)
    for column in ("data", "model", "steps"):
        table.add_column(column)
    columns = (
        "M params printed",
        "ours",
        "accuracy printed",
        "ours",
        "energy printed",
        "formula",
        "executed",
        "samples",
    )
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row, run in rows:
        what = row or run
        assert what is not None
        table.add_row(
            what.data,
            what.model,
            f"{what.steps}{' +' if what.distilled else ''}",
            "" if row is None else f"{row.parameters:.2f}",
            "" if run is None else f"{run.parameters / 2**20:.2f}",
            "" if row is None else f"{100 * row.accuracy:.2f} %",
            "" if run is None else f"{100 * run.accuracy:.2f} %",
            "" if row is None or row.energy is None else si(row.energy, "J"),
            *([""] * 3 if run is None else [si(run.paper, "J"), si(run.executed, "J"), run.counted]),
        )
    return table


@click.command()
@click.option(
    "--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Folder of runs."
)
@click.option("--quick", is_flag=True, help="Simulate 64 recordings only of runs that are not simulated yet.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the rows to this file.")
def main(runs: Path, quick: bool, file: Path | None) -> None:
    """Print the paper's tables with our columns."""
    if not runs.is_dir():
        raise click.UsageError(f"--runs {runs}: no such folder")
    folders = sorted(path.parent for path in runs.glob("**/model.nir"))
    rows = pair([measured(RunFolder(folder), quick) for folder in folders])
    Console(width=None if os.isatty(1) else 150).print(table_of(rows))
    if file is not None:
        content: dict[str, Any] = {
            "rows": [{"printed": row and asdict(row), "run": run and asdict(run)} for row, run in rows],
            "cost": HOROWITZ_45NM.model_dump(),
            "versions": versions("spikescr", "numpy"),
        }
        write_text(file, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
