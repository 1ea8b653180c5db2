"""Compares executed spikes with those of a reference, every layer, step, neuron and sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spikescr.errors import GraphError
from spikescr.sim.program import IntArray, Neuron, Program
from spikescr.sim.recording import Recording


@dataclass(frozen=True)
class LayerComparison:
    """One layer: neuron-steps compared (valid steps), spikes of the reference in them, and spikes that differ.

    A spike outside of a sample's valid steps differs too: the reference has none there.
    """

    layer: str
    compared: int = 0
    spikes: int = 0
    differing: int = 0

    @property
    def firing_rate(self) -> float:
        """Spikes of the reference per neuron and valid step."""
        return self.spikes / self.compared if self.compared else 0.0

    @property
    def silent(self) -> bool:
        """The reference never fires: the comparison of this layer proves nothing."""
        return self.spikes == 0

    def __add__(self, other: LayerComparison) -> LayerComparison:
        return replace(
            self,
            compared=self.compared + other.compared,
            spikes=self.spikes + other.spikes,
            differing=self.differing + other.differing,
        )


@dataclass(frozen=True)
class Divergence:
    """Where reference and execution part: the first layer in the order of execution, its first step.

    Attributes:
        layer: name of the neuron operation.
        step: the sample's own step, negative or beyond its end where it should have been quiet.
        neuron: index in the layer.
        sample: its position among those compared.
        expected: whether the reference spikes.
        executed: whether the execution does.
    """

    layer: str
    step: int
    neuron: int
    sample: int
    expected: bool
    executed: bool


def compare(
    program: Program, recording: Recording, expected: Mapping[str, NDArray[np.bool_]], valid: IntArray
) -> tuple[list[LayerComparison], Divergence | None]:
    """Compares one batch.

    Args:
        program: what was run.
        recording: what it did.
        expected: neuron -> spikes of the reference (T, B, N), the sample's own steps, false on padded ones.
        valid: valid steps of each sample (B,).

    Returns:
        One comparison for each neuron of the program, in the order of execution; the first divergence if any.

    Raises:
        GraphError: the neurons or their widths are not those of the reference, or a neuron has no stated latency.
    """
    layers: list[LayerComparison] = []
    first: Divergence | None = None
    names = {o.name for o in program.of_type(Neuron)}
    if names != expected.keys():
        odd = ", ".join(sorted(names ^ expected.keys()))
        raise GraphError(f"graph and reference do not have the same neurons: {odd}")
    for operation in program.of_type(Neuron):
        name, late = operation.name, operation.latency
        if late is None:
            raise GraphError(f"{name}: states no latency, its spikes cannot be placed")
        executed, wanted = recording.spikes[name], expected[name]
        if wanted.shape[1:] != executed.shape[1:]:
            raise GraphError(f"{name}: executed {executed.shape[1:]} (B, N), the reference has {wanted.shape[1:]}")
        placed = np.zeros_like(executed)
        placed[late : late + len(wanted)] = wanted
        differing = placed != executed
        layers.append(
            LayerComparison(
                layer=name,
                compared=int(valid.sum()) * wanted.shape[-1],
                spikes=int(wanted.sum()),
                differing=int(differing.sum()),
            )
        )
        if first is None and differing.any():
            step, sample, neuron = (int(i) for i in np.argwhere(differing)[0])
            was = bool(executed[step, sample, neuron])
            first = Divergence(name, step - late, neuron, sample, expected=not was, executed=was)
    return layers, first
