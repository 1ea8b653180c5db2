"""One training of a reproduction, in whatever process: it is begun or goes on, and its networks are tested at the end.

The test split is opened once for each training, when all of its epochs are done, for the network after the last epoch
and the one after the best, which the validation split chose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import threadpoolctl
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from spikescr.checkpoint import load_checkpoint
from spikescr.data import Features, load
from spikescr.data.dataset import NO_LABEL
from spikescr.documents import read_model
from spikescr.errors import CheckpointError, SpikescrError, UsageError
from spikescr.files import sha256, write_text
from spikescr.model import Network
from spikescr.runs import JobFolder, RunFolder
from spikescr.training.assess import answer
from spikescr.training.distill import distill
from spikescr.training.loop import train, using_threads
from spikescr.training.metrics import EpochMetrics
from spikescr.training.running import Progress
from spikescr.training.state import Checkpoints, load_state
from spikescr.workflows.deployed import choose_recordings
from spikescr.workflows.reproduce_plan import Training, open_limited, thinned
from spikescr.workflows.workers import end_with

RESULT = "result.json"
"""Of a training that is done, in its folder."""

TEST_BATCH = 64
"""Recordings that are tested at once."""

Share = Annotated[float, Field(ge=0, le=1)]


class Score(BaseModel):
    """A network, tested. epoch: after which. valid_accuracy: then. right: right answers on the test split."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epoch: int = Field(ge=1)
    valid_accuracy: Share
    right: int = Field(ge=0)


class Outcome(BaseModel):
    """What a training gave.

    Attributes:
        digest: Of what it follows from.
        seed: Of everything random.
        parameters: Of the network.
        recordings: Of the test split.
        left_out: Of it, those that cannot be read.
        best: After the epoch that did best on the validation split.
        last: After the last epoch.
        checkpoint: SHA-256 of the best weights.
        seconds: Of training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal[1] = 1
    digest: str
    seed: int = Field(ge=0)
    parameters: int = Field(ge=1)
    recordings: int = Field(ge=1)
    left_out: int = Field(ge=0)
    best: Score
    last: Score
    checkpoint: str
    seconds: float = Field(ge=0)


@dataclass(frozen=True)
class Failure:
    """A training that cannot be done. digest: which. message: why."""

    digest: str
    message: str


@dataclass(frozen=True)
class Task:
    """A training, as it is sent to whoever does it.

    Attributes:
        folder: Its own.
        training: Which.
        digest: Of what it follows from.
        teacher: Run folder of its teacher, which is done; None: it has none.
        limit: Recordings of each split; None: all.
        client: Process id of whom a worker on this machine serves; None: of nobody there.
    """

    folder: Path
    training: Training
    digest: str
    teacher: RunFolder | None
    limit: int | None
    client: int | None = None

    @property
    def run(self) -> RunFolder:
        """Of the network that it gives."""
        return self.training.run(self.folder)

    def outcome(self) -> Outcome | None:
        """What it gave, where it is done.

        Raises:
            CheckpointError: the folder says so, and does not hold what it says.
        """
        path = self.folder / RESULT
        if not path.exists():
            return None
        remedy = f"remove {self.folder} to train it again"
        outcome = read_model(path, Outcome, remedy, CheckpointError)
        if outcome.digest != self.digest:
            raise CheckpointError(f"{path}: is of another training; {remedy}")
        if not self.run.checkpoint.is_file() or sha256(self.run.checkpoint) != outcome.checkpoint:
            raise CheckpointError(f"{self.run.checkpoint}: is not what this training left there; {remedy}")
        return outcome


def do_task(task: Task) -> Outcome | Failure:
    """Does a training in a process of its own; what cannot be done is told, and does not end the others."""
    end_with(task.client)
    with threadpoolctl.threadpool_limits(task.training.config.threads):
        outcome = attempt(task)
    assert outcome is not None, "nobody stops it"
    return outcome


def attempt(
    task: Task,
    on_step: Callable[[Progress], None] = lambda progress: None,
    on_epoch: Callable[[EpochMetrics], None] = lambda metrics: None,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome | Failure | None:
    """Does a training, or what is left of it; None where it was stopped. Arguments as of `train`."""
    try:
        with JobFolder(task.folder).locked():
            return _done(task, on_step, on_epoch, stop)
    except SpikescrError as error:
        return Failure(task.digest, str(error))


def _done(
    task: Task, on_step: Callable[[Progress], None], on_epoch: Callable[[EpochMetrics], None], stop: Callable[[], bool]
) -> Outcome | None:
    training, run = task.training, task.run
    dataset = open_limited(training.config.data, training.config.seed, task.limit)
    if training.pair is None:
        result = train(
            training.config, dataset, run, resume=True, keep=1, on_step=on_step, on_epoch=on_epoch, stop=stop
        )
        interrupted = result.interrupted
    else:
        interrupted = distill(
            training.pair, dataset, JobFolder(task.folder), teacher=task.teacher, resume=True, keep=1, on_step=on_step,
            on_epoch=on_epoch, stop=stop,
        ).interrupted  # fmt: skip
    if interrupted:
        return None
    outcome = _test(task)
    write_text(task.folder / RESULT, outcome.model_dump_json(indent=1) + "\n")
    return outcome


@dataclass(frozen=True)
class _Trained:
    """What the choice of recordings needs to know of a checkpoint."""

    path: Path
    classes: tuple[str, ...]
    data: str
    seed: int


def _test(task: Task) -> Outcome:
    """Opens the test split for both networks of a training."""
    run, config = task.run, task.training.config
    network, info = load_checkpoint(run.checkpoint)
    latest = Checkpoints(run.checkpoints).latest()
    if latest is None:
        raise CheckpointError(f"{run.checkpoints}: the state after the last epoch is gone; remove {task.folder}")
    state = load_state(latest, network)
    at = state.progressed
    if len(at.epochs) != config.epochs or info.epoch != at.best:
        raise CheckpointError(f"{latest}: is not the state after all epochs; remove {task.folder}")
    trained = _Trained(run.checkpoint, info.classes, info.training.data, info.training.seed)
    items = thinned(choose_recordings(trained, data=None, split="test", limit=None, recording=None), task.limit)
    if any(item.label == NO_LABEL for item in items):
        raise UsageError(f"{config.data}: test recordings without labels tell no accuracy")
    with using_threads(config.threads):
        features = load(items, info.preprocessing)

        def right(weights: Mapping[str, Tensor]) -> int:
            return _right(network, weights, features)

        tested = [
            Score(epoch=epoch, valid_accuracy=at.epochs[epoch - 1].valid_accuracy, right=right(weights))
            for epoch, weights in ((at.best, state.best), (config.epochs, state.model))
        ]
    return Outcome(
        digest=task.digest,
        seed=config.seed,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        recordings=len(features),
        left_out=len(features.left_out),
        best=tested[0],
        last=tested[1],
        checkpoint=sha256(run.checkpoint),
        seconds=at.elapsed,
    )


def _right(network: Network, weights: Mapping[str, Tensor], features: Features) -> int:
    network.load_state_dict(dict(weights))
    answers = answer(network, features, TEST_BATCH)
    return int((answers.predicted == answers.labels).sum())
