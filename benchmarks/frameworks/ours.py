"""Graphs of ours, of standard nodes only, imported and run by the peers.

Neurons as the exporter states them (`GraphBuilder.lif`): tau = 2 dt, r = 2, v_threshold the largest number below 1. The
exporter's clock, which nothing needs where there is no bias and no gate, is left out: no importer takes two inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import nir
import nirtorch
import norse.torch
import numpy as np
import snntorch as snn
import torch
from numpy.typing import NDArray
from snntorch.import_nir import import_from_nir as import_to_snntorch
from spikingjelly.activation_based.nir_exchange import import_from_nir as import_to_spikingjelly
from torch import Tensor, nn

from frameworks.comparison import Case, changed, events
from frameworks.snntorch_peer import step_function
from frameworks.torch_peer import fired, quiet
from spikescr.export.builder import GraphBuilder, Stream

DT = 1e-4  # snnTorch's importer knows no other step


def numbers(seed: int, *shape: int) -> NDArray[np.float64]:
    """Weights that float32 holds: importers of the peers convert to it."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.5, 1.0, shape).astype(np.float32).astype(np.float64)


def clockless(build: GraphBuilder) -> nir.NIRGraph:
    """What was built, without the clock."""
    graph = build.graph({"spikescr.dt": DT})
    nodes = {name: node for name, node in graph.nodes.items() if name not in ("clock", "output_clock")}
    return nir.NIRGraph(nodes, [edge for edge in graph.edges if edge[0] in nodes], metadata=graph.metadata)


def feed_forward_graph() -> nir.NIRGraph:
    """Two dense layers of LIFs."""
    build = GraphBuilder(DT)
    x = build.input("input", 12, "spikes")
    x = build.lif("hidden", build.linear("fc1", x, numbers(1, 40, 12), None))
    x = build.lif("last", build.linear("fc2", x, numbers(2, 10, 40) / 4, None))
    build.output("output", x)
    return clockless(build)


def recurrent_graph(*, delayed: bool) -> nir.NIRGraph:
    """A layer of LIFs that feed each other a step later; delayed: by a Delay, or by NIR's cycle alone."""
    build = GraphBuilder(DT)
    x = build.lif("hidden", build.linear("fc1", build.input("input", 12, "spikes"), numbers(3, 30, 12), None))
    build.output("output", build.lif("last", build.linear("fc2", x, numbers(4, 10, 30) / 3, None)))
    graph = clockless(build)
    nodes = {**graph.nodes, "back": nir.Linear(numbers(5, 30, 30) / 6 - 0.05)}
    nodes["back"].weight = nodes["back"].weight.astype(np.float32).astype(np.float64)
    if delayed:
        nodes["step"] = nir.Delay(np.full(30, DT))
    ways = [("hidden", "step"), ("step", "back")] if delayed else [("hidden", "back")]
    return nir.NIRGraph(nodes, [*graph.edges, *ways, ("back", "hidden")], metadata=graph.metadata)


def delay_graph() -> nir.NIRGraph:
    """A chain of Delay and Linear, with Delays of several steps, then taps that share their source."""
    build = GraphBuilder(DT)
    x = build.input("input", 12, "spikes")
    late = build.delayed(x, 3)
    x = build.lif("hidden", build.linear("fc1", late, numbers(6, 40, 12), None))
    near = build.linear("near", x, numbers(7, 10, 40) / 8, None)
    far = build.linear("far", build.delayed(x, x.latency + 2), numbers(8, 10, 40) / 8, None)
    build.output("output", build.lif("last", Stream(near.sources + far.sources, 10, far.latency)))
    return clockless(build)


class TorchLIF(nn.Module):
    """NIR's equation, state handed in and out as nirtorch does it."""

    def __init__(self, node: nir.LIF) -> None:
        super().__init__()
        ratio = DT / np.asarray(node.tau)
        for name, value in {"keep": 1 - ratio, "gain": node.r * ratio, "threshold": node.v_threshold}.items():
            self.register_buffer(name, torch.tensor(value))

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Spikes and membranes (B, N)."""
        v = (0.0 if state is None else state * self.keep) + self.gain * x
        fires = (v > self.threshold).to(v.dtype)
        return fires, v * (1 - fires)


class TorchDelay(nn.Module):
    """NIR's Delay of one number of steps for all channels; the state is what is on its way."""

    def __init__(self, node: nir.Delay) -> None:
        super().__init__()
        (self.steps,) = {round(float(delay) / DT) for delay in node.delay}

    def forward(self, x: Tensor, state: tuple[Tensor, ...] | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """x of `steps` steps before (B, N)."""
        line = (*((torch.zeros_like(x),) * self.steps if state is None else state), x)
        return line[0], line[1:]


def executed(
    graph: str, peer: str, package: str, ours: nir.NIRGraph, imported: nn.Module, x: NDArray[np.float64],
    *, explicit_state: bool, names: Mapping[str, str], **more: Any,
) -> Case:  # fmt: skip
    """Runs an imported module step by step; names: our neuron -> the module's path in theirs."""
    state: Any = None

    def step(frame: Tensor) -> None:
        nonlocal state
        if explicit_state:
            _, state = imported(frame, state)
        else:
            imported(frame)

    spikes = fired({name: imported.get_submodule(path) for name, path in names.items()}, x, step)
    return Case(graph, peer, version(package), "imported", ours, DT, x, spikes, **more)
