"""A module becomes a NIR graph: recorded, folded, lowered; and how far folding has moved what its neurons get."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
import torch
from torch import nn

from spikescr import dialect
from spikescr.export.module.evaluate import evaluate
from spikescr.export.module.fold import fold
from spikescr.export.module.lower import lower
from spikescr.export.module.pools import pooled
from spikescr.export.record import Record, StepNetwork, record, stepped
from spikescr.export.record.step import FIRST, Axes, Time
from spikescr.provenance import versions


@dataclass(frozen=True)
class Deviation:
    """What folding did to one layer.

    Attributes:
        layer: the neurons' path.
        largest: absolute difference of a current that reaches them, folded against unfolded.
        differing: spikes that differ.
    """

    layer: str
    largest: float
    differing: int


@dataclass(frozen=True)
class Exported:
    """A module's graph, and how folding went, layer by layer, in the order of execution."""

    graph: nir.NIRGraph
    folding: tuple[Deviation, ...]


def export_module(
    module: nn.Module,
    example: torch.Tensor,
    *,
    dt: float,
    time: Time = "steps",
    axes: Axes = FIRST,
    metadata: Mapping[str, Any] | None = None,
) -> Exported:
    """The NIR graph of any module that SpikingJelly's and PyTorch's layers and functions make up.

    Args:
        module: in any mode and precision; it is not changed.
        example: (T, B, ...), or (B, ...) where `time` is "held".
        dt: seconds per step.
        time: how the steps reach the module, see `record.step.Time`.
        axes: where the module wants steps and samples; the example has them first whatever they are.
        metadata: more entries for the graph.

    Raises:
        ExportError: something in it has no place in a graph; the message names module, operation and line.
    """
    recorded = record(module, example, time, axes)
    net = stepped(recorded)
    folded = fold(pooled(net))
    about = {"module": type(module).__name__, "time": time, "axes": axes, "output_axis": _output_axis(net)}
    said = {
        dialect.MODEL: json.dumps(about),
        dialect.VERSIONS: json.dumps(versions("spikescr", "nir", "torch", "numpy", "spikingjelly")),
        **(metadata or {}),
    }
    return Exported(lower(folded, dt, said), deviations(net, folded, recorded))


def _output_axis(net: StepNetwork) -> int | None:
    """Which axis of what the module puts out runs over the steps."""
    axis: int | None = next(node.options["axis"] for node in net.nodes if node.operation == "output")
    return axis


def deviations(net: StepNetwork, folded: StepNetwork, recorded: Record) -> tuple[Deviation, ...]:
    """How far what reaches each layer of neurons is moved by folding, on the recorded example."""
    x = recorded.example.numpy()
    x = np.broadcast_to(x, (net.steps, *x.shape)) if recorded.time == "held" else x
    inputs = {node.options["name"]: x for node in net.nodes if node.operation == "input"}
    sides = [_neurons(side, evaluate(side, inputs)) for side in (net, folded)]
    return tuple(
        Deviation(path or "net", float(np.abs(a - b).max(initial=0.0)), int((fired != fires).sum()))
        for (path, a, fired), (_, b, fires) in zip(*sides, strict=True)
    )


def _neurons(net: StepNetwork, values: Mapping[int, np.ndarray]) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Path, current times gain, and spikes of every layer of neurons."""
    return sorted(
        (
            (
                node.path,
                node.options["equation"].gain * values[node.operands[0].signal].reshape(values[node.result].shape),
                values[node.result],
            )
            for node in net.nodes
            if node.operation == "neuron"
        ),
        key=lambda row: row[0],
    )
