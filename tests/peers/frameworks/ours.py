"""Graphs of ours, of standard nodes only, imported and run by the peers.

Neurons as the exporter states them (`GraphBuilder.lif`): tau = 2 dt, r = 2, v_threshold the largest number below 1. The
exporter's clock, which nothing needs where there is no bias and no gate, is left out: no importer takes two inputs.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
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
    graph: str, peer: tuple[str, str], ours: nir.NIRGraph, imported: nn.Module, x: NDArray[np.float64], **more: Any
) -> Case:
    """Runs an imported module step by step. peer: its name and its package."""
    state: Any = None

    def step(frame: Tensor) -> None:
        nonlocal state
        _, state = imported(frame, state)

    modules = dict(imported.named_modules())
    names = {name: modules[name] for name in ("hidden", "last")}
    spikes = fired(names, x, step)
    return Case(graph, peer[0], version(peer[1]), "imported", ours, DT, x, spikes, **more)


def by_snntorch(graph: nir.NIRGraph) -> nn.Module:
    """Converted to float64 with a step function that stays in it."""
    with quiet():
        imported = import_to_snntorch(copy.deepcopy(graph)).double()  # it alters the graph that it is given
    for module in imported.modules():
        if isinstance(module, snn.SpikingNeuron):
            module.spike_grad = step_function
    return imported


def by_spikingjelly(graph: nir.NIRGraph) -> nn.Module:
    """In float64."""
    with quiet():
        return import_to_spikingjelly(copy.deepcopy(graph), dt=DT, dtype=torch.float64)


def by_norse(graph: nir.NIRGraph) -> nn.Module:
    """Weights in float64, constants of neurons as imported: float32."""
    with quiet():
        return norse.torch.from_nir(copy.deepcopy(graph), dt=DT).double()


def by_nirtorch(graph: nir.NIRGraph) -> nn.Module:
    """nirtorch's own wiring of modules; LIF and Delay, of which it has none, are ours."""
    with quiet():
        return nirtorch.nir_to_torch(
            copy.deepcopy(graph), {nir.LIF: TorchLIF, nir.Delay: TorchDelay}, dtype=torch.float64
        )


Importer = tuple[tuple[str, str], Callable[[nir.NIRGraph], nn.Module]]
SNNTORCH: Importer = (("snnTorch", "snntorch"), by_snntorch)
SPIKINGJELLY: Importer = (("SpikingJelly", "spikingjelly"), by_spikingjelly)
NORSE: Importer = (("Norse", "norse"), by_norse)
NIRTORCH: Importer = (("nirtorch", "nirtorch"), by_nirtorch)


def without_r(graph: nir.NIRGraph) -> nir.NIRGraph:
    """r = 1 everywhere, which Norse takes for granted."""

    def one(_name: str, node: nir.NIRNode) -> None:
        if isinstance(node, nir.LIF):
            node.r = np.ones_like(node.r)

    return changed(graph, one)


def a_step_more(graph: nir.NIRGraph) -> nir.NIRGraph:
    """Delays on the way back one step longer: nirtorch delays every edge that closes a cycle, a Delay in it or not."""

    def longer(_name: str, node: nir.NIRNode) -> None:
        if isinstance(node, nir.Delay):
            node.delay = node.delay + DT

    return changed(graph, longer)


WITHOUT_R = "their LIF has no r and takes it for 1; with r = 1 in our graph the same spikes"
TWO_STEPS = "a cycle gets a step beside its Delay; with 2 dt in our graph the same spikes"


def _feed_forward(importer: Importer, steps: int, samples: int, *, r: bool = True) -> Case:
    graph = feed_forward_graph()
    more: dict[str, Any] = {} if r else {"reason": WITHOUT_R, "mended": without_r(graph)}
    return executed("ours, feed-forward", importer[0], graph, importer[1](graph), events(9, steps, samples, 12), **more)


def _recurrent(importer: Importer, steps: int, samples: int, *, r: bool = True) -> Case:
    graph = recurrent_graph(delayed=False)
    more: dict[str, Any] = {} if r else {"reason": WITHOUT_R, "mended": without_r(graph)}
    return executed("ours, recurrent", importer[0], graph, importer[1](graph), events(10, steps, samples, 12), **more)


def delayed_cycle(steps: int, samples: int) -> Case:
    """nirtorch: a recurrent layer whose Delay is a node, as the exporter writes it."""
    graph = recurrent_graph(delayed=True)
    return executed("ours, Delay in a cycle", NIRTORCH[0], graph, by_nirtorch(graph), events(10, steps, samples, 12),
                    reason=TWO_STEPS, mended=a_step_more(graph))  # fmt: skip


def delays(steps: int, samples: int) -> Case:
    """nirtorch: a chain of Delay and Linear."""
    graph = delay_graph()
    return executed("ours, Linear and Delay", NIRTORCH[0], graph, by_nirtorch(graph), events(11, steps, samples, 12))


CASES: dict[str, Callable[[int, int], Case]] = {
    "snntorch_feed_forward": functools.partial(_feed_forward, SNNTORCH),
    "spikingjelly_feed_forward": functools.partial(_feed_forward, SPIKINGJELLY),
    "norse_feed_forward": functools.partial(_feed_forward, NORSE, r=False),
    "nirtorch_feed_forward": functools.partial(_feed_forward, NIRTORCH),
    "spikingjelly_recurrent": functools.partial(_recurrent, SPIKINGJELLY),
    "norse_recurrent": functools.partial(_recurrent, NORSE, r=False),
    "nirtorch_recurrent": functools.partial(_recurrent, NIRTORCH),
    "nirtorch_delayed_cycle": delayed_cycle,
    "nirtorch_delays": delays,
}
