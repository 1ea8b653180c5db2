"""The tables of a paper, trained again: every row with every seed, as one job that goes on after a kill at any point.

A folder of a reproduction has `trainings/`, a folder for each, and what they gave: reproduce.json, reproduce.csv. Each
training is told by a digest of what it follows from, so that a job with other rows, seeds or epochs takes what fits of
an earlier one, and the rest stays beside it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from spikescr.errors import UsageError
from spikescr.progress import advancing
from spikescr.runs import JobFolder
from spikescr.training.metrics import EpochMetrics
from spikescr.training.running import Progress
from spikescr.workflows.cluster import on_cluster
from spikescr.workflows.reproduce_plan import Plan, Training, recordings_by_seed
from spikescr.workflows.reproduce_report import Report, write_report
from spikescr.workflows.reproduce_training import Failure, Outcome, Task, attempt, do_task
from spikescr.workflows.workers import spread

STALL_SECONDS = 1800.0
"""A training that does not compute for so long stands still."""
REMEDY = "choose fewer workers (--workers), and start the same command again"

Priority = Callable[[Training], float]


@dataclass(frozen=True)
class Places:
    """Where trainings run.

    Attributes:
        workers: Processes on this machine; 1 is this one.
        devices: CUDA devices of this machine, a process for each; none: what there is.
        scheduler: Address of a Dask scheduler whose workers are used instead; they see the same files.
    """

    workers: int = 1
    devices: tuple[str, ...] = ()
    scheduler: str | None = None

    def __post_init__(self) -> None:
        """Refuses what contradicts itself.

        Raises:
            UsageError: several kinds of places are given.
        """
        given = [self.workers != 1, bool(self.devices), self.scheduler is not None]
        if sum(given) > 1:
            raise UsageError("give one of workers (--workers), devices (--devices) and a scheduler (--scheduler)")

    @property
    def processes(self) -> int:
        """On this machine."""
        return len(self.devices) or self.workers


class Reproduction:
    """A job: a plan and the folder where it is done."""

    def __init__(self, plan: Plan, folder: JobFolder) -> None:
        """Reads what is there.

        Raises:
            UsageError: there is nothing to train.
            CheckpointError: what is there is not what a training left.
            DataError: the data set cannot be opened.
        """
        if not plan.rows:
            raise UsageError("; ".join(f"row {row.name}: {why}" for row, why in plan.unavailable))
        self.plan, self.folder = plan, folder
        self._recordings = recordings_by_seed(plan)
        self.outcomes: dict[str, Outcome] = {}
        self.failures: dict[str, Failure] = {}
        for training in plan.trainings:
            outcome = self._task(training).outcome()
            if outcome is not None:
                self.outcomes[training.key] = outcome

    def left(self) -> tuple[tuple[Training, ...], ...]:
        """The trainings that are still to be done, by level."""
        return tuple(tuple(t for t in level if t.key not in self.outcomes) for level in self.plan.levels)

    def run(
        self,
        places: Places,
        *,
        longest: Priority = lambda training: 0.0,
        on_training: Callable[[Training], None] = lambda training: None,
        on_step: Callable[[Progress], None] = lambda progress: None,
        on_epoch: Callable[[EpochMetrics], None] = lambda metrics: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Does the trainings that are left; whether all were tried.

        One that fails does not end the others; its students are left out (`failures`).

        Args:
            places: where.
            longest: how long a training takes: those of a level begin with the longest.
            on_training: called before a training in this process.
            on_step: as for `train`, in this process.
            on_epoch: likewise.
            stop: as for `train`, likewise; also asked between trainings.

        Raises:
            UsageError: there is no such scheduler.
            BackendError: processes that were given a training end again and again.
        """
        self.folder.create()
        for level in self.left():
            ready = [self._task(t) for t in sorted(level, key=longest, reverse=True) if self._can_begin(t)]
            by_digest = {task.digest: task for task in ready}
            for found in self._results(ready, places, on_training, on_step, on_epoch, stop):
                if found is None:
                    self.write()
                    return False
                key = by_digest[found.digest].training.key
                if isinstance(found, Outcome):
                    self.outcomes[key] = found
                else:
                    self.failures[key] = found
                self.write()
        self.write()
        return True

    def report(self) -> Report:
        """Every row, with what is known of it."""
        return Report.of(self.plan, self.outcomes)

    def write(self) -> None:
        """Writes reproduce.json and reproduce.csv."""
        write_report(self.folder.path, self.report())

    def _task(self, training: Training) -> Task:
        recordings = self._recordings[training.config.seed]
        folder = training.folder(self.folder.path, recordings)
        teacher = training.teacher
        return Task(
            folder=folder.absolute(),
            training=training,
            digest=training.digest(recordings),
            teacher=None if teacher is None else teacher.run(teacher.folder(self.folder.path.absolute(), recordings)),
            limit=self.plan.request.limit,
        )

    def _can_begin(self, training: Training) -> bool:
        """Whether its teacher is there; of one that failed the student fails."""
        teacher = training.teacher
        if teacher is None or teacher.key in self.outcomes:
            return True
        self.failures[training.key] = Failure(self._task(training).digest, f"its teacher {teacher.name} failed")
        return False

    def _results(
        self,
        tasks: Sequence[Task],
        places: Places,
        on_training: Callable[[Training], None],
        on_step: Callable[[Progress], None],
        on_epoch: Callable[[EpochMetrics], None],
        stop: Callable[[], bool],
    ) -> Iterator[Outcome | Failure | None]:
        """What trainings give, as they are done; None: stopped."""
        if places.scheduler is None and places.processes == 1 and not places.devices:
            for task in tasks:
                if stop():
                    yield None
                    return
                on_training(task.training)
                yield attempt(task, on_step, on_epoch, stop)
            return
        if not tasks:
            return
        with advancing("Trainings", len(tasks)) as advance:
            if places.scheduler is not None:
                found = on_cluster(do_task, [(task,) for task in tasks], places.scheduler)
            else:
                found = spread(
                    do_task,
                    [(replace(task, client=os.getpid()),) for task in tasks],
                    workers=places.processes,
                    stall_seconds=STALL_SECONDS,
                    environments=[{"CUDA_VISIBLE_DEVICES": device} for device in places.devices],
                    what="training",
                    remedy=REMEDY,
                )
            for each in found:
                advance(1)
                yield each
