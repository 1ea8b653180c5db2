"""A NIR graph read as a chain of spiking layers, for formats that hold nothing else; what does not fit is listed."""

from __future__ import annotations

from dataclasses import dataclass

import nir
import numpy as np
from numpy.typing import NDArray

from spikescr import dialect
from spikescr.errors import ExportError
from spikescr.export.layers import (
    NEURONS,
    FloatArray,
    RefusedError,
    Shape,
    SpikingLayer,
    by_channel,
    convolved,
    geometry_of,
    neurons_of,
    real,
)
from spikescr.export.pooling import POOLS, Convolution, before_convolution, before_dense, pool_of, pooled

CONNECTIONS = (nir.Linear, nir.Affine, nir.Conv2d)
BETWEEN = (nir.Flatten, *POOLS)  # from neurons to the synapses behind them
WHOLE_STEPS = 1e-6  # how far, in steps, a delay may be from a whole number


@dataclass(frozen=True)
class Chain:
    """Input shape and layers; a layer of one dimension behind one of three reads it flattened, channel first.

    clocked: layers whose bias comes from the dialect's clock, that is on the valid steps alone.
    """

    input_shape: tuple[int, ...]
    layers: tuple[SpikingLayer, ...]
    clocked: tuple[str, ...]


def read_chain(graph: nir.NIRGraph, dt: float) -> Chain:
    """The chain of dense and convolutional spiking layers that a graph is.

    Args:
        graph: Input, then Linear, Affine or Conv2d and LIF, IF or CubaLIF in turn, Flatten and pools between them, then
            Output; parallel Delay-Linear pairs are one layer of delays where no synapse has two. Biases from the clock
            are biases of their layer, pools are taken into the synapses behind them. One number may stand for all
            neurons of a layer. Shapes follow from the Input and the weights.
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
        self.shapes: dict[str, Shape | None] = {}

    def chain(self) -> Chain:
        refused: dict[str, list[str]] = {}
        layers: dict[str, SpikingLayer] = {}
        for name, node in self.nodes.items():
            try:
                if isinstance(node, NEURONS):
                    layers[name] = self._layer(name, node)
                elif not (name in self.clocked or self._is_wire(node)):
                    self._check(name, node)
            except RefusedError as reason:
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
        name = inputs[0]
        while not isinstance(self.nodes[name], nir.Output):
            name = self.after[name][0]
            if name in layers:
                order.append(layers[name])
        shape = self._input_shape(order[0])
        for before, layer in zip([shape, *(layer.shape for layer in order)], order, strict=False):
            if layer.convolution is not None and len(before) != 3:
                raise ExportError(f"{layer.name}: a chain has no convolution behind a dense layer")
        return Chain(shape, tuple(order), tuple(layer.name for layer in order if self.biases[layer.name]))

    def _input_shape(self, first: SpikingLayer) -> Shape:
        if first.convolution is None:
            return (first.weight.shape[1],)
        _, passed, _ = self._leading(first.name)
        return self._read_by(passed[-1])

    def _from_clock(self, graph: nir.NIRGraph) -> set[str]:
        """The clock, Delays that carry it, and the Linears that make biases of it."""
        clocked = {n for n, node in self.nodes.items() if node.metadata.get(dialect.OP) == dialect.CLOCK}
        frontier = list(clocked)
        while frontier:
            source = frontier.pop()
            for a, b in graph.edges:
                if a == source and b not in clocked and isinstance(self.nodes[b], (nir.Delay, nir.Linear)):
                    clocked.add(b)
                    frontier += [b] if isinstance(self.nodes[b], nir.Delay) else []
        return clocked

    def _is_bias(self, name: str) -> bool:
        return name in self.clocked and isinstance(self.nodes[name], nir.Linear)

    def _is_wire(self, node: nir.NIRNode) -> bool:
        return bool(node.metadata.get(dialect.OP) == dialect.WIRE)

    def _check(self, name: str, node: nir.NIRNode) -> None:
        """Refuses what is neither in a layer nor between two."""
        if isinstance(node, nir.NIRGraph):
            raise RefusedError(str(node.metadata.get(dialect.OP, "nested graph")))
        if not isinstance(node, (nir.Input, nir.Output, nir.Delay, *BETWEEN, *CONNECTIONS)):
            raise RefusedError(f"no place for {type(node).__name__}")
        if isinstance(node, nir.Input) and node.metadata.get(dialect.SIGNAL) == "values":
            raise RefusedError("input of real values")
        if len(self.before[name]) > 1:
            raise RefusedError("sum of several layers")
        following = self.after[name]
        if isinstance(node, nir.Delay):
            if len(following) != 1 or not isinstance(self.nodes[following[0]], nir.Linear):
                raise RefusedError("Delay that is no tap of a Linear")
        elif isinstance(node, CONNECTIONS):
            if len(following) != 1 or not isinstance(self.nodes[following[0]], NEURONS):
                raise RefusedError("no neurons behind it, or more than one layer of them")
        elif isinstance(node, POOLS):
            if len(following) != 1 or not isinstance(self.nodes[following[0]], (*BETWEEN, *CONNECTIONS)):
                raise RefusedError("pool without synapses behind it")
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
            raise RefusedError("feeds not exactly one layer")

    def _layer(self, name: str, node: nir.NIRNode) -> SpikingLayer:
        self._check_one_reader(name)
        taps, passed, _ = self._leading(name)
        if node.metadata.get(dialect.RESET, self.reset) not in (None, "zero"):
            raise RefusedError("reset other than to zero")
        weight, delay = self._weights(taps)
        geometry = geometry_of(self.nodes[taps[0]]) if isinstance(self.nodes[taps[0]], nir.Conv2d) else None
        shape = self._shape(name)
        neurons = neurons_of(node, shape, self.dt)
        spread, leak = neurons.gain, neurons.leak
        if geometry is not None:
            spread, leak = by_channel(spread), by_channel(leak)
        spread = spread.reshape(-1)
        bias = np.zeros(len(weight))
        for tap in taps:
            given = getattr(self.nodes[tap], "bias", None)
            bias += 0.0 if given is None else real(given)
        for clocked in self.biases[name]:
            bias += real(self.nodes[clocked].weight)[:, 0]
        if np.any(bias) and neurons.current_decay != 1:
            raise RefusedError("bias into a current that decays")
        if not all(np.all(np.isfinite(x)) for x in (weight, bias)):
            raise RefusedError("weights, biases or neurons' parameters that are no numbers")
        weight, geometry = self._without_pools(weight, geometry, passed)
        meeting, count = int(neurons.meets.sum()), neurons.meets.size
        threshold = neurons.threshold.flat[0]
        return SpikingLayer(
            name=name,
            shape=shape,
            weight=weight * spread.reshape(-1, *[1] * (weight.ndim - 1)),
            bias=np.broadcast_to(bias * spread + leak.reshape(-1), spread.shape),
            current_decay=neurons.current_decay,
            voltage_decay=neurons.voltage_decay,
            delay=delay,
            convolution=geometry,
            meets=2 * meeting > count,
            threshold=float(threshold) if np.all(neurons.threshold == threshold) else None,
            apart=min(meeting, count - meeting),
        )

    def _leading(self, name: str) -> tuple[tuple[str, ...], list[str], str]:
        """The synapses of a layer; they and the nodes between them and its source, the last first; the source."""
        taps = self.before[name]
        if not taps or any(
            not isinstance(self.nodes[tap], CONNECTIONS) or self._is_wire(self.nodes[tap]) for tap in taps
        ):
            raise RefusedError("neurons not fed by a Linear, Affine or Conv2d")
        sources = {self.before[self._delay_of(tap) or tap] for tap in taps}
        if len(sources) > 1 or any(len(source) > 1 for source in sources):
            raise RefusedError("sum of several layers")
        passed = [taps[0]]
        source = next(iter(sources))
        while source and isinstance(self.nodes[source[0]], BETWEEN):
            passed.append(source[0])
            source = self.before[source[0]]
        if not source:
            raise RefusedError("nothing leads to it")
        return taps, passed, source[0]

    def _delay_of(self, tap: str) -> str | None:
        before = self.before[tap]
        return before[0] if len(before) == 1 and isinstance(self.nodes[before[0]], nir.Delay) else None

    def _weights(self, taps: tuple[str, ...]) -> tuple[FloatArray, NDArray[np.int64] | None]:
        weight = np.zeros(np.shape(self.nodes[taps[0]].weight))
        delay = np.zeros(weight.shape, np.int64)
        for tap in taps:
            part = real(self.nodes[tap].weight)
            if isinstance(self.nodes[tap], nir.Conv2d) and len(taps) > 1:
                raise RefusedError("sum of several layers")
            if np.any((weight != 0) & (part != 0)):
                raise RefusedError("several delays of one synapse")
            weight += part
            if (late := self._delay_of(tap)) is not None:
                delay[part != 0] = self._steps(real(self.nodes[late].delay))
        return weight, delay if delay.any() else None

    def _steps(self, delay: FloatArray) -> int:
        steps = delay / self.dt
        if np.any(np.abs(steps - np.rint(steps)) > WHOLE_STEPS) or np.any(np.rint(steps) != np.rint(steps.flat[0])):
            raise RefusedError("taps with delays that differ by channel or are not whole steps")
        return int(np.rint(steps.flat[0]))

    def _without_pools(
        self, weight: FloatArray, geometry: Convolution | None, passed: list[str]
    ) -> tuple[FloatArray, Convolution | None]:
        """The synapses as they read what the pools before them read."""
        for name in passed:
            if not isinstance(self.nodes[name], POOLS):
                continue
            pool, shape = pool_of(self.nodes[name]), self._read_by(name)
            if geometry is None:
                weight = before_dense(weight, pool, (shape[0], shape[1], shape[2]))
                continue
            merged = before_convolution(weight, geometry, pool, (shape[1], shape[2]))
            if merged is None:
                raise RefusedError(f"padding behind the pool {name} whose windows overlap or leave a rest")
            weight, geometry = merged
        return weight, geometry

    def _read_by(self, name: str) -> Shape:
        """The shape that a pool or a synapse reads, (channels, height, width) where it has them.

        Raises:
            RefusedError: what arrives is of another shape.
        """
        node, arriving = self.nodes[name], self._shape(self.before[self._delay_of(name) or name][0])
        if isinstance(node, (nir.Linear, nir.Affine)):
            if node.weight.ndim != 2 or node.weight.shape[1] != np.prod(arriving):
                raise RefusedError(f"weight of shape {node.weight.shape}, for an input of shape {arriving}")
            return arriving
        if isinstance(node, nir.Conv2d):
            channels = node.weight.shape[1] * int(node.groups)
            if node.input_shape is not None:  # a flat signal: the node says how to read it
                own = (channels, *(int(n) for n in np.ravel(node.input_shape)))
                arriving = own if np.prod(own) == np.prod(arriving) else arriving
            if len(arriving) != 3 or arriving[0] != channels:
                raise RefusedError(f"convolution of {channels} channels, for an input of shape {arriving}")
        if len(arriving) != 3:
            raise RefusedError(f"pool of an input of shape {arriving}")
        return arriving

    def _shape(self, name: str) -> Shape:
        """The shape that a node puts out."""
        if name not in self.shapes:
            self.shapes[name] = None
            self.shapes[name] = self._output_shape(name, self.nodes[name])
        shape = self.shapes[name]
        if shape is None:
            raise RefusedError("cycle, or behind a node that is refused")
        return shape

    def _output_shape(self, name: str, node: nir.NIRNode) -> Shape:
        if isinstance(node, nir.Input):
            return tuple(int(n) for n in np.ravel(next(iter(node.output_type.values()))))
        if isinstance(node, (nir.Conv2d, *POOLS)):
            channels, height, width = self._read_by(name)
            if isinstance(node, nir.Conv2d):
                channels = len(node.weight)
                height, width = convolved((height, width), node.weight.shape[2:], geometry_of(node))
            else:
                height, width = pooled((height, width), pool_of(node))
            if min(height, width) < 1:
                raise RefusedError("kernel larger than its input")
            return channels, height, width
        if isinstance(node, (nir.Linear, nir.Affine)):
            self._read_by(name)
            return (len(node.weight),)
        if len(self.before[name]) == 0:
            raise RefusedError("nothing leads to it")
        shape = self._shape(self.before[name][0])
        return (int(np.prod(shape)),) if isinstance(node, nir.Flatten) else shape


def _runs(names: list[str]) -> list[str]:
    """Names in order, numbered ones in short: tap0..tap30."""
    by_stem: dict[str, list[int]] = {}
    for name in names:
        stem = name.rstrip("0123456789")
        by_stem.setdefault(stem, []).append(int(name[len(stem) :] or -1))
    shown = []
    for stem, numbers in by_stem.items():
        numbers.sort()
        if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
            shown.append(f"{stem}{numbers[0]}..{numbers[-1]}")
        else:
            shown += [stem + (str(n) if n >= 0 else "") for n in numbers]
    return sorted(shown)
