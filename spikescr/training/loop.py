"""Direct training: AdamW, warm-up and cosine, the best checkpoint kept as it goes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.nn import functional

from spikescr.checkpoint import CheckpointInfo, save_checkpoint
from spikescr.data import DataSet, Preprocessing, fit_and_load, load
from spikescr.errors import SpikescrError
from spikescr.files import write_text
from spikescr.model import Network, build, readout
from spikescr.runs import RunFolder
from spikescr.training.augment import augment
from spikescr.training.batches import Split, shuffled
from spikescr.training.config import TrainConfig
from spikescr.training.evaluate import evaluate
from spikescr.training.metrics import EpochMetrics, write_metrics

FINAL_LR = 0.01
"""Learning rate at the end of the run, over that at the top."""


@dataclass(frozen=True)
class Progress:
    """Where a training stands after an optimisation step; loss and accuracy are the epoch's so far."""

    epoch: int
    step: int
    steps: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class TrainResult:
    """What a training gave: the configuration with all that followed from the data, the epochs, the best of them."""

    config: TrainConfig
    epochs: tuple[EpochMetrics, ...]
    best: EpochMetrics
    parameters: int
    interrupted: bool


def train(
    config: TrainConfig,
    dataset: DataSet,
    run: RunFolder,
    *,
    on_step: Callable[[Progress], None] = lambda progress: None,
    on_epoch: Callable[[EpochMetrics], None] = lambda metrics: None,
    stop: Callable[[], bool] = lambda: False,
) -> TrainResult:
    """Trains a network and keeps its best state, by validation accuracy, in a run folder; never opens the test split.

    The folder's earlier content stays until the first epoch is done; then it is replaced, and what was derived from
    it removed.

    Args:
        config: the training; its number of classes is replaced by the data's, its threads by those in use.
        dataset: what `open_data(config.data)` gave.
        run: where metrics, configuration and checkpoint go.
        on_step: called after every optimisation step.
        on_epoch: called after every epoch.
        stop: asked after every optimisation step and every epoch; True ends the training, an epoch that is not
            done does not count.

    Raises:
        DataError: a recording cannot be used.
        SpikescrError: the loss is no number any more, or the training was stopped in its first epoch.
    """
    run.create()
    with _threads(config.threads) as threads, torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        sizes = type(config.model).model_validate(config.model.model_dump() | {"classes": len(dataset.classes)})
        config = config.model_copy(update={"model": sizes, "threads": threads})
        preprocessing, features = fit_and_load(
            dataset, steps=config.steps, window_s=config.window_s, bands=sizes.inputs
        )
        valid = Split.of(load(dataset.split("valid"), preprocessing))
        training = _Training(config, Split.of(features), valid, _Keeper(config, dataset.classes, preprocessing, run))
        return training.run(on_step, on_epoch, stop)


class _Keeper:
    """Writes the run folder."""

    def __init__(
        self, config: TrainConfig, classes: tuple[str, ...], preprocessing: Preprocessing, run: RunFolder
    ) -> None:
        self.config = config
        self.classes = classes
        self.preprocessing = preprocessing
        self.folder = run

    def keep(self, model: Network, epochs: list[EpochMetrics], best: EpochMetrics) -> None:
        """Writes the metrics; the checkpoint too if the last epoch is the best."""
        if len(epochs) == 1:
            self.folder.discard_derived()
            write_text(self.folder.config, self.config.model_dump_json(indent=2) + "\n")
        if epochs[-1] is best:
            info = CheckpointInfo(
                model=self.config.model,
                classes=self.classes,
                preprocessing=self.preprocessing,
                training=self.config,
                epoch=best.epoch,
                valid_loss=best.valid_loss,
                valid_accuracy=best.valid_accuracy,
            )
            save_checkpoint(self.folder.checkpoint, model, info)
        write_metrics(self.folder.metrics, epochs)


class _Training:
    """Model, optimiser and schedule of a running training."""

    def __init__(self, config: TrainConfig, train: Split, valid: Split, keeper: _Keeper) -> None:
        self.config = config
        self.train = train
        self.valid = valid
        self.keeper = keeper
        self.draws = torch.Generator().manual_seed(config.seed)
        self.model = build(config.model)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.lr, weight_decay=config.weight_decay, foreach=True
        )
        self.began = time.monotonic()

    def run(
        self,
        on_step: Callable[[Progress], None],
        on_epoch: Callable[[EpochMetrics], None],
        stop: Callable[[], bool],
    ) -> TrainResult:
        """All epochs, or those until `stop`."""
        epochs: list[EpochMetrics] = []
        best: EpochMetrics | None = None
        for epoch in range(1, self.config.epochs + 1):
            done = self._epoch(epoch, best, on_step, stop)
            if done is None:
                break
            epochs.append(done)
            if best is None or done.better_than(best):
                best = done
            self.keeper.keep(self.model, epochs, best)
            on_epoch(done)
            if stop():
                break
        if best is None:
            raise SpikescrError("stopped before the first epoch was done; nothing was saved")
        return TrainResult(
            config=self.config,
            epochs=tuple(epochs),
            best=best,
            parameters=sum(p.numel() for p in self.model.parameters()),
            interrupted=len(epochs) < self.config.epochs,
        )

    def _epoch(
        self, epoch: int, best: EpochMetrics | None, on_step: Callable[[Progress], None], stop: Callable[[], bool]
    ) -> EpochMetrics | None:
        """Trains and evaluates once; None if it was stopped before its last step."""
        self.model.train()
        batches = shuffled(self.train.steps, self.config.batch_size, self.draws)
        loss = correct = seen = 0.0
        for step, chosen in enumerate(batches, 1):
            self._set_lr(epoch - 1 + step / len(batches))
            self.model.anneal((epoch - 1 + step / len(batches)) / self.config.epochs)
            batch_loss, batch_correct = self._step(epoch, chosen)
            if not math.isfinite(batch_loss):
                raise SpikescrError(self._diverged(epoch, step, batch_loss, best))
            seen += len(chosen)
            loss += batch_loss * len(chosen)
            correct += batch_correct
            on_step(Progress(epoch, step, len(batches), loss / seen, correct / seen))
            if stop() and step < len(batches):
                return None
        found = evaluate(self.model, self.valid, self.config.batch_size)
        return EpochMetrics(
            epoch=epoch,
            seconds=time.monotonic() - self.began,
            lr=self.optimizer.param_groups[0]["lr"],
            train_loss=loss / seen,
            train_accuracy=correct / seen,
            valid_loss=found.loss,
            valid_accuracy=found.accuracy,
            firing_rate=found.firing_rate,
        )

    def _step(self, epoch: int, chosen: torch.Tensor) -> tuple[float, int]:
        """One optimisation step; returns its mean loss and the number of right answers."""
        x, steps, labels = self.train.batch(chosen)
        if self.config.augmentation is not None:
            x = augment(x, steps, self.config.augmentation, seed=self.config.seed, epoch=epoch, samples=chosen)
        y = readout(self.model(x, steps), steps)
        loss = functional.cross_entropy(y, labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item(), int((y.argmax(dim=-1) == labels).sum())

    def _set_lr(self, epochs: float) -> None:
        """Linear rise, then a cosine down to FINAL_LR over what is left; `epochs` at the end of the coming step."""
        config = self.config
        warmup = min(config.warmup_epochs, config.epochs / 2)
        if epochs <= warmup:
            factor = epochs / warmup
        else:
            done = (epochs - warmup) / (config.epochs - warmup)
            factor = FINAL_LR + (1 - FINAL_LR) * (1 + math.cos(math.pi * done)) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = config.lr * factor

    def _diverged(self, epoch: int, step: int, loss: float, best: EpochMetrics | None) -> str:
        kept = (
            "nothing was saved"
            if best is None
            else f"the checkpoint of epoch {best.epoch} is kept in {self.keeper.folder.checkpoint}"
        )
        return f"the loss is {loss} in epoch {epoch}, step {step}: lower --lr ({self.config.lr:g}); {kept}"


@contextmanager
def _threads(count: int | None) -> Iterator[int]:
    """Lets torch compute with so many threads; gives the number in use."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
