"""`spikescr distill --sweep`: what it prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from spikescr.cli.console import notices, notify, output
from spikescr.cli.text import percent
from spikescr.cli.training import Attended, dry_run

if TYPE_CHECKING:
    from spikescr.runs import JobFolder
    from spikescr.training.config import CurriculumConfig
    from spikescr.workflows.sweep import SweepResult


def estimate_sweep(
    config: CurriculumConfig, curricula: tuple[tuple[int, ...], ...], seeds: int, budget: int | None
) -> None:
    """Prints what the trainings of one seed take."""
    from spikescr.workflows.sweep import stages

    dry_run(config, stages(config, curricula, budget))
    output().print(f"that is one seed; {seeds} of them take {seeds} times as long")


def sweep_curricula(
    ctx: click.Context,
    config: CurriculumConfig,
    folder: JobFolder,
    curricula: tuple[tuple[int, ...], ...],
    seeds: int,
    budget: int | None,
    *,
    resume: bool,
    keep: int,
    picture: Path | None,
) -> None:
    """Trains what is left of a sweep, prints its table, draws it."""
    from spikescr.extras import require

    if picture is not None:
        require("matplotlib", "a picture (--png)")
    with notices().status("Loading torch and SpikingJelly"):
        from spikescr.data import DataSet, open_data
        from spikescr.workflows.sweep import draw_sweep, named, sweep

    def dataset(seed: int) -> DataSet:
        return open_data(config.data, seed=seed)

    with folder.locked(), Attended() as attended:

        def on_trial(curriculum: tuple[int, ...], seed: int, epochs: int) -> None:
            attended.begin(epochs, f"{named(curriculum)}, seed {seed}")

        result = sweep(
            config,
            dataset,
            folder,
            curricula=curricula,
            seeds=seeds,
            budget=budget,
            resume=resume,
            keep=keep,
            on_trial=on_trial,
            on_step=attended.on_step,
            on_epoch=attended.on_epoch,
            stop=attended.stop,
        )
        if picture is not None and result.record.trials:
            draw_sweep(result, picture)
    _show(result, folder, picture)
    if result.interrupted:
        notify(f"stopped after {len(result.record.trials)} trials; continue with the same command and --resume")
        attended.exit(ctx)


def _show(result: SweepResult, folder: JobFolder, picture: Path | None) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("curriculum", "epochs of a stage", "seeds", "validation", "test", "over the direct one"):
        table.add_column(column, justify="left" if column == "curriculum" else "right", no_wrap=True)
    for row in result.rows():
        table.add_row(
            ", ".join(map(str, row.curriculum)), str(row.stage_epochs), str(row.seeds), percent(row.valid_accuracy, 2),
            _with(row.accuracy, row.interval), "" if row.gain is None else _with(row.gain, row.gain_interval),
        )  # fmt: skip
    console = output()
    console.print(table)
    console.print(
        "means over seeds, with half of their 95 % interval; each curriculum takes as many epochs", soft_wrap=True
    )
    drawn = "" if picture is None or not result.record.trials else f", {picture}"
    console.print(f"wrote {folder.path}/sweep.json, sweep.csv{drawn}", soft_wrap=True)


def _with(mean: float, half: float | None) -> str:
    return percent(mean, 2) + ("" if half is None else f" ± {percent(half, 2)}")
