"""A training that runs: AdamW, warm-up and cosine, epoch after epoch."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from spikescr.errors import SpikescrError, UsageError
from spikescr.model import Network, readout
from spikescr.model.backends import install, pick
from spikescr.training.batches import Split, shuffled
from spikescr.training.config import TrainConfig
from spikescr.training.devices import Devices
from spikescr.training.draws import derived_seed, generator
from spikescr.training.evaluate import evaluate
from spikescr.training.keeper import Keeper
from spikescr.training.metrics import EpochMetrics
from spikescr.training.objective import Batch, Objective
from spikescr.training.penalty import noting
from spikescr.training.precision import Drift, measure, products, require_few
from spikescr.training.sources import Inputs, Source, ahead
from spikescr.training.state import Environment, Progressed, Setting, TrainState, differences

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


class Training:
    """Model, optimiser and schedule; its state is kept as it goes, and it continues from one."""

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
        # A step takes lr weight_decay of every weight; where that is twice the weight and more, weights grow for ever.
        lr, decay = self.config.lr, self.config.weight_decay
        name = "weight_decay" if lr < 1 and lr * decay >= 2 else "lr"
        return (
            f"{what} in epoch {epoch}, step {step}: lower {name} ({getattr(self.config, name):g}); "
            f"{self.keeper.last_good()}"
        )
