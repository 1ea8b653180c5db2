"""A quantized network on disk: levels as 8-bit integers in safetensors, the scheme as JSON in the metadata."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from spikescr.checkpoint import CheckpointInfo, outline_of
from spikescr.files import write_bytes
from spikescr.model import Network, build
from spikescr.model.fixed import FixedHead, GroupScheme
from spikescr.quantization.calibrate import Criterion
from spikescr.quantization.scheme import Scheme, groups, in_integers
from spikescr.schemas import printable
from spikescr.tensors import METADATA_KEY, Entry, TensorFile, open_tensors

FORMAT: Literal[1] = 1
"""Raised when the meaning of a file changes."""


class QuantizedInfo(BaseModel):
    """All that it takes to use the file.

    Attributes:
        format: Of the file.
        source: The checkpoint's own information.
        source_sha256: Of its file.
        layers: Of every layer by name, how its synapses became integers.
        head_scale: What one unit of the head's weights stands for.
        head_bits: Of the head's weights.
        criterion: How scales were chosen.
        epochs: Of fine-tuning.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal[1] = FORMAT
    source: CheckpointInfo
    source_sha256: str
    layers: dict[str, GroupScheme]
    head_scale: float = Field(gt=0)
    head_bits: int = Field(ge=4, le=8)
    criterion: Criterion
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
        CheckpointError: the file is damaged, not a quantized network, or does not fit its scheme.
    """
    with open_tensors(path, "make it again: spikescr quantize") as file:
        info = file.describe(QuantizedInfo, "quantized network", FORMAT)
        expected = _expected(file, info)
        file.require({name: Entry("I8", level.shape) for name, level in expected.items()})
        tensors = file.read()
    for name, level in expected.items():
        half, levels = 2 ** (level.bits - 1), tensors[name].int()
        if bool(((levels < -half) | (levels >= half)).any()):
            raise file.fault(f"{name} holds levels of more than {level.bits} bits")
    front_end = info.source.preprocessing.front_end
    model = fold(build(info.source.model), 1 / front_end.steps)
    for group in groups(model):
        assert group.current.synapse.bias is not None
        for part, parameter in (("weight", group.current.synapse.weight), ("bias", group.current.synapse.bias)):
            name = f"{group.name}.{part}"
            parameter.data[slice(*group.channels)] = tensors[name].to(parameter.dtype) * expected[name].value
    model.head.weight.data.copy_(tensors["head.weight"].to(model.head.weight.dtype) * expected["head.weight"].value)
    return Quantized(in_integers(model, info.scheme, front_end.window_steps).eval(), info)


@dataclass(frozen=True)
class _Levels:
    """Levels in the file: their shape, bits, and the real number that one stands for."""

    shape: tuple[int, ...]
    bits: int
    value: float


def _expected(file: TensorFile, info: QuantizedInfo) -> dict[str, _Levels]:
    """What a file must hold, by name."""
    model = outline_of(file, info.source.model)
    expected: dict[str, _Levels] = {}
    for group in groups(model, folded=False):
        scheme = info.layers.get(group.name)
        if scheme is None:
            raise file.fault(f"layers: no scheme for {group.name}")
        if tuple(scheme.channels) != group.channels:
            raise file.fault(f"layers.{group.name}.channels must be {group.channels}, is {scheme.channels}")
        outputs = group.channels[1] - group.channels[0]
        shape = (outputs, *group.current.synapse.weight.shape[1:])
        expected[f"{group.name}.weight"] = _Levels(shape, scheme.bits, scheme.step * scheme.scale)
        expected[f"{group.name}.bias"] = _Levels((outputs,), 8, scheme.bias_step / scheme.theta)
    more = info.layers.keys() - {name.rpartition(".")[0] for name in expected}
    if more:
        raise file.fault(f"layers.{printable(min(more))}: the model has no such layer")
    value = 2 ** (9 - info.head_bits) * info.head_scale
    expected["head.weight"] = _Levels(tuple(model.head.weight.shape), info.head_bits, value)
    return expected
