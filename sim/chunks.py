"""A chunk of a run: some samples simulated, what they gave, small enough to keep and to send."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikescr.archive import Field, read_archive
from spikescr.errors import SpikescrError
from spikescr.sim.backends import Backend, compared
from spikescr.sim.counting.account import Account
from spikescr.sim.counting.early_exit import ExitRule, Progress, leave
from spikescr.sim.counting.facts import SampleFacts
from spikescr.sim.program import FloatArray, IntArray, Neuron, Program, Sink
from spikescr.sim.run import Batch, run_batches, write_data

_ACCOUNT = "account."  # before the names of an account's arrays in a file

_FIELDS = {
    "key": Field("U"),
    "answers": Field("f", ("samples", "classes")),
    "valid": Field("i", ("samples",), lowest=1),
    "compared": Field("i", (2,), lowest=0),
    "differing": Field("i", (2,), lowest=0),
    "seconds": Field("f", lowest=0),
    "build_seconds": Field("f", lowest=0),
    "left_out": Field("U", ("left out", 2)),
    "exits": Field("i", ("exits", 4)),
}
"""What a file of a chunk must hold beside the account."""

Readout = Callable[[FloatArray, IntArray], FloatArray]


@dataclass(frozen=True)
class ChunkResult:
    """Sums and answers of one chunk.

    Attributes:
        account: what Account.arrays gave.
        answers: readout (n, K).
        valid: valid steps (n,).
        compared: neuron-steps and counts compared between two backends (2,); zeros where one backend ran.
        differing: those of them that differ (2,).
        seconds: time in the backend.
        build_seconds: time that building the backend took, 0 where one was there already.
        key: of the simulation that it is a part of.
        left_out: name and fault of each sample that could not be read, text (n, 2).
        exits: how each sample ended under a rule of early exit, as `Exits.table`, (n, 4); no rows without a rule.
    """

    account: Mapping[str, NDArray[Any]]
    answers: FloatArray
    valid: IntArray
    compared: IntArray
    differing: IntArray
    seconds: float
    build_seconds: float
    key: str = ""
    left_out: NDArray[np.str_] = field(default_factory=lambda: np.empty((0, 2), np.str_))
    exits: IntArray = field(default_factory=lambda: np.empty((0, 4), np.int64))

    def save(self, path: Path) -> None:
        """Writes an .npz archive without pickled objects."""
        with path.open("wb") as file:
            sums = {_ACCOUNT + name: array for name, array in self.account.items()}
            np.savez(file, **sums, **{name: value for name, value in vars(self).items() if name != "account"})

    @staticmethod
    def load(path: Path, account: Mapping[str, NDArray[Any]], remedy: str) -> ChunkResult:
        """Reads what `save` wrote.

        Args:
            path: the file.
            account: arrays of an empty account of the same program.
            remedy: what to do about a file that cannot be used.

        Raises:
            SpikescrError: the file is damaged, or something in it is missing or not as it must be.
        """
        sums = {_ACCOUNT + name: Field.like(array, name) for name, array in account.items()}
        arrays: dict[str, Any] = read_archive(path, _FIELDS | sums, remedy)
        fields = {name: array for name, array in arrays.items() if not name.startswith(_ACCOUNT)}
        fields["account"] = {
            name.removeprefix(_ACCOUNT): array for name, array in arrays.items() if name.startswith(_ACCOUNT)
        }
        fault = SampleFacts.fault(fields["account"])
        if fault is not None:
            raise SpikescrError(f"{path}: {fault}; {remedy}")
        numbers = {name: float(fields[name]) for name in ("seconds", "build_seconds")}
        return ChunkResult(**fields | numbers | {"key": str(fields["key"])})


def read_key(path: Path, remedy: str) -> str:
    """The key of a chunk's file; arguments and errors as of `ChunkResult.load`."""
    return str(read_archive(path, {"key": _FIELDS["key"]}, remedy)["key"])


class SpikeRecorder:
    """Collects the spikes of a chunk, for NIR's own data format."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._spikes: dict[str, list[NDArray[np.bool_]]] = {o.name: [] for o in program.of_type(Neuron)}

    def __call__(self, batch: Batch) -> None:
        """Keeps the spikes of a batch."""
        for name, kept in self._spikes.items():
            kept.append(batch.recording.spikes[name])

    def write(self, path: Path) -> None:
        """Writes `spikes` of every neuron at executed steps, see `run.write_data`."""
        spikes = {name: np.concatenate(kept, axis=1) for name, kept in self._spikes.items()}
        write_data(path, "spikes", spikes, self.program)


def run_chunk(
    program: Program,
    backend: Backend,
    values: NDArray[np.floating],
    valid: IntArray,
    readout: Readout,
    observe: Callable[[Batch], None] | None = None,
    until_sure: ExitRule | None = None,
) -> ChunkResult:
    """Simulates some samples and accounts for them.

    Args:
        program: what the backend runs.
        backend: built for it; a CrossCheck is asked for what it found.
        values: (samples, T, C).
        valid: valid steps (samples,).
        readout: from outputs (T, B, K) and valid steps to one answer per sample (B, K).
        observe: sees every batch.
        until_sure: when an answer is settled; how samples ended then stands in `exits`.
    """
    account, answers, exits = Account(program), [], list[IntArray]()
    begin = time.perf_counter()
    for batch in run_batches(program, backend, values, valid):
        account.add(batch.recording.counts, batch.valid, batch.output)
        answers.append(readout(batch.output, batch.valid))
        if until_sure is not None:
            progress = Progress.of(program, batch.recording.counts, batch.output, batch.valid)
            exits.append(leave(progress, until_sure).table)
        if observe is not None:
            observe(batch)
        del batch  # so that the fast backend can use its memory for the next one
    both, differing = compared(backend)
    return ChunkResult(
        account=account.arrays(),
        answers=np.concatenate(answers) if answers else np.zeros((0, program.of_type(Sink)[0].width)),
        valid=valid,
        compared=both,
        differing=differing,
        seconds=time.perf_counter() - begin,
        build_seconds=0.0,
        exits=np.concatenate([np.empty((0, 4), np.int64), *exits]),
    )
