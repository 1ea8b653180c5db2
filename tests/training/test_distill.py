from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import calibrated_model
from hypothesis import given
from hypothesis import strategies as st

from spikescr.checkpoint import load_checkpoint
from spikescr.data import DataSet, Item
from spikescr.errors import CheckpointError, DataError, UsageError
from spikescr.files import sha256
from spikescr.model import SequenceBatchNorm, readout
from spikescr.model.config import ModelConfig
from spikescr.runs import JobFolder, RunFolder
from spikescr.training.augment import augment
from spikescr.training.batches import Split
from spikescr.training.config import Augmentation, CurriculumConfig, Distillation, Student, Taught, TrainConfig
from spikescr.training.distill import Teaching, distill, divergence, drawn_for_teacher, read_record
from spikescr.training.loop import train
from spikescr.training.objective import Batch, CrossEntropy
from spikescr.training.running import Progress
from spikescr.training.sources import Spectra, open_source


@pytest.fixture
def curriculum(config: TrainConfig) -> CurriculumConfig:
    """Three stages of two epochs."""
    shared = config.model_dump(exclude={"steps", "distillation"})
    return CurriculumConfig(**shared, curriculum=(30, 20, 10), student=Student(epochs=2))


def results(job: JobFolder) -> dict[str, bytes]:
    names = ("model.safetensors", "metrics.csv", "config.json", "curriculum.json")
    return {str(path.relative_to(job.path)): path.read_bytes() for path in job.path.rglob("*") if path.name in names}


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, dataset: DataSet) -> dict[str, Any]:
    """A whole job, made once: its folder and its files."""
    model = ModelConfig(inputs=20, heads=2, width=16, kernel=7)
    config = CurriculumConfig(
        data=dataset.spec,
        window_s=0.5,
        epochs=2,
        batch_size=8,
        threads=1,
        model=model,
        curriculum=(30, 20, 10),
        student=Student(epochs=2),
    )
    job = JobFolder(tmp_path_factory.mktemp("undisturbed"))
    assert not distill(config, dataset, job).interrupted
    return {"config": config, "job": job, "files": results(job)}


@given(st.integers(0, 2**32 - 1), st.floats(0.25, 8), st.integers(1, 5), st.integers(2, 9))
def test_divergence_is_that_of_the_paper(seed: int, temperature: float, batch: int, classes: int) -> None:
    """tau^2 sum_k p_k (log p_k - log q_k), p and q the softmax of y / tau, as a loop in NumPy."""
    rng = np.random.default_rng(seed)
    student, teacher = rng.uniform(0, 40, (2, batch, classes))
    expected = []
    for s, t in zip(student / temperature, teacher / temperature, strict=True):
        q, p = (np.exp(y - y.max()) / np.exp(y - y.max()).sum() for y in (s, t))
        expected.append(temperature**2 * sum(p[k] * (np.log(p[k]) - np.log(q[k])) for k in range(classes)))
    found = divergence(torch.from_numpy(student), torch.from_numpy(teacher), temperature)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-10)


def teaching(**changes: Any) -> tuple[Teaching, Split, TrainConfig]:
    """A teacher that fires, with 12 recordings at 30 steps; dropout on, which must not matter."""
    sizes = ModelConfig(inputs=20, classes=4, heads=2, width=16, kernel=7, dropout=0.5)
    model, x, steps = calibrated_model(sizes, samples=12, window=30, dtype=torch.float64)
    split = Split(x.transpose(0, 1).contiguous(), steps, torch.arange(12) % 4)
    loss = Taught(**{"teacher_steps": 30, "teacher": "abc"} | changes.pop("loss", {}))
    changes["loss"] = changes.pop("of_label", "sum")
    config = TrainConfig(**{"seed": 5, "batch_size": 5, "distillation": loss} | changes)
    source = Spectra(split, drawn_for_teacher(config, loss), seed=config.seed)
    return Teaching(config, model.train(), source), split, config


def batch_of(split: Split, index: list[int], epoch: int) -> Batch:
    """What the student trains on; its input does not matter to the teacher."""
    chosen = torch.tensor(index)
    return Batch(epoch, chosen, torch.zeros(10, len(index), 20), torch.full((len(index),), 10), split.labels[chosen])


def with_left_out(split: Split, *names: str) -> Spectra:
    return Spectra(split, None, seed=0, left_out=dict.fromkeys(names, "damaged"))


def test_the_student_must_have_the_recordings_of_the_teacher() -> None:
    objective, split, config = teaching()
    objective.source = with_left_out(split, "low/a.wav", "low/b.wav")
    objective.require(with_left_out(split, "low/b.wav", "low/a.wav"))
    for names, told in (
        (("low/a.wav",), "low/b.wav"),
        (("low/a.wav", "low/b.wav", "low/c.wav"), "low/c.wav"),
        (("low/a.wav", "low/d.wav"), "low/b.wav, low/d.wav"),
        ((), "low/a.wav, low/b.wav"),
    ):
        with pytest.raises(DataError) as refused:
            objective.require(with_left_out(split, *names))
        assert str(refused.value).startswith(
            f"{config.data}: {told} could be read for the teacher or for the student, not for both: "
        )
    fewer = Split(split.values[1:], split.steps[1:], split.labels[1:])
    with pytest.raises(DataError, match=": a recording could be read for the teacher or for the student"):
        objective.require(with_left_out(fewer, "low/a.wav", "low/b.wav"))


def test_training_asks_whether_it_has(curriculum: CurriculumConfig, dataset: DataSet, tmp_path: Path) -> None:
    objective, _, _ = teaching()
    with pytest.raises(DataError, match="a recording could be read for the teacher or for the student, not for both"):
        train(curriculum.taught(1, "abc"), dataset, RunFolder(tmp_path / "run"), objective=objective)


def test_loss_is_the_weighted_sum_and_moves_the_student_alone() -> None:
    objective, split, _ = teaching(
        augmentation=None, loss={"cross_entropy": 0.7, "divergence": 0.3, "temperature": 2.0}
    )
    y = torch.rand(3, 4, dtype=torch.float64, requires_grad=True)
    batch = batch_of(split, [7, 0, 11], epoch=1)
    target = objective.readouts(batch.index, 1)
    label = CrossEntropy().losses(y, batch)
    losses = objective.losses(y, batch)
    torch.testing.assert_close(losses, 0.7 * label + 0.3 * divergence(y, target, 2.0), rtol=0, atol=0)
    assert divergence(y, target, 2.0).min() > 1e-3
    losses.sum().backward()
    assert y.grad is not None
    assert not any(p.requires_grad or p.grad is not None for p in objective.teacher.parameters())


def test_teacher_is_frozen_and_takes_no_random_number() -> None:
    objective, split, _ = teaching(augmentation=None)
    before = {name: tensor.clone() for name, tensor in objective.teacher.state_dict().items()}
    state = torch.get_rng_state()
    first = objective.readouts(torch.arange(12), 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in objective.teacher.state_dict().items())
    assert not any(m.training for m in objective.teacher.modules())
    assert any(isinstance(m, SequenceBatchNorm) for m in objective.teacher.modules())
    x, steps, _ = split.batch(torch.arange(12))
    torch.testing.assert_close(first, readout(objective.teacher(x, steps), steps), rtol=1e-12, atol=1e-12)
    assert first.std(dim=0).min() > 0.01  # recordings differ, so rows that are mixed up would show


def test_teacher_sees_the_students_draw_at_its_own_steps() -> None:
    objective, split, config = teaching(augmentation=Augmentation(probability=1.0))
    index = torch.tensor([3, 9])
    x, steps, _ = split.batch(index)
    x = augment(x, steps, config.augmentation or Augmentation(), seed=5, epoch=2, samples=[3, 9])
    expected = readout(objective.teacher(x, steps), steps)
    torch.testing.assert_close(objective.readouts(index, 2), expected, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(objective.readouts(index, 1), expected)


@pytest.mark.parametrize(
    ("changes", "runs"),
    [
        ({"augmentation": None}, 3),
        ({"loss": {"teacher_input": "clean"}}, 3),
        ({"augmentation": Augmentation()}, 4),
    ],
)
def test_readouts_that_no_draw_changes_are_computed_once(
    changes: dict[str, Any], runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 recordings in batches of at most 5: three runs; then no more. With draws: a run per batch."""
    objective, split, _ = teaching(**changes)
    calls: list[int] = []
    run = objective._run
    monkeypatch.setattr(objective, "_run", lambda index, epoch: calls.append(1) or run(index, epoch))
    found = [
        objective.readouts(torch.tensor(index), epoch) for index, epoch in (([3, 9], 1), ([9], 1), ([9], 2), ([0], 2))
    ]
    assert len(calls) == runs
    clean, _, _ = teaching(augmentation=None)
    torch.testing.assert_close(found[1], found[0][1:], rtol=1e-12, atol=1e-12)
    if runs == 3:
        x, steps, _ = split.batch(torch.arange(12))
        every = readout(clean.teacher(x, steps), steps)
        torch.testing.assert_close(torch.cat(found), every[[3, 9, 9, 9, 0]], rtol=1e-12, atol=1e-12)


def test_a_loss_of_shares_compares_shares() -> None:
    """With `loss` "mean" the divergence is sum_k p_k log(p_k / q_k), p and q means of probabilities over steps."""
    objective, split, _ = teaching(augmentation=None, of_label="mean", loss={"cross_entropy": 0, "divergence": 1})
    batch = batch_of(split, [7, 0, 11], epoch=1)
    y = torch.rand(3, 4, dtype=torch.float64) + 0.1
    expected = []
    for s, t in zip(y.numpy(), objective.readouts(batch.index, 1).numpy(), strict=True):
        q, p = s / s.sum(), t / t.sum()
        expected.append(sum(p[k] * np.log(p[k] / q[k]) for k in range(4)))
    assert np.ptp(expected) > 1e-2
    np.testing.assert_allclose(objective.losses(y, batch).numpy(), expected, rtol=1e-3, atol=1e-5)


def test_without_divergence_it_is_plain_training_bit_for_bit(
    undisturbed: dict[str, Any], dataset: DataSet, tmp_path: Path
) -> None:
    first = undisturbed["job"].stage(30)
    teacher, info = load_checkpoint(first.checkpoint)
    weights = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    config = undisturbed["config"].model_copy(update={"distillation": Distillation(divergence=0)})
    taught = config.taught(1, "abc")
    plain = taught.model_copy(update={"distillation": None})
    objective = Teaching(taught, teacher, open_source(dataset, info.preprocessing, taught.augmentation, seed=0))
    train(taught, dataset, RunFolder(tmp_path / "taught"), objective=objective, initial=weights)
    train(plain, dataset, RunFolder(tmp_path / "plain"), initial=weights)
    models = [load_checkpoint(tmp_path / name / "model.safetensors")[0].state_dict() for name in ("taught", "plain")]
    assert all(torch.equal(tensor, models[1][name]) for name, tensor in models[0].items())
    tables = [(tmp_path / name / "metrics.csv").read_bytes() for name in ("taught", "plain")]
    assert tables[0] == tables[1]
    # ... and with it, it is not.
    assert undisturbed["files"]["stage-020/metrics.csv"] != tables[0]


def test_each_stage_is_a_run_taught_by_the_one_before(undisturbed: dict[str, Any], dataset: DataSet) -> None:
    job: JobFolder = undisturbed["job"]
    record = read_record(job)
    assert record is not None
    assert [(stage.steps, stage.run, stage.epochs) for stage in record.stages] == [
        (30, "stage-030", 2),
        (20, "stage-020", 2),
        (10, "stage-010", 2),
    ]
    hashes = [sha256(job.path / stage.run / "model.safetensors") for stage in record.stages]
    assert [stage.checkpoint for stage in record.stages] == hashes
    assert [stage.teacher for stage in record.stages] == [None, *hashes[:-1]]
    for stage, teacher in zip(record.stages, [None, *record.stages], strict=False):
        _, info = load_checkpoint(job.path / stage.run / "model.safetensors")
        assert (info.training.steps, info.preprocessing.front_end.steps) == (stage.steps, stage.steps)
        assert (info.epoch, info.valid_accuracy) == (stage.best, stage.valid_accuracy)
        if teacher is None:
            assert info.training.distillation is None
        else:
            loss = Taught(teacher_steps=teacher.steps, teacher=teacher.checkpoint)
            assert info.training.distillation == loss


def test_students_begin_with_their_teachers_weights(
    undisturbed: dict[str, Any], dataset: DataSet, tmp_path: Path
) -> None:
    """With a learning rate of nearly zero nothing but statistics of batch normalisation changes."""
    config = undisturbed["config"].model_copy(update={"student": Student(epochs=1, lr=1e-30)})
    distill(config, dataset, JobFolder(tmp_path))
    teacher, student = (load_checkpoint(tmp_path / f"stage-0{steps}/model.safetensors")[0] for steps in (30, 20))
    learnt = dict(student.named_parameters())
    for name, parameter in teacher.named_parameters():
        torch.testing.assert_close(learnt[name], parameter, rtol=0, atol=0)


def test_test_split_is_never_opened(curriculum: CurriculumConfig, dataset: DataSet, tmp_path: Path) -> None:
    class Closed(DataSet):
        def split(self, name: str) -> tuple[Item, ...]:
            assert name != "test"
            return super().split(name)

    closed = Closed(dataset.spec, dataset.classes, dataset.root, dataset.items)
    short = curriculum.model_copy(update={"curriculum": (20, 10), "epochs": 1, "student": Student(epochs=1)})
    assert not distill(short, closed, JobFolder(tmp_path)).interrupted


@pytest.mark.parametrize("stops", [[1], [8], [2, 11, 13, 23]])
def test_a_resumed_job_ends_with_the_same_bytes(
    undisturbed: dict[str, Any], dataset: DataSet, tmp_path: Path, stops: list[int]
) -> None:
    """Stopped after so many steps of the 24 in all: within an epoch, with a stage's last step, in another stage."""
    job = JobFolder(tmp_path)
    done: list[Progress] = []
    for limit in stops:
        found = distill(
            undisturbed["config"],
            dataset,
            job,
            resume=bool(done),
            on_step=done.append,
            stop=lambda limit=limit: len(done) >= limit,
        )
        assert found.interrupted
    assert len(done) == stops[-1]
    assert not distill(undisturbed["config"], dataset, job, resume=True, on_step=done.append).interrupted
    assert len(done) == 24
    assert results(job) == undisturbed["files"]


def test_a_job_that_is_done_has_nothing_left_to_do(undisturbed: dict[str, Any], dataset: DataSet) -> None:
    found = distill(undisturbed["config"], dataset, undisturbed["job"], resume=True)
    assert (found.last, found.interrupted, len(found.record.stages)) == (None, False, 3)


def test_stages_can_be_left_out_and_a_teacher_reused(
    undisturbed: dict[str, Any], dataset: DataSet, tmp_path: Path
) -> None:
    teacher = undisturbed["job"].stage(30)
    job = JobFolder(tmp_path)
    config = undisturbed["config"].model_copy(update={"curriculum": (30, 10)})
    found = distill(config, dataset, job, teacher=teacher)
    assert [stage.run for stage in found.record.stages] == [str(teacher.path), "stage-010"]
    assert found.record.stages[1].teacher == sha256(teacher.checkpoint)
    whole = tmp_path / "whole"
    distill(config, dataset, JobFolder(whole))
    skipped = job.stage(10).checkpoint.read_bytes()
    assert (whole / "stage-010/model.safetensors").read_bytes() == skipped
    assert undisturbed["files"]["stage-010/model.safetensors"] != skipped


def test_what_does_not_fit_is_refused(undisturbed: dict[str, Any], dataset: DataSet, tmp_path: Path) -> None:
    config, teacher = undisturbed["config"], undisturbed["job"].stage(30)
    for changes, message in (
        ({"curriculum": (20, 10)}, "takes 30 steps per second, the curriculum begins with 20"),
        (
            {"model": ModelConfig(inputs=20, heads=2, width=32, kernel=7)},
            r"cannot give the students' initial weights: model width \(was 16, is 32\)",
        ),
    ):
        with pytest.raises(UsageError, match=message):
            distill(config.model_copy(update=changes), dataset, JobFolder(tmp_path), teacher=teacher)
    other = replace(dataset, classes=("a", "b"))
    with pytest.raises(UsageError, match="was trained on other classes"):
        distill(config, other, JobFolder(tmp_path), teacher=teacher)
    with pytest.raises(UsageError, match="a configuration with distillation needs a teacher"):
        train(config.taught(1, "abc"), dataset, RunFolder(tmp_path))


def test_a_job_does_not_continue_with_something_else(
    undisturbed: dict[str, Any], dataset: DataSet, tmp_path: Path
) -> None:
    config, job = undisturbed["config"], JobFolder(tmp_path)
    done: list[Progress] = []
    distill(config, dataset, job, on_step=done.append, stop=lambda: len(done) >= 9)
    with pytest.raises(UsageError, match=r"other settings cannot be resumed: lr \(was 0.01, is 0.5\)"):
        distill(config.model_copy(update={"lr": 0.5}), dataset, job, resume=True)
    path = job.stage(30).checkpoint
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(CheckpointError, match=f"^{path} is not what this job left there"):
        distill(config, dataset, job, resume=True)
    path.unlink()
    with pytest.raises(CheckpointError, match=f"^{path} does not exist"):
        distill(config, dataset, job, resume=True)
    job.record.write_text("{}")
    with pytest.raises(CheckpointError, match=rf"^{job.record}: config: Field required"):
        distill(config, dataset, job, resume=True)


def test_a_new_job_does_not_continue_an_old_ones_stages(
    undisturbed: dict[str, Any], dataset: DataSet, tmp_path: Path
) -> None:
    """Killed before its own first state is kept, it must not find that of the job before it in the same folder."""
    config, job = undisturbed["config"], JobFolder(tmp_path)
    other = config.model_copy(update={"lr": 0.5, "curriculum": (30, 10)})
    distill(other, dataset, job)
    assert distill(config, dataset, job, stop=lambda: True).interrupted
    assert not distill(config, dataset, job, resume=True).interrupted
    files = results(job)
    assert files == undisturbed["files"]
