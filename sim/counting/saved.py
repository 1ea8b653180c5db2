"""The audit of a simulation as a file: all that was counted, to be read without the graph and without running it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, is_zipfile

import numpy as np
from numpy.typing import NDArray

from spikescr.errors import SpikescrError
from spikescr.sim.counting.account import COLUMNS, MOMENTS, Account, layer_of
from spikescr.sim.counting.conventions import CAUSES, CONVENTIONS
from spikescr.sim.program import FloatArray, IntArray

FORMAT = 1  # raised when what a reader of the previous one takes for granted changes


@dataclass(frozen=True)
class Audit:
    """What `Account` added up, with names.

    operations, types, layers_of, latencies: of each operation; a latency is None where the graph does not tell.
    layers, conventions, causes, columns: names along the axes of the arrays, as are `account.MOMENTS`.
    arrays: those of `Account.arrays`. recordings, labels, predicted: of each sample, names. valid: its steps.
    steps: of the window; period: executed steps. about: more of the run (data, model, backend, versions, hashes, seed).
    """

    operations: tuple[str, ...]
    types: tuple[str, ...]
    latencies: tuple[int | None, ...]
    conventions: tuple[str, ...]
    causes: tuple[str, ...]
    columns: tuple[str, ...]
    steps: int
    period: int
    dt: float
    recordings: tuple[str, ...]
    labels: tuple[str, ...]
    predicted: tuple[str, ...]
    valid: IntArray
    arrays: Mapping[str, NDArray[Any]]
    about: Mapping[str, Any]

    @staticmethod
    def of(
        account: Account,
        recordings: Sequence[str],
        labels: Sequence[str],
        predicted: Sequence[str],
        valid: IntArray,
        about: Mapping[str, Any],
    ) -> Audit:
        """The audit of an account; about: whatever the caller wants to be known of the run, JSON."""
        program = account.program
        return Audit(
            operations=tuple(o.name for o in program.operations),
            types=tuple(type(o).__name__ for o in program.operations),
            latencies=tuple(o.latency for o in program.operations),
            conventions=tuple(CONVENTIONS),
            causes=CAUSES,
            columns=COLUMNS,
            steps=program.steps,
            period=program.period,
            dt=program.dt,
            recordings=tuple(recordings),
            labels=tuple(labels),
            predicted=tuple(predicted),
            valid=np.asarray(valid, np.int64),
            arrays=account.arrays(),
            about=dict(about),
        )

    def save(self, path: Path) -> None:
        """Writes an .npz archive: the arrays, and `audit`, JSON with the rest; no pickled objects."""
        names = {key: value for key, value in vars(self).items() if key not in ("arrays", "valid")}
        text = json.dumps({"format": FORMAT, **names})
        with path.open("wb") as file:
            np.savez_compressed(file, audit=np.array(text), valid=self.valid, **self.arrays)

    @staticmethod
    def load(path: Path) -> Audit:
        """Reads what `save` wrote.

        Raises:
            SpikescrError: the file is damaged, or of another version.
        """
        again = "simulate again"
        try:
            if not is_zipfile(path):
                raise ValueError("no .npz archive")
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            names = dict(json.loads(str(arrays.pop("audit"))))
        except (OSError, TypeError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise SpikescrError(f"{path}: damaged ({error}); {again}") from error
        known = {"conventions": list(CONVENTIONS), "causes": list(CAUSES), "columns": list(COLUMNS)}
        if names.pop("format", None) != FORMAT or any(names.get(key) != value for key, value in known.items()):
            raise SpikescrError(f"{path}: was written by another version of spikescr; {again}")
        lists = {key: tuple(value) for key, value in names.items() if isinstance(value, list)}
        return Audit(**names | lists, valid=arrays.pop("valid"), arrays=arrays)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, as along the first axis of the moments."""
        return tuple(dict.fromkeys(layer_of(name) for name in self.operations))

    @property
    def samples(self) -> int:
        """Number of recordings."""
        return len(self.recordings)

    @property
    def accuracy(self) -> float:
        """Share of recordings whose class was predicted."""
        return float(np.mean([p == w for p, w in zip(self.predicted, self.labels, strict=True)]))

    def rows(self, layer: str) -> list[int]:
        """The operations of a layer."""
        return [row for row, name in enumerate(self.operations) if layer_of(name) == layer]

    def counts(self, column: str) -> IntArray:
        """A column of the counts, (operations, executed steps), sums over the recordings."""
        found: IntArray = self.arrays["table"][:, self.columns.index(column)]
        return found

    def charge(self, convention: str) -> FloatArray:
        """AC and MAC by a convention, (operations, 2), sums over the recordings."""
        found: FloatArray = self.arrays["charges"][:, self.conventions.index(convention)]
        return found

    def difference(self, start: str, end: str) -> FloatArray:
        """Charge of one convention minus that of another by cause, (operations, causes, 2)."""
        causes = self.arrays["charge_causes"]
        found: FloatArray = causes[:, self.conventions.index(end)] - causes[:, self.conventions.index(start)]
        return found

    def unexplained(self) -> float:
        """Operations of all conventions that the causes leave unexplained, to a millionth of an operation."""
        charges, causes = self.arrays["charges"], self.arrays["charge_causes"]
        executed = charges[:, [self.conventions.index("executed")]]
        return round(float(np.abs(charges - executed - causes.sum(axis=2)).sum()), 6)

    def moment(self, name: str) -> IntArray:
        """One of `account.MOMENTS`, (layers, executed steps), sums over the recordings."""
        found: IntArray = self.arrays["moments"][:, MOMENTS.index(name)]
        return found
