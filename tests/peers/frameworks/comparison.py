"""One graph, what a framework fired on an input, what our backends fire on it, and why where they differ."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal

import nir
import numpy as np
from numpy.typing import NDArray

from spikescr.sim.fast.backend import FastBackend
from spikescr.sim.lava.backend import LavaBackend
from spikescr.sim.lowering.lower import lower
from spikescr.sim.lowering.neurons import Integration
from spikescr.sim.program import Neuron, Program, Signal
from spikescr.sim.recording import Recording

Spikes = Mapping[str, NDArray[np.bool_]]
BackendName = Literal["fast", "lava"]
BACKENDS: tuple[BackendName, ...] = ("fast", "lava")


@dataclass(frozen=True)
class Case:
    """A graph that a framework has executed.

    graph: what was executed, in words. peer, version: by whom. way: "exported", their graph run by us, or "imported",
    ours run by them, or "recorded". nir: the graph, dt: seconds per step. x: its input (T, B, *shape). spikes: what the
    peer fired, neuron (name of the NIR node) -> (T, B, N). reason: why our spikes are expected to differ, "" where they
    are not; mended: the graph in which the reason is put right, without any difference left.
    """

    graph: str
    peer: str
    version: str
    way: Literal["exported", "imported", "recorded"]
    nir: nir.NIRGraph
    dt: float
    x: NDArray[np.float64]
    spikes: Spikes
    reason: str = ""
    mended: nir.NIRGraph | None = None


@dataclass(frozen=True)
class Row:
    """A comparison on one backend.

    differing: spikes that are ours and not theirs or theirs and not ours. explained: those of them that are gone in the
    mended graph. margin: least distance of a membrane of ours from its threshold, in thresholds; rounding far below it
    cannot move a spike. rates: of the peer's layers. ac, mac: per sample. membrane: largest difference of membranes
    from the peer's, where it told them.
    """

    graph: str
    peer: str
    version: str
    way: str
    backend: BackendName
    neurons: int
    steps: int
    samples: int
    differing: int
    explained: int
    reason: str
    margin: float
    rates: dict[str, float] = field(default_factory=dict)
    ac: float = 0.0
    mac: float = 0.0
    membrane: float | None = None

    @property
    def neuron_steps(self) -> int:
        """Neurons x steps x samples: spikes and silences compared."""
        return self.neurons * self.steps * self.samples


def execute(
    graph: nir.NIRGraph,
    x: NDArray[np.float64],
    dt: float,
    backend: BackendName,
    integration: Integration = "euler",
) -> tuple[Program, Recording]:
    """Runs a graph of one input x (T, B, *shape), float64, with all membranes. Whole numbers, 0 or more, are spikes."""
    events = bool(((x >= 0) & (x == np.floor(x))).all())
    signal = Signal.SPIKES if events else Signal.VALUES
    program = lower(graph, dt=dt, steps=len(x), integration=integration, input_signal=signal)
    (name,) = (node for node, kind in graph.nodes.items() if isinstance(kind, nir.Input))
    kind: Callable[..., Any] = {"fast": FastBackend, "lava": LavaBackend}[backend]
    with closing(kind(program, x.shape[1], record_membranes=True)) as running:
        return program, running.run({name: np.ascontiguousarray(x.reshape(*x.shape[:2], -1), np.float64)})


def differing(recording: Recording, spikes: Spikes) -> int:
    """Spikes of one that are not the other's, over all neurons of `spikes`."""
    return sum(int(np.count_nonzero(recording.spikes[name] != theirs)) for name, theirs in spikes.items())


def margin(program: Program, recording: Recording, names: Sequence[str]) -> float:
    """Least distance of a membrane from its threshold, in thresholds."""
    least = np.inf
    for name in names:
        neuron = program[name]
        assert isinstance(neuron, Neuron)
        distance = np.abs(recording.membranes[name] - neuron.threshold) / np.abs(neuron.threshold)
        least = min(least, float(distance.min()))
    return least


def compare(case: Case, backend: BackendName) -> Row:
    """Runs a case on one backend, as it is, and mended where it says how."""
    program, recording = execute(case.nir, case.x, case.dt, backend)
    found = differing(recording, case.spikes)
    left = found
    if case.mended is not None:
        left = differing(execute(case.mended, case.x, case.dt, backend)[1], case.spikes)
    steps, samples = case.x.shape[:2]
    return Row(
        graph=case.graph,
        peer=case.peer,
        version=case.version,
        way=case.way,
        backend=backend,
        neurons=sum(theirs.shape[2] for theirs in case.spikes.values()),
        steps=steps,
        samples=samples,
        differing=found,
        explained=found if left == 0 else 0,
        reason=case.reason,
        margin=margin(program, recording, list(case.spikes)),
        rates={name: float(theirs.mean()) for name, theirs in case.spikes.items()},
        ac=recording.counts.total("ac") / samples,
        mac=recording.counts.total("mac") / samples,
    )


def changed(graph: nir.NIRGraph, change: Callable[[str, nir.NIRNode], None]) -> nir.NIRGraph:
    """A copy in which `change(name, node)` has seen, and may have altered, every node."""
    copied = copy.deepcopy(graph)
    for name, node in copied.nodes.items():
        change(name, node)
    return copied


def events(seed: int, steps: int, samples: int, *shape: int, rate: float = 0.3) -> NDArray[np.float64]:
    """Independent spikes (T, B, *shape)."""
    rng = np.random.default_rng(seed)
    return (rng.random((steps, samples, *shape)) < rate).astype(np.float64)
