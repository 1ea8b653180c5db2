"""Trained networks on disk: weights in safetensors, everything else as JSON in the metadata. Nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from spikescr.data import Preprocessing
from spikescr.errors import CheckpointError
from spikescr.files import write_bytes
from spikescr.model import AnyModelConfig, Network, build
from spikescr.provenance import versions
from spikescr.training.config import TrainConfig, faults

FORMAT: Literal[1] = 1
"""Raised when the meaning of a file changes."""
METADATA_KEY = "spikescr"
"""One key alone: safetensors writes several in no fixed order, and equal runs are to give equal files."""
PACKAGES = ("spikescr", "torch", "spikingjelly", "numpy", "librosa")
"""What a training's result depends on."""


class CheckpointInfo(BaseModel):
    """All that it takes to use a checkpoint, and where it comes from.

    format: of the file. model: family and sizes. classes: names, in the order of the outputs. preprocessing: from a
    recording to the input. training: its configuration, with the data's name and the seed. epoch: after which the
    weights were taken, from 1. valid_loss, valid_accuracy: on the validation split then. versions: of the packages that
    trained.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = FORMAT
    model: AnyModelConfig
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    training: TrainConfig
    epoch: int = Field(ge=1)
    valid_loss: float
    valid_accuracy: float
    versions: dict[str, str] = Field(default_factory=lambda: versions(*PACKAGES))


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
        CheckpointError: there is no such file, it is damaged, not from spikescr, of another format, or its weights do
            not fit its configuration.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; make it with: spikescr train")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is damaged or no safetensors file ({error}); train again: spikescr train"
        ) from error
    info = _read_info(path, metadata)
    model = build(info.model)
    _check_tensors(path, tensors, model.state_dict())
    model.load_state_dict(tensors)
    return model.eval(), info


def _read_info(path: Path, metadata: dict[str, str]) -> CheckpointInfo:
    try:
        content = json.loads(metadata[METADATA_KEY])
        found = content["format"]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} was not written by spikescr (its metadata has no '{METADATA_KEY}' with a format); "
            "make one with: spikescr train"
        ) from error
    if found != FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {found}, this version of spikescr reads {FORMAT}; "
            "use the version that wrote it or train again: spikescr train"
        )
    try:
        info = CheckpointInfo.model_validate_json(metadata[METADATA_KEY])
    except ValidationError as error:
        raise CheckpointError(f"{path}: {faults(error)}; train again: spikescr train") from error
    for name, expected, got in (
        ("classes", info.model.classes, len(info.classes)),
        ("bands", info.model.inputs, info.preprocessing.front_end.bands),
    ):
        if expected != got:
            raise CheckpointError(f"{path}: the model has {expected} {name}, the file names {got}; train again")
    return info


def _check_tensors(path: Path, tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Compares names, types, shapes and finiteness; reports the first difference."""
    for name in sorted(tensors.keys() | expected.keys()):
        if name not in tensors:
            fault = f"{name} is missing"
        elif name not in expected:
            fault = f"{name} does not belong to the model"
        elif tensors[name].shape != expected[name].shape:
            fault = f"{name} must have shape {tuple(expected[name].shape)}, has {tuple(tensors[name].shape)}"
        elif tensors[name].dtype != expected[name].dtype:
            fault = f"{name} must be {expected[name].dtype}, is {tensors[name].dtype}"
        elif not bool(torch.isfinite(tensors[name]).all()):
            fault = f"{name} holds values that are no numbers"
        else:
            continue
        raise CheckpointError(f"{path}: {fault}; train again: spikescr train")
