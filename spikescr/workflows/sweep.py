"""Curricula compared: each trained with the same budget of epochs and the same seeds, beside a direct control.

A folder of a sweep has a job folder for every curriculum and seed (`100-40-seed0/`), and sweep.json, sweep.csv. It goes
on after a kill at any point.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from spikescr.data import DataSet
from spikescr.documents import read_model
from spikescr.errors import CheckpointError, UsageError
from spikescr.extras import require
from spikescr.files import replacing, replacing_together, write_csv, write_text
from spikescr.runs import SWEEP, JobFolder
from spikescr.training.config import CurriculumConfig, TrainConfig
from spikescr.training.distill import distill
from spikescr.training.loop import train
from spikescr.training.metrics import EpochMetrics
from spikescr.training.running import Progress
from spikescr.training.state import differences
from spikescr.workflows.evaluate import evaluate_run

Curriculum = tuple[int, ...]
TABLE = "sweep.csv"

# Student's t of 95 %, two-sided, for 1, 2, ... degrees of freedom.
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


class Trial(BaseModel):
    """One curriculum with one seed.

    Attributes:
        curriculum: Steps per second of each stage.
        seed: Of everything random.
        valid_accuracy: Of the last stage's best epoch.
        right: Right answers on the test split, opened once.
        recordings: Of the test split.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    curriculum: Curriculum
    seed: int
    valid_accuracy: float = Field(ge=0, le=1)
    right: int = Field(ge=0)
    recordings: int = Field(ge=1)

    @property
    def accuracy(self) -> float:
        """On the test split."""
        return self.right / self.recordings


class SweepRecord(BaseModel):
    """What a sweep is and which of its trials are done; equal sweeps have equal records."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    config: CurriculumConfig
    curricula: tuple[Curriculum, ...]
    seeds: int = Field(ge=1)
    budget: int = Field(ge=1)
    trials: list[Trial] = Field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """A curriculum, over its seeds.

    Attributes:
        curriculum: Steps per second of each stage.
        stage_epochs: Epochs of each stage.
        seeds: Trials that are done.
        valid_accuracy: Mean.
        accuracy: Mean, test.
        interval: Half of the 95 % interval of the mean, Student's t over seeds; None of one seed.
        gain: Mean of the accuracy less the direct control's of the same seed; None of the control itself.
        gain_interval: Likewise.
    """

    curriculum: Curriculum
    stage_epochs: int
    seeds: int
    valid_accuracy: float
    accuracy: float
    interval: float | None
    gain: float | None
    gain_interval: float | None

    @property
    def name(self) -> str:
        """Its stages, joined."""
        return named(self.curriculum)


@dataclass(frozen=True)
class SweepResult:
    """record: of all that is done. interrupted: whether `stop` ended it before the last trial was done."""

    record: SweepRecord
    interrupted: bool

    def rows(self) -> list[Row]:
        """One for each curriculum of which a trial is done."""
        record, control = self.record, (self.record.curricula[0][-1],)
        direct = {trial.seed: trial.accuracy for trial in record.trials if trial.curriculum == control}
        rows = []
        for curriculum in record.curricula:
            done = [trial for trial in record.trials if trial.curriculum == curriculum]
            if not done:
                continue
            accuracies = [trial.accuracy for trial in done]
            gains = [trial.accuracy - direct[trial.seed] for trial in done if trial.seed in direct]
            own = curriculum == control
            rows.append(
                Row(
                    curriculum,
                    record.budget // len(curriculum),
                    len(done),
                    float(np.mean([trial.valid_accuracy for trial in done])),
                    float(np.mean(accuracies)),
                    half_interval(accuracies),
                    None if own or not gains else float(np.mean(gains)),
                    None if own else half_interval(gains),
                )
            )
        return rows


def named(curriculum: Curriculum) -> str:
    """A curriculum's name."""
    return "-".join(map(str, curriculum))


def half_interval(values: Sequence[float]) -> float | None:
    """Half of the interval of 95 % of a mean (Student's t); None of fewer than two values."""
    degrees = len(values) - 1
    if degrees < 1:
        return None
    t = _T95[degrees - 1] if degrees <= len(_T95) else 1.96 + 2.5 / degrees
    return t * float(np.std(values, ddof=1)) / math.sqrt(len(values))


def plan(
    config: CurriculumConfig, curricula: Sequence[Curriculum], budget: int | None
) -> tuple[tuple[Curriculum, ...], int]:
    """The curricula of a sweep, the direct control first, and the epochs of each.

    Args:
        config: whose curriculum tells the budget where none is given: what it would take itself.
        curricula: to compare; all end with the same steps, which the control trains alone.
        budget: epochs of each, all stages together, the same number for each of its stages.

    Raises:
        UsageError: curricula cannot be compared, or the budget cannot be shared among the stages.
    """
    for curriculum in curricula:
        if not curriculum or min(curriculum) < 1 or len(set(curriculum)) < len(curriculum):
            raise UsageError(f"curriculum {named(curriculum)}: must name steps per second, 1 or more, each once")
    ends = sorted({curriculum[-1] for curriculum in curricula})
    if len(ends) != 1:
        raise UsageError(f"the curricula of a sweep (--sweep) must end with the same steps, these end with {ends}")
    every = tuple(dict.fromkeys([(ends[0],), *curricula]))
    if budget is None:
        stages = len(config.curriculum)
        budget = config.epochs + (config.student.epochs or config.epochs) * (stages - 1)
    shares = math.lcm(*(len(curriculum) for curriculum in every))
    if budget % shares:
        raise UsageError(
            f"a budget of {budget} epochs cannot be shared evenly by stages of all curricula; "
            f"give {budget // shares * shares + shares} (--budget)"
        )
    return every, budget


def sweep(
    config: CurriculumConfig,
    dataset: Callable[[int], DataSet],
    folder: JobFolder,
    *,
    curricula: Sequence[Curriculum],
    seeds: int,
    budget: int | None = None,
    resume: bool = False,
    keep: int = 2,
    on_trial: Callable[[Curriculum, int, int], None] = lambda curriculum, seed, epochs: None,
    on_step: Callable[[Progress], None] = lambda progress: None,
    on_epoch: Callable[[EpochMetrics], None] = lambda metrics: None,
    stop: Callable[[], bool] = lambda: False,
) -> SweepResult:
    """Trains every curriculum with every seed, and tests each once.

    Stages of a curriculum share its budget evenly, so that all trials take as many epochs; of the longer windows an
    epoch takes more time, which favours no direct training. A curriculum of one stage is trained directly.

    Args:
        config: of all but the curriculum, its epochs and the seed, of which it has the first.
        dataset: the data set for a seed.
        folder: where job folders and results go.
        curricula: see `plan`.
        seeds: how many, from the configuration's on.
        budget: see `plan`.
        resume: go on with what is there.
        keep: states to keep, of each run folder.
        on_trial: called with curriculum, seed and epochs of a stage before a trial.
        on_step: as for `train`.
        on_epoch: as for `train`.
        stop: as for `train`; also asked between trials.

    Raises:
        UsageError: curricula or budget do not fit, or something differs from what is resumed.
        SpikescrError: as for `distill`.
    """
    every, budget = plan(config, curricula, budget)
    record = SweepRecord(config=config, curricula=every, seeds=seeds, budget=budget)
    folder.recover()
    if resume and (path := folder.path / SWEEP).exists():
        record = _begun(path, record)
    folder.create()
    write_sweep(folder, record)
    for seed in range(config.seed, config.seed + seeds):
        for curriculum in every:
            if any(trial.curriculum == curriculum and trial.seed == seed for trial in record.trials):
                continue
            if stop():
                return SweepResult(record, interrupted=True)
            on_trial(curriculum, seed, budget // len(curriculum))
            job = JobFolder(folder.path / f"{named(curriculum)}-seed{seed}")
            valid = _train(config, curriculum, seed, budget, dataset(seed), job, resume, keep, on_step, on_epoch, stop)
            if valid is None:
                return SweepResult(record, interrupted=True)
            assessment = evaluate_run(job.stage(curriculum[-1])).assessment
            if assessment is None:
                raise UsageError(f"{config.data}: test recordings without labels cannot be compared")
            record.trials.append(
                Trial(
                    curriculum=curriculum,
                    seed=seed,
                    valid_accuracy=valid,
                    right=assessment.correct,
                    recordings=assessment.recordings,
                )
            )
            write_sweep(folder, record)
    return SweepResult(record, interrupted=False)


def _train(
    config: CurriculumConfig,
    curriculum: Curriculum,
    seed: int,
    budget: int,
    dataset: DataSet,
    job: JobFolder,
    resume: bool,
    keep: int,
    on_step: Callable[[Progress], None],
    on_epoch: Callable[[EpochMetrics], None],
    stop: Callable[[], bool],
) -> float | None:
    """The accuracy of validation of one trial's best epoch; None where it was stopped."""
    own = _settings(config, curriculum, budget).model_copy(update={"seed": seed})
    if len(curriculum) > 1:
        done = distill(own, dataset, job, resume=resume, keep=keep, on_step=on_step, on_epoch=on_epoch, stop=stop)
        return None if done.interrupted else done.record.stages[-1].valid_accuracy
    run, direct = job.stage(curriculum[0]), own.direct()
    alone = train(direct, dataset, run, resume=resume, keep=keep, on_step=on_step, on_epoch=on_epoch, stop=stop)
    return None if alone.interrupted or alone.best is None else alone.best.valid_accuracy


def _settings(config: CurriculumConfig, curriculum: Curriculum, budget: int) -> CurriculumConfig:
    student = config.student.model_copy(update={"epochs": None})
    changes = {"curriculum": curriculum, "epochs": budget // len(curriculum), "student": student}
    return config.model_copy(update=changes)


def stages(config: CurriculumConfig, curricula: Sequence[Curriculum], budget: int | None) -> list[TrainConfig]:
    """The trainings of a sweep with one seed; arguments and errors as of `plan`."""
    every, budget = plan(config, curricula, budget)
    trainings = []
    for curriculum in every:
        own = _settings(config, curriculum, budget)
        trainings += [own.taught(number, "") if number else own.direct() for number in range(len(curriculum))]
    return trainings


def _begun(path: Path, wanted: SweepRecord) -> SweepRecord:
    record = read_model(path, SweepRecord, "begin anew without resume (--resume)", CheckpointError)
    changed = differences(record.model_copy(update={"trials": []}), wanted)
    if changed:
        raise UsageError(
            f"{path.parent}: a sweep with other settings cannot be resumed: {'; '.join(changed)}; give what it was "
            "begun with, or begin anew without resume (--resume)"
        )
    return record


def write_sweep(folder: JobFolder, record: SweepRecord) -> None:
    """Writes sweep.json and sweep.csv, as one."""
    rows = SweepResult(record, interrupted=False).rows()
    fields = ["curriculum", *(name for name in Row.__dataclass_fields__ if name != "curriculum")]
    table: list[dict[str, Any]] = [asdict(row) | {"curriculum": row.name} for row in rows]
    cells = [["" if row[f] is None else row[f] for f in fields] for row in table]
    with replacing_together(folder.path, (SWEEP, TABLE)) as stage:
        write_text(stage / SWEEP, record.model_dump_json(indent=1) + "\n")
        write_csv(stage / TABLE, fields, cells)


def draw_sweep(result: SweepResult, file: Path) -> None:
    """Accuracy of every curriculum: each seed a dot, the mean with its 95 % interval.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    require("matplotlib", "a picture (--png)")
    from matplotlib.figure import Figure

    rows = result.rows()
    figure = Figure(figsize=(1.5 + 1.4 * len(rows), 4), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        dots = [100 * trial.accuracy for trial in result.record.trials if trial.curriculum == row.curriculum]
        axes.plot([place] * len(dots), dots, "o", color="C0", alpha=0.4)
        axes.errorbar(place, 100 * row.accuracy, yerr=100 * (row.interval or 0.0), fmt="s", color="C0", capsize=5)
    labels = [f"{', '.join(map(str, row.curriculum))}\n{row.stage_epochs} epochs each" for row in rows]
    axes.set_xticks(range(len(rows)), labels, fontsize="small")
    axes.set(xlabel="Steps per second of the stages", ylabel="Accuracy, test (%)")
    axes.set_title(f"{result.record.budget} epochs in all; bars: 95 % over seeds", fontsize="small")
    axes.grid(alpha=0.3, axis="y")
    with replacing(file) as temporary:
        figure.savefig(temporary, dpi=150)
