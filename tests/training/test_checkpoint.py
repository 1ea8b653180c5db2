from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from helpers import SMALL, VARIANTS, calibrated_model

from spikescr.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from spikescr.data.frontend import FrontEnd
from spikescr.data.preprocessing import Normaliser, Preprocessing
from spikescr.errors import CheckpointError
from spikescr.model import SpikeSCR, build
from spikescr.tensors import METADATA_KEY
from spikescr.training import TrainConfig

VARIANCE = "sem.current.norm.running_var"
CLASSES = ("yes", "no", "grün", "up", "down")


def nested(depth: int) -> list[Any]:
    content: list[Any] = []
    for _ in range(depth):
        content = [content]
    return content


def info() -> CheckpointInfo:
    front_end = FrontEnd.design(8000, steps=40, bands=SMALL.inputs)
    normaliser = Normaliser(mean=(-40.1,) * SMALL.inputs, std=(1 / 3,) * SMALL.inputs)
    return CheckpointInfo(
        model=SMALL,
        classes=CLASSES,
        preprocessing=Preprocessing(front_end=front_end, normaliser=normaliser),
        training=TrainConfig(seed=7),
        epoch=3,
        valid_loss=0.1 + 0.2,
        valid_accuracy=2 / 3,
    )


@pytest.fixture
def model() -> SpikeSCR:
    """Running statistics and counters other than the initial ones."""
    model, x, steps = calibrated_model(SMALL, 4, dtype=torch.float32)
    model.train()
    model(x, steps)
    return model


@pytest.fixture
def path(tmp_path: Path, model: SpikeSCR) -> Path:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, model, info())
    return path


def rewrite(path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, Any]], object]) -> None:
    """Loads tensors and description, lets `change` alter them, writes them again."""
    with safetensors.safe_open(path, "pt") as file:
        content = json.loads(file.metadata()[METADATA_KEY])
    tensors = safetensors.torch.load_file(path)
    change(tensors, content)
    safetensors.torch.save_file(tensors, path, {METADATA_KEY: json.dumps(content)})


def test_everything_comes_back(path: Path, model: SpikeSCR) -> None:
    loaded, found = load_checkpoint(path)
    assert found == info()
    assert found.versions.keys() >= {"python", "spikescr", "torch", "spikingjelly"}
    assert not loaded.training
    expected = model.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
        assert tensor.dtype == (torch.int64 if name.endswith("num_batches_tracked") else torch.float32), name
    assert int(loaded.sem.current.norm.num_batches_tracked) > 0
    assert float(loaded.sem.current.norm.running_mean.abs().max()) > 0.1


def test_equal_content_gives_equal_bytes(path: Path, tmp_path: Path) -> None:
    loaded, found = load_checkpoint(path)
    save_checkpoint(tmp_path / "again", loaded, found)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_a_failing_write_leaves_the_old_file(path: Path, model: SpikeSCR, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, model, info())
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none.safetensors does not exist; make it with: spikescr train$"):
        load_checkpoint(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: struct.pack("<Q", 2**62) + content[8:],
        lambda content: content.replace(b'"F32"', b'"F64"', 1),
        lambda content: b"PK\x03\x04 a zip, as torch.save writes it",
    ],
    ids=["empty", "half", "one byte short", "one byte more", "header length", "type", "zip"],
)
def test_damaged_file(path: Path, damage: Callable[[bytes], bytes]) -> None:
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        CheckpointError, match=r"model.safetensors is damaged or no safetensors file \(.*\); train again"
    ):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"format": "pt"},
        *({METADATA_KEY: text} for text in ("not json", "[1]", "1", "{}", "[" * 100_000, "9" * 5000)),
    ],
)
def test_foreign_file(path: Path, metadata: dict[str, str] | None) -> None:
    safetensors.torch.save_file({"weight": torch.zeros(2)}, path, metadata)
    with pytest.raises(CheckpointError, match=r"is no checkpoint: it was not written by spikescr .*: spikescr train$"):
        load_checkpoint(path)


def test_other_format(path: Path) -> None:
    rewrite(path, lambda _tensors, content: content.update(format=2, something="new"))
    with pytest.raises(CheckpointError, match=r"has checkpoint format 2, this version of spikescr reads 1; use"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, c: c.pop("classes"), "classes: Field required"),
        (lambda t, c: c["model"].update(n_heads=3), "model.n_heads: Extra inputs are not permitted"),
        (lambda t, c: c["model"].update(width=15), "model: width 15 must be an even number"),
        (lambda t, c: c["classes"].pop(), ".*the model has 5 classes, the file names 4"),
        (lambda t, c: c["model"].update(inputs=13), ".*the model has 13 bands, the file names 12"),
        (lambda t, c: c["model"].update(width=20), r"blocks.0.*must be F32 \(20,\), is F32 \(16,\)"),
        (lambda t, c: c["model"].update(layers=2), "blocks.1.*is missing"),
        (lambda t, c: t.update(extra=torch.zeros(1)), "extra does not belong to the model"),
        (lambda t, c: t.update({"head.weight": t["head.weight"].half()}), r"head.weight must be F32 \(5, 16\), is F16"),
        (lambda t, c: t["head.weight"].fill_(torch.nan), "head.weight holds values that are no numbers"),
        (lambda t, c: t[VARIANCE].fill_(-1), f"{VARIANCE} holds negative values"),
        (lambda t, c: t.update({"a\nb" * 999: torch.zeros(1)}), r"'a\\nb.{,200} does not belong"),
        (lambda t, c: c.update(epoch="3"), r"epoch: Input should be a valid integer \(got '3'\)"),
        (lambda t, c: c.update(epoch=True), r"epoch: Input should be a valid integer \(got True\)"),
        (lambda t, c: c.update(epoch=0), "epoch: Input should be greater than or equal to 1"),
        (lambda t, c: c.update(valid_loss=math.nan), "valid_loss: Input should be a finite number"),
        (lambda t, c: c.update(valid_loss=-0.1), "valid_loss: Input should be greater than or equal to 0"),
        (lambda t, c: c.update(valid_accuracy=-0.1), "valid_accuracy: Input should be greater than or equal to 0"),
        (lambda t, c: c.update(valid_accuracy=1.5), "valid_accuracy: Input should be less than or equal to 1"),
        (lambda t, c: c["training"].update(lr=math.inf), "training.lr: Input should be a finite number"),
        (lambda t, c: c.update(classes="abcde"), r"classes: Input should be a valid array \(got 'abcde'\)"),
        (lambda t, c: c.update(classes=[1, 2, 3, 4, 5]), r"classes.0: Input should be a valid string \(got 1\); .*"),
        (lambda t, c: c.update(classes=nested(50)), r"classes.0: .*\[\.\.\.\]"),
        (lambda t, c: c.update(classes=["a", "b", "a", "c", "d"]), ".*a class is named twice"),
        (lambda t, c: c.update(classes=["a", "b", "", "c", "d"]), "classes.2: String should have at least 1 character"),
        (
            lambda t, c: c.update(classes=["a", "b", "x" * 1001]),
            "classes.2: String should have at most 1000 characters",
        ),
        (lambda t, c: c["model"].update(layers=0), "model.layers: Input should be greater"),
        (lambda t, c: c["model"].update(layers=10**6), "model.layers: Input should be less than or equal to 1000"),
        (lambda t, c: c["model"].update(layers=900), "model.layers 900: the file has 87 tensors"),
        (lambda t, c: c["model"].update(width=2**40), "model.width: Input should be less than or equal to 1048576"),
        (lambda t, c: c["model"].update(width=2**20), r"blocks.0.* must be F32 \(1048576,\), is F32 \(16,\)"),
        (lambda t, c: c["model"].update(heads=None), r"model.heads: Input should be a valid integer \(got None\)"),
        (lambda t, c: c.update(model=[]), "model"),
        (lambda t, c: c.update({f"x{i}": 1 for i in range(99)}), "x0: .*; and 94 more"),
        (lambda t, c: c.update(versions={"torch": 2}), "versions.torch: Input should be a valid string"),
    ],
)
def test_content_that_does_not_fit(path: Path, change: Callable[..., object], message: str) -> None:
    rewrite(path, change)
    with pytest.raises(CheckpointError, match=f"model.safetensors: {message}.*; train again"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", VARIANTS)
def test_networks_of_every_family_come_back(tmp_path: Path, name: str) -> None:
    sizes = VARIANTS[name].model_copy(update={"classes": len(CLASSES), "inputs": SMALL.inputs})
    model = build(sizes).eval()
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, model, info().model_copy(update={"model": sizes}))
    loaded, found = load_checkpoint(path)
    assert type(loaded) is type(model)
    assert found.model == loaded.config == sizes
    assert {n: t.tolist() for n, t in loaded.state_dict().items()} == {
        n: t.tolist() for n, t in model.state_dict().items()
    }


def test_file_from_before_there_were_families_is_spikescrs(path: Path) -> None:
    def forget(_tensors: dict[str, torch.Tensor], content: dict[str, Any]) -> None:
        for sizes in (content["model"], content["training"]["model"]):
            for field in ("family", "neuron", "position", "gating_unit", "separable_convolution"):
                del sizes[field]

    rewrite(path, forget)
    loaded, found = load_checkpoint(path)
    assert isinstance(loaded, SpikeSCR)
    assert found.model == SMALL


def test_unknown_family_is_named(path: Path) -> None:
    rewrite(path, lambda _t, content: content["model"].update(family="lstm"))
    with pytest.raises(
        CheckpointError,
        match="model: family must be one of spikescr, dcls, recurrent, adlif, spikcommander; train again",
    ):
        load_checkpoint(path)


def test_metadata_nested_deep_are_refused(path: Path) -> None:
    with safetensors.safe_open(path, "pt") as file:
        text = file.metadata()[METADATA_KEY]
    deep = text.replace('"classes":[', '"classes":[' + "[" * 10_000 + "]" * 10_000 + ",", 1)
    safetensors.torch.save_file(safetensors.torch.load_file(path), path, {METADATA_KEY: deep})
    with pytest.raises(CheckpointError, match=r"^.*model.safetensors.{,400}spikescr train$"):
        load_checkpoint(path)


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model.safetensors: is a FIFO; expected a regular file"):
        load_checkpoint(tmp_path / "model.safetensors")


def test_metadata_that_need_more_memory_than_allowed_are_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKESCR_MAX_MEMORY", "1K")
    with pytest.raises(
        CheckpointError, match=r"what .*model.safetensors says of itself takes .* of memory, allowed are"
    ):
        load_checkpoint(path)


def test_weights_that_need_more_memory_than_allowed_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = SMALL.model_copy(update={"width": 64})
    path = tmp_path / "wide.safetensors"
    save_checkpoint(path, SpikeSCR(wide), info().model_copy(update={"model": wide}))
    monkeypatch.setenv("SPIKESCR_MAX_MEMORY", "100K")  # enough for its metadata
    with pytest.raises(CheckpointError, match=r"wide.safetensors takes .* of memory, allowed are 10"):
        load_checkpoint(path)
