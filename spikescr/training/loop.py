"""Training: AdamW, warm-up and cosine; its state is kept as it goes, and it continues from there."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from spikescr.data import DataSet, load
from spikescr.errors import SpikescrError, UsageError
from spikescr.model import Network, build, readout
from spikescr.model.backends import install, pick
from spikescr.model.neuron import soften
from spikescr.runs import RunFolder
from spikescr.training.batches import Split, shuffled
from spikescr.training.config import TrainConfig
from spikescr.training.devices import Devices
from spikescr.training.draws import derived_seed, generator
from spikescr.training.evaluate import evaluate
from spikescr.training.keeper import Keeper
from spikescr.training.memory import require_room
from spikescr.training.metrics import EpochMetrics
from spikescr.training.objective import Batch, CrossEntropy, Objective
from spikescr.training.penalty import noting
from spikescr.training.precision import Drift, measure, products, require_few
from spikescr.training.sources import Inputs, Source, ahead, fit_source
from spikescr.training.state import Environment, Progressed, Setting, TrainState, differences, load_state

ORDER, DROPOUT = range(2)
"""What random numbers are for: part of the position that they are derived from."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """Where a training stands after an optimisation step.

    Attributes:
        epoch: Number of the running one, from 1.
        step: Optimisation steps done of it.
        steps: That it has.
        loss: Mean over what the epoch has seen so far.
        accuracy: The same.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class TrainResult:
    """What a training gave.

    Attributes:
        config: With all that followed from the data.
        epochs: Those that are done.
        best: Of them, None before there is one.
        weights: And buffers, after the best epoch; empty before there is one.
        parameters: How many the network has.
        seconds: Of training.
        step: Optimisation steps done of the epoch after those.
        interrupted: Whether `stop` ended it.
        drift: Spikes that bfloat16 changes, at "start" and "end"; empty with precision=fp32.
    """

    config: TrainConfig
    epochs: tuple[EpochMetrics, ...]
    best: EpochMetrics | None
    weights: Mapping[str, Tensor]
    parameters: int
    seconds: float
    step: int
    interrupted: bool
    drift: Mapping[str, Drift]


def train(
    config: TrainConfig,
    dataset: DataSet,
    run: RunFolder,
    *,
    objective: Objective | None = None,
    initial: Mapping[str, Tensor] | None = None,
    resume: bool = False,
    keep: int = 2,
    devices: Devices | None = None,
    on_step: Callable[[Progress], None] = lambda progress: None,
    on_epoch: Callable[[EpochMetrics], None] = lambda metrics: None,
    stop: Callable[[], bool] = lambda: False,
) -> TrainResult:
    """Trains a network and keeps its best state, by validation accuracy, in a run folder; never opens the test split.

    The state of the training is kept after every epoch and where `stop` ends it; from there `resume` continues, on a
    CPU to the same bytes as if nothing had happened. The folder's earlier content stays until the first epoch is
    done; then it is replaced, and what was derived from it removed.

    Args:
        config: the training; its number of classes is replaced by the data's, its threads by those in use.
        dataset: what `open_data(config.data)` gave.
        run: where states, metrics, configuration and the best weights go.
        objective: what is minimised; None: the loss of the label.
        initial: weights and buffers to begin with; None: as the seed draws them.
        resume: continue from the newest state in the folder, from the beginning where there is none.
        keep: how many states to keep.
        devices: the processes that train together; None: as `accelerate launch` has it.
        on_step: called after every optimisation step.
        on_epoch: called after every epoch.
        stop: asked after every optimisation step and every epoch; True in any process ends the training.

    Raises:
        DataError: most of the recordings of a split cannot be read; fewer are left out, and named.
        UsageError: something differs from what is resumed; the message names it.
        SpikescrError: the loss is no number any more, the folder cannot be written, or bfloat16 changes too many
            spikes; the message names what is safe.
    """
    devices = devices or Devices()
    if config.distillation is not None and objective is None:
        raise UsageError("a configuration with distillation needs a teacher: spikescr distill trains with one")
    objective = objective or CrossEntropy(config.loss)
    if devices.is_main:
        run.create()
    with using_threads(config.threads) as threads, torch.random.fork_rng(devices=devices.generators):
        sizes = type(config.model).model_validate(config.model.model_dump() | {"classes": len(dataset.classes)})
        require_room(sizes)
        torch.manual_seed(config.seed)
        config = config.model_copy(update={"model": sizes, "threads": threads})
        preprocessing, source = fit_source(config, dataset)
        objective.require(source)
        validation = load(dataset.split("valid"), preprocessing)
        valid = Split.from_features(validation)
        left_out = {**source.left_out, **validation.left_out}
        setting = Setting(
            config=config,
            classes=dataset.classes,
            preprocessing=preprocessing,
            recordings=(len(source), len(valid)),
            left_out=tuple(sorted(left_out)),
            objective=objective.identity(),
        )
        network = build(sizes)
        soften(network, config.surrogate_alpha)
        if initial is not None:
            network.load_state_dict(dict(initial))
        return fit(
            network,
            setting,
            source,
            valid,
            Keeper(run, keep, left_out=left_out),
            objective=objective,
            resume=resume,
            devices=devices,
            on_step=on_step,
            on_epoch=on_epoch,
            stop=stop,
        )


def fit(
    network: Network,
    setting: Setting,
    source: Source,
    valid: Split,
    keeper: Keeper,
    *,
    objective: Objective,
    resume: bool,
    devices: Devices,
    on_step: Callable[[Progress], None],
    on_epoch: Callable[[EpochMetrics], None],
    stop: Callable[[], bool],
) -> TrainResult:
    """Trains a network on recordings in memory: what `train` and fine-tuning share.

    Args:
        network: whatever computes logits like a `Network`; its parameters are trained in place.
        setting: what must be the same when it is resumed, the configuration among it.
        source: of recordings to train on.
        valid: that chooses among the epochs.
        keeper: of states and results.
        objective: as for `train`, and so are the others.
        resume: see `train`.
        devices: see `train`.
        on_step: see `train`.
        on_epoch: see `train`.
        stop: see `train`.

    Raises:
        UsageError: something differs from what is resumed; the message names it.
        SpikescrError: as for `train`.
    """
    training = _Training(network, setting, source, valid, objective, devices, keeper)
    latest = keeper.checkpoints.latest() if resume else None
    if latest is not None:
        training.restore(load_state(latest, network, training.require_same))
    return training.run(on_step, on_epoch, stop)


class _Training:
    """Model, optimiser and schedule of a running training."""

    def __init__(
        self,
        network: Network,
        setting: Setting,
        source: Source,
        valid: Split,
        objective: Objective,
        devices: Devices,
        keeper: Keeper,
    ) -> None:
        self.config = config = setting.config
        self.setting = setting
        self.source = source
        self.valid = valid
        self.objective = objective
        self.devices = devices
        self.keeper = keeper
        self.at = Progressed()
        self.best_weights: dict[str, Tensor] = {}
        self.model = network.to(devices.device)
        install(self.model, pick(devices.device))
        self.shared = devices.wrap(self.model)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.lr, weight_decay=config.weight_decay, foreach=True
        )

    def require_same(self, setting: Setting) -> None:
        """Refuses the setting of another training.

        Raises:
            UsageError: naming what differs.
        """
        changed = differences(setting, self.setting)
        if changed:
            raise UsageError(
                f"{self.keeper.folder.path}: a training with other settings cannot be resumed: {'; '.join(changed)}; "
                "give what it was begun with, or begin anew without resume (--resume)"
            )

    def restore(self, state: TrainState) -> None:
        """Continues from a state."""
        changed = differences(state.environment, self._environment())
        if changed:
            logger.warning("continued elsewhere, so results may differ in rounding: %s", "; ".join(changed))
        self.at = state.progressed
        self.best_weights = state.best
        self.model.load_state_dict(state.model)
        held = self.optimizer.state_dict()
        names = [name for name, _ in self.model.named_parameters()]
        held["state"] = {names.index(name): tensors for name, tensors in state.optimizer.items()}
        self.optimizer.load_state_dict(held)
        if self.devices.is_main:
            self.keeper.continue_from(state)

    def run(
        self,
        on_step: Callable[[Progress], None],
        on_epoch: Callable[[EpochMetrics], None],
        stop: Callable[[], bool],
    ) -> TrainResult:
        """All epochs that are not done yet, or those until `stop`."""
        at = self.at
        if self.config.precision != "fp32" and not at.drift:
            at.drift["start"] = self._drift(self.model.state_dict(), fresh=True)
            require_few(at.drift["start"], self.config, "before", "nothing was trained")
        began = time.monotonic() - at.elapsed
        while len(at.epochs) < self.config.epochs:
            steps, asked = self._steps(on_step, stop)
            at.elapsed = time.monotonic() - began
            if asked:
                self._keep()  # before evaluating, which may take longer than one is given
            if at.step < steps:
                break
            self._finish_epoch(time.monotonic() - began)
            on_epoch(at.epochs[-1])
            if self.devices.any(asked or stop()):
                break
        if "end" in at.drift:
            kept = f"the float32 weights of the best epoch are in {self.keeper.folder.checkpoint}"
            require_few(at.drift["end"], self.config, "after", kept)
        return TrainResult(
            config=self.config,
            epochs=tuple(at.epochs),
            best=at.epochs[at.best - 1] if at.best else None,
            weights=self.best_weights,
            parameters=sum(p.numel() for p in self.model.parameters()),
            seconds=at.elapsed,
            step=at.step,
            interrupted=len(at.epochs) < self.config.epochs,
            drift=at.drift,
        )

    def _steps(self, on_step: Callable[[Progress], None], stop: Callable[[], bool]) -> tuple[int, bool]:
        """The steps that are left of an epoch, or those until `stop`.

        Returns:
            The number of steps of a whole epoch; whether `stop` asked for the end.
        """
        at, epoch = self.at, len(self.at.epochs) + 1
        batches = shuffled(self.source.steps, self.config.batch_size, generator(self.config.seed, ORDER, epoch))
        self.devices.require_batches(min(map(len, batches)))
        self.model.train()
        left = batches[at.step :]
        for chosen, inputs in zip(left, ahead(self.source, left, epoch), strict=True):
            done = epoch - 1 + (at.step + 1) / len(batches)
            self._set_lr(done)
            self.model.anneal(done / self.config.epochs)
            loss, correct = self._step(epoch, at.step + 1, chosen, inputs)
            at.step += 1
            self._require_number(loss, "loss")
            at.seen += len(chosen)
            at.loss += loss
            at.correct += correct
            on_step(Progress(epoch, at.step, len(batches), at.loss / at.seen, at.correct / at.seen))
            if self.devices.any(stop()):
                return len(batches), True
        return len(batches), False

    def _step(self, epoch: int, step: int, chosen: Tensor, inputs: Inputs) -> tuple[float, int]:
        """One optimisation step; returns the sum of its losses and the number of right answers, of all processes."""
        seed, share = self.config.seed, self.devices.share(len(chosen))
        x, steps, labels = inputs
        device = self.devices.device
        mine = Batch(epoch, chosen[share], x[:, share].to(device), steps[share].to(device), labels[share].to(device))
        torch.manual_seed(derived_seed(seed, DROPOUT, epoch, step))
        self.devices.share_dropout(self.model, len(chosen))
        with products(self.model, self.config.precision), noting(self.model, self.config.synop_penalty) as penalty:
            y = readout(self.shared(mine.x, mine.steps), mine.steps)
        loss = (self.objective.losses(y, mine) + penalty.of(mine.steps)).sum()
        self.optimizer.zero_grad()
        # Gradients are averaged over processes: each one's share of the mean, times their number.
        (loss * (self.devices.processes / len(chosen))).backward()
        self.optimizer.step()
        correct = (y.argmax(dim=-1) == mine.labels).sum()
        total = self.devices.sum(torch.stack((loss.detach().double(), correct.double())).cpu())
        return float(total[0]), int(total[1])

    def _finish_epoch(self, elapsed: float) -> None:
        """Evaluates, and keeps what the epoch gave."""
        at, epoch = self.at, len(self.at.epochs) + 1
        validation = evaluate(self.model, self.valid, self.config.batch_size, self.devices, loss=self.config.loss)
        self._require_number(validation.loss, "validation loss")
        done = EpochMetrics(
            epoch=epoch,
            lr=self.optimizer.param_groups[0]["lr"],
            train_loss=at.loss / at.seen,
            train_accuracy=at.correct / at.seen,
            valid_loss=validation.loss,
            valid_accuracy=validation.accuracy,
            firing_rate=validation.firing_rate,
        )
        if not at.best or done.better_than(at.epochs[at.best - 1]):
            at.best = epoch
            self.best_weights = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        at.epochs.append(done)
        at.seconds.append(elapsed)
        at.elapsed = elapsed
        at.step, at.loss, at.correct, at.seen = 0, 0.0, 0, 0
        if self.config.precision != "fp32" and epoch == self.config.epochs:
            at.drift["end"] = self._drift(self.best_weights, fresh=False)
        self._keep()

    def _drift(self, weights: Mapping[str, Tensor], *, fresh: bool) -> Drift:
        return measure(self.model, weights, self.valid, self.config.batch_size, self.devices, fresh=fresh)

    def _keep(self) -> None:
        """Writes the state, in the main process."""
        names = [name for name, _ in self.model.named_parameters()]
        state = TrainState(
            setting=self.setting,
            progressed=self.at,
            environment=self._environment(),
            model=self.model.state_dict(),
            best=self.best_weights,
            optimizer={names[i]: tensors for i, tensors in self.optimizer.state_dict()["state"].items()},
        )
        fault = state.fault()
        if fault is not None:
            raise SpikescrError(self._diverged(f"{fault} holds values that are no numbers"))
        if self.devices.is_main:
            self.keeper.keep(state)

    def _environment(self) -> Environment:
        return Environment(device=self.devices.device.type, processes=self.devices.processes)

    def _set_lr(self, epochs: float) -> None:
        """Linear rise, then cosines between the top and the lowest rate; `epochs` at the end of the coming step."""
        config = self.config
        warmup = min(config.warmup_epochs, config.warmup_share * config.epochs)
        if epochs <= warmup:
            factor = epochs / warmup
        else:
            done = (epochs - warmup) / (config.cosine_epochs or config.epochs - warmup)
            factor = config.final_lr + (1 - config.final_lr) * (1 + math.cos(math.pi * done)) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = config.lr * factor

    def _require_number(self, loss: float, what: str) -> None:
        if not math.isfinite(loss):
            raise SpikescrError(self._diverged(f"the {what} is {loss}"))

    def _diverged(self, what: str) -> str:
        epoch, step = len(self.at.epochs) + 1, self.at.step
        return f"{what} in epoch {epoch}, step {step}: lower lr ({self.config.lr:g}); {self.keeper.last_good()}"


@contextmanager
def using_threads(count: int | None) -> Iterator[int]:
    """Lets torch compute with so many threads; gives the number in use."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
