"""Distillation through a curriculum of time scales (arXiv 2412.12858, section 3.5).

Each stage trains at its own steps per second. From the second on, the stage before it, frozen, is its teacher and gives
its initial weights. A job of several stages is a folder with a run folder for each and a record of what is done;
it continues after a kill at any point, on a CPU to the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from torch import Tensor
from torch.nn import functional

from spikescr.checkpoint import CheckpointInfo, load_checkpoint
from spikescr.data import DataSet
from spikescr.documents import read_model
from spikescr.errors import CheckpointError, DataError, UsageError
from spikescr.files import sha256, unchanged, write_text
from spikescr.model import Network, readout
from spikescr.runs import JobFolder, RunFolder
from spikescr.training.batches import by_length
from spikescr.training.config import Augmentation, CurriculumConfig, Distillation, TrainConfig
from spikescr.training.devices import Devices
from spikescr.training.loop import train
from spikescr.training.metrics import EpochMetrics
from spikescr.training.objective import Batch, label_loss, logits
from spikescr.training.running import Progress, TrainResult
from spikescr.training.sources import Source, open_source
from spikescr.training.state import Checkpoints, differences


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """tau^2 KL(softmax(teacher / tau) || softmax(student / tau)) of each recording (B,) for logits (B, K)."""
    log_p, log_q = (functional.log_softmax(y / temperature, dim=-1) for y in (teacher, student))
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=-1)


def drawn_for_teacher(config: TrainConfig, loss: Distillation) -> Augmentation | None:
    """How the teacher's input is augmented: as the student's, or not at all."""
    return config.augmentation if loss.teacher_input == "augmented" else None


class Teaching:
    """The loss of a student, with its teacher.

    The teacher is frozen: no gradient, no dropout, batch normalisation with its own statistics. It sees the student's
    recordings at its own steps; where the student's are augmented, by the same draw (runs and shifts are relative to a
    recording's size) or not at all (`teacher_input`). Readouts that no draw changes are computed once, when they are
    first needed: one row per recording is kept.
    """

    def __init__(self, config: TrainConfig, teacher: Network, source: Source) -> None:
        """Config: the student's, with `distillation`. source: the training split as the teacher takes it."""
        assert config.distillation is not None
        self.config = config
        self.loss = config.distillation
        self.teacher = teacher.eval().requires_grad_(False)
        self.source = source
        self.drawn = drawn_for_teacher(config, self.loss) is not None
        self._kept: Tensor | None = None

    def losses(self, y: Tensor, batch: Batch) -> Tensor:
        """Loss of each recording (B,) for the student's readouts y (B, K)."""
        label = label_loss(y, batch.labels, self.config.loss)
        student = logits(y, self.config.loss)
        teacher = logits(self.readouts(batch.index, batch.epoch).to(y), self.config.loss)
        taught = divergence(student, teacher, self.loss.temperature)
        return self.loss.cross_entropy * label + self.loss.divergence * taught

    def readouts(self, index: Tensor, epoch: int) -> Tensor:
        """The teacher's readouts (B, K) for recordings of the training split (B,), as they are seen in an epoch."""
        index = index.cpu()
        if self.drawn:
            return self._run(index, epoch)
        if self._kept is None:
            parts = by_length(self.source.steps, self.config.batch_size)
            self._kept = torch.cat([self._run(part, epoch) for part in parts])[torch.cat(parts).argsort()]
        return self._kept[index]

    def identity(self) -> dict[str, str]:
        """The loss and the teacher's checkpoint."""
        return {"objective": "distillation", "teacher": self.loss.teacher}

    def require(self, source: Source) -> None:
        """Refuses other recordings than the teacher's.

        Raises:
            DataError: a recording could be read for the one and not for the other.
        """
        differing = sorted(self.source.left_out.keys() ^ source.left_out.keys())
        if differing or len(self.source) != len(source):
            raise DataError(
                f"{self.config.data}: {', '.join(differing[:3]) or 'a recording'} could be read for the teacher or for "
                "the student, not for both: the data changed meanwhile; resume (--resume)"
            )

    def _run(self, index: Tensor, epoch: int) -> Tensor:
        x, steps, _ = self.source.batch(index, epoch)
        device = next(self.teacher.parameters()).device
        with torch.no_grad():
            return readout(self.teacher(x.to(device), steps.to(device)), steps.to(device)).cpu()


Digest = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


class StageRecord(BaseModel):
    """A stage that is done.

    Attributes:
        steps: Per second.
        run: Its folder, relative to the job's, or of a teacher from elsewhere.
        checkpoint: SHA-256 of its weights.
        teacher: SHA-256 of the weights that taught it, None for the first.
        epochs: Trained.
        best: Of the epochs, whose weights these are.
        valid_loss: On the validation split.
        valid_accuracy: On the validation split.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    steps: int = Field(ge=1)
    run: str
    checkpoint: Digest
    teacher: Digest | None
    epochs: int = Field(ge=1)
    best: int = Field(ge=1)
    valid_loss: float = Field(ge=0)
    valid_accuracy: float = Field(ge=0, le=1)


class JobRecord(BaseModel):
    """What a job is and which of its stages are done; equal jobs have equal records."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    config: CurriculumConfig
    stages: list[StageRecord] = Field(default_factory=list)

    @model_validator(mode="after")
    def _consistent(self) -> JobRecord:
        done = tuple(stage.steps for stage in self.stages)
        if done != self.config.curriculum[: len(done)]:
            raise ValueError(f"stages {done} are not the first of the curriculum {self.config.curriculum}")
        return self


@dataclass(frozen=True)
class JobResult:
    """record: of all that is done. last: of the training that ended or was stopped, None where none was left to do.

    interrupted: whether `stop` ended the job before its last stage was done.
    """

    record: JobRecord
    last: TrainResult | None
    interrupted: bool


def read_record(job: JobFolder) -> JobRecord | None:
    """What a job's folder says about it, None where it says nothing.

    Raises:
        CheckpointError: it cannot be read.
    """
    if not job.record.exists():
        return None
    return read_model(job.record, JobRecord, "begin anew without resume (--resume)", CheckpointError)


def distill(
    config: CurriculumConfig,
    dataset: DataSet,
    job: JobFolder,
    *,
    teacher: RunFolder | None = None,
    resume: bool = False,
    keep: int = 2,
    devices: Devices | None = None,
    on_stage: Callable[[int, TrainConfig], None] = lambda number, config: None,
    on_step: Callable[[Progress], None] = lambda progress: None,
    on_epoch: Callable[[EpochMetrics], None] = lambda metrics: None,
    stop: Callable[[], bool] = lambda: False,
) -> JobResult:
    """Trains all stages of a curriculum, or those that are left; never opens the test split.

    Args:
        config: the curriculum.
        dataset: what `open_data(config.data)` gave.
        job: where the stages' run folders and the record go.
        teacher: a trained network that takes the place of the first stage; None: that is trained too.
        resume: continue what is in the folder, begin where there is nothing.
        keep: states to keep, in each run folder.
        devices: as for `train`.
        on_stage: called with its number, from 0, and configuration before a stage trains.
        on_step: as for `train`.
        on_epoch: as for `train`.
        stop: as for `train`; also asked between stages.

    Raises:
        DataError: a recording cannot be used.
        UsageError: something differs from what is resumed, or the teacher does not fit; the message names it.
        CheckpointError: a stage that is done is not there any more, or changed.
        SpikescrError: as for `train`.
    """
    devices = devices or Devices()
    record = _begun(job, config) if resume else None
    if record is None:
        record = JobRecord(config=config)
        if devices.is_main:
            job.create()
            for steps in config.curriculum:  # states of an earlier job would be taken for this one's
                Checkpoints(job.stage(steps).checkpoints).discard()
            _write(job, record)
        devices.wait()
    if teacher is not None:
        _take_teacher(record, teacher, dataset, job, devices)
    result: TrainResult | None = None
    for number, steps in enumerate(config.curriculum):
        run = job.stage(steps)
        if number < len(record.stages):
            _require_unchanged(job.path / record.stages[number].run, record.stages[number])
            continue
        if stop():
            return JobResult(record, result, interrupted=True)
        before = record.stages[-1] if record.stages else None
        stage, objective, initial = config.direct(), None, None
        if before is not None:
            stage = config.taught(number, before.checkpoint)
            network, info = load_checkpoint(RunFolder(job.path / before.run).checkpoint)
            initial = {name: tensor.clone() for name, tensor in network.state_dict().items()}
            _require_unchanged(job.path / before.run, before)  # what was read is what the record tells
            drawn = drawn_for_teacher(stage, config.distillation)
            source = open_source(dataset, info.preprocessing, drawn, seed=stage.seed)
            objective = Teaching(stage, network.to(devices.device), source)
        on_stage(number, stage)
        result = train(
            stage,
            dataset,
            run,
            objective=objective,
            initial=initial,
            resume=resume,
            keep=keep,
            devices=devices,
            on_step=on_step,
            on_epoch=on_epoch,
            stop=stop,
        )
        if result.interrupted or result.best is None:
            return JobResult(record, result, interrupted=True)
        devices.wait()  # until the main process has written the checkpoint
        record.stages.append(_record(result, result.best, run, job, before))
        if devices.is_main:
            _write(job, record)
    return JobResult(record, result, interrupted=False)


def _begun(job: JobFolder, config: CurriculumConfig) -> JobRecord | None:
    """The record of the job in a folder, None where there is none."""
    record = read_record(job)
    if record is not None:
        changed = differences(record.config, config)
        if changed:
            raise UsageError(
                f"{job.path}: a curriculum with other settings cannot be resumed: {'; '.join(changed)}; "
                "give what it was begun with, or begin anew without resume (--resume)"
            )
    return record


def _take_teacher(record: JobRecord, teacher: RunFolder, dataset: DataSet, job: JobFolder, devices: Devices) -> None:
    """Puts a trained network in the place of the first stage."""
    with unchanged(teacher.checkpoint) as digests:
        info = load_checkpoint(teacher.checkpoint)[1]
    _require_fit(teacher.checkpoint, info, record.config, dataset)
    stage = StageRecord(
        steps=info.training.steps,
        run=str(Path(teacher.path).resolve()),
        checkpoint=digests[teacher.checkpoint.name],
        teacher=info.training.distillation.teacher if info.training.distillation else None,
        epochs=info.training.epochs,
        best=info.epoch,
        valid_loss=info.valid_loss,
        valid_accuracy=info.valid_accuracy,
    )
    if record.stages and record.stages[0].checkpoint != stage.checkpoint:
        raise UsageError(
            f"{teacher.checkpoint}: {job.path} was begun with another teacher; begin anew without resume (--resume)"
        )
    if not record.stages:
        record.stages.append(stage)
        if devices.is_main:
            _write(job, record)


def _require_fit(path: Path, info: CheckpointInfo, config: CurriculumConfig, dataset: DataSet) -> None:
    if info.training.steps != config.curriculum[0]:
        raise UsageError(
            f"{path} takes {info.training.steps} steps per second, the curriculum begins with {config.curriculum[0]}"
        )
    if info.classes != dataset.classes:
        raise UsageError(f"{path} was trained on other classes than those of {dataset.spec}")
    sizes = config.model.model_copy(update={"classes": info.model.classes, "dropout": info.model.dropout})
    changed = differences(info.model, sizes)
    if changed:
        raise UsageError(f"{path} cannot give the students' initial weights: model {'; '.join(changed)}")


def _require_unchanged(run: Path, stage: StageRecord) -> None:
    path = RunFolder(run).checkpoint
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist, but the job's record says that it is done; begin anew")
    if sha256(path) != stage.checkpoint:
        raise CheckpointError(f"{path} is not what this job left there (SHA-256); begin anew without resume (--resume)")


def _record(
    result: TrainResult, best: EpochMetrics, run: RunFolder, job: JobFolder, before: StageRecord | None
) -> StageRecord:
    return StageRecord(
        steps=result.config.steps,
        run=str(run.path.relative_to(job.path)),
        checkpoint=sha256(run.checkpoint),
        teacher=before.checkpoint if before else None,
        epochs=len(result.epochs),
        best=best.epoch,
        valid_loss=best.valid_loss,
        valid_accuracy=best.valid_accuracy,
    )


def _write(job: JobFolder, record: JobRecord) -> None:
    write_text(job.record, record.model_dump_json(indent=2) + "\n")
