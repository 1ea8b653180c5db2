"""A module in PyTorch against its graph executed: every layer of neurons, step, neuron and sample."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import nir
import numpy as np
from numpy.typing import ArrayLike, NDArray

from spikescr import dialect
from spikescr.errors import GraphError, UsageError
from spikescr.export.module.reference import Observed, membrane, observe
from spikescr.export.record.step import FIRST
from spikescr.sim.backends import Options
from spikescr.sim.compare import Divergence, LayerComparison
from spikescr.sim.feed import fit
from spikescr.sim.program import Neuron, Program, Signal, Source
from spikescr.sim.recording import read_out
from spikescr.sim.steps.backend import StepBackend
from spikescr.sim.steps.neurons import NeuronStep
from spikescr.workflows.simulate import simulate
from spikescr.workflows.verification import Verification

if TYPE_CHECKING:
    from torch import nn

    from spikescr.export.record.step import Time
    from spikescr.sim.program import FloatArray
    from spikescr.sim.run import Run

TIE = 1e-9
"""How near a membrane is to its threshold, in thresholds, for rounding to decide: sums of some thousand weights."""


def time_of(graph: nir.NIRGraph) -> Time | None:
    """How steps reach the module that a graph was made of; None where it was made of none."""
    time: Time | None = _about(graph).get("time")
    return time


def _about(graph: nir.NIRGraph) -> dict[str, Any]:
    about: dict[str, Any] = json.loads(graph.metadata.get(dialect.MODEL, "{}"))
    return about


def verify_module(
    module: nn.Module, graph: nir.NIRGraph, x: ArrayLike, *, backend: str = "fast", batch_size: int | None = None
) -> Verification:
    """Runs a module in float64 and its graph on a backend, and compares every spike.

    Where spikes differ, the graph runs once more, and every membrane that meets its threshold within rounding takes
    the module's side of it: if no spike differs then, rounding explains all.

    Args:
        module: that the graph was made of.
        graph: what `to_nir` made of it.
        x: input (T, B, ...), T the graph's window; (B, ...) where its input is held.
        backend: of `spikescr.sim.backends.NAMES`.
        batch_size: samples at once, in the simulator.

    Raises:
        GraphError: the graph cannot be run, was not made of a module, or has neurons that the module does not have.
        UsageError: x has another shape.
    """
    time = time_of(graph)
    if time is None:
        raise GraphError(
            "the graph was not made of a module: its metadata do not tell how steps reach it; export again"
        )
    steps, tail = int(graph.metadata[dialect.STEPS]), int(graph.metadata.get(dialect.TAIL, 0))
    given = np.asarray(x, np.float64)
    fed = np.broadcast_to(given, (steps, *given.shape)) if time == "held" else given
    if len(fed) != steps - tail:
        raise UsageError(f"x must have {steps - tail} steps, the graph's window, has shape {given.shape}")
    run = simulate(graph, fed, backend=backend, record=("spikes",), batch_size=batch_size)
    widths = {o.name: o.width for o in run.program.of_type(Neuron)}
    about = _about(graph)
    axes = tuple(about.get("axes", FIRST))
    observed = observe(module, given, time, widths, steps, axes, about.get("output_axis"))
    missing = [
        name
        for name, node in graph.nodes.items()
        if name in widths and name not in observed.spikes and not isinstance(node, nir.Threshold)
    ]
    if missing:
        raise GraphError(f"the module has no neurons that the graph has: {', '.join(missing)}; is it another network?")
    layers, first = _compared(run.program, run.spikes, observed)
    differing = sum(layer.differing for layer in layers)
    explained, cause = _explained(run.program, fed, observed) if differing else (False, None)
    answers = _answers(run)
    expected = observed.answers.reshape(answers.shape)
    return Verification(
        reference="module, float64",
        backend=backend,
        samples=tuple(f"sample {position}" for position in range(run.samples)),
        layers=tuple(layers),
        divergence=first,
        membranes=None if first is None else _membranes(module, graph, given, first, widths, backend),
        logit_error=float(np.abs(answers - expected).max(initial=0.0)),
        differing_predictions=int((answers.argmax(-1) != expected.argmax(-1)).sum()),
        explained=differing if explained else 0,
        cause=cause,
    )


def _compared(
    program: Program, executed: Mapping[str, NDArray[np.bool_]], observed: Observed
) -> tuple[list[LayerComparison], Divergence | None]:
    """Layers in the order of execution; the first divergence in time."""
    layers: list[LayerComparison] = []
    first: Divergence | None = None
    for operation in program.of_type(Neuron):
        if operation.name not in observed.spikes:
            continue
        wanted = observed.spikes[operation.name]
        found = executed[operation.name][: len(wanted)]  # what fires behind a layer's last step reaches nobody
        differing = wanted != found
        layers.append(LayerComparison(operation.name, wanted.size, int(wanted.sum()), int(differing.sum())))
        if differing.any():
            step, sample, neuron = (int(i) for i in np.argwhere(differing)[0])
            if first is None or step < first.step:
                was = bool(found[step, sample, neuron])
                first = Divergence(operation.name, step, neuron, sample, expected=not was, executed=was)
    return layers, first


def _explained(program: Program, x: FloatArray, observed: Observed) -> tuple[bool, str | None]:
    """Whether no spike differs once ties are the module's to decide; how many there were, in words."""
    ties: dict[str, int] = {}

    class Settled(NeuronStep):
        def __call__(self, n: int, *arriving: Any) -> Any:
            spikes = super().__call__(n, *arriving)
            assert self.membrane is not None
            name, step = self.operation.name, n - (self.operation.latency or 0)
            if name not in observed.spikes or not 0 <= step < len(observed.spikes[name]):
                return spikes
            wanted = observed.spikes[name][step]
            near = np.abs(self.membrane - self.threshold) <= TIE * np.maximum(1.0, np.abs(self.threshold))
            turned = near & (wanted != (spikes != 0))
            if not turned.any():
                return spikes
            ties[name] = ties.get(name, 0) + int(turned.sum())
            fired = np.where(turned, wanted, spikes != 0)
            v = self.membrane
            self.v = np.where(fired, v - self.threshold if self.operation.soft else self.v_reset, v)
            return fired.astype(self.dtype)

    (source,) = (o for o in program.of_type(Source) if o.signal is not Signal.CLOCK)
    samples = x.shape[1]
    inputs, _ = fit(program, {source.name: x.reshape(len(x), samples, -1)}, "x")
    with StepBackend("settled", program, Options(samples), own={Neuron: Settled}) as steps:
        recording = steps.run({name: np.ascontiguousarray(array) for name, array in inputs.items()})
    late = {o.name: o.latency or 0 for o in program.of_type(Neuron)}
    spikes = {name: fired[late[name] : late[name] + program.steps] for name, fired in recording.spikes.items()}
    layers, _ = _compared(program, spikes, observed)
    told = ", ".join(f"{count} in {name}" for name, count in ties.items())
    if not ties or any(layer.differing for layer in layers):
        return False, None
    return (
        True,
        f"membranes that meet their threshold within rounding ({told}); with the module's side of it none differs",
    )


def _membranes(
    module: nn.Module, graph: nir.NIRGraph, x: FloatArray, d: Divergence, widths: Mapping[str, int], backend: str
) -> tuple[float, float] | None:
    """The module's and the executed membrane at a divergence, in thresholds: its sample runs once more, alone."""
    time, axes = time_of(graph), tuple(_about(graph).get("axes", FIRST))
    assert time is not None
    one = x[d.sample : d.sample + 1] if time == "held" else x[:, d.sample : d.sample + 1]
    told = membrane(module, one, time, d.layer, widths[d.layer], (d.step, d.neuron), axes)
    if told is None:
        return None
    expected, equation = told
    steps = int(graph.metadata[dialect.STEPS])
    fed = np.broadcast_to(one, (steps, *one.shape)) if time == "held" else one
    run = simulate(graph, fed, backend=backend, record=("v",))
    executed = float(run.membranes[d.layer][d.step, 0, d.neuron]) + equation.initial  # the node's starts at 0
    return expected / equation.threshold, executed / equation.threshold


def _answers(run: Run) -> FloatArray:
    """What the graph answers, (B, ...) flat as the module: by its readout over the steps, or of every step."""
    (outputs,) = run.outputs.values()
    readout = run.program.metadata.get(dialect.READOUT)
    if readout is None:
        return outputs.transpose(1, 0, 2).reshape(run.samples, -1)
    return read_out(str(readout), outputs, np.full(run.samples, len(outputs)))
