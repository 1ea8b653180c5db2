"""What of a user's module goes through: operations, samples and steps that are mixed, the size of its graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from spikescr.errors import ExportError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from spikescr.export.record import Problem, StepNetwork
    from spikescr.export.record.mixing import Trials
    from spikescr.export.record.step import Axes, Time

DT = 1e-3
"""Seconds per step of the graph that is made to see whether it can be; it is thrown away."""


@dataclass(frozen=True)
class Check:
    """What a module's check found.

    Attributes:
        problems: what stands against a graph, a row each.
        trials: samples and steps, found by running.
        operations: how often a step does what; empty where there is no graph.
        neurons: of one sample.
        synapses: weights times the places where they are used, padding included.
        nodes: of the NIR graph.
        steps: of the window; 0 where there is no graph.
    """

    problems: tuple[Problem, ...]
    trials: Trials
    operations: Mapping[str, int]
    neurons: int
    synapses: int
    nodes: int
    steps: int

    @property
    def mixes(self) -> bool:
        """Whether samples or steps change one another."""
        return bool(self.trials.mixed) or any(problem.fault in {"samples", "steps"} for problem in self.problems)

    @property
    def passes(self) -> bool:
        """Whether the module can be exported and mixes nothing."""
        return not self.problems and not self.mixes

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return {
            "passes": self.passes,
            "mixes": self.mixes,
            "problems": [asdict(problem) for problem in self.problems],
            "trials": asdict(self.trials),
            "operations": dict(self.operations),
            "neurons": self.neurons,
            "synapses": self.synapses,
            "nodes": self.nodes,
            "steps": self.steps,
        }


def check(module: nn.Module, example: NDArray[np.float64], time: Time = "steps", axes: Axes = (0, 1)) -> Check:
    """Records a module, tries to make its graph, and runs it on batches that should give the same.

    Args:
        module: left as it is.
        example: (T, B, ...); (B, ...) where `time` is "held". One sample is enough: others are made of it.
        time: how steps reach the module, see `spikescr.export.record.step.Time`.
        axes: where it wants steps and samples; the example has them first whatever they are.

    Raises:
        ExportError: the module fails on the example.
    """
    import torch

    from spikescr.export.module.convert import export_module
    from spikescr.export.record import Problem, per_step, record
    from spikescr.export.record.mixing import tried

    x = torch.from_numpy(example)
    network, problems = per_step(record(module, x, time, axes))
    nodes = 0
    if network is not None:
        try:
            nodes = len(export_module(module, x, dt=DT, time=time, axes=axes).graph.nodes)
        except ExportError as error:
            owner = type(module).__name__
            remedy = "see docs/nir.md for what a graph can say"
            problems = [Problem("operation", "", owner, "the graph", "", str(error), remedy)]
    operations = Counter(node.operation for node in network.nodes) if network is not None else Counter[str]()
    neurons, synapses = _sizes(network) if network is not None else (0, 0)
    steps = network.steps if network is not None else 0
    trials = tried(module, x, time, steps, axes)
    return Check(tuple(problems), trials, operations, neurons, synapses, nodes, steps)


def _sizes(network: StepNetwork) -> tuple[int, int]:
    """Neurons and synapses of one sample."""
    neurons = synapses = 0
    for node in network.nodes:
        result = network.signals[node.result]
        if node.operation == "neuron":
            neurons += result.size
        elif node.operation == "linear":
            synapses += node.arrays["weight"].shape[1] * result.size
        elif node.operation in ("conv", "temporal"):
            synapses += prod(node.arrays["weight"].shape[1:]) * result.size
        elif node.operation == "conv_transpose":
            synapses += prod(node.arrays["weight"].shape[1:]) * network.signals[node.operands[0].signal].size
    return neurons, synapses
