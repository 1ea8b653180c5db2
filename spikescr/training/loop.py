"""Training a network from a configuration and a data set, in a run folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from spikescr.data import DataSet, load
from spikescr.errors import UsageError
from spikescr.model import Network, build
from spikescr.model.neuron import soften
from spikescr.runs import RunFolder
from spikescr.training.batches import Split
from spikescr.training.config import TrainConfig
from spikescr.training.devices import Devices
from spikescr.training.keeper import Keeper
from spikescr.training.memory import require_room
from spikescr.training.metrics import EpochMetrics
from spikescr.training.objective import CrossEntropy, Objective
from spikescr.training.running import Progress, Training, TrainResult
from spikescr.training.sources import Source, fit_source
from spikescr.training.state import Setting, load_state


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
    training = Training(network, setting, source, valid, objective, devices, keeper)
    latest = keeper.checkpoints.latest() if resume else None
    if latest is not None:
        training.restore(load_state(latest, network, training.require_same))
    return training.run(on_step, on_epoch, stop)


@contextmanager
def using_threads(count: int | None) -> Iterator[int]:
    """Lets torch compute with so many threads; gives the number in use."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
