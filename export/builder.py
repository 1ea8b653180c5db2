"""Builds NIR graphs of the dialect: streams with latency, aligned where they join; biases and gates on the clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import nir
import numpy as np
from numpy.typing import NDArray

from spikescr.dialect import (
    CLOCK,
    DV,
    LATENCY,
    OP,
    ORIGIN,
    PACKED_OPERATIONS,
    SIGNAL,
    UNITY,
    VTH,
    packed_node,
    select_node,
    wire,
)
from spikescr.errors import ExportError
from spikescr.export.membrane import membrane

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Stream:
    """The sum of what nodes put out: their names, the width, and the latency in steps that all of them share."""

    sources: tuple[str, ...]
    width: int
    latency: int


class Weights(NamedTuple):
    """Numbers of a layer as the builder's methods take them.

    synapse: in the shape that the method asks for. bias: clocked, (out,). origin: what the bias was in the trained
    network, of "bias" and "batch_norm". stated, bias_stated: metadata for the nodes of either.
    """

    synapse: FloatArray
    bias: FloatArray | None = None
    origin: Sequence[str] = ("bias",)
    stated: Mapping[str, Any] = MappingProxyType({})
    bias_stated: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class FixedMembrane:
    """Registers of a neuron in fixed point: decay dv of 12 bits, threshold vth of 17, which it fires above."""

    dv: int
    vth: int


class GraphBuilder:
    """Collects nodes and edges. Edges that join are sums, and only streams of equal latency may join."""

    def __init__(self, dt: float) -> None:
        """Begins an empty graph with the clock as an input; dt: seconds per step."""
        self.dt = dt
        self._nodes: dict[str, nir.NIRNode] = {}
        self._edges: list[tuple[str, str]] = []
        self._delays: dict[tuple[tuple[str, ...], int], Stream] = {}
        self._clock = self._input(CLOCK, 1, {OP: CLOCK})

    def graph(self, metadata: Mapping[str, Any]) -> nir.NIRGraph:
        """The graph; nodes, edges and metadata are sorted, so that writing it after reading gives the same file."""
        return nir.NIRGraph(
            nodes=dict(sorted(self._nodes.items())),
            edges=sorted(self._edges),
            metadata=dict(sorted(metadata.items())),
        )

    def input(self, name: str, width: int, signal: str, stated: Mapping[str, Any] | None = None) -> Stream:
        """A graph input; signal: "values" or "spikes"; stated: more metadata."""
        return self._input(name, width, {SIGNAL: signal, **(stated or {})})

    def output(self, name: str, x: Stream, stated: Mapping[str, Any] | None = None) -> None:
        """A graph output; stated: more metadata."""
        metadata = {LATENCY: x.latency, **(stated or {})}
        self.node(name, nir.Output(output_type=np.array([x.width]), metadata=metadata), x)

    def clock(self, latency: int) -> Stream:
        """The clock, as late as a layer: 1 while valid steps pass that layer."""
        return self.delayed(self._clock, latency)

    def delayed(self, x: Stream, latency: int) -> Stream:
        """The stream x at a later latency; one Delay serves all who ask for the same."""
        if latency == x.latency:
            return x
        key = (x.sources, latency)
        if key not in self._delays:
            if latency < x.latency:
                raise ValueError(f"{'+'.join(x.sources)}: latency {x.latency} cannot be made {latency}")
            base = x.sources[0] if len(x.sources) == 1 else f"{x.sources[-1]}.sum"
            name, others = f"{base}.delay{latency}", 0
            while name in self._nodes:  # another sum that ends with the same source
                others += 1
                name = f"{base}{others}.delay{latency}"
            self._delays[key] = self.delay(name, x, latency - x.latency, latency)
        return self._delays[key]

    def joined(self, a: Stream, b: Stream) -> Stream:
        """The sum of two streams at the later of their latencies."""
        latency = max(a.latency, b.latency)
        a, b = self.delayed(a, latency), self.delayed(b, latency)
        return Stream(a.sources + b.sources, a.width, latency)

    def linear(self, name: str, x: Stream, *numbers: Any) -> Stream:
        """Weights (out, in) applied at once, and a clocked bias: nodes `name`.synapse and `name`.bias.

        numbers: the fields of `Weights`, of which the first must be there.
        """
        weights = Weights(*numbers)
        node = nir.Linear(weight=weights.synapse, metadata={LATENCY: x.latency, **weights.stated})
        return self._biased(name, self.node(f"{name}.synapse", node, x), weights)

    def convolution(self, name: str, x: Stream, *numbers: Any) -> Stream:
        """A centred convolution over time, causal by taps and gated by the clock.

        Tap j is Delay(j dt), then Linear, or Scale where channels do not mix. The output is late by half a kernel;
        positions before the first and after the last valid step, which a padded convolution does not have, are gated
        away.

        Args:
            name: prefix of the nodes.
            x: input.
            numbers: the fields of `Weights`; synapses are a kernel (out, in, K) as in PyTorch's Conv1d, or (N, 1, K)
                for a depthwise one.
        """
        weights = Weights(*numbers)
        out, fan_in, taps = weights.synapse.shape
        depthwise = fan_in == 1 and out == x.width
        latency = x.latency + taps // 2
        sources: tuple[str, ...] = ()
        for delay in range(taps):
            late = self.delay(f"{name}.synapse.delay{delay}", x, delay, x.latency + delay)
            kernel = weights.synapse[:, :, taps - 1 - delay]
            metadata = {LATENCY: latency, **weights.stated}
            node = nir.Scale(kernel[:, 0], metadata=metadata) if depthwise else nir.Linear(kernel, metadata=metadata)
            self.node(f"{name}.synapse.tap{delay}", node, late)
            sources += (f"{name}.synapse.tap{delay}",)
        current = self._biased(name, Stream(sources, out, latency), weights)
        return self.gate(f"{name}.gate", current, self.clock(latency))

    def delayed_linear(self, name: str, x: Stream, weights: Weights, delays: IntArray, latency: int) -> Stream:
        """Synapses with delays of their own, gated by the clock as a convolution is.

        For each delay that occurs a Delay, then a Linear of the synapses that have it; its other entries are 0, which
        stand for no synapse.

        Args:
            name: prefix of the nodes.
            x: input.
            weights: synapses (out, in).
            delays: steps (out, in).
            latency: by which the output is late against x, steps.
        """
        latency += x.latency
        sources: tuple[str, ...] = ()
        for delay in np.unique(delays):
            late = self.delay(f"{name}.synapse.delay{delay}", x, int(delay), x.latency + int(delay))
            metadata = {LATENCY: latency, **weights.stated}
            node = nir.Linear(np.where(delays == delay, weights.synapse, 0.0), metadata=metadata)
            self.node(f"{name}.synapse.tap{delay}", node, late)
            sources += (f"{name}.synapse.tap{delay}",)
        current = self._biased(name, Stream(sources, len(weights.synapse), latency), weights)
        return self.gate(f"{name}.gate", current, self.clock(latency))

    def axonal_linear(self, name: str, x: Stream, weights: Weights, delays: IntArray, latency: int) -> Stream:
        """Synapses behind axons with delays of their own, gated by the clock: one Delay by channel, then one Linear.

        Args:
            name: prefix of the nodes.
            x: input.
            weights: synapses (out, in).
            delays: steps (in,).
            latency: by which the output is late against x, steps.
        """
        latency += x.latency
        node = nir.Delay(delay=delays * self.dt, metadata={LATENCY: latency})
        late = self.node(f"{name}.synapse.delay", node, x, latency=latency)
        return self.gate(f"{name}.gate", self.linear(name, late, *weights), self.clock(latency))

    def recurrent(
        self, name: str, current: Stream, weights: Weights, neurons: Callable[[str, Stream], Stream]
    ) -> Stream:
        """Neurons `name` that feed each other one step later: LIF, Delay(dt), Linear, and back into their current.

        The sum is gated by the clock: what fires at a sample's last step reaches nobody.

        Args:
            name: of the neurons.
            current: what comes from outside.
            weights: synapses (N, N), no bias.
            neurons: adds them, given name and current.
        """
        before = current.latency + 1  # the spikes of the step before arrive here
        late = self.delay(f"{name}.delay", Stream((name,), current.width, current.latency), 1, before)
        node = nir.Linear(weight=weights.synapse, metadata={LATENCY: before, **weights.stated})
        back = self.node(f"{name}.recurrent", node, late)
        gated = self.gate(f"{name}.gate", current, self.clock(current.latency))
        # A wire of its own: what comes from outside, with its bias, and what comes back stay two synapses.
        value, spike = PACKED_OPERATIONS["gate"].operands({"spike_width": 1}, current.width)
        second = self.node(f"{name}.gate.wire_recurrent", wire(value, spike.stop, current.latency), back)
        self._edges.append((second.sources[0], f"{name}.gate"))
        return neurons(name, gated)

    def gate(self, name: str, value: Stream, spike: Stream) -> Stream:
        """Lets the value through where the spike is 1; a one-wide spike gates all channels."""
        parameters = {"width": value.width, "spike_width": spike.width}
        return self.operation(name, "gate", value.width, {"value": value, "spike": spike}, parameters)

    def operation(
        self,
        name: str,
        op: str,
        width: int,
        operands: Mapping[str, Stream],
        parameters: Mapping[str, Any],
        duration: int = 0,
    ) -> Stream:
        """A packed operation: operands are aligned and wired into its one input; it takes `duration` steps."""
        arrival = max(stream.latency for stream in operands.values())
        node = packed_node(op, width, arrival + duration, parameters)
        slots = PACKED_OPERATIONS[op].operands(parameters, width)
        wires: tuple[str, ...] = ()
        for operand in slots:
            stream = self.delayed(operands[operand.name], arrival)
            self.node(f"{name}.wire_{operand.name}", wire(operand, slots[-1].stop, arrival), stream)
            wires += (f"{name}.wire_{operand.name}",)
        return self.node(name, node, Stream(wires, slots[-1].stop, arrival), width, arrival + duration)

    def part(self, name: str, x: Stream, channels: slice) -> Stream:
        """Some channels of a stream; routing, which costs nothing."""
        index = np.arange(x.width)[channels]
        return self.node(name, select_node(index, (x.width,), latency=x.latency), x, len(index))

    def side_by_side(self, name: str, *parts: Stream) -> Stream:
        """Channels of streams one after the other, at the latest of their latencies; routing."""
        latency, width = max(part.latency for part in parts), sum(part.width for part in parts)
        sources: tuple[str, ...] = ()
        start = 0
        for i, part in enumerate(parts):
            index = np.full(width, -1)
            index[start : start + part.width] = np.arange(part.width)
            start += part.width
            node = select_node(index, (part.width,), latency=latency)
            sources += self.node(f"{name}{i}", node, self.delayed(part, latency), width).sources
        return Stream(sources, width, latency)

    def lif(self, name: str, current: Stream, decay: float = 0.5) -> Stream:
        """The neuron of training: v = decay v + I, spike where v >= 1, reset to 0.

        tau and r make NIR's forward Euler exactly this (decay 1/2: tau = 2 dt, r = 2); NIR fires above the threshold
        and SpikingJelly at it, so the threshold is the largest number below 1.

        Raises:
            ExportError: no tau and r state this decay exactly.
        """
        constants = membrane(decay, self.dt)
        if constants.decay != decay:
            raise ExportError(f"{name}: a decay of {decay} cannot be stated for steps of {self.dt} s; fold for this dt")
        full = np.ones(current.width)
        node = nir.LIF(
            tau=constants.tau * full,
            r=constants.r * full,
            v_leak=0 * full,
            v_threshold=np.nextafter(1.0, 0.0) * full,
            v_reset=0 * full,
            metadata={LATENCY: current.latency},
        )
        return self.node(name, node, current)

    def adaptive_lif(
        self,
        name: str,
        current: Stream,
        tau: tuple[FloatArray, FloatArray],
        by_membrane: FloatArray,
        by_spike: FloatArray,
    ) -> Stream:
        """Adaptive neurons: two leaky integrators and a Threshold, which is `name` and sees the membrane on the clock.

        Without the clock neurons that adaptation lets go would fire after a sample's last step; and nothing multiplies
        what is left of their membranes there.

        With k = 1 - dt / tau and g = dt / tau, an integrator is v = k v + g r I. Membrane: r = 1, of the current, of
        -w, and of -k / g s, a step late. Adaptation holds -w, so that nothing multiplies it on its way to the membrane:
        r = 1 / g, of -a u and -b s, a step late.

        Args:
            name: of the Threshold, and prefix of the others.
            current: what the neurons receive.
            tau: of membrane and adaptation, seconds, (N,) each.
            by_membrane: a (N,).
            by_spike: b (N,).
        """
        latency, zero = current.latency, np.zeros(current.width)
        gain, adaptation_gain = (self.dt / constant for constant in tau)
        parts = {part: f"{name}.{part}" for part in ("membrane", "adaptation")}
        late = {}
        for part, source in {"membrane": parts["membrane"], "spike": name}.items():
            late[part] = self.delay(f"{name}.{part}_late", Stream((source,), current.width, latency), 1, latency + 1)
        ticking = self.gate(f"{name}.adapting.gate", late["membrane"], self.clock(latency))
        pulls = {
            "adapting": (ticking, -by_membrane),
            "firing": (late["spike"], -by_spike),
            "reset": (late["spike"], -(1.0 - gain) / gain),
        }
        sent = {}
        for pull, (x, scale) in pulls.items():
            sent[pull] = self.node(f"{name}.{pull}", nir.Scale(scale, metadata={LATENCY: latency}), x).sources
        ones = np.ones(current.width)
        adaptation = nir.LI(tau=tau[1], r=1.0 / adaptation_gain, v_leak=zero, metadata={LATENCY: latency})
        self.node(parts["adaptation"], adaptation, Stream(sent["adapting"] + sent["firing"], current.width, latency))
        membrane = nir.LI(tau=tau[0], r=ones, v_leak=zero, metadata={LATENCY: latency})
        arriving = Stream((*current.sources, parts["adaptation"], *sent["reset"]), current.width, latency)
        seen = self.gate(f"{name}.gate", self.node(parts["membrane"], membrane, arriving), self.clock(latency))
        return self.node(name, nir.Threshold(np.nextafter(1.0, 0.0) * ones, metadata={LATENCY: latency}), seen)

    def _input(self, name: str, width: int, metadata: dict[str, Any]) -> Stream:
        self._nodes[name] = nir.Input(input_type=np.array([width]), metadata={LATENCY: 0, **metadata})
        return Stream((name,), width, 0)

    def delay(self, name: str, x: Stream, steps: int, latency: int) -> Stream:
        """A Delay of so many steps for all channels, stated to be as late as `latency`."""
        node = nir.Delay(delay=np.full(x.width, steps * self.dt), metadata={LATENCY: latency})
        return self.node(name, node, x, latency=latency)

    def fixed_lif(self, name: str, current: Stream, registers: FixedMembrane) -> Stream:
        """The neuron in fixed point; NIR's own fields say the same in real numbers, but for truncation and overflow."""
        kept = 1.0 - registers.dv / UNITY
        constants = membrane(kept, self.dt)
        full = np.ones(current.width)
        node = nir.LIF(
            tau=constants.tau * full,
            r=64 * constants.r * full,
            v_leak=0 * full,
            v_threshold=64.0 * registers.vth * full,
            v_reset=0 * full,
            metadata={LATENCY: current.latency, DV: registers.dv, VTH: registers.vth},
        )
        return self.node(name, node, current)

    def _biased(self, name: str, x: Stream, weights: Weights) -> Stream:
        if weights.bias is None:
            return x
        metadata = {LATENCY: x.latency, ORIGIN: "+".join(weights.origin), **weights.bias_stated}
        node = nir.Linear(weight=weights.bias[:, None], metadata=metadata)
        return self.joined(x, self.node(f"{name}.bias", node, self.clock(x.latency)))

    def node(
        self, name: str, node: nir.NIRNode, x: Stream, width: int | None = None, latency: int | None = None
    ) -> Stream:
        """A node that reads the stream x; width and latency of its output, where they are not the node's and x's."""
        if name in self._nodes:
            raise ValueError(f"node {name} exists already")
        self._nodes[name] = node
        self._edges += [(source, name) for source in x.sources]
        if width is None:
            width = int(np.prod(next(iter(node.output_type.values()))))
        return Stream((name,), width, x.latency if latency is None else latency)
