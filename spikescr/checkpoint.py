"""Trained networks on disk: weights in safetensors, everything else as JSON in the metadata. Nothing is unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import safetensors.torch
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from torch import Tensor

from spikescr.data import Preprocessing
from spikescr.errors import CheckpointError
from spikescr.files import write_bytes
from spikescr.model import AnyModelConfig, Network
from spikescr.model.families import outline
from spikescr.provenance import versions
from spikescr.tensors import METADATA_KEY, Entry, TensorFile, open_tensors
from spikescr.training.config import TrainConfig

FORMAT: Literal[1] = 1
"""Raised when the meaning of a file changes."""
PACKAGES = ("spikescr", "torch", "spikingjelly", "numpy", "librosa")
"""What a training's result depends on."""

ClassName = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class CheckpointInfo(BaseModel):
    """All that it takes to use a checkpoint, and where it comes from.

    Attributes:
        format: Of the file.
        model: Family and sizes.
        classes: Names, in the order of the outputs.
        preprocessing: From a recording to the input.
        training: Its configuration, with the data's name and the seed.
        epoch: After which the weights were taken, from 1.
        valid_loss: On the validation split then.
        valid_accuracy: The same.
        versions: Of the packages that trained.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal[1] = FORMAT
    model: AnyModelConfig
    classes: tuple[ClassName, ...]
    preprocessing: Preprocessing
    training: TrainConfig
    epoch: int = Field(ge=1)
    valid_loss: float = Field(ge=0)
    valid_accuracy: float = Field(ge=0, le=1)
    versions: dict[str, str] = Field(default_factory=lambda: versions(*PACKAGES))

    @model_validator(mode="after")
    def _consistent(self) -> CheckpointInfo:
        require_consistent(self.model, self.classes, self.preprocessing)
        return self


def require_consistent(model: AnyModelConfig, classes: tuple[str, ...], preprocessing: Preprocessing) -> None:
    """What is said twice must be the same.

    Raises:
        ValueError: names and numbers of the classes differ, or of bands; a class is named twice.
    """
    for name, expected, got in (
        ("classes", model.classes, len(classes)),
        ("bands", model.inputs, preprocessing.channels),
    ):
        if expected != got:
            raise ValueError(f"the model has {expected} {name}, the file names {got}")
    if len(set(classes)) < len(classes):
        raise ValueError("a class is named twice")


def save_checkpoint(path: Path, model: Network, info: CheckpointInfo) -> None:
    """Writes weights and buffers of the model, as a whole or not at all; equal content gives equal bytes."""
    save_weights(path, model.state_dict(), info)


def save_weights(path: Path, weights: Mapping[str, Tensor], info: CheckpointInfo) -> None:
    """The same for weights and buffers by name."""
    write_bytes(path, packed(weights, info))


def packed(weights: Mapping[str, Tensor], info: CheckpointInfo) -> bytes:
    """The content of a checkpoint."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    return safetensors.torch.save(tensors, {METADATA_KEY: info.model_dump_json()})


def load_checkpoint(path: Path) -> tuple[Network, CheckpointInfo]:
    """Reads a checkpoint.

    Returns:
        The model in eval mode, float32; and what the file says about it.

    Raises:
        CheckpointError: there is no such file, it is damaged, not from spikescr, of another format, its weights do not
            fit its configuration, or are larger than memory allows.
    """
    if not path.exists():
        raise CheckpointError(f"{path} does not exist; make it with: spikescr train")
    with open_tensors(path, "train again: spikescr train") as file:
        info = file.describe(CheckpointInfo, "checkpoint", FORMAT)
        model = outline_of(file, info.model)
        file.require({name: Entry.from_tensor(tensor) for name, tensor in model.state_dict().items()})
        model.load_state_dict(file.read(), assign=True)
    return model.eval(), info


def outline_of(file: TensorFile, config: AnyModelConfig) -> Network:
    """A network of a file's sizes that takes no memory yet.

    Raises:
        CheckpointError: it has more layers than the file has tensors.
    """
    if config.layers > len(file.entries):
        raise file.fault(f"model.layers {config.layers}: the file has {len(file.entries)} tensors")
    return outline(config)
