"""A quantised network on disk: levels as 8-bit integers in safetensors, the scheme as JSON in the metadata."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from spikescr.checkpoint import METADATA_KEY, CheckpointInfo
from spikescr.errors import CheckpointError
from spikescr.files import write_bytes
from spikescr.model import Network, build
from spikescr.model.fixed import FixedHead, GroupScheme
from spikescr.quantization.scheme import Scheme, groups, in_integers
from spikescr.training.config import faults

FORMAT: Literal[1] = 1
"""Raised when the meaning of a file changes."""


class QuantizedInfo(BaseModel):
    """All that it takes to use the file.

    format: of the file. source: the checkpoint's own information; source_sha256: of its file. scheme: per layer what
    `GroupScheme` says. head_scale, head_bits: of the head. criterion: how scales were chosen. epochs: of fine-tuning.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    format: Literal[1] = FORMAT
    source: CheckpointInfo
    source_sha256: str
    layers: dict[str, GroupScheme]
    head_scale: float = Field(gt=0)
    head_bits: int = Field(ge=4, le=8)
    criterion: str
    epochs: int = Field(ge=0)

    @property
    def scheme(self) -> Scheme:
        """The scheme of the network."""
        return Scheme(self.layers, self.head_scale, self.head_bits)


@dataclass(frozen=True)
class Quantized:
    """A network in integers, float64, in eval mode; and what its file says."""

    model: Network
    info: QuantizedInfo


def save_quantized(path: Path, model: Network, info: QuantizedInfo) -> None:
    """Writes the levels of a network in integers, as a whole or not at all."""
    tensors: dict[str, Tensor] = {}
    for group in groups(model):
        scheme, chosen = info.layers[group.name], slice(*group.channels)
        assert group.current.synapse.bias is not None
        tensors[f"{group.name}.weight"] = scheme.weight_levels(group.current.synapse.weight.detach()[chosen])
        tensors[f"{group.name}.bias"] = scheme.bias_levels(group.current.synapse.bias.detach()[chosen])
    assert isinstance(model.head, FixedHead)
    tensors["head.weight"] = model.head.levels().detach()
    levels = {name: tensor.to(torch.int8).contiguous() for name, tensor in tensors.items()}
    write_bytes(path, safetensors.torch.save(levels, {METADATA_KEY: info.model_dump_json()}))


def load_quantized(path: Path, fold: Callable[[Network, float], Network]) -> Quantized:
    """Reads what `save_quantized` wrote.

    Args:
        path: of the file.
        fold: takes the batch normalisation out of a network, given the seconds per step.

    Raises:
        CheckpointError: the file is damaged, not a quantised network, or does not fit its scheme.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file ({error}); quantise again") from error
    try:
        content: dict[str, Any] = json.loads(metadata.get(METADATA_KEY, "{}"))
        if content.get("format") != FORMAT:
            raise CheckpointError(
                f"{path} has format {content.get('format')}, this version reads {FORMAT}; quantise again"
            )
        info = QuantizedInfo.model_validate_json(metadata[METADATA_KEY])
    except ValidationError as error:
        raise CheckpointError(f"{path}: {faults(error)}; quantise again") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: its metadata cannot be read ({error}); quantise again") from error
    front_end = info.source.preprocessing.front_end
    model = fold(build(info.source.model), 1 / front_end.steps)
    _fill(path, model, tensors, info)
    return Quantized(in_integers(model, info.scheme, front_end.window_steps).eval(), info)


def _fill(path: Path, folded: Network, tensors: dict[str, Tensor], info: QuantizedInfo) -> None:
    """Puts the real numbers that the levels stand for into a folded network."""
    expected: dict[str, tuple[Tensor, float]] = {}
    for group in groups(folded):
        if group.name not in info.layers:
            raise CheckpointError(f"{path}: no scheme for {group.name}; quantise again")
        scheme, chosen = info.layers[group.name], slice(*group.channels)
        assert group.current.synapse.bias is not None
        expected[f"{group.name}.weight"] = group.current.synapse.weight.data[chosen], scheme.step * scheme.scale
        expected[f"{group.name}.bias"] = group.current.synapse.bias.data[chosen], scheme.bias_step / scheme.theta
    expected["head.weight"] = folded.head.weight.data, 2 ** (9 - info.head_bits) * info.head_scale
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors or name not in expected:
            raise CheckpointError(f"{path}: {name} is {'missing' if name in expected else 'not of the model'}")
        to, level = expected[name]
        if tensors[name].dtype != torch.int8 or tensors[name].shape != to.shape:
            raise CheckpointError(
                f"{path}: {name} must be int8 {tuple(to.shape)}, is {tensors[name].dtype} "
                f"{tuple(tensors[name].shape)}; quantise again"
            )
        to.copy_(tensors[name].to(to.dtype) * level)
