from __future__ import annotations

import csv
import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch

from spikescr.checkpoint import load_checkpoint
from spikescr.data import DataSet, Item, fit_and_load, load
from spikescr.errors import SpikescrError
from spikescr.files import sha256
from spikescr.model import Network, backends
from spikescr.runs import RunFolder
from spikescr.training import TrainConfig, running
from spikescr.training.batches import Split
from spikescr.training.evaluate import evaluate
from spikescr.training.loop import train
from spikescr.training.metrics import EpochMetrics
from spikescr.training.running import Progress

FILES = ["checkpoints", "config.json", "metrics.csv", "model.safetensors", "times.csv"]


def epoch(number: int, loss: float, accuracy: float) -> EpochMetrics:
    return EpochMetrics(number, 0.1, 0.0, 0.0, loss, accuracy, 0.2)


def test_learns_and_leaves_a_checkpoint_that_gives_the_same_accuracy(
    config: TrainConfig, dataset: DataSet, tmp_path: Path
) -> None:
    config = config.model_copy(update={"epochs": 12, "lr": 2e-2})
    run = RunFolder(tmp_path / "run")
    result = train(config, dataset, run)
    assert result.best.valid_accuracy >= 0.9
    assert result.epochs[-1].train_loss < 0.5 * result.epochs[0].train_loss
    model, info = load_checkpoint(run.checkpoint)
    assert (info.epoch, info.valid_accuracy) == (result.best.epoch, result.best.valid_accuracy)
    assert info.classes == ("high", "low")
    assert int(model.sem.current.norm.num_batches_tracked) == 4 * result.best.epoch  # steps in train mode
    assert info.model.classes == 2
    assert info.training == result.config
    assert info.preprocessing == fit_and_load(dataset, steps=20, window_s=0.5, bands=20)[0]
    found = evaluate(model, Split.from_features(load(dataset.split("valid"), info.preprocessing)), 64)
    assert found.accuracy == result.best.valid_accuracy
    assert found.loss == pytest.approx(result.best.valid_loss, rel=1e-5)
    assert result.parameters == sum(p.numel() for p in model.parameters())


def test_same_seed_gives_the_same_file_and_another_seed_does_not(
    config: TrainConfig, dataset: DataSet, tmp_path: Path
) -> None:
    hashes = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.rand(3)  # the state of the global generator does not matter
        run = RunFolder(tmp_path / name)
        train(config.model_copy(update={"seed": seed}), dataset, run)
        hashes.append(sha256(run.checkpoint))
    assert hashes[0] == hashes[1]
    assert hashes[0] != hashes[2]


def test_training_leaves_the_global_generator_and_the_threads_alone(
    config: TrainConfig, dataset: DataSet, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    result = train(config.model_copy(update={"epochs": 1, "threads": threads + 1}), dataset, RunFolder(tmp_path))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert result.config.threads == threads + 1


def test_metrics_and_configuration_are_written_as_it_goes(
    config: TrainConfig, dataset: DataSet, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path)
    rows: list[list[dict[str, str]]] = []

    def read(_metrics: EpochMetrics) -> None:
        with run.metrics.open() as file:
            rows.append(list(csv.DictReader(file)))

    result = train(config, dataset, run, on_epoch=read)
    assert [len(table) for table in rows] == [1, 2]
    for row, metrics in zip(rows[-1], result.epochs, strict=True):
        expected = dataclasses.asdict(metrics)
        assert row.keys() == expected.keys()
        assert {name: float(value) for name, value in row.items()} == pytest.approx(expected, rel=1e-5)
    assert TrainConfig.model_validate(json.loads(run.config.read_text())) == result.config
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


def test_learning_rate_rises_then_falls_to_a_hundredth(config: TrainConfig, dataset: DataSet, tmp_path: Path) -> None:
    config = config.model_copy(update={"epochs": 6, "warmup_epochs": 2, "lr": 1e-3})
    result = train(config, dataset, RunFolder(tmp_path))
    cosine = [1e-3 * (0.01 + 0.99 * (1 + math.cos(math.pi * done / 4)) / 2) for done in (1, 2, 3, 4)]
    assert [m.lr for m in result.epochs] == pytest.approx([0.5e-3, 1e-3, *cosine], rel=1e-9)
    assert result.epochs[-1].lr == pytest.approx(1e-5)


def test_learning_rate_goes_up_and_down_as_torchs_cosine_does(
    config: TrainConfig, dataset: DataSet, tmp_path: Path
) -> None:
    changes = {"epochs": 7, "warmup_epochs": 0, "cosine_epochs": 3, "final_lr": 0.0, "lr": 1e-3}
    result = train(config.model_copy(update=changes), dataset, RunFolder(tmp_path))
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=3, eta_min=0.0)
    expected = []
    for _ in range(7):
        optimizer.step()
        schedule.step()
        expected.append(schedule.get_last_lr()[0])
    assert [m.lr for m in result.epochs] == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_warmup_is_no_longer_than_its_share(config: TrainConfig, dataset: DataSet, tmp_path: Path) -> None:
    changes = {"epochs": 4, "warmup_epochs": 10, "warmup_share": 0.25, "lr": 1e-3}
    result = train(config.model_copy(update=changes), dataset, RunFolder(tmp_path))
    assert [m.lr > 0.999e-3 for m in result.epochs] == [True, False, False, False]
    assert result.epochs[0].lr == pytest.approx(1e-3)


def test_test_split_is_never_opened(config: TrainConfig, dataset: DataSet, tmp_path: Path) -> None:
    class Guarded(DataSet):
        def split(self, name: str) -> tuple[Item, ...]:
            assert name != "test"
            return super().split(name)

    guarded = Guarded(**{f.name: getattr(dataset, f.name) for f in dataclasses.fields(DataSet)})
    train(config.model_copy(update={"epochs": 1}), guarded, RunFolder(tmp_path))


def test_augmentation_changes_training_alone(config: TrainConfig, dataset: DataSet, tmp_path: Path) -> None:
    config = config.model_copy(update={"epochs": 1})
    with_masks = train(config, dataset, RunFolder(tmp_path / "a"))
    without = train(config.model_copy(update={"augmentation": None}), dataset, RunFolder(tmp_path / "b"))
    assert with_masks.best.train_loss != without.best.train_loss


def test_best_is_by_accuracy_and_among_equals_by_loss() -> None:
    assert epoch(2, loss=9.0, accuracy=0.8).better_than(epoch(1, loss=0.1, accuracy=0.7))
    assert epoch(2, loss=0.1, accuracy=0.8).better_than(epoch(1, loss=0.2, accuracy=0.8))
    assert not epoch(2, loss=0.2, accuracy=0.8).better_than(epoch(1, loss=0.2, accuracy=0.8))
    assert not epoch(2, loss=0.1, accuracy=0.7).better_than(epoch(1, loss=0.2, accuracy=0.8))


def test_checkpoint_is_of_the_best_epoch_not_of_the_last(
    config: TrainConfig, dataset: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    better = iter([True, False])
    monkeypatch.setattr(EpochMetrics, "better_than", lambda self, other: next(better))
    run = RunFolder(tmp_path)
    hashes = []
    config = config.model_copy(update={"epochs": 3})
    result = train(config, dataset, run, on_epoch=lambda _: hashes.append(sha256(run.checkpoint)))
    assert result.best.epoch == load_checkpoint(run.checkpoint)[1].epoch == 2
    assert hashes[0] != hashes[1] == hashes[2]


def test_stopping_after_an_epoch_keeps_what_is_done(config: TrainConfig, dataset: DataSet, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    seen: list[Progress] = []
    config = config.model_copy(update={"epochs": 5})
    result = train(config, dataset, run, on_step=seen.append, stop=lambda: (seen[-1].epoch, seen[-1].step) == (3, 2))
    assert result.interrupted
    assert [m.epoch for m in result.epochs] == [1, 2]
    assert result.step == 2
    assert (seen[-1].epoch, seen[-1].step, seen[-1].steps) == (3, 2, 4)
    assert load_checkpoint(run.checkpoint)[1].epoch == result.best.epoch


def test_stopping_with_an_epochs_last_step_counts_the_epoch(
    config: TrainConfig, dataset: DataSet, tmp_path: Path
) -> None:
    seen: list[Progress] = []
    result = train(
        config, dataset, RunFolder(tmp_path), on_step=seen.append, stop=lambda: seen[-1].step == seen[-1].steps
    )
    assert [m.epoch for m in result.epochs] == [1]
    assert len(seen) == 4
    assert result.interrupted


def test_stopping_in_the_first_epoch_keeps_the_state_and_leaves_an_earlier_run_alone(
    config: TrainConfig, dataset: DataSet, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path)
    run.checkpoint.write_bytes(b"earlier")
    run.graph.write_bytes(b"earlier")
    result = train(config, dataset, run, stop=lambda: True)
    assert (result.epochs, result.best, result.step) == ((), None, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "model.nir", "model.safetensors"]
    assert [path.name for path in run.checkpoints.iterdir()] == ["00000-000001.safetensors"]
    assert run.checkpoint.read_bytes() == b"earlier"


def test_new_training_replaces_an_earlier_run_and_removes_what_was_derived(
    config: TrainConfig, dataset: DataSet, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path)
    run.simulation.mkdir()
    for path in (run.checkpoint, run.graph, run.verification, run.simulation / "summary.json", tmp_path / "notes.txt"):
        path.write_text("earlier")
    train(config, dataset, run)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*FILES, "notes.txt"])
    assert load_checkpoint(run.checkpoint)[1].training.data == dataset.spec


@pytest.mark.parametrize(
    ("in_epoch", "kept"), [(1, "nothing was saved"), (2, r"the last good checkpoint is .*00001-000000\.safetensors")]
)
def test_loss_that_is_no_number_ends_the_training_and_keeps_the_last_checkpoint(
    config: TrainConfig,
    dataset: DataSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    in_epoch: int,
    kept: str,
) -> None:
    steps = 0

    def loss(y: torch.Tensor, labels: torch.Tensor, **kwargs: str) -> torch.Tensor:
        nonlocal steps
        training = y.requires_grad
        steps += training
        found = cross_entropy(y, labels, **kwargs)
        return found * math.nan if training and steps == 4 * (in_epoch - 1) + 2 else found

    cross_entropy = torch.nn.functional.cross_entropy
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", loss)
    run = RunFolder(tmp_path)
    with pytest.raises(SpikescrError, match=rf"the loss is nan in epoch {in_epoch}, step 2: lower lr .*; {kept}$"):
        train(config, dataset, run)
    assert run.checkpoint.exists() == (in_epoch > 1)
    if in_epoch > 1:
        assert load_checkpoint(run.checkpoint)[1].epoch == 1


def test_a_run_folder_that_cannot_be_made_is_told_before_any_work(
    config: TrainConfig, dataset: DataSet, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpikescrError, match="file cannot be made a run folder: File exists"):
        train(config, dataset, RunFolder(tmp_path / "file"), on_step=lambda _: pytest.fail("it trained"))


def test_network_is_told_before_every_step_how_far_the_training_is(
    config: TrainConfig, dataset: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []
    monkeypatch.setattr(Network, "anneal", lambda _self, progress: told.append(progress))
    steps: list[Progress] = []
    train(config.model_copy(update={"epochs": 2}), dataset, RunFolder(tmp_path), on_step=steps.append)
    assert told == [(p.epoch - 1 + p.step / p.steps) / 2 for p in steps]
    assert told[-1] == 1.0


def test_training_uses_the_neurons_that_were_picked(
    config: TrainConfig, dataset: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []

    def window(x: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shapes.append(tuple(x.shape))
        return backends.spikingjelly_window(x, v)

    expected = train(config, dataset, RunFolder(tmp_path / "own")).epochs
    monkeypatch.setattr(running, "pick", lambda device: backends.Backend("picked", window, backends.FUSED.layers))
    assert train(config, dataset, RunFolder(tmp_path / "picked")).epochs == expected
    assert len(shapes) > 10
