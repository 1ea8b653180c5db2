"""The trainings behind the rows of a table: each once, however many rows it serves, told by what it follows from."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from spikescr.data import DataSet, Item, open_data
from spikescr.errors import UsageError
from spikescr.runs import JobFolder, RunFolder
from spikescr.training.config import CurriculumConfig, TrainConfig
from spikescr.training.recipes import Recipe, read_recipe, resolve
from spikescr.workflows.reproduce_table import Chosen, Row, Table, choose_rows

TRAININGS = "trainings"
"""Folder of a job in which each training has its own."""


@dataclass(frozen=True)
class Training:
    """A training.

    Attributes:
        config: Of itself; of a taught one without the digest of its teacher's checkpoint, which is not there yet.
        pair: Of a taught one the curriculum of two stages, its teacher's and its own; None: trained directly.
        teacher: Of a taught one the training that comes before.
    """

    config: TrainConfig
    pair: CurriculumConfig | None = None
    teacher: Training | None = None

    @property
    def level(self) -> int:
        """How many trainings come before it."""
        return 0 if self.teacher is None else self.teacher.level + 1

    @cached_property
    def key(self) -> str:
        """SHA-256 of all that it follows from but the recordings."""
        content = [self.config.model_dump(mode="json"), None if self.teacher is None else self.teacher.key]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def name(self) -> str:
        """For people: the network, its steps, its teachers' steps, the seed; not unique."""
        words = [self.config.model.name, str(self.config.steps)]
        before = self.teacher
        while before is not None:
            words.append(f"after {before.config.steps}")
            before = before.teacher
        return re.sub(r"[^A-Za-z0-9]+", "-", " ".join([*words, f"seed {self.config.seed}"])).strip("-")

    def digest(self, recordings: str) -> str:
        """SHA-256 of all that it follows from; recordings: what `recordings_digest` gave."""
        return hashlib.sha256(f"{self.key} {recordings}".encode()).hexdigest()

    def folder(self, job: Path, recordings: str) -> Path:
        """Its folder in a job's."""
        return job / TRAININGS / f"{self.name}-{self.digest(recordings)[:12]}"

    def run(self, folder: Path) -> RunFolder:
        """The run folder of the network that it gives, in its own folder."""
        return RunFolder(folder) if self.pair is None else JobFolder(folder).stage(self.config.steps)


@dataclass(frozen=True)
class PlannedRow:
    """A row, with the training of each seed."""

    row: Row
    trainings: tuple[Training, ...]


@dataclass(frozen=True)
class Request:
    """What of a table is to be reproduced.

    Attributes:
        table: Of which.
        data: Data set, as `open_data` takes it; None: not known yet, its kind alone.
        patterns: Of the rows; none: all.
        seeds: How many, from 0 on; None: as the table says.
        epochs: Of every training; None: as the recipes say.
        limit: Recordings of each split, evenly spread; None: all.
        threads: Of each training.
    """

    table: Table
    data: str | None = None
    patterns: tuple[str, ...] = ()
    seeds: int | None = None
    epochs: int | None = None
    limit: int | None = None
    threads: int = 1


@dataclass(frozen=True)
class Plan:
    """All that is to be trained.

    Attributes:
        request: What was asked for.
        rows: With their trainings.
        unavailable: Rows that this version cannot train, and why.
    """

    request: Request
    rows: tuple[PlannedRow, ...]
    unavailable: tuple[tuple[Row, str], ...]

    @property
    def data(self) -> str:
        """The data set; its kind alone, where none was given."""
        return self.request.data or self.request.table.data

    @property
    def seeds(self) -> int:
        """Of each row."""
        return self.request.seeds or self.request.table.seeds

    @cached_property
    def levels(self) -> tuple[tuple[Training, ...], ...]:
        """The trainings, each once: those without a teacher, those whose teachers are among these, and so on."""
        found: dict[str, Training] = {}
        for planned in self.rows:
            for training in planned.trainings:
                for each in _with_teachers(training):
                    found.setdefault(each.key, each)
        deepest = max((training.level for training in found.values()), default=-1)
        return tuple(tuple(t for t in found.values() if t.level == level) for level in range(deepest + 1))

    @property
    def trainings(self) -> tuple[Training, ...]:
        """All of them, teachers before students."""
        return tuple(training for level in self.levels for training in level)


def make_plan(request: Request) -> Plan:
    """Plans the trainings of a table's rows; opens no recordings.

    Raises:
        UsageError: a row's recipe or changes cannot be, or there is no row to train.
    """
    chosen: Chosen = choose_rows(request.table, request.patterns)
    seeds = range(request.seeds or request.table.seeds)
    rows = tuple(PlannedRow(row, tuple(_training(row, request, seed) for seed in seeds)) for row in chosen.rows)
    return Plan(request, rows, chosen.unavailable)


def _training(row: Row, request: Request, seed: int) -> Training:
    options: dict[str, object] = {"seed": seed, "threads": request.threads}
    if request.epochs is not None:
        options["epochs"] = request.epochs
    try:
        if row.train is not None:
            recipe = _for_any_data(read_recipe("train", row.train), request)
            config = resolve(
                recipe, TrainConfig, row.changes, options=options, data=request.data, need_data=request.data is not None
            )
            return Training(config)
        assert row.distill is not None
        recipe = _for_any_data(read_recipe("distill", row.distill), request)
        if request.epochs is not None:
            options["student.epochs"] = request.epochs
        curriculum = resolve(
            recipe, CurriculumConfig, row.changes, options=options, data=request.data,
            need_data=request.data is not None,
        )  # fmt: skip
    except UsageError as error:
        raise UsageError(f"row {row.name}: {error}") from error
    if row.stage not in curriculum.curriculum:
        raise UsageError(f"row {row.name}: {row.distill} has no stage of {row.stage} steps per second")
    training = Training(curriculum.direct())
    for number in range(1, curriculum.curriculum.index(row.stage) + 1):
        pair = curriculum.model_copy(update={"curriculum": curriculum.curriculum[number - 1 : number + 1]})
        training = Training(pair.taught(1, ""), pair, training)
    return training


def _for_any_data(recipe: Recipe, request: Request) -> Recipe:
    """The recipe, for the data that was asked for too: a table may be made of other recordings than its own."""
    if request.data is None:
        return recipe
    return replace(recipe, kinds=tuple(dict.fromkeys((*recipe.kinds, request.data.partition(":")[0]))))


def _with_teachers(training: Training) -> Iterator[Training]:
    if training.teacher is not None:
        yield from _with_teachers(training.teacher)
    yield training


def thinned(items: tuple[Item, ...], limit: int | None) -> tuple[Item, ...]:
    """So many of a split's recordings, evenly spread: a split is sorted by name, so no class is left out first."""
    if limit is None or limit >= len(items):
        return items
    return tuple(items[number * len(items) // limit] for number in range(limit))


def open_limited(spec: str, seed: int, limit: int | None) -> DataSet:
    """The data set to train on: without a test split, which is not opened before the end.

    Raises:
        DataError: as for `open_data`.
    """
    dataset = open_data(spec, seed=seed)
    return replace(dataset, items={split: thinned(dataset.split(split), limit) for split in ("train", "valid")})


def recordings_digest(dataset: DataSet, limit: int | None) -> str:
    """SHA-256 of which recordings train and validate, by name, label and size of their file."""
    digest = hashlib.sha256(json.dumps([dataset.classes, limit]).encode())
    sizes: dict[Path, int] = {}
    for split in ("train", "valid"):
        for item in dataset.split(split):
            if item.path not in sizes:
                sizes[item.path] = item.path.stat().st_size
            digest.update(f"{split}\0{item.name}\0{item.label}\0{sizes[item.path]}\n".encode())
    return digest.hexdigest()


def recordings_by_seed(plan: Plan) -> Mapping[int, str]:
    """What `recordings_digest` gives for every seed; a folder without lists is split by the seed.

    Raises:
        DataError: as for `open_data`.
    """
    limit = plan.request.limit
    return {seed: recordings_digest(open_limited(plan.data, seed, limit), limit) for seed in range(plan.seeds)}
