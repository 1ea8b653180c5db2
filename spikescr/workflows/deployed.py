"""What `simulate`, `verify` and `evaluate` share: a deployed graph, and recordings prepared as its metadata says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel

from spikescr.documents import read_model
from spikescr.errors import ExportError, GraphError, UsageError
from spikescr.files import sha256
from spikescr.readouts import SOFTMAX_SUM
from spikescr.runs import RunFolder

if TYPE_CHECKING:
    from spikescr.data import Item, Preprocessing
    from spikescr.sim.program import Program


@dataclass(frozen=True)
class Deployed:
    """A NIR file with all that it takes to run it on recordings.

    Attributes:
        path: Of the file.
        program: What it is lowered to.
        classes: Names, in the order of the outputs.
        data: The data set that it was trained on.
        seed: Of that data set's splits.
        preprocessing: From a recording to the input.
    """

    path: Path
    program: Program
    classes: tuple[str, ...]
    data: str
    seed: int
    preprocessing: Preprocessing

    @property
    def steps_per_second(self) -> int:
        """Steps per second of the recordings."""
        return self.preprocessing.front_end.steps


def open_deployed(path: Path) -> Deployed:
    """Reads and lowers a graph that `spikescr export` made.

    Raises:
        GraphError: the file cannot be read or run, or does not say how to prepare recordings.
    """
    from spikescr import dialect
    from spikescr.data import Preprocessing
    from spikescr.sim.lowering.graph_file import read_graph
    from spikescr.sim.lowering.lower import lower

    graph = read_graph(path)
    missing = [key for key in (dialect.DATA, dialect.CLASSES, dialect.CHECKPOINT) if key not in graph.metadata]
    if missing:
        raise GraphError(f"{path}: metadata lacks {', '.join(missing)}; it was not made by: spikescr export --to nir")
    readout = graph.metadata.get(dialect.READOUT)
    if readout != SOFTMAX_SUM:
        raise GraphError(f"{path}: metadata {dialect.READOUT} is {readout!r}, only {SOFTMAX_SUM} can be run")
    try:
        program = lower(graph)
    except GraphError as error:
        raise GraphError(f"{path}: {error}") from error
    try:
        data: dict[str, Any] = json.loads(graph.metadata[dialect.DATA])
        classes = tuple(json.loads(graph.metadata[dialect.CLASSES]))
        preprocessing = Preprocessing.model_validate(data["preprocessing"])
        return Deployed(path, program, classes, str(data["spec"]), int(data["seed"]), preprocessing)
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise GraphError(f"{path}: metadata {dialect.DATA} cannot be used ({error}); export again") from error


class _Made(BaseModel):
    """What is read of quantization.json; the rest is for people. files: SHA-256 by name, the trained network's too."""

    files: dict[str, str]


def current_graph(run: RunFolder) -> Path:
    """A run folder's graph, where nothing but its file is wanted.

    Raises:
        SpikescrError: there is none, or it cannot be read.
        ExportError: see `require_current`.
    """
    from spikescr.sim.lowering.graph_file import read_graph

    graph = run.require(run.graph)
    require_current(run, read_graph(graph, type_check=False).metadata)
    return graph


def require_current(run: RunFolder, metadata: Mapping[str, Any]) -> None:
    """Sees to it that a run folder's graph is of the network that is there now, where there is one.

    Args:
        run: The folder.
        metadata: Of its graph.

    Raises:
        ExportError: it is of another, or the network in integers is of another than was trained since.
    """
    from spikescr import dialect

    if run.checkpoint.exists() and metadata.get(dialect.CHECKPOINT) != sha256(run.checkpoint):
        raise ExportError(
            f"{run.graph} was exported from another checkpoint than {run.checkpoint}; "
            f"export again with: {run.make_command(run.graph)}"
        )
    trained = RunFolder(run.path.parent).checkpoint
    if run.is_in_integers and run.quantization.exists() and trained.exists():
        remedy = f"quantise again with: {run.make_command(run.quantization)}"
        if read_model(run.quantization, _Made, remedy).files.get(trained.name) != sha256(trained):
            raise ExportError(f"{run.quantization} tells of another network than {trained}; {remedy}")


class Trained(Protocol):
    """What was trained on a data set: its file, its classes, the data set and the seed of its splits."""

    @property
    def path(self) -> Path: ...  # noqa: D102
    @property
    def classes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def data(self) -> str: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102


def choose_recordings(
    trained: Trained, *, data: str | None, split: str, limit: int | None, recording: str | None
) -> tuple[Item, ...]:
    """Recordings of a split.

    Args:
        trained: The graph or checkpoint.
        data: Data set to use instead of the one that the network was trained on; it must have the same classes.
        split: train, valid, test or all.
        limit: The first so many only.
        recording: The one of this name only, in whichever split it is.

    Raises:
        UsageError: The classes differ, or there is no such recording.
    """
    from spikescr.data import open_data

    dataset = open_data(data or trained.data, seed=trained.seed, known=trained.classes)
    if dataset.classes != trained.classes:
        raise UsageError(
            f"{dataset.spec} has the classes {_few(dataset.classes)}, {trained.path} was trained on "
            f"{_few(trained.classes)}; choose a data set with the same classes"
        )
    items = dataset.split(split)
    if recording is not None:
        items = tuple(item for item in dataset.split("all") if item.name == recording)
        if not items:
            example = dataset.split("all")[0].name if dataset.split("all") else "none"
            raise UsageError(f"{dataset.spec} has no recording {recording!r}; they are named like {example!r}")
    if not items:
        raise UsageError(f"{dataset.spec}: its split {split} is empty; take all of it with split all (--split all)")
    return tuple(replace(item, path=item.path.resolve()) for item in items[:limit])  # workers have folders of their own


def _few(classes: tuple[str, ...]) -> str:
    shown = ", ".join(classes[:4])
    return f"{shown}, ... ({len(classes)})" if len(classes) > 4 else shown
