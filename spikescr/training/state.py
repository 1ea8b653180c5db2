"""The state of a training on disk, all that it takes to continue as if nothing had happened; nothing is unpickled.

One safetensors file holds the weights, the best weights so far and the optimiser's tensors; its metadata holds the rest
as JSON. Random numbers need no place in it: they follow from the seed and the position (`draws`). So does the learning
rate.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from spikescr.checkpoint import METADATA_KEY, PACKAGES
from spikescr.data import Preprocessing
from spikescr.errors import CheckpointError
from spikescr.files import write_bytes
from spikescr.provenance import versions
from spikescr.training.config import TrainConfig, faults
from spikescr.training.metrics import EpochMetrics
from spikescr.training.precision import Drift

FORMAT: Literal[1] = 1
"""Raised when the meaning of a file changes."""


class Setting(BaseModel):
    """What must be the same for a training to continue.

    config: of the training, complete. classes: names. preprocessing: as fitted to the training split. recordings: of
    the training and of the validation split. objective: what its `identity` says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: TrainConfig
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    recordings: tuple[int, int]
    objective: dict[str, str]


class Progressed(BaseModel):
    """How far a training has come.

    epochs: of what is done. seconds: of training until the end of each. best: number of the best epoch, 0 before there
    is one. step: optimisation steps done of the epoch after them; loss, correct, seen: summed over those. elapsed:
    seconds of training. drift: what bfloat16 changes, at "start" and "end"; empty with precision=fp32.
    """

    model_config = ConfigDict(extra="forbid")

    epochs: list[EpochMetrics] = Field(default_factory=list)
    seconds: list[float] = Field(default_factory=list)
    best: int = 0
    step: int = 0
    loss: float = 0.0
    correct: int = 0
    seen: int = 0
    elapsed: float = 0.0
    drift: dict[str, Drift] = Field(default_factory=dict)


class Environment(BaseModel):
    """Where it ran: equal results need equal ones. device: its type. processes: that shared each batch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    processes: int
    versions: dict[str, str] = Field(default_factory=lambda: versions(*PACKAGES))


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = FORMAT
    setting: Setting
    progressed: Progressed
    environment: Environment


@dataclass(eq=False)
class TrainState:
    """model, best: weights and buffers; best is empty before an epoch is done. optimizer: tensors by parameter."""

    setting: Setting
    progressed: Progressed
    environment: Environment
    model: dict[str, Tensor]
    best: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def fault(self) -> str | None:
        """The first weight that is no number any more, None where all are; such a state is not worth keeping."""
        broken = (name for name, tensor in self.model.items() if not bool(torch.isfinite(tensor).all()))
        return next(broken, None)


class Checkpoints:
    """The folder of a run's states: `<epochs done>-<steps of the next>.safetensors`, the last `keep` of them."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep

    def paths(self) -> list[Path]:
        """The states that are there, oldest first."""
        named = re.compile(r"\d{5,}-\d{6,}\.safetensors")
        found = [path for path in self.folder.glob("*.safetensors") if named.fullmatch(path.name)]
        return sorted(found, key=lambda path: tuple(map(int, path.stem.split("-"))))

    def latest(self) -> Path | None:
        """The newest state, None where there is none."""
        paths = self.paths()
        return paths[-1] if paths else None

    def save(self, state: TrainState) -> Path:
        """Writes a state, as a whole or not at all, and then removes those beyond the last `keep`."""
        self.folder.mkdir(exist_ok=True)
        at = state.progressed
        path = self.folder / f"{len(at.epochs):05d}-{at.step:06d}.safetensors"
        tensors = {f"model/{name}": tensor for name, tensor in state.model.items()}
        tensors |= {f"best/{name}": tensor for name, tensor in state.best.items()}
        for name, of_parameter in state.optimizer.items():
            tensors |= {f"optimizer/{name}/{key}": tensor for key, tensor in of_parameter.items()}
        header = _Header(setting=state.setting, progressed=at, environment=state.environment)
        content = safetensors.torch.save(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            {METADATA_KEY: header.model_dump_json()},
        )
        write_bytes(path, content)
        for old in self.paths()[: -self.keep]:
            old.unlink()
        return path

    def discard(self) -> None:
        """Removes all states."""
        for path in self.paths():
            path.unlink()


def load_state(path: Path) -> TrainState:
    """Reads a state.

    Raises:
        CheckpointError: the file is damaged, was not written by `Checkpoints.save` or by another version of it.
    """
    remove = "remove it to continue from the checkpoint before it, if there is one"
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(METADATA_KEY, "null")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file ({error}); {remove}") from error
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if not isinstance(content, dict) or "setting" not in content:
        raise CheckpointError(f"{path} holds no state of a training; {remove}")
    if content.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has format {content.get('format')}, this version of spikescr reads {FORMAT}: "
            "continue with the version that wrote it"
        )
    try:
        header = _Header.model_validate_json(text)
    except ValidationError as error:
        raise CheckpointError(f"{path}: {faults(error)}; {remove}") from error
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition("/")
        parts.setdefault(part, {})[rest] = tensor
    optimizer: dict[str, dict[str, Tensor]] = {}
    for name, tensor in parts["optimizer"].items():
        parameter, _, key = name.rpartition("/")
        optimizer.setdefault(parameter, {})[key] = tensor
    return TrainState(header.setting, header.progressed, header.environment, parts["model"], parts["best"], optimizer)


def differences(before: BaseModel, now: BaseModel) -> list[str]:
    """Fields of two settings that differ, each as `field: before, now`; long values are not written out."""

    def walk(name: str, a: object, b: object) -> list[str]:
        if isinstance(a, dict) and isinstance(b, dict):
            keys = [key for key in a | b if a.get(key) != b.get(key)]
            return [line for key in keys for line in walk(f"{name}.{key}" if name else key, a.get(key), b.get(key))]
        short = [repr(value) for value in (a, b)]
        return [f"{name} (was {short[0]}, is {short[1]})" if max(map(len, short)) < 120 else name]

    return walk("", before.model_dump(), now.model_dump()) if before != now else []
