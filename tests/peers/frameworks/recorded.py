"""One LIF on ten platforms: the traces that the NIR paper published, each reproduced to rounding.

Files: `lif_norse.nir` (Affine 1x1 and one LIF, tau 2.5 ms, threshold 0.1) and a CSV for each platform with a row per
step of 0.1 ms: input, membrane, spike. From J. E. Pedersen et al., "Neuromorphic intermediate representation: a unified
instruction set for interoperable brain-inspired computing", Nature Communications 15 (2024), and its repository.

Each platform has a graph whose run gives its spikes and membrane: the published one, or one with what the platform does
besides. All fire four times in 100 ms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from frameworks.comparison import BackendName, Case, Row, compare, execute
from spikescr.sim.lowering.graph_file import read_graph
from spikescr.sim.lowering.neurons import Integration
from spikescr.sim.program import Neuron, Program
from spikescr.sim.recording import Recording

DT = 1e-4
PAPER = "NIR paper"
AFFINE, LIF = "0", "1"  # the nodes of lif_norse.nir


@dataclass(frozen=True)
class Trace:
    """Columns of a CSV, (T,) each."""

    x: NDArray[np.float64]
    membrane: NDArray[np.float64]
    spikes: NDArray[np.bool_]


@dataclass(frozen=True)
class Platform:
    """A recorded platform and what explains it.

    file: CSV. graph: made of the published one, what the platform executes. membrane: its membrane column, made of a
    run of that graph. tolerance: within which it is met. reason: why our spikes or membrane differ from the plain run.
    """

    file: str
    name: str
    membrane: Callable[[Program, Recording], NDArray[np.float64]]
    tolerance: float
    reason: str
    graph: Callable[[nir.NIRGraph], nir.NIRGraph] = lambda graph: graph
    integration: Integration = "euler"


def read(folder: Path, platform: Platform) -> Trace:
    """The trace of a platform."""
    x, membrane, spikes = np.loadtxt(folder / platform.file, delimiter=",").T
    return Trace(x, membrane, spikes != 0)


def published(folder: Path) -> nir.NIRGraph:
    """The graph that all platforms were given."""
    return read_graph(folder / "lif_norse.nir")


def after_reset(program: Program, recording: Recording) -> NDArray[np.float64]:
    """The membrane that a step leaves behind."""
    neuron = program[LIF]
    assert isinstance(neuron, Neuron)
    before = recording.membranes[LIF][:, 0, 0]
    left: NDArray[np.float64] = np.where(recording.spikes[LIF][:, 0, 0], neuron.v_reset[0], before)
    return left


def in_units_of_input(program: Program, recording: Recording) -> NDArray[np.float64]:
    """The same over r dt / tau: snnTorch has no r, its importer divides the threshold instead of the weights."""
    neuron = program[LIF]
    assert isinstance(neuron, Neuron)
    return after_reset(program, recording) / neuron.gain[0]


def second_output(_program: Program, recording: Recording) -> NDArray[np.float64]:
    """What the output "v" carries."""
    return recording.outputs["v"][:, 0, 0]


def a_step_late(graph: nir.NIRGraph) -> nir.NIRGraph:
    """With a Delay of a step before the neuron, the step that a message takes between two Lava processes."""
    nodes = {**graph.nodes, "message": nir.Delay(np.array([DT]))}
    edges = [edge for edge in graph.edges if edge != (AFFINE, LIF)] + [(AFFINE, "message"), ("message", LIF)]
    return nir.NIRGraph(nodes, edges, type_check=False)


def subtracting_late(graph: nir.NIRGraph) -> nir.NIRGraph:
    """v = beta v + g x - threshold z', z' = (v of the step before > threshold), and z' is what is put out.

    In NIR: an LI, a Threshold and a Delay of a step behind it, and a Linear back that takes the threshold off.
    """
    lif = graph.nodes[LIF]
    threshold = np.asarray(lif.v_threshold, np.float64)
    gain = np.asarray(lif.r, np.float64) * DT / np.asarray(lif.tau, np.float64)
    nodes = {
        **{name: node for name, node in graph.nodes.items() if name != LIF},
        "membrane": nir.LI(lif.tau, lif.r, lif.v_leak),
        "late": nir.Delay(np.array([DT])),
        LIF: nir.Threshold(threshold),
        "reset": nir.Linear(np.atleast_2d(-threshold / gain)),
        "v": nir.Output(np.array([1])),
    }
    ways = [(AFFINE, "membrane"), ("membrane", "late"), ("late", LIF), (LIF, "reset"), ("reset", "membrane")]
    edges = [edge for edge in graph.edges if LIF not in edge] + [*ways, (LIF, "output"), ("membrane", "v")]
    return nir.NIRGraph(nodes, edges, type_check=False)


def exact(graph: nir.NIRGraph, x: NDArray[np.float64]) -> Trace:
    """tau dv/dt = r x - v for an input that is constant over each step, reset to 0 when the threshold is met.

    The time of a spike within its step is found from the solution, and what is left of the step is integrated from 0.
    A step in which several spikes fall does not occur here.
    """
    lif = graph.nodes[LIF]
    tau, r, threshold = (float(np.asarray(value).item()) for value in (lif.tau, lif.r, lif.v_threshold))
    v, membrane, spikes = 0.0, [], []
    for drive in r * x:
        end = drive + (v - drive) * np.exp(-DT / tau)
        fires = end > threshold
        if fires:
            elapsed = tau * np.log((v - drive) / (threshold - drive))
            end = drive * -np.expm1(-(DT - elapsed) / tau)
        v = end
        membrane.append(v)
        spikes.append(fires)
    return Trace(x, np.array(membrane), np.array(spikes))


PLATFORMS = {
    platform.name: platform
    for platform in (
        Platform("lif_norse.csv", "Norse", after_reset, 1e-7, "float32"),
        Platform(
            "lif_snntorch.csv", "snnTorch", in_units_of_input, 2e-6,
            "membrane in units of the input, over r dt / tau = 1/25; float32",
        ),
        Platform(
            "lif_lava_cpu_float.csv", "Lava, CPU", after_reset, 1e-7,
            "a step between processes; with a Delay of a step before the LIF the same", a_step_late,
        ),
        Platform(
            "lif_spyx.csv", "Spyx", second_output, 1e-7,
            "compares the membrane of the step before and subtracts the threshold; as LI, Delay, Threshold the same",
            subtracting_late,
        ),
    )
}  # fmt: skip
EXACT = Platform(
    "lif_exact.csv", "exact solution", after_reset, 1e-8,
    "resets within the step; membrane equal where the closed form has the spike's own time",
    integration="exponential",
)  # fmt: skip


def case(folder: Path, platform: Platform) -> Case:
    """The published graph, the recorded spikes, and the graph that explains them."""
    graph, trace = published(folder), read(folder, platform)
    made: dict[str, Any] = {"way": "recorded", "nir": graph, "dt": DT, "x": trace.x[:, None, None]}
    spikes = {LIF: trace.spikes[:, None, None]}
    return Case("one LIF", platform.name, PAPER, **made, spikes=spikes, reason=platform.reason,
                mended=platform.graph(graph))  # fmt: skip


def rows(folder: Path, backend: BackendName) -> list[Row]:
    """Every platform, its spikes and its membrane; differences are explained only where the membrane is met too."""
    found = []
    for platform in (*PLATFORMS.values(), EXACT):
        made, trace = case(folder, platform), read(folder, platform)
        assert made.mended is not None
        if platform is EXACT:
            membrane = exact(made.nir, trace.x).membrane
        else:
            membrane = platform.membrane(*execute(made.mended, made.x, DT, backend, platform.integration))
        off = float(np.abs(membrane - trace.membrane).max())
        row = compare(made, backend)
        found.append(replace(row, membrane=off, explained=row.explained if off <= platform.tolerance else 0))
    return found
