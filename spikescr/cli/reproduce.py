"""spikescr reproduce."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spikescr.cli.console import notices, notify, output
from spikescr.cli.options import max_memory
from spikescr.cli.text import percent, si, wide_console
from spikescr.cli.training import DATA, Attended, duration
from spikescr.errors import UsageError
from spikescr.runs import JobFolder
from spikescr.training.config import MOST_SEEDS, MOST_THREADS
from spikescr.workflows.reproduce_table import Row, choose_rows, read_table

if TYPE_CHECKING:
    from spikescr.workflows.reproduce import Places, Reproduction
    from spikescr.workflows.reproduce_cost import Cost
    from spikescr.workflows.reproduce_plan import Plan, Training
    from spikescr.workflows.reproduce_report import Figure, Report

EPILOG = """
\b
Examples:
  spikescr reproduce ssc --list
      the rows: what is printed, and how each is trained
  spikescr reproduce ssc --dry-run --machines 8
      what all of it takes: core or GPU hours, memory, disk
  spikescr reproduce shd --data shd:shd --workers 4 --run runs/shd
      every row, three seeds, four trainings at once
  spikescr reproduce gsc --data gsc:gsc --rows "1L-*,dcls-*" --devices 0,1
      some rows, on two GPUs
  spikescr reproduce gsc --data folder:words --epochs 20 --seeds 1
      the same networks on other words

TABLE is a name or a .toml file of your own (docs/reproduce.md). What is done is kept, by what it follows from: the same
command, or one with other rows or more seeds, goes on where the last one ended, however it ended. The test split is
opened once for each training, when it is done.

\b
Written to the job's folder:
  trainings/...       a run folder for each training (of a curriculum's stage a job's folder)
  reproduce.json      every row with its interval, and what each training gave
  reproduce.csv       a line for every row
  reproduce.png       with --png
"""


@click.command(epilog=EPILOG)
@click.argument("name", metavar="TABLE")
@click.option("--data", help=DATA)
@click.option("--rows", help='Rows, or tables, joined by commas; * for anything: "1L-*,ablation". Default: all.')
@click.option("--seeds", type=click.IntRange(1, MOST_SEEDS), help="How many, from 0 on. Default: the table's.")
@click.option("--epochs", type=click.IntRange(1), help="Of every training. Default: the recipes'.")
@click.option("--limit", type=click.IntRange(2), help="Recordings of each split, evenly spread. Default: all.")
@click.option("--threads", type=click.IntRange(1, MOST_THREADS), default=1, show_default=True, help="Of each training.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Trainings at once, here.")
@click.option("--devices", help="CUDA devices, like 0,1: a training at once on each.")
@click.option("--scheduler", help="Address of a Dask scheduler; its workers read and write the same files.")
@click.option(
    "--machines", type=click.IntRange(1), help="Also tell how long so many machines like this one would take."
)
@click.option(
    "--run",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="The job's folder. Default: runs/reproduce-TABLE.",
)
@click.option("--png", "picture", is_flag=True, help="Draw the rows.")
@click.option("--list", "listing", is_flag=True, help="Show the rows.")
@click.option("--dry-run", "dry", is_flag=True, help="Show what it takes; train nothing.")
@click.pass_context
@max_memory
def command(
    ctx: click.Context,
    name: str,
    data: str | None,
    rows: str | None,
    seeds: int | None,
    epochs: int | None,
    limit: int | None,
    threads: int,
    workers: int,
    devices: str | None,
    scheduler: str | None,
    machines: int | None,
    folder: Path | None,
    picture: bool,
    listing: bool,
    dry: bool,
) -> None:
    """Train the tables of a paper again, every row and seed, beside what is printed."""
    table = read_table(name)
    patterns = tuple(part.strip() for part in rows.split(",")) if rows is not None else ()
    if listing:
        chosen = choose_rows(table, patterns)
        _list((*chosen.rows, *(row for row, _ in chosen.unavailable)))
        return
    if data is None and not dry:
        raise UsageError(f"give the recordings: --data {table.data}:PATH, or others, --data folder:PATH")
    with notices().status("Loading torch and SpikingJelly"):
        from spikescr.extras import require
        from spikescr.workflows.reproduce import Places, Reproduction
        from spikescr.workflows.reproduce_cost import measure_cost
        from spikescr.workflows.reproduce_plan import Request, make_plan
        from spikescr.workflows.reproduce_report import PICTURE, RECORD, TABLE, draw_report

    if picture:
        require("matplotlib", "a picture (--png)")
    places = Places(workers, tuple(devices.split(",")) if devices else (), scheduler)
    plan = make_plan(Request(table, _absolute(data), patterns, seeds, epochs, limit, threads))
    if dry:
        _tell_cost(plan, measure_cost(plan), places, machines)
        return
    job = JobFolder(folder or Path("runs") / f"reproduce-{Path(name).stem}")
    with job.locked():
        reproduction = Reproduction(plan, job)
        cost = measure_cost(plan, reproduction.left())
        _tell_cost(plan, cost, places, machines, done=len(reproduction.outcomes))
        number = _run(reproduction, places, cost)
        _show(reproduction.report())
        written = [job.path / RECORD, job.path / TABLE]
        if picture and any(row.best is not None for row in reproduction.report().rows):
            written.append(job.path / PICTURE)
            draw_report(reproduction.report(), written[-1])
    output().print(f"wrote {', '.join(map(str, written))}", soft_wrap=True)
    if number is not None:
        notify(f"stopped after {len(reproduction.outcomes)} trainings; the same command goes on")
        ctx.exit(128 + number)
    for training in plan.trainings:
        if training.key in reproduction.failures:
            notify(f"{training.name} failed: {reproduction.failures[training.key].message}")
    if reproduction.failures:
        ctx.exit(1)


def _absolute(data: str | None) -> str | None:
    """Workers of a cluster have folders of their own."""
    if data is None or ":" not in data:
        return data
    kind, _, path = data.partition(":")
    return f"{kind}:{Path(path).expanduser().absolute()}"


def _run(reproduction: Reproduction, places: Places, cost: Cost) -> int | None:
    """Trains what is left; the number of the signal that stopped it, None where it was not stopped."""
    done = len(reproduction.outcomes)
    every = len(reproduction.plan.trainings)
    with Attended() as attended:

        def on_training(training: Training) -> None:
            nonlocal done
            done += 1
            attended.begin(training.config.epochs, f"{done} of {every}: {training.name}")

        complete = reproduction.run(
            places,
            longest=lambda training: cost.trainings[training.key].seconds,
            on_training=on_training,
            on_step=attended.on_step,
            on_epoch=attended.on_epoch,
            stop=attended.stop,
        )
        return None if complete else attended.signal


def _list(rows: tuple[Row, ...]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("row", "table", "printed", "recipe", "changes"):
        table.add_column(column, justify="right" if column == "printed" else "left", no_wrap=column != "changes")
    for row in rows:
        recipe = row.train or f"{row.distill}, stage {row.stage}"
        changes = " ".join(row.changes) if row.unavailable is None else f"not available: {row.unavailable}"
        table.add_row(row.name, row.table, percent(row.printed / 100, 2), recipe, changes)
    wide_console().print(table)


def _tell_cost(plan: Plan, cost: Cost, places: Places, machines: int | None, done: int = 0) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    unit = "GPU time" if cost.device == "cuda" else "core time"
    for column in ("row", "printed", "network", "steps", "epochs", "parameters", "memory", f"{unit} of a seed"):
        table.add_column(column, justify="left" if column in ("row", "network") else "right", no_wrap=True)
    for planned in plan.rows:
        first = planned.trainings[0]
        known = cost.trainings.get(first.key)
        told = ("done", "", "") if known is None else _of_training(first, cost)
        config = first.config
        table.add_row(
            planned.row.name, percent(planned.row.printed / 100, 2), config.model.name, str(config.steps),
            str(config.epochs), *told,
        )  # fmt: skip
    console = wide_console()
    console.print(table)
    for row, why in plan.unavailable:
        console.print(f"{row.name} ({percent(row.printed / 100, 2)}): not available: {why}", soft_wrap=True)
    left = sum(map(len, cost.levels))
    kept = f", {done} are done" if done else ""
    console.print(f"{len(plan.trainings)} trainings, {plan.seeds} seeds; what rows share is trained once{kept}")
    if not left:
        return
    what = "a GPU" if cost.device == "cuda" else "a core"
    console.print(f"{left} to do: {duration(cost.seconds)} of {what}, {si(cost.disk, 'B')} of disk")
    if places.scheduler is None:
        _tell_places(cost, places.processes, f"{places.processes} at once here")
    here = len(places.devices) or (os.cpu_count() or 1) // plan.request.threads or 1
    if machines is not None:
        _tell_places(cost, machines * here, f"{machines} machines like this one, {here} at once on each")
    console.print(
        f"no less than {duration(cost.elapsed(left))}, however many; a few steps of each network on made-up input were "
        "timed on this machine now, and recordings taken to fill the window; the test is not in it"
    )


def _of_training(training: Training, cost: Cost) -> tuple[str, str, str]:
    """Parameters, memory and time of one and of its teachers."""
    seconds, known = 0.0, cost.trainings[training.key]
    each: Training | None = training
    while each is not None:
        if each.key in cost.trainings:
            seconds += cost.trainings[each.key].seconds
        each = each.teacher
    return f"{known.parameters:,}", si(known.memory, "B"), duration(seconds)


def _tell_places(cost: Cost, places: int, what: str) -> None:
    output().print(
        f"{what}: {duration(cost.elapsed(places))}, {si(cost.memory(places), 'B')} of memory", soft_wrap=True
    )


def _show(report: Report) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("row", "printed", "seeds", "best epoch (95 %)", "last epoch (95 %)", "validation"):
        table.add_column(column, justify="left" if column == "row" else "right", no_wrap=True)
    for row in report.rows:
        table.add_row(
            row.name, percent(row.printed, 2), f"{row.seeds} of {row.of}" if row.of else "not available",
            _figure(row.best), _figure(row.last), percent(row.valid, 2),
        )  # fmt: skip
    console = wide_console()
    console.print(table)
    kinds = {row.best.kind for row in report.rows if row.best is not None}
    said = {"t": "mean over seeds, Student's t", "wilson": "one seed, Wilson's over its answers"}
    console.print(
        f"test split; intervals: {'; '.join(said[kind] for kind in sorted(kinds)) or 'none yet'}; best epoch: by the "
        "validation split", soft_wrap=True,
    )  # fmt: skip
    if not report.about["as_printed"]:
        console.print("other recordings or epochs than the printed figures', which stand beside for orientation alone")
    for differs in dict.fromkeys(row.differs for row in report.rows if row.differs is not None):
        names = ", ".join(row.name for row in report.rows if row.differs == differs)
        console.print(f"{names}: {differs}", soft_wrap=True)


def _figure(figure: Figure | None) -> str:
    if figure is None:
        return ""
    return f"{100 * figure.mean:.2f} ({100 * figure.low:.2f} to {100 * figure.high:.2f}) %"
