"""Runs a Program over all samples, batch by batch, on any backend: recordings, or whatever any graph takes."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from spikescr.errors import BackendError, GraphError, UsageError
from spikescr.files import in_memory, replacing
from spikescr.sim.backends import Backend, compared, quiet
from spikescr.sim.counting.account import Account
from spikescr.sim.counting.counts import Counts
from spikescr.sim.counting.energy import DEFAULT_COST, EnergyCost
from spikescr.sim.counting.saved import Audit
from spikescr.sim.labels import Readout
from spikescr.sim.program import FloatArray, IntArray, Program, Signal, Sink, Source
from spikescr.sim.recording import Recording
from spikescr.tables import ShortTable, ShowsTable


@dataclass(frozen=True)
class Batch:
    """One executed batch.

    samples: positions of its samples. valid: their valid steps (B,). recording: what they did. outputs: sink ->
    (T, B, K) at the samples' own steps, from the sink's latency on where the graph tells it.
    """

    samples: slice
    valid: IntArray
    recording: Recording
    outputs: Mapping[str, FloatArray]

    @property
    def output(self) -> FloatArray:
        """The only output, (T, B, K).

        Raises:
            GraphError: there are several.
        """
        return self.outputs[_one(tuple(self.outputs), "output")]


def run_batches(
    program: Program, backend: Backend, values: NDArray[np.floating] | Mapping[str, FloatArray], valid: IntArray
) -> Iterator[Batch]:
    """Streams samples through a backend.

    Args:
        program: what the backend runs.
        backend: built for this program.
        values: recordings (samples, T, C) for the only data input of a program with one output; or every input by its
            name, (T, samples, width). Zero on padded steps. A clock that is not there ticks on the valid steps.
        valid: valid steps of each sample (samples,).

    Raises:
        GraphError: recordings are given and the program has other inputs or outputs, or they do not fit it.
        BackendError: the run failed, or an output is not finite.
    """
    inputs = values if isinstance(values, Mapping) else _recordings(program, values)
    clocks = [o.name for o in program.of_type(Source) if o.signal is Signal.CLOCK and o.name not in inputs]
    for start in range(0, len(valid), backend.batch):
        samples = slice(start, min(start + backend.batch, len(valid)))
        steps = valid[samples]
        given = {name: np.ascontiguousarray(array[:, samples], np.float64) for name, array in inputs.items()}
        ticks = (np.arange(program.steps)[:, None] < steps).astype(np.float64)[..., None]
        with quiet():
            recording = backend.run(given | dict.fromkeys(clocks, ticks))
        yield _executed(program, recording, samples, steps)


def _recordings(program: Program, values: NDArray[np.floating]) -> dict[str, FloatArray]:
    sources = {o.name: o for o in program.of_type(Source) if o.signal is not Signal.CLOCK}
    data = sources[_one(tuple(sources), "data input")]
    _one(tuple(o.name for o in program.of_type(Sink)), "output")
    if values.shape[1:] != (program.steps, data.width):
        raise GraphError(
            f"{data.name}: takes ({program.steps} steps, {data.width} channels), the data has {values.shape[1:]}"
        )
    return {data.name: values.transpose(1, 0, 2)}


def _executed(program: Program, recording: Recording, samples: slice, valid: IntArray) -> Batch:
    late = {sink.name: sink.latency or 0 for sink in program.of_type(Sink)}
    outputs = {name: recording.outputs[name][first : first + program.steps] for name, first in late.items()}
    for name, values in outputs.items():
        if not np.isfinite(values).all():
            step, sample, channel = np.argwhere(~np.isfinite(values))[0]
            raise BackendError(
                f"{name} at step {step}: channel {channel} of sample {samples.start + sample} is "
                f"{values[step, sample, channel]}"
            )
    return Batch(samples, valid, recording, outputs)


def _one(names: Sequence[str], what: str) -> str:
    if len(names) != 1:
        raise GraphError(f"the graph must have one {what}, found: {', '.join(names) or 'none'}")
    return names[0]


@dataclass(frozen=True, repr=False)
class Run(ShowsTable):
    """What a graph did with some samples: outputs, spikes, counts and energy.

    Axes are (T, B, N) throughout, T the steps of the window, B the samples. Spikes and outputs stand at the samples'
    own steps: what a neuron of latency d (as the graph states it) did at executed step t + d stands at t. `print` and
    notebooks show a short table.

    Attributes:
        program: what was executed.
        outputs: Output's name -> float64 (T, B, N).
        answers: what the readout made of the only output, (B, N); None where nothing tells a readout.
        audit: all counts; `energy`, `why`, `counts` and `save` are its own.
        executed: "spikes" and "v", where they were to be recorded -> neuron -> (P, B, N) at executed steps.
        compared: spikes and counts (2,) that two backends were compared in; zeros where one ran.
        differing: those that differ.
        batch: samples at once.
        seconds: time that it took, building the backend included.
    """

    program: Program
    outputs: Mapping[str, FloatArray]
    answers: FloatArray | None
    audit: Audit
    executed: Mapping[str, Mapping[str, NDArray[Any]]]
    compared: IntArray
    differing: IntArray
    batch: int
    seconds: float

    @property
    def samples(self) -> int:
        """Number of samples, B."""
        return self.audit.samples

    @property
    def accuracy(self) -> float | None:
        """Share of samples whose class was predicted; None without labels."""
        return self.audit.accuracy

    @property
    def spikes(self) -> dict[str, NDArray[np.bool_]]:
        """Neuron -> whether it fired, (T, B, N); every neuron of the graph.

        Raises:
            UsageError: spikes were not recorded.
        """
        return self._own_steps("spikes")

    @property
    def membranes(self) -> dict[str, FloatArray]:
        """Neuron or leaky sum -> v after the update and before the reset, (T, B, N).

        Raises:
            UsageError: membranes were not recorded.
        """
        return self._own_steps("v")

    def _own_steps(self, observable: str) -> dict[str, NDArray[Any]]:
        if observable not in self.executed:
            raise UsageError(f"{observable} was not recorded; give record=({observable!r},)")
        late = {name: self.program[name].latency or 0 for name in self.executed[observable]}
        window = self.program.steps
        return {n: array[late[n] : late[n] + window] for n, array in self.executed[observable].items()}

    @property
    def counts(self) -> Counts:
        """Counts by operation and executed step, sums over the samples."""
        return self.audit.counts

    def energy(self, convention: str = "executed", cost: str | EnergyCost = DEFAULT_COST) -> FloatArray:
        """Energy of each sample by a convention of counting, J, (B,); see `Audit.energy`."""
        return self.audit.energy(convention, cost)

    def why(self, start: str, end: str, cost: str | EnergyCost = DEFAULT_COST) -> dict[str, FloatArray]:
        """Why the energy of one convention is not that of another: cause -> J of each sample (B,); see `Audit.why`."""
        return self.audit.why(start, end, cost)

    def save(self, path: Path | str) -> None:
        """Writes its audit as a whole or not at all; `spikescr.audit`, `energy` and `report` read it."""
        with replacing(Path(path)) as temporary:
            self.audit.save(temporary)

    def short_table(self) -> ShortTable:
        """What its audit shows, and the outputs."""
        outputs = ", ".join(f"{name} {array.shape}" for name, array in self.outputs.items())
        told = f"{len(self.program.operations)} operations; outputs (T, B, N): {outputs}"
        return replace(self.audit.short_table(), notes=(told,))


def run_graph(
    program: Program,
    backend: Backend,
    inputs: Mapping[str, FloatArray],
    valid: IntArray,
    *,
    record: Collection[str] = (),
    advance: Callable[[int], None] = lambda done: None,
    about: Mapping[str, Any] | None = None,
    readout: Readout | None = None,
    labels: IntArray | None = None,
) -> Run:
    """Runs all samples and accounts for them.

    Args:
        program: what the backend runs.
        backend: built for it, with what it takes to give what is to be recorded.
        inputs: of the sources (T, B, width), T the program's steps, as `run_batches` takes them.
        valid: valid steps of each sample (B,).
        record: of `spikes` and `v`, what to keep.
        advance: told how many more samples are done.
        about: what the audit is to say of the run, JSON.
        readout: what makes one answer of the only output.
        labels: classes of the samples (B,); a readout is there then.
    """
    begin, account = time.perf_counter() - backend.build_seconds, Account(program)
    answers: list[FloatArray] = []
    outputs: dict[str, list[FloatArray]] = {sink.name: [] for sink in program.of_type(Sink)}
    kept: dict[str, dict[str, list[NDArray[Any]]]] = {observable: {} for observable in record}
    for batch in run_batches(program, backend, inputs, valid):
        recording = batch.recording
        if readout is None:
            account.add(recording.counts, batch.valid)
        else:
            account.add(recording.counts, batch.valid, batch.output, readout.name)
            answers.append(readout.answers(batch.output, batch.valid))
        for name, array in batch.outputs.items():
            outputs[name].append(array)
        for observable, parts in kept.items():
            told: Mapping[str, NDArray[Any]] = recording.spikes if observable == "spikes" else recording.membranes
            for name, kept_array in told.items():
                parts.setdefault(name, []).append(kept_array)
        advance(len(batch.valid))
    compare, differ = compared(backend)
    answer = np.concatenate(answers) if answers else None
    classes: dict[str, tuple[str, ...]] = {}
    if labels is not None and readout is not None and answer is not None:
        classes = {"labels": readout.named(labels), "predicted": readout.named(answer.argmax(axis=1))}
    return Run(
        program=program,
        outputs={name: np.concatenate(parts, axis=1) for name, parts in outputs.items()},
        answers=answer,
        audit=Audit.from_account(account, tuple(map(str, range(len(valid)))), **classes, about=about),
        executed={o: {n: np.concatenate(parts, axis=1) for n, parts in k.items()} for o, k in kept.items()},
        compared=compare,
        differing=differ,
        batch=backend.batch,
        seconds=time.perf_counter() - begin,
    )


def write_data(path: Path, observable: str, kept: Mapping[str, NDArray[Any]], program: Program) -> None:
    """Writes NIRGraphData: of every neuron `spikes` or `v`, from (P, B, N), as (B, P, N); `nir.read_data` reads it.

    Nested graphs are nested there too, as NIR's format has it (`nir.write_data` of nir 1.0.8 does not end on them).
    """

    def write(stream: io.BytesIO) -> None:
        with h5py.File(stream, "w") as file:
            file.attrs["__type__"] = "NIRGraphData"
            file.create_group("nodes")
            for name, data in kept.items():
                within: h5py.Group = file
                *around, own = program.nested.get(name, (name,))
                for graph in around:
                    within = within["nodes"].require_group(graph)
                    within.attrs["__type__"] = "NIRGraphData"
                    within.require_group("nodes")
                node = within["nodes"].create_group(own)
                node.attrs["__type__"] = "NIRNodeData"
                grid = node.create_group(f"observables/{observable}")
                grid.attrs["__type__"] = "TimeGriddedData"
                grid.create_dataset("data", data=data.transpose(1, 0, 2), compression="gzip")
                grid.attrs["dt"] = program.dt

    path.write_bytes(in_memory(write))


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes an .npz archive; unlike np.savez it takes arrays of any name."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
