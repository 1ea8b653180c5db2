"""spikescr distill."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spikescr.cli.console import notices, notify, output
from spikescr.cli.options import max_memory
from spikescr.cli.sweep import estimate_sweep, sweep_curricula
from spikescr.cli.training import (
    DATA,
    METAVAR,
    Attended,
    choose_recipe,
    dry_run,
    list_recipes,
    split_words,
)
from spikescr.errors import UsageError
from spikescr.runs import DEFAULT_JOB, JobFolder, RunFolder
from spikescr.training.config import MOST_SEEDS, CurriculumConfig
from spikescr.training.recipes import resolve

if TYPE_CHECKING:
    from spikescr.training.config import TrainConfig
    from spikescr.training.distill import JobRecord

EPILOG = """
\b
Examples:
  spikescr distill
      the embedded spoken digits: 100 steps per second, then 40 with the first network as teacher
  spikescr distill ssc --data ssc:ssc --run runs/ssc
      500, 200, 100, 40 as published; spikescr distill --list shows all recipes
  spikescr distill ssc --data ssc:ssc --curriculum 500,40 --run runs/ssc-direct
      stages left out
  spikescr distill ssc --data ssc:ssc --curriculum 500,40 --teacher runs/ssc/stage-500 --run runs/ssc-direct
      the same with a teacher that is trained already
  spikescr export --run runs/curriculum/stage-040
      each stage is a run folder: export, simulate, verify, evaluate

  spikescr distill ssc --data ssc:ssc --sweep "500,200,100,40;500,40;100,40" --seeds 3 --png sweep.png --run runs/sweep
      curricula with one budget of epochs, beside 40 steps trained directly for as long; test accuracy and its interval

A student begins with its teacher's weights. Both see the same recording, each at its own steps, augmented by the same
draw (distillation.teacher_input=clean: the teacher sees it as it is). Loss: distillation.cross_entropy times the
cross-entropy plus distillation.divergence times tau^2 KL(teacher || student), tau = distillation.temperature.

\b
Written to the job's folder:
  stage-100/ ...      a run folder per stage, as of spikescr train
  curriculum.json     the configuration, and the stages that are done
of a sweep:
  100-40-seed0/ ...   a job's folder for every curriculum and seed
  sweep.json, .csv    every trial; a row for every curriculum

Ctrl-C and SIGTERM save the state and end; --resume continues, on a CPU to the same bytes as undisturbed.
"""


class Curriculum(click.ParamType):
    """Steps per second of each stage, joined by commas."""

    name = "N,N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Returns the numbers."""
        try:
            return tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is no list of numbers like 100,40", param, ctx)


class Curricula(Curriculum):
    """Curricula joined by semicolons."""

    name = "N,N,...;N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the numbers of each."""
        return tuple(super(Curricula, self).convert(part, param, ctx) for part in str(value).split(";"))


@click.command(epilog=EPILOG)
@click.argument("words", nargs=-1, metavar=METAVAR)
@click.option("--data", help=DATA)
@click.option("--curriculum", type=Curriculum(), help="Steps per second of each stage. Default: the recipe's.")
@click.option(
    "--teacher",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Run folder of a trained network that takes the place of the first stage.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Seed of everything random. Default: the recipe's, else 0.")
@click.option(
    "--run",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_JOB,
    show_default=True,
    help="The job's folder; an earlier job in it is replaced.",
)
@click.option("--resume", is_flag=True, help="Continue the job in the folder; the rest may be left out.")
@click.option("--keep", type=click.IntRange(min=1), default=2, show_default=True, help="States to keep, of each stage.")
@click.option(
    "--sweep",
    "curricula",
    type=Curricula(),
    help='Compare curricula, like "500,200,100,40;100,40;40", and the last alone.',
)
@click.option("--seeds", type=click.IntRange(1, MOST_SEEDS), help="Of a sweep: how many, from --seed on. Default: 3.")
@click.option("--budget", type=click.IntRange(1), help="Of a sweep: epochs of each curriculum. Default: the recipe's.")
@click.option("--png", "picture", type=click.Path(path_type=Path), help="Of a sweep: draw it.")
@click.option("--list", "listing", is_flag=True, help="Show the recipes.")
@click.option("--dry-run", "dry", is_flag=True, help="Show configuration, memory and time; train nothing.")
@click.pass_context
@max_memory
def command(
    ctx: click.Context,
    words: tuple[str, ...],
    data: str | None,
    curriculum: tuple[int, ...] | None,
    teacher: Path | None,
    seed: int | None,
    folder: Path,
    resume: bool,
    keep: int,
    curricula: tuple[tuple[int, ...], ...] | None,
    seeds: int | None,
    budget: int | None,
    picture: Path | None,
    listing: bool,
    dry: bool,
) -> None:
    """Train a network that needs few time steps, taught by networks that take more."""
    if listing:
        list_recipes("distill")
        return
    _check(
        curricula,
        {"--curriculum": curriculum, "--teacher": teacher},
        {"--seeds": seeds, "--budget": budget, "--png": picture},
    )
    job = JobFolder(folder)
    options = {key: value for key, value in (("seed", seed), ("curriculum", curriculum)) if value is not None}
    name, changes = split_words(words)
    begun = _begun(job) if resume and curricula is None else None
    bare = not (words or data or options)
    recipe = choose_recipe("distill", name, begun, resume=str(folder) if resume else None, bare=bare)
    config = resolve(recipe, CurriculumConfig, changes, options=options, data=data, need_data=not dry)
    if curricula is not None:
        seeds = seeds or 3
        if dry:
            estimate_sweep(config, curricula, seeds, budget)
            return
        sweep_curricula(ctx, config, job, curricula, seeds, budget, resume=resume, keep=keep, picture=picture)
        return
    if dry:
        stages = [config.taught(number, "") if number else config.direct() for number in range(len(config.curriculum))]
        dry_run(config, stages[1:] if teacher else stages)
        return
    with notices().status("Loading torch and SpikingJelly"):
        from spikescr.data import open_data
        from spikescr.training.devices import Devices
        from spikescr.training.distill import distill

    devices = Devices()
    dataset = open_data(config.data, seed=config.seed)
    alone = job.locked() if devices.is_main else nullcontext()
    with alone, Attended(shown=devices.is_main) as attended:

        def on_stage(number: int, stage: TrainConfig) -> None:
            attended.begin(stage.epochs, f"stage {number + 1} of {len(config.curriculum)}, {stage.steps} steps")

        result = distill(
            config,
            dataset,
            job,
            teacher=RunFolder(teacher) if teacher else None,
            resume=resume,
            keep=keep,
            devices=devices,
            on_stage=on_stage,
            on_step=attended.on_step,
            on_epoch=attended.on_epoch,
            stop=attended.stop,
        )
    if devices.is_main:
        _summary(result.record, job)
        if result.interrupted:
            where = f", epoch {len(result.last.epochs)} of the next" if result.last and result.last.interrupted else ""
            notify(
                f"stopped after stage {len(result.record.stages)} of {len(config.curriculum)}{where}; "
                f"continue with: {job.command} --resume"
            )
    if result.interrupted:
        attended.exit(ctx)


def _check(curricula: object, alone: Mapping[str, object], of_sweep: Mapping[str, object]) -> None:
    """Refuses options that would silently do nothing."""
    given = [name for name, value in (alone if curricula else of_sweep).items() if value is not None]
    if given:
        raise UsageError(f"{given[0]}: means nothing {'with' if curricula else 'without'} --sweep; leave it out")


def _begun(job: JobFolder) -> CurriculumConfig | None:
    """The configuration of the job in a folder, None where there is none."""
    from spikescr.training.distill import read_record

    record = read_record(job)
    return None if record is None else record.config


def _summary(record: JobRecord, job: JobFolder) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("steps", "best epoch", "validation accuracy", "loss", "taught by", "run folder"):
        table.add_column(column, justify="left" if column in ("taught by", "run folder") else "right", no_wrap=True)
    taught_by = "none"
    for stage in record.stages:
        numbers = (f"{stage.best} of {stage.epochs}", f"{stage.valid_accuracy:.2%}", f"{stage.valid_loss:.4f}")
        table.add_row(str(stage.steps), *numbers, taught_by, str(job.path / stage.run))
        taught_by = f"{stage.steps} steps"
    output().print(table)
    output().print(f"wrote {job.record}", soft_wrap=True)
