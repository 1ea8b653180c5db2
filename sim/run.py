"""Runs a Program over all samples, batch by batch, on any backend: recordings, or whatever any graph takes."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from spikescr.errors import DataError, GraphError
from spikescr.sim.backends import Backend
from spikescr.sim.counting.energy import EnergyCost
from spikescr.sim.program import FloatArray, IntArray, Neuron, Program, Signal, Sink, Source
from spikescr.sim.recording import KINDS, Recording

COUNT_FIELDS = ("operation", "type", "latency", "step", *KINDS)


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
    """
    inputs = values if isinstance(values, Mapping) else _recordings(program, values)
    clocks = [o.name for o in program.of_type(Source) if o.signal is Signal.CLOCK and o.name not in inputs]
    for start in range(0, len(valid), backend.batch):
        samples = slice(start, min(start + backend.batch, len(valid)))
        steps = valid[samples]
        given = {name: np.ascontiguousarray(array[:, samples], np.float64) for name, array in inputs.items()}
        ticks = (np.arange(program.steps)[:, None] < steps).astype(np.float64)[..., None]
        yield _executed(program, backend.run(given | dict.fromkeys(clocks, ticks)), samples, steps)


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
    return Batch(samples, valid, recording, outputs)


def _one(names: Sequence[str], what: str) -> str:
    if len(names) != 1:
        raise GraphError(f"the graph must have one {what}, found: {', '.join(names) or 'none'}")
    return names[0]


@dataclass
class GraphRun:
    """What a Program did on all samples.

    table: counts (operations, KINDS, executed steps), sums over the samples. outputs: sink -> (T, B, N), from its
    latency on where the graph tells it. spikes, membranes: neuron -> (P, B, N), where they were asked for.
    """

    program: Program
    samples: int = 0
    table: IntArray = field(init=False)
    outputs: dict[str, FloatArray] = field(default_factory=dict)
    spikes: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    membranes: dict[str, FloatArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.table = np.zeros((len(self.program.operations), len(KINDS), self.program.period), np.int64)

    def rows(self) -> Iterator[tuple[str | int, ...]]:
        """One row for every operation and executed step, sums over all samples; fields COUNT_FIELDS."""
        for row, operation in enumerate(self.program.operations):
            latency = "" if operation.latency is None else operation.latency
            for step, counts in enumerate(self.table[row].T):
                yield operation.name, type(operation).__name__, latency, step, *map(int, counts)

    def totals(self) -> dict[str, int]:
        """Sum of every kind of count."""
        return dict(zip(KINDS, self.table.sum(axis=(0, 2)).tolist(), strict=True))

    def operations(self, cost: EnergyCost) -> list[dict[str, Any]]:
        """Counts and energy of every operation that counted something.

        Fields: operation, type, every kind of count, `firing_rate` (spikes per neuron and step; None where nothing
        fires), `events_j`.
        """
        found = []
        for row, operation in enumerate(self.program.operations):
            counts = dict(zip(KINDS, self.table[row].sum(axis=1).tolist(), strict=True))
            if any(counts.values()):
                fires = isinstance(operation, Neuron) and counts["neuron"]
                rate = counts["fired"] / counts["neuron"] if fires else None
                name = {"operation": operation.name, "type": type(operation).__name__}
                joules = cost.joules(counts["ac"], counts["mac"])
                found.append({**name, **counts, "firing_rate": rate, "events_j": joules})
        return found

    def write_data(self, path: Path, observable: str) -> None:
        """Writes NIRGraphData: for every neuron `spikes`, bool, or `v`, (B, P, N), which `nir.read_data` reads."""
        kept: Mapping[str, NDArray[Any]] = self.spikes if observable == "spikes" else self.membranes
        nodes = {
            name: nir.NIRNodeData({observable: nir.TimeGriddedData(data.transpose(1, 0, 2), self.program.dt)})
            for name, data in kept.items()
        }
        nir.write_data(path, nir.NIRGraphData(nodes))


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes an .npz archive; unlike np.savez it takes arrays of any name."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def fit(program: Program, inputs: Mapping[str, FloatArray], where: str) -> dict[str, FloatArray]:
    """Inputs for every source over the program's steps, (T, B, width).

    Shorter ones are followed by zeros. A clock that is not there ticks as long as the inputs last.

    Args:
        program: what they are for.
        inputs: as read_inputs gives them.
        where: they come from, for messages.

    Raises:
        DataError: the inputs last longer than the window, or do not carry what the program takes them for.
    """
    steps, samples = next(iter(inputs.values())).shape[:2]
    if steps > program.steps:
        raise DataError(f"{where}: lasts {steps} steps, the graph's window is {program.steps}")
    fitted = {}
    for source in program.of_type(Source):
        if source.name not in inputs and source.signal is not Signal.CLOCK:
            raise DataError(f"{where}: has nothing for the input {source.name!r}")
        given = inputs.get(source.name, np.ones((steps, samples, source.width)))
        allowed = {Signal.SPIKES: (given >= 0) & (given == np.floor(given)), Signal.CLOCK: np.isin(given, (0, 1))}
        fits = allowed.get(source.signal, np.True_)
        if not np.all(fits):
            step, sample, channel = np.argwhere(~fits)[0]
            what = "whole numbers, 0 or more" if source.signal is Signal.SPIKES else "0 or 1"
            raise DataError(
                f"{where}: {source.name!r} carries {source.signal.value}, must be {what}; it is "
                f"{given[step, sample, channel]:g} at step {step}, sample {sample}, channel {channel}"
            )
        fitted[source.name] = np.concatenate([given, np.zeros((program.steps - steps, *given.shape[1:]))])
    return fitted


def run_graph(
    program: Program,
    backend: Backend,
    inputs: Mapping[str, FloatArray],
    *,
    record: tuple[str, ...] = (),
    advance: Callable[[int], None] = lambda done: None,
) -> GraphRun:
    """Runs all samples.

    Args:
        program: what the backend runs.
        backend: built for it, with what it takes to give what is to be recorded.
        inputs: of every source (T, B, width), T the program's steps.
        record: of `spikes` and `v`, what to keep.
        advance: told how many samples are done.
    """
    samples = next(iter(inputs.values())).shape[1]
    run = GraphRun(program, samples)
    parts: list[tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]] = []
    for batch in run_batches(program, backend, inputs, np.full(samples, program.steps)):
        recording = batch.recording
        run.table += recording.counts.table.sum(axis=-1)
        spikes = recording.spikes if "spikes" in record else {}
        parts.append((batch.outputs, spikes, recording.membranes if "v" in record else {}))
        advance(len(batch.valid))
    for kept, index in ((run.outputs, 0), (run.spikes, 1), (run.membranes, 2)):
        for name in parts[0][index]:
            kept[name] = np.concatenate([part[index][name] for part in parts], axis=1)
    return run
