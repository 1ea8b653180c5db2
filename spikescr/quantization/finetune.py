"""Quantization-aware fine-tuning: a training whose forward pass is the integers', gradients straight-through."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spikescr.checkpoint import CheckpointInfo
from spikescr.model import Network
from spikescr.model.layers import SequenceDropout
from spikescr.model.neuron import soften
from spikescr.quantization.scheme import Scheme
from spikescr.runs import RunFolder
from spikescr.training.batches import Split
from spikescr.training.config import Loss
from spikescr.training.devices import Devices
from spikescr.training.evaluate import Evaluation, evaluate
from spikescr.training.keeper import Keeper
from spikescr.training.loop import fit, using_threads
from spikescr.training.metrics import EpochMetrics
from spikescr.training.objective import CrossEntropy
from spikescr.training.running import Progress
from spikescr.training.sources import Source
from spikescr.training.state import Setting


@dataclass(frozen=True)
class Tuned:
    """After an epoch, 0 before the first: its number, mean training loss, validation."""

    epoch: int
    train_loss: float | None
    valid: Evaluation


@dataclass(frozen=True)
class TuneResult:
    """epochs: a result for the network as it came and for every epoch done. interrupted: whether `stop` ended it."""

    epochs: tuple[Tuned, ...]
    interrupted: bool


def best_of(epochs: Sequence[Tuned]) -> Tuned:
    """The one whose weights are kept: highest accuracy, then lowest loss, then first."""
    return max(epochs, key=lambda tuned: (tuned.valid.accuracy, -tuned.valid.loss))


class _InIntegers(CrossEntropy):
    """Cross-entropy of one certain network in integers."""

    def __init__(self, model: Network, scheme: Scheme, loss: Loss) -> None:
        super().__init__(loss)
        digest = hashlib.sha256(repr(scheme).encode())
        for name, tensor in sorted(model.state_dict().items()):
            digest.update(name.encode() + tensor.cpu().numpy().tobytes())
        self.network = digest.hexdigest()

    def identity(self) -> dict[str, str]:
        """The loss, and the network that it began with."""
        return super().identity() | {"network in integers": self.network}


def finetune(
    model: Network,
    scheme: Scheme,
    train: Source,
    valid: Split,
    info: CheckpointInfo,
    run: RunFolder,
    *,
    epochs: int,
    lr: float,
    resume: bool = False,
    on_step: Callable[[Progress], None] = lambda progress: None,
    on_epoch: Callable[[EpochMetrics], None] = lambda metrics: None,
    stop: Callable[[], bool] = lambda: False,
) -> TuneResult:
    """Trains a network in integers (`scheme.in_integers`) and leaves its best weights in it, by validation.

    Scales stay as they are; what changes is which integers weights and biases are. The learning rate falls from `lr`
    to 0 as a cosine. No dropout: what is tuned is the network that will run.

    Args:
        model: float32, changed in place.
        scheme: what its integers stand for; only what has the same is resumed.
        train: recordings that are trained on, as the training of the network saw them.
        valid: recordings that choose among the epochs; the network as it came is among them.
        info: of the checkpoint; seed, batch size and weight decay are those of its training.
        run: a folder for states and metrics, of this fine-tuning alone.
        epochs: how many.
        lr: of AdamW, in units of the real weights.
        resume: as for `spikescr.training.loop.train`, and so are the others.
        on_step: see there.
        on_epoch: see there.
        stop: see there.

    Raises:
        UsageError: something differs from what is resumed; the message names it.
        SpikescrError: the loss is no number any more, or the folder cannot be written.
    """
    for module in model.modules():
        if isinstance(module, SequenceDropout):
            module.probability = 0.0
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    soften(model, info.training.surrogate_alpha)
    run.create()
    changes = {"epochs": epochs, "lr": lr, "warmup_epochs": 0.0, "cosine_epochs": None, "final_lr": 0.0}
    with using_threads(info.training.threads) as threads, torch.random.fork_rng(devices=[]):
        config = info.training.model_copy(
            update={**changes, "precision": "fp32", "distillation": None, "synop_penalty": 0.0, "threads": threads}
        )
        objective = _InIntegers(model, scheme, config.loss)
        setting = Setting(
            config=config,
            classes=info.classes,
            preprocessing=info.preprocessing,
            recordings=(len(train), len(valid)),
            objective=objective.identity(),
        )
        came = Tuned(0, None, evaluate(model, valid, config.batch_size, loss=config.loss))
        weights: Mapping[str, Tensor] = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        result = fit(
            model,
            setting,
            train,
            valid,
            Keeper(run, keep=2, publishes=False),
            objective=objective,
            resume=resume,
            devices=Devices(cpu=True),
            on_step=on_step,
            on_epoch=on_epoch,
            stop=stop,
        )
    tuned = TuneResult((came, *(_tuned(metrics) for metrics in result.epochs)), result.interrupted)
    model.load_state_dict(dict(result.weights if best_of(tuned.epochs).epoch else weights))
    return tuned


def _tuned(metrics: EpochMetrics) -> Tuned:
    valid = Evaluation(metrics.valid_loss, metrics.valid_accuracy, metrics.firing_rate)
    return Tuned(metrics.epoch, metrics.train_loss, valid)
