"""The run folder while a training writes to it."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from spikescr.checkpoint import CheckpointInfo, packed
from spikescr.errors import SpikescrError
from spikescr.files import replacing_together, write_bytes, write_csv, write_text
from spikescr.runs import RunFolder
from spikescr.training.metrics import write_metrics, write_times
from spikescr.training.precision import as_json
from spikescr.training.state import Checkpoints, Setting, TrainState


class Keeper:
    """Keeps states, and what is published of them: the best weights, the metrics, the configuration.

    The state comes first: all else follows from it, and is written again when a training continues.

    publishes: whether the best weights become the run's checkpoint; those of fine-tuning are no such network's.
    left_out: name and fault of each recording that cannot be read.
    """

    def __init__(
        self, folder: RunFolder, keep: int, *, publishes: bool = True, left_out: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.left_out = left_out or {}
        self.publishes = publishes
        self.checkpoints = Checkpoints(folder.checkpoints, keep)
        self._fresh = True

    def continue_from(self, state: TrainState) -> None:
        """Publishes what a state holds, in case a kill came between the two; earlier states stay."""
        self._fresh = False
        if state.progressed.epochs:
            with self._telling(state):
                self._publish(state, best=True)

    def keep(self, state: TrainState) -> None:
        """Writes a state, and publishes it where it ends an epoch.

        Raises:
            SpikescrError: the disk is full, say; the message names the file and the last good state.
        """
        with self._telling(state):
            if self._fresh:  # states of an earlier run would be taken for this one's
                self.checkpoints.discard()
                self._fresh = False
            self.checkpoints.save(state)
            if state.progressed.step == 0:
                self._publish(state, best=state.progressed.best == len(state.progressed.epochs))

    def last_good(self) -> str:
        """What of the training is safe, for messages."""
        latest = None if self._fresh else self.checkpoints.latest()
        if latest is None:
            return "nothing was saved"
        return f"the last good checkpoint is {latest}"

    def resume_command(self) -> str:
        """How to continue."""
        return f"{self.folder.make_command(self.folder.checkpoint)} --resume"

    def _publish(self, state: TrainState, best: bool) -> None:
        """Writes what a state tells, as one; a changed network takes all with it that was made of the one before."""
        progressed, setting, run = state.progressed, state.setting, self.folder
        weights = self._best(setting, state) if best and self.publishes else None
        names = {path.name for path in (run.config, run.metrics, run.times, run.precision, run.left_out)}
        if weights is not None and not (run.checkpoint.exists() and run.checkpoint.read_bytes() == weights):
            names |= {run.checkpoint.name, *run.derived}
        with replacing_together(run.path, names) as stage:
            staged = RunFolder(stage)
            write_text(staged.config, setting.config.model_dump_json(indent=2) + "\n")
            if weights is not None and run.checkpoint.name in names:
                write_bytes(staged.checkpoint, weights)
            write_metrics(staged.metrics, progressed.epochs)
            write_times(staged.times, progressed.seconds)
            if self.left_out:
                write_csv(staged.left_out, ("recording", "fault"), sorted(self.left_out.items()))
            if progressed.drift:
                write_text(staged.precision, as_json(progressed.drift, setting.config))

    def _best(self, setting: Setting, state: TrainState) -> bytes:
        best = state.progressed.epochs[state.progressed.best - 1]
        info = CheckpointInfo(
            model=setting.config.model,
            classes=setting.classes,
            preprocessing=setting.preprocessing,
            training=setting.config,
            epoch=best.epoch,
            valid_loss=best.valid_loss,
            valid_accuracy=best.valid_accuracy,
        )
        return packed(state.best, info)

    @contextmanager
    def _telling(self, state: TrainState) -> Iterator[None]:
        """Adds to what goes wrong while writing what is safe and how to continue."""
        try:
            yield
        except OSError as error:
            at = state.progressed
            place = f"epoch {len(at.epochs)}" if at.step == 0 else f"epoch {len(at.epochs) + 1}, step {at.step}"
            room = "make room" if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG} else "put that right"
            safe = not self._fresh and self.checkpoints.latest() is not None
            again = f"continue with: {self.resume_command()}" if safe else "begin again"
            raise SpikescrError(
                f"{error.filename or self.folder.path}: {error.strerror} while saving {place}; {self.last_good()}; "
                f"{room} and {again}"
            ) from error
