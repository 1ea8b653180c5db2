"""The state of a training on disk, all that it takes to continue as if nothing had happened; nothing is unpickled.

One safetensors file holds the weights, the best weights so far and the optimiser's tensors; its metadata holds the rest
as JSON. Random numbers need no place in it: they follow from the seed and the position (`draws`). So does the learning
rate.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from spikescr.checkpoint import PACKAGES, ClassName, outline_of, require_consistent
from spikescr.data import Preprocessing
from spikescr.files import write_bytes
from spikescr.model import Network
from spikescr.provenance import versions
from spikescr.tensors import METADATA_KEY, Entry, open_tensors
from spikescr.training.config import TrainConfig
from spikescr.training.metrics import EpochMetrics
from spikescr.training.precision import Drift

FORMAT: Literal[1] = 1
"""Raised when the meaning of a file changes."""


Positive = Annotated[int, Field(ge=1)]


class Setting(BaseModel):
    """What must be the same for a training to continue.

    config: of the training, complete. classes: names. preprocessing: as fitted to the training split. recordings: of
    the training and of the validation split. left_out: names of those that cannot be read. objective: what its
    `identity` says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    config: TrainConfig
    classes: tuple[ClassName, ...]
    preprocessing: Preprocessing
    recordings: tuple[Positive, Positive]
    left_out: tuple[str, ...] = ()
    objective: dict[str, str]

    @model_validator(mode="after")
    def _consistent(self) -> Setting:
        require_consistent(self.config.model, self.classes, self.preprocessing)
        return self


class Progressed(BaseModel):
    """How far a training has come.

    Attributes:
        epochs: Of what is done.
        seconds: Of training until the end of each epoch.
        best: Number of the best epoch, 0 before there is one.
        step: Optimisation steps done of the epoch after those that are done.
        loss: Summed over those steps.
        correct: Right answers in them.
        seen: Recordings in them.
        elapsed: Seconds of training.
        drift: What bfloat16 changes, at "start" and "end"; empty with precision=fp32.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    epochs: list[EpochMetrics] = Field(default_factory=list)
    seconds: list[Annotated[float, Field(ge=0)]] = Field(default_factory=list)
    best: int = Field(0, ge=0)
    step: int = Field(0, ge=0)
    loss: float = 0.0
    correct: int = Field(0, ge=0)
    seen: int = Field(0, ge=0)
    elapsed: float = Field(0.0, ge=0)
    drift: dict[str, Drift] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Progressed:
        done = len(self.epochs)
        if [metrics.epoch for metrics in self.epochs] != list(range(1, done + 1)):
            raise ValueError("epochs must be numbered from 1")
        if len(self.seconds) != done:
            raise ValueError(f"seconds has {len(self.seconds)} entries, epochs {done}")
        if self.best > done or (self.best == 0) != (done == 0):
            raise ValueError(f"best must be one of the {done} epochs that are done, is {self.best}")
        if self.drift.keys() - {"start", "end"}:
            raise ValueError(f"drift is measured at start and end, not at {', '.join(self.drift)}")
        if self.correct > self.seen or (self.step == 0) != (self.seen == 0):
            raise ValueError(f"correct {self.correct}, seen {self.seen} do not fit step {self.step}")
        return self


class Environment(BaseModel):
    """Where it ran: equal results need equal ones. device: its type. processes: that shared each batch."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    device: str
    processes: Positive
    versions: dict[str, str] = Field(default_factory=lambda: versions(*PACKAGES))


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    format: Literal[1] = FORMAT
    setting: Setting
    progressed: Progressed
    environment: Environment


@dataclass(eq=False)
class TrainState:
    """All that it takes to continue a training.

    Attributes:
        setting: What must be the same.
        progressed: How far it has come.
        environment: Where it ran.
        model: Weights and buffers.
        best: Those of the best epoch; empty before an epoch is done.
        optimizer: AdamW's tensors by parameter.
    """

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
        paths = [path for path in self.folder.glob("*.safetensors") if named.fullmatch(path.name)]
        return sorted(paths, key=lambda path: tuple(map(int, path.stem.split("-"))))

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


def load_state(
    path: Path, network: Network | None = None, accept: Callable[[Setting], None] = lambda setting: None
) -> TrainState:
    """Reads a state.

    Args:
        path: of the file.
        network: whose state it must be; None: one of the state's own configuration.
        accept: sees the setting before the tensors are looked at; raises where the state is of another training.

    Raises:
        CheckpointError: the file is damaged, was not written by `Checkpoints.save` or by another version of it, or its
            tensors are not those of its network: a weight, a best weight or a moment is missing, too many, of another
            shape, or no number.
    """
    with open_tensors(path, "remove it to continue from the checkpoint before it, if there is one") as file:
        header = file.describe(_Header, "state of a training", FORMAT)
        accept(header.setting)
        file.require(_expected(network or outline_of(file, header.setting.config.model), header.progressed))
        tensors = file.read()
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition("/")
        parts[part][rest] = tensor
    optimizer: dict[str, dict[str, Tensor]] = {}
    for name, tensor in parts["optimizer"].items():
        parameter, _, key = name.rpartition("/")
        optimizer.setdefault(parameter, {})[key] = tensor
    return TrainState(header.setting, header.progressed, header.environment, parts["model"], parts["best"], optimizer)


def _expected(model: Network, at: Progressed) -> dict[str, Entry]:
    """The tensors of a state: weights; the best ones, once an epoch is done; AdamW's, once a step is done."""
    weights = {name: Entry.from_tensor(tensor) for name, tensor in model.state_dict().items()}
    expected = {f"model/{name}": entry for name, entry in weights.items()}
    if at.best:
        expected |= {f"best/{name}": entry for name, entry in weights.items()}
    if at.epochs or at.step:
        for name, parameter in model.named_parameters():
            expected[f"optimizer/{name}/step"] = Entry("F32", ())
            for moment in ("exp_avg", "exp_avg_sq"):
                expected[f"optimizer/{name}/{moment}"] = Entry.from_tensor(parameter)
    return expected


def differences(before: BaseModel, now: BaseModel) -> list[str]:
    """Fields of two settings that differ, each as `field: before, now`; long values are not written out."""

    def walk(name: str, a: object, b: object) -> list[str]:
        if isinstance(a, dict) and isinstance(b, dict):
            keys = [key for key in a | b if a.get(key) != b.get(key)]
            return [line for key in keys for line in walk(f"{name}.{key}" if name else key, a.get(key), b.get(key))]
        short = [repr(value) for value in (a, b)]
        return [f"{name} (was {short[0]}, is {short[1]})" if max(map(len, short)) < 120 else name]

    return walk("", before.model_dump(), now.model_dump()) if before != now else []
