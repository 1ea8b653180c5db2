"""A NIR graph read as a chain of spiking layers, for formats that hold nothing else; what does not fit is listed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from spikescr import dialect
from spikescr.errors import ExportError

FloatArray = NDArray[np.float64]
NEURONS = (nir.LIF, nir.IF, nir.CubaLIF)
CONNECTIONS = (nir.Linear, nir.Affine, nir.Conv2d)
WHOLE_STEPS = 1e-6  # how far, in steps, a delay may be from a whole number


@dataclass(frozen=True)
class Convolution:
    """Geometry of a convolution, (height, width) each."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


@dataclass(frozen=True)
class SpikingLayer:
    """Synapses and the neurons that they feed, everything in units of each neuron's threshold.

        u = (1 - current_decay) u + W x;  v = (1 - voltage_decay) v + u + bias;  spike where v >= 1;  v = 0 there

    name: of the neurons' node. shape: of the output, (N,) or (C, H, W). weight: (out, in), or
    (out, in / groups, H, W). bias: (out,), acts at every step. delay: steps of every synapse (out, in), None where all
    are 0.
    """

    name: str
    shape: tuple[int, ...]
    weight: FloatArray
    bias: FloatArray
    current_decay: float
    voltage_decay: float
    delay: NDArray[np.int64] | None = None
    convolution: Convolution | None = None


@dataclass(frozen=True)
class Chain:
    """Input shape and layers; a layer of one dimension behind one of three reads it flattened, channel first.

    clocked: layers whose bias comes from the dialect's clock, that is on the valid steps alone.
    """

    input_shape: tuple[int, ...]
    layers: tuple[SpikingLayer, ...]
    clocked: tuple[str, ...]


class _RefusedError(Exception):
    """Why a node cannot be part of a chain."""


def read_chain(graph: nir.NIRGraph, dt: float) -> Chain:
    """The chain of dense and convolutional spiking layers that a graph is.

    Args:
        graph: Input, then Linear, Affine or Conv2d and LIF, IF or CubaLIF in turn, Flatten between them, then Output;
            parallel Delay-Linear pairs are one layer of delays where no synapse has two. Biases from the clock are
            biases of their layer.
        dt: seconds per step.

    Raises:
        ExportError: the graph is more than that; the message lists every node that does not fit, and why. Or it is of
            another version of the dialect.
    """
    version = graph.metadata.get(dialect.GRAPH_FORMAT, dialect.FORMAT)
    if version != dialect.FORMAT:
        raise ExportError(
            f"metadata {dialect.GRAPH_FORMAT} is {version}, this version reads {dialect.FORMAT}; export again"
        )
    return _Reader(graph, dt).chain()


class _Reader:
    def __init__(self, graph: nir.NIRGraph, dt: float) -> None:
        self.dt = dt
        self.nodes = graph.nodes
        self.reset = graph.metadata.get(dialect.RESET)
        self.clocked = self._from_clock(graph)
        edges = [(a, b) for a, b in graph.edges if a not in self.clocked]
        self.before = {n: tuple(sorted(a for a, b in edges if b == n)) for n in self.nodes}
        self.after = {n: tuple(sorted(b for a, b in edges if a == n)) for n in self.nodes}
        # node -> the Linears from the clock that feed it
        self.biases = {n: [a for a, b in graph.edges if b == n and self._is_bias(a)] for n in self.nodes}

    def chain(self) -> Chain:
        refused: dict[str, list[str]] = {}
        layers: dict[str, SpikingLayer] = {}
        for name, node in self.nodes.items():
            try:
                if isinstance(node, NEURONS):
                    layers[name] = self._layer(name, node)
                elif not (name in self.clocked or self._is_wire(node)):
                    self._check(name, node)
            except _RefusedError as reason:
                refused.setdefault(str(reason), []).append(name)
        if refused:
            listed = "; ".join(f"{reason}: {', '.join(_runs(names))}" for reason, names in refused.items())
            raise ExportError(f"a chain of spiking layers cannot hold these nodes: {listed}")
        inputs = [n for n, node in self.nodes.items() if isinstance(node, nir.Input) and n not in self.clocked]
        if len(inputs) != 1 or not layers:
            raise ExportError(
                f"a chain has one input and a spiking layer, not {len(inputs)} inputs, {len(layers)} layers"
            )
        order: list[SpikingLayer] = []
        shape = _shape(self.nodes[inputs[0]].output_type)
        name = inputs[0]
        while not isinstance(self.nodes[name], nir.Output):
            name = self.after[name][0]
            if name in layers:
                order.append(layers[name])
            elif isinstance(self.nodes[name], nir.Flatten) and not order:
                shape = _shape(self.nodes[name].output_type)
        return Chain(shape, tuple(order), tuple(layer.name for layer in order if self.biases[layer.name]))

    def _from_clock(self, graph: nir.NIRGraph) -> set[str]:
        """The clock, Delays that carry it, and the Linears that make biases of it."""
        found = {n for n, node in self.nodes.items() if node.metadata.get(dialect.OP) == dialect.CLOCK}
        frontier = list(found)
        while frontier:
            source = frontier.pop()
            for a, b in graph.edges:
                if a == source and b not in found and isinstance(self.nodes[b], (nir.Delay, nir.Linear)):
                    found.add(b)
                    frontier += [b] if isinstance(self.nodes[b], nir.Delay) else []
        return found

    def _is_bias(self, name: str) -> bool:
        return name in self.clocked and isinstance(self.nodes[name], nir.Linear)

    def _is_wire(self, node: nir.NIRNode) -> bool:
        return bool(node.metadata.get(dialect.OP) == dialect.WIRE)

    def _check(self, name: str, node: nir.NIRNode) -> None:
        """Refuses what is neither in a layer nor between two."""
        if isinstance(node, nir.NIRGraph):
            raise _RefusedError(str(node.metadata.get(dialect.OP, "nested graph")))
        if not isinstance(node, (nir.Input, nir.Output, nir.Flatten, nir.Delay, *CONNECTIONS)):
            raise _RefusedError(f"no place for {type(node).__name__}")
        if isinstance(node, nir.Input) and node.metadata.get(dialect.SIGNAL) == "values":
            raise _RefusedError("input of real values")
        if len(self.before[name]) > 1:
            raise _RefusedError("sum of several layers")
        following = self.after[name]
        if isinstance(node, nir.Delay):
            if len(following) != 1 or not isinstance(self.nodes[following[0]], nir.Linear):
                raise _RefusedError("Delay that is no tap of a Linear")
        elif isinstance(node, CONNECTIONS):
            if len(following) != 1 or not isinstance(self.nodes[following[0]], NEURONS):
                raise _RefusedError("no neurons behind it, or more than one layer of them")
        elif not isinstance(node, nir.Output):
            self._check_one_reader(name)

    def _check_one_reader(self, name: str) -> None:
        """All that a node feeds are taps of one layer, or one node."""
        ends = set()
        for following in self.after[name]:
            after = self.nodes[following]
            tap = self.after[following][0] if isinstance(after, nir.Delay) and self.after[following] else following
            ends.add(self.after[tap][0] if isinstance(self.nodes[tap], CONNECTIONS) and self.after[tap] else tap)
        if len(ends) != 1:
            raise _RefusedError("feeds not exactly one layer")

    def _layer(self, name: str, node: nir.NIRNode) -> SpikingLayer:
        self._check_one_reader(name)
        taps = self.before[name]
        if not taps or any(
            not isinstance(self.nodes[tap], CONNECTIONS) or self._is_wire(self.nodes[tap]) for tap in taps
        ):
            raise _RefusedError("neurons not fed by a Linear, Affine or Conv2d")
        if len({self.before[self._delay_of(tap) or tap] for tap in taps}) > 1:
            raise _RefusedError("sum of several layers")
        if node.metadata.get(dialect.RESET, self.reset) not in (None, "zero"):
            raise _RefusedError("reset other than to zero")
        gain, current_decay, voltage_decay, leak = _neuron(node, self.dt)
        shape = _shape(node.output_type)
        geometry = _geometry(self.nodes[taps[0]]) if len(taps) == 1 else None
        spread: Any = gain
        if geometry is not None:
            spread, leak = (_by_channel(x) for x in (gain, leak))
        weight, delay = self._weights(taps)
        bias = np.zeros(weight.shape[0])
        for tap in taps:
            bias += np.asarray(getattr(self.nodes[tap], "bias", 0.0), np.float64)
        for clocked in self.biases[name]:
            bias += np.asarray(self.nodes[clocked].weight, np.float64)[:, 0]
        if np.any(bias) and current_decay != 1:
            raise _RefusedError("bias into a current that decays")
        spread = spread.reshape(-1)
        if not all(np.all(np.isfinite(x)) for x in (weight, bias, spread, leak)):
            raise _RefusedError("weights, biases or neurons' parameters that are no numbers")
        return SpikingLayer(
            name=name,
            shape=shape,
            weight=weight * spread.reshape(-1, *[1] * (weight.ndim - 1)),
            bias=np.broadcast_to(bias * spread + leak.reshape(-1), spread.shape),
            current_decay=current_decay,
            voltage_decay=voltage_decay,
            delay=delay,
            convolution=geometry,
        )

    def _delay_of(self, tap: str) -> str | None:
        before = self.before[tap]
        return before[0] if len(before) == 1 and isinstance(self.nodes[before[0]], nir.Delay) else None

    def _weights(self, taps: tuple[str, ...]) -> tuple[FloatArray, NDArray[np.int64] | None]:
        weight = np.zeros(np.shape(self.nodes[taps[0]].weight))
        delay = np.zeros(weight.shape, np.int64)
        for tap in taps:
            part = np.asarray(self.nodes[tap].weight, np.float64)
            if isinstance(self.nodes[tap], nir.Conv2d) and len(taps) > 1:
                raise _RefusedError("sum of several layers")
            if np.any((weight != 0) & (part != 0)):
                raise _RefusedError("several delays of one synapse")
            weight += part
            if (late := self._delay_of(tap)) is not None:
                delay[part != 0] = self._steps(np.asarray(self.nodes[late].delay, np.float64))
        return weight, delay if delay.any() else None

    def _steps(self, delay: FloatArray) -> int:
        steps = delay / self.dt
        if np.any(np.abs(steps - np.rint(steps)) > WHOLE_STEPS) or np.any(np.rint(steps) != np.rint(steps.flat[0])):
            raise _RefusedError("taps with delays that differ by channel or are not whole steps")
        return int(np.rint(steps.flat[0]))


def _neuron(node: nir.NIRNode, dt: float) -> tuple[FloatArray, float, float, FloatArray]:
    """Gain per neuron, the decays, and what the leak adds per step: in thresholds, by forward Euler with dt."""
    # NIR fires above its threshold, a chain at it.
    threshold: FloatArray = np.nextafter(np.asarray(node.v_threshold, np.float64), np.inf)
    if np.any(threshold <= 0):
        raise _RefusedError("threshold not above 0")
    if np.any(node.v_reset):
        raise _RefusedError("v_reset other than 0")
    r = np.asarray(node.r, np.float64)
    if isinstance(node, nir.IF):
        return r * dt / threshold, 1.0, 0.0, np.zeros_like(threshold)
    membrane = dt / np.asarray(node.tau_mem if isinstance(node, nir.CubaLIF) else node.tau, np.float64)
    current = dt / np.asarray(node.tau_syn, np.float64) if isinstance(node, nir.CubaLIF) else np.ones_like(membrane)
    for decay in (membrane, current):
        if np.ptp(decay) > 1e-9 * np.max(decay) or not 0 < np.max(decay) <= 1 + 1e-9:
            raise _RefusedError("time constants that differ within the layer or are shorter than a step")
    gain = r * membrane / threshold
    if isinstance(node, nir.CubaLIF):
        gain = gain * node.w_in * current
    leak = np.asarray(node.v_leak, np.float64) * membrane / threshold
    return gain, float(np.max(current)), float(np.max(membrane)), leak


def _geometry(node: nir.NIRNode) -> Convolution | None:
    if not isinstance(node, nir.Conv2d):
        return None
    stride, dilation = _pair(node.stride), _pair(node.dilation)
    spans = [d * (k - 1) for d, k in zip(dilation, node.weight.shape[2:], strict=True)]
    if node.padding == "same" if isinstance(node.padding, str) else False:
        if any(span % 2 for span in spans) or stride != (1, 1):
            raise _RefusedError("padding 'same' that is not symmetric")
        padding = (spans[0] // 2, spans[1] // 2)
    else:
        padding = (0, 0) if isinstance(node.padding, str) else _pair(node.padding)
    return Convolution(stride, padding, dilation, int(node.groups))


def _by_channel(values: FloatArray) -> FloatArray:
    flat = values.reshape(values.shape[0], -1)
    if np.any(np.ptp(flat, axis=1) > 1e-12 * np.abs(flat).max()):
        raise _RefusedError("neurons that differ within a channel of a convolution")
    return flat[:, 0]


def _pair(value: Any) -> tuple[int, int]:
    height, width = np.broadcast_to(np.asarray(value), (2,))
    return int(height), int(width)


def _shape(types: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(int(n) for n in np.asarray(next(iter(types.values()))))


def _runs(names: list[str]) -> list[str]:
    """Names in order, numbered ones in short: tap0..tap30."""
    found: dict[str, list[int]] = {}
    for name in names:
        stem = name.rstrip("0123456789")
        found.setdefault(stem, []).append(int(name[len(stem) :] or -1))
    shown = []
    for stem, numbers in found.items():
        numbers.sort()
        if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
            shown.append(f"{stem}{numbers[0]}..{numbers[-1]}")
        else:
            shown += [stem + (str(n) if n >= 0 else "") for n in numbers]
    return sorted(shown)
