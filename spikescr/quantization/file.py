"""A quantized network on disk: levels as 8-bit integers in safetensors, the scheme as JSON in the metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from spikescr.checkpoint import CheckpointInfo, outline_of
from spikescr.dialect import UNITY
from spikescr.files import write_bytes
from spikescr.model import Network, build
from spikescr.model.delays import Delayed
from spikescr.model.fixed import FixedHead, FixedLIF, GroupScheme
from spikescr.model.parametric import ParametricLIF
from spikescr.quantization.calibrate import Criterion
from spikescr.quantization.scheme import Scheme, groups, in_integers
from spikescr.schemas import printable
from spikescr.tensors import METADATA_KEY, Entry, TensorFile, open_tensors

FORMAT: Literal[1] = 1
"""Raised when the meaning of a file changes."""
DELAYS = "delays"
"""Of synapses or axons that learnt them, whole steps: behind the name of the synapse."""


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
        decays: Of layers of neurons that learnt them, what a step takes of a membrane, in 4096ths.
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
    decays: dict[str, Annotated[int, Field(ge=0, le=UNITY)]] = {}

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
        scheme = info.layers[group.name]
        levels_of = {"weight": scheme.weight_levels, "bias": scheme.bias_levels}
        for part, parameter in group.parts().items():
            tensors[f"{group.name}.{part}"] = levels_of[part](parameter.detach()[slice(*group.channels)])
    assert isinstance(model.head, FixedHead)
    tensors["head.weight"] = model.head.levels().detach()
    levels = {name: tensor.to(torch.int8).contiguous() for name, tensor in tensors.items()}
    levels |= {f"{name}.{DELAYS}": synapse.delays().int().contiguous() for name, synapse in _delayed(model)}
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
        delayed = dict(_delayed(outline_of(file, info.source.model)))
        entries = {name: Entry("I8", level.shape) for name, level in expected.items()}
        entries |= {f"{name}.{DELAYS}": Entry("I32", tuple(of.position.shape)) for name, of in delayed.items()}
        file.require(entries)
        tensors = file.read()
    for name, level in expected.items():
        half, levels = 2 ** (level.bits - 1), tensors[name].int()
        if bool(((levels < -half) | (levels >= half)).any()):
            raise file.fault(f"{name} holds levels of more than {level.bits} bits")
    for name, synapse in delayed.items():
        delays = tensors[f"{name}.{DELAYS}"]
        if bool(((delays < 0) | (delays >= synapse.taps)).any()):
            raise file.fault(f"{name}.{DELAYS} must be 0 to {synapse.taps - 1} steps")
    front_end = info.source.preprocessing.front_end
    model = fold(build(info.source.model), 1 / front_end.steps)
    for group in groups(model):
        for part, parameter in group.parts().items():
            name = f"{group.name}.{part}"
            parameter.data[slice(*group.channels)] = tensors[name].to(parameter.dtype) * expected[name].value
    for name, synapse in _delayed(model):
        synapse.take(tensors[f"{name}.{DELAYS}"].to(synapse.position.dtype))
    for name, module in model.named_modules():
        if isinstance(module, ParametricLIF) and info.source.model.neuron == "parametric":
            if name not in info.decays:  # as files of before had it
                raise file.fault(f"decays: none for {name}, which has learnt its own")
            module.fix_decay((UNITY - info.decays[name]) / UNITY)
    model.head.weight.data.copy_(tensors["head.weight"].to(model.head.weight.dtype) * expected["head.weight"].value)
    return Quantized(in_integers(model, info.scheme, front_end.window_steps).eval(), info)


def decays(model: Network) -> dict[str, int]:
    """What a step takes of membranes, in 4096ths, by layer; of a network in integers whose neurons learnt it."""
    if model.config.neuron != "parametric":
        return {}
    return {name: module.dv for name, module in model.named_modules() if isinstance(module, FixedLIF)}


def _delayed(model: Network) -> Iterator[tuple[str, Delayed]]:
    return ((name, module) for name, module in model.named_modules() if isinstance(module, Delayed))


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
        shape = (outputs, *group.synapse.weight.shape[1:])
        expected[f"{group.name}.weight"] = _Levels(shape, scheme.bits, scheme.step * scheme.scale)
        if group.neurons is None:
            expected[f"{group.name}.bias"] = _Levels((outputs,), 8, scheme.bias_step / scheme.theta)
        elif scheme.theta != info.layers[group.layer].theta:
            raise file.fault(f"layers.{group.name}.theta must be that of {group.layer}, is {scheme.theta}")
    more = info.layers.keys() - {name.rpartition(".")[0] for name in expected}
    if more:
        raise file.fault(f"layers.{printable(min(more))}: the model has no such layer")
    value = 2 ** (9 - info.head_bits) * info.head_scale
    expected["head.weight"] = _Levels(tuple(model.head.weight.shape), info.head_bits, value)
    return expected
