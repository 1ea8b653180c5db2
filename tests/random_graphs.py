"""Random valid NIR graphs: every primitive and packed operation, sums, taps, nesting, cycles that something breaks."""

from __future__ import annotations

from dataclasses import dataclass

import nir
import numpy as np
from hypothesis import strategies as st

from spikescr.dialect import PACKED_OPERATIONS, into_slots, packed_node, select_node
from spikescr.export.builder import GraphBuilder, Stream

DT = 1 / 128  # so that what an integrate-and-fire neuron takes in, r dt, is exact
WIDTHS = (1, 2, 4, 6, 8, 11)


@dataclass(frozen=True)
class Case:
    """A graph, and for each of its inputs the values (T, B, width)."""

    graph: nir.NIRGraph
    inputs: dict[str, np.ndarray]
    steps: int


class RandomGraph:
    """Grows a graph layer by layer; every number is a small multiple of 1/8, so that sums are exact in any order.

    Rotary tables hold quarter turns, for the same reason. loose: queries of attention may spike while its clock does
    not tick, which Programs ignore (NIR interpreter: they read what was written). spatial: with
    convolutions and pools, and with one parameter for all neurons of a node, whose shape only what arrives tells.
    """

    def __init__(
        self,
        seed: int,
        *,
        steps: int,
        samples: int,
        layers: int,
        cycles: bool,
        loose: bool = True,
        spatial: bool = True,
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.steps = steps
        self.loose = loose
        self.spatial = spatial
        self.build = GraphBuilder(DT)
        self.count = 0
        self.extra: list[tuple[str, str]] = []
        self.nodes: dict[str, nir.NIRNode] = {}
        width = self.choose(WIDTHS)
        self.inputs = {"clock": self.clock(samples)}
        self.streams: list[tuple[Stream, str]] = []
        for i in range(self.choose((1, 1, 2))):
            self.add_input(f"input{i}", width if i == 0 else self.choose(WIDTHS), samples)
        for _ in range(layers):
            self.layer()
        if cycles:
            self.cycle()
        for i, (stream, _) in enumerate(self.streams[-2:]):
            self.build.output(f"output{i}", self.linear(stream, 3))
        nodes = dict(sorted({**self.build._nodes, **self.nodes}.items()))
        edges = sorted({*self.build._edges, *self.extra})  # a stream joined with itself is itself
        metadata = {"spikescr.dt": DT, "spikescr.steps": steps}
        self.case = Case(nir.NIRGraph(nodes, edges, metadata=metadata, type_check=False), self.inputs, steps)

    def choose(self, options: tuple) -> int:
        return options[self.rng.integers(len(options))]

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    def numbers(self, *shape: int) -> np.ndarray:
        return self.rng.integers(-8, 13, shape) / 8

    def clock(self, samples: int) -> np.ndarray:
        if self.rng.random() < 0.2:  # one that starts late and has holes
            return (self.rng.random((self.steps, samples, 1)) < 0.7).astype(float)
        valid = self.rng.integers(0, self.steps + 1, samples)
        return (np.arange(self.steps)[:, None] < valid).astype(float)[..., None]

    def add_input(self, name: str, width: int, samples: int) -> None:
        kind = ("spikes", "counts", "values")[self.rng.integers(3)]
        shape = (self.steps, samples, width)
        x = {
            "spikes": lambda: (self.rng.random(shape) < self.rng.uniform(0, 0.9)).astype(float),
            "counts": lambda: self.rng.poisson(0.7, shape).astype(float),
            "values": lambda: self.rng.integers(-8, 9, shape) / 4,
        }[kind]()
        signal = "values" if kind == "values" else "spikes"
        self.inputs[name] = x * self.inputs["clock"] if self.rng.random() < 0.7 else x
        self.streams.append((self.build.input(name, width, signal), signal))

    def pick(self, signal: str | None = None) -> tuple[Stream, str]:
        """A stream, or the sum of two of one width and signal."""
        fitting = [s for s in self.streams if signal in (None, s[1])]
        if not fitting:
            stream, _ = self.pick()
            return self.spiking(stream, self.choose(WIDTHS)), "spikes"
        one = fitting[self.rng.integers(len(fitting))]
        others = [s for s in fitting if s is not one and s[0].width == one[0].width and s[1] == one[1]]
        if others and self.rng.random() < 0.5:
            other = others[self.rng.integers(len(others))]
            return self.build.joined(one[0], other[0]), one[1]
        return one

    def linear(self, x: Stream, width: int) -> Stream:
        bias = self.numbers(width) if self.rng.random() < 0.6 else None
        return self.build.linear(self.name("linear"), x, self.numbers(width, x.width), bias)

    def neuron(self, x: Stream) -> Stream:
        """Exported neurons, or ones with parameters of their own that may fire without input."""
        if self.rng.random() < 0.6:
            return self.build.lif(self.name("lif"), x)
        name, n = self.name("own"), x.width
        tau = DT * np.exp2(self.rng.integers(0, 3, n))
        leak = self.rng.integers(-1, 4, n) / 4 if self.rng.random() < 0.5 else np.zeros(n)
        self.nodes[name] = nir.LIF(
            tau=tau,
            r=self.rng.integers(1, 5, n) / 2,
            v_leak=leak,
            v_threshold=self.rng.integers(1, 9, n) / 8 if self.rng.random() < 0.5 else np.full(n, 0.5),
            v_reset=self.rng.integers(-4, 3, n) / 8,
        )
        self.extra += [(source, name) for source in x.sources]
        return Stream((name,), n, x.latency)

    def spiking(self, x: Stream, width: int) -> Stream:
        return self.neuron(self.linear(x, width))

    def convolution(self, x: Stream) -> Stream:
        taps = self.choose((1, 3, 5))
        depthwise = x.width > 1 and self.rng.random() < 0.5
        out = x.width if depthwise else self.choose(WIDTHS)
        weight = self.numbers(out, 1 if depthwise else x.width, taps)
        bias = self.numbers(out) if self.rng.random() < 0.6 else None
        return self.build.convolution(self.name("conv"), x, weight, bias)

    def rotary(self, x: Stream) -> Stream:
        x = x if x.width % 2 == 0 else self.spiking(x, 4)
        heads = self.choose((1, 2)) if x.width % 4 == 0 else 1
        pairs = x.width // heads // 2
        angle = self.rng.integers(0, 4, (self.steps, pairs))
        tables = {"cos": np.array([1.0, 0, -1, 0])[angle], "sin": np.array([0.0, 1, 0, -1])[angle]}
        operands = {"x": x, "clock": self.build.clock(x.latency)}
        return self.build.operation(self.name("rotary"), "rotary", x.width, operands, {"heads": heads, **tables})

    def positioned(self, x: Stream) -> tuple[Stream, str]:
        """A stream with a position encoding added: values, or the spikes of neurons that get the sum."""
        table = {"table": self.numbers(self.steps, x.width)}
        encoding = self.build.operation(
            self.name("position"), "position", x.width, {"clock": self.build.clock(x.latency)}, table
        )
        summed = self.build.joined(x, encoding)
        return (self.neuron(summed), "spikes") if self.rng.random() < 0.5 else (summed, "values")

    def attention(self, x: Stream) -> Stream:
        width = self.choose((2, 4, 8))
        heads = self.choose((1, 2))
        q, k, v = (self.spiking(x, width) for _ in range(3))
        if not self.loose:
            q = self.build.gate(self.name("gate"), q, self.build.clock(q.latency))
        operands = {"q": q, "k": k, "v": v, "clock": self.build.clock(x.latency)}
        parameters = {"heads": heads, "scale": 0.25}
        if self.rng.random() < 0.5:
            return self.build.operation(self.name("causal"), "causal_attention", width, operands, parameters)
        parameters["steps"] = self.steps
        return self.build.operation(
            self.name("attention"), "attention", width, operands, parameters, duration=self.steps
        )

    def packed(self, op: str, width: int, operands: dict[str, Stream], parameters: dict[str, object]) -> Stream:
        """A packed operation whose operands come through selects, or through wires."""
        if self.rng.random() < 0.3:
            return self.build.operation(self.name(op), op, width, operands, parameters)
        latency = max(stream.latency for stream in operands.values())
        slots = PACKED_OPERATIONS[op].operands(parameters, width)
        selects = [
            self.after("into", into_slots(o, slots[-1].stop, (o.width,)), self.build.delayed(operands[o.name], latency))
            for o in slots
        ]
        whole = Stream(tuple(s.sources[0] for s in selects), slots[-1].stop, latency)
        return self.after(op, packed_node(op, width, latency, parameters), whole, width)

    def select(self, x: Stream) -> Stream:
        """Channels of a stream in any order, some twice or never, and zeros between them."""
        width = self.choose(WIDTHS)
        index = self.rng.integers(-1, x.width, width)
        if self.rng.random() < 0.3:
            index = self.rng.permutation(x.width)
        return self.after("select", select_node(index, (x.width,)), x, len(index))

    def concatenated(self) -> tuple[Stream, str]:
        """Two streams side by side, or one beside itself."""
        first, signal = self.pick()
        second, _ = self.pick(signal)
        latency = max(first.latency, second.latency)
        width = first.width + second.width
        places = (np.arange(first.width), np.arange(first.width, width))
        sources: tuple[str, ...] = ()
        for stream, place in zip((first, second), places, strict=True):
            index = np.full(width, -1)
            index[place] = np.arange(stream.width)
            placed = self.after(
                "beside", select_node(index, (stream.width,)), self.build.delayed(stream, latency), width
            )
            sources += placed.sources
        return Stream(sources, width, latency), signal

    def token_attention(self, x: Stream) -> Stream:
        heads, tokens, depth, each = (self.choose(sizes) for sizes in ((1, 2), (1, 2, 3), (1, 2, 4), (1, 2, 5)))
        q, k = (self.spiking(x, heads * tokens * depth) for _ in range(2))
        v = (self.linear if self.rng.random() < 0.3 else self.spiking)(x, heads * tokens * each)
        parameters = {"heads": heads, "tokens": tokens, "depth": depth, "scale": 0.25}
        return self.packed("token_attention", v.width, {"q": q, "k": k, "v": v}, parameters)

    def maximum(self) -> tuple[Stream, str]:
        """Of windows of one stream."""
        x, signal = self.pick()
        fan, width = self.choose((1, 2, 3)), self.choose(WIDTHS)
        windows = self.after(
            "window", select_node(self.rng.integers(0, x.width, fan * width), (x.width,)), x, fan * width
        )
        return self.after("maximum", packed_node("maximum", width, x.latency, {"fan": fan}), windows, width), signal

    def inverted_gate(self) -> Stream:
        value, _ = self.pick()
        gating = self.spiking(self.pick()[0], self.choose((1, value.width)))
        latency = max(value.latency, gating.latency)
        operands = {"value": self.build.delayed(value, latency), "spike": self.build.delayed(gating, latency)}
        parameters = {"width": value.width, "spike_width": gating.width}
        return self.packed("inverted_gate", value.width, operands, parameters)

    def gate(self) -> Stream:
        value, _ = self.pick()
        if self.rng.random() < 0.5:
            value = self.linear(value, self.choose(WIDTHS))
        gating = self.spiking(self.pick()[0], self.choose((1, value.width)))
        latency = max(value.latency, gating.latency)
        return self.build.gate(
            self.name("gate"), self.build.delayed(value, latency), self.build.delayed(gating, latency)
        )

    def layer(self) -> None:  # noqa: PLR0912
        x, signal = self.pick()
        match int(self.rng.integers(20)):
            case 0:
                self.streams.append((self.spiking(x, self.choose(WIDTHS)), "spikes"))
            case 1:
                self.streams.append((self.neuron(self.convolution(x)), "spikes"))
            case 2:
                self.streams.append((self.build.delayed(x, x.latency + self.choose((1, 2, 5))), signal))
            case 3:
                self.streams.append((self.neuron(self.rotary(self.pick("spikes")[0])), "spikes"))
            case 4:
                self.streams.append((self.neuron(self.attention(x)), "spikes"))
            case 5:
                self.streams.append((self.neuron(self.gate()), "spikes"))
            case 6:
                self.streams.append((self.any_neuron(self.affine(x, self.choose(WIDTHS))), "spikes"))
            case 7:
                self.streams.append((self.any_neuron(self.pick()[0]), "spikes"))
            case 8:
                self.streams.append((self.integrator(x), "values"))
            case 9:
                self.streams.append((self.after("skew", nir.Delay(self.rng.integers(0, 4, x.width) * DT), x), signal))
            case 10:
                self.streams.append((self.nested(x), "spikes"))
            case 11 | 12 if self.spatial:
                self.streams.append(self.image(x))
            case 13:
                self.streams.append(self.positioned(x))
            case 14:
                self.streams.append((self.select(x), signal))
            case 15:
                self.streams.append(self.concatenated())
            case 16:
                self.streams.append((self.neuron(self.token_attention(x)), "spikes"))
            case 17:
                self.streams.append(self.maximum())
            case 18:
                self.streams.append((self.neuron(self.inverted_gate()), "spikes"))
            case _:
                self.streams.append((self.linear(x, self.choose(WIDTHS)), "values"))

    def after(self, kind: str, node: nir.NIRNode, x: Stream, width: int | None = None) -> Stream:
        """A node of standard NIR that a stream leads into."""
        name = self.name(kind)
        self.nodes[name] = node
        self.extra += [(source, name) for source in x.sources]
        return Stream((name,), x.width if width is None else width, x.latency)

    def affine(self, x: Stream, width: int) -> Stream:
        return self.after("affine", nir.Affine(self.numbers(width, x.width), self.numbers(width)), x, width)

    def tau(self, *shape: int) -> np.ndarray:
        return DT * np.exp2(self.rng.integers(0, 3, shape))

    def any_neuron(self, x: Stream) -> Stream:
        """A neuron of any type that fires, with a hard or a soft reset, parameters of its own or one for all."""
        shape = (x.width,) if self.rng.random() < 0.7 or not self.spatial else (1,)
        soft = self.rng.random() < 0.4
        metadata = {"reset_mechanism": "subtract"} if soft else {}
        r, threshold = self.rng.integers(1, 5, shape) / 2, self.rng.integers(1, 9, shape) / 8
        reset = np.zeros(shape) if soft else self.rng.integers(-4, 3, shape) / 8
        leak = self.rng.integers(-1, 2, shape) / 8
        kind = self.choose(("if", "lif", "cubalif", "threshold"))
        node = {
            "if": lambda: nir.IF(r / DT, threshold, reset, metadata=metadata),
            "lif": lambda: nir.LIF(self.tau(*shape), r, leak, threshold, reset, metadata=metadata),
            "cubalif": lambda: nir.CubaLIF(
                self.tau(*shape), self.tau(*shape), r, leak, threshold, reset, w_in=self.choose((1.0, 2.0, -0.5)),
                metadata=metadata,
            ),
            "threshold": lambda: nir.Threshold(threshold),
        }[kind]()  # fmt: skip
        return self.after(kind, node, x)

    def integrator(self, x: Stream) -> Stream:
        """A neuron of any type that does not fire."""
        n = x.width
        r, leak = self.numbers(n), self.rng.integers(-1, 2, n) / 4
        cuba = nir.CubaLI(self.tau(n), self.tau(n), r, leak, w_in=self.numbers(n))
        node = self.choose((nir.I(r / DT), nir.LI(self.tau(n), r, leak), cuba))
        return self.after("sum", node, x)

    def nested(self, x: Stream) -> Stream:
        """Neurons behind a synapse of their own, in a graph of their own that states the reset."""
        n = x.width
        one = np.ones(n)
        inner = {
            "input": nir.Input(np.array([n])),
            "weight": nir.Affine(self.numbers(n, n), self.numbers(n)),
            "lif": nir.LIF(2 * DT * one, 2 * one, 0 * one, one, 0 * one),
            "output": nir.Output(np.array([n])),
        }
        edges = [("input", "weight"), ("weight", "lif"), ("lif", "output")]
        if self.rng.random() < 0.5:
            edges.append(("input", "lif"))
        metadata = {"reset_mechanism": "subtract"} if self.rng.random() < 0.5 else {}
        return self.after("nest", nir.NIRGraph(inner, edges, metadata=metadata), x)

    def image(self, x: Stream) -> tuple[Stream, str]:
        """A convolution in one or two dimensions or a pool, on spikes or values, then neurons or not."""
        channels, rows, columns = self.choose((1, 2, 4)), self.choose((2, 3)), self.choose((2, 3, 4))
        width = channels * rows * columns
        spikes = self.rng.random() < 0.6
        x = self.spiking(x, width) if spikes else self.linear(x, width)
        shaped = nir.Delay(np.zeros((channels, rows, columns)))
        if self.rng.random() < 0.3:
            weight = self.numbers(3, channels * rows, self.choose((1, 2)))
            padding = self.choose((0, 1, "same", "valid"))
            stride = 1 if padding == "same" else self.choose((1, 2))
            kernel = nir.Conv1d(columns, weight, stride, padding, 1, 1, self.numbers(3))
            out = self.after("conv1d", kernel, x, 3 * self.places(columns, weight.shape[2], stride, padding, 1))
            return self.any_neuron(out), "spikes"
        x = self.after("image", shaped, x)
        if self.rng.random() < 0.4:
            kernel_size, stride, padding = (np.array([a, self.choose((1, 2))]) for a in (self.choose((1, 2)), 1, 1))
            padding = np.minimum(padding, kernel_size) * self.choose((0, 1))
            size = [
                self.places(n, int(k), int(s), int(p), 1)
                for n, k, s, p in zip((rows, columns), kernel_size, stride, padding, strict=True)
            ]
            pool = self.choose((nir.SumPool2d, nir.AvgPool2d))
            out = self.after("pool", pool(kernel_size, stride, padding), x, channels * size[0] * size[1])
            return out, "spikes" if spikes and pool is nir.SumPool2d else "values"
        groups = self.choose((1, channels))
        weight = self.numbers(2 * groups, channels // groups, 2, self.choose((1, 2)))
        padding = self.choose((0, (1, 0), (0, 2), "same", "valid"))
        stride = (1, 1) if padding == "same" else (self.choose((1, 2)), 1)
        dilation = (1, self.choose((1, 2)) if columns > 2 else 1)
        bias = self.numbers(2 * groups) if self.rng.random() < 0.5 else np.zeros(2 * groups)
        node = nir.Conv2d((rows, columns), weight, stride, padding, dilation, groups, bias)
        pads = padding if isinstance(padding, (str, tuple)) else (padding, padding)
        size = [
            self.places(n, weight.shape[2 + a], stride[a], pads if isinstance(pads, str) else pads[a], dilation[a])
            for a, n in enumerate((rows, columns))
        ]
        out = self.after("conv2d", node, x, 2 * groups * size[0] * size[1])
        if self.rng.random() < 0.5:
            out = self.after("flat", nir.Flatten({"input": np.array([2 * groups, *size])}, 0), out)
        return (self.any_neuron(out), "spikes") if self.rng.random() < 0.7 else (out, "values")

    def places(self, n: int, kernel: int, stride: int, padding: int | str, dilation: int) -> int:
        """Outputs of a convolution along one axis."""
        if padding == "same":
            return n
        edge = 0 if padding == "valid" else int(padding)
        return (n + 2 * edge - dilation * (kernel - 1) - 1) // stride + 1

    def cycle(self) -> None:
        """One or two loops: neurons that feed themselves or each other, at once or through a delay."""
        for _ in range(self.choose((1, 2))):
            x, _ = self.pick()
            first, second, back = self.name("loop"), self.name("loop"), self.name("back")
            width = self.choose(WIDTHS)
            current = self.linear(x, width)
            lif = {"tau": np.full(width, 2 * DT), "r": np.full(width, 2.0), "v_leak": np.zeros(width)}
            lif |= {"v_threshold": np.full(width, 0.875), "v_reset": np.zeros(width)}
            forward = self.name("forward")
            soft = {"metadata": {"reset_mechanism": "subtract"}} if self.rng.random() < 0.3 else {}
            leaky = {key: lif[key] for key in ("tau", "r", "v_leak")}
            cuba = {"tau_syn": lif["tau"], "tau_mem": lif["tau"], **{k: lif[k] for k in lif if k != "tau"}}
            returning = second if self.rng.random() < 0.5 else first
            # One that does not fire only where spikes go round: real numbers would get longer at each turn.
            kinds = (nir.LIF(**lif), nir.CubaLIF(**cuba), nir.LI(**leaky) if returning == second else nir.LIF(**lif))
            self.nodes |= {
                first: self.choose(kinds),
                forward: nir.Linear(self.numbers(width, width)),
                second: nir.LIF(**lif, **soft),
                back: self.choose((nir.Linear, nir.Linear, lambda w: nir.Affine(w, w[0])))(
                    self.numbers(width, width) / 2
                ),
            }
            if self.rng.random() < 0.3:
                self.extra.append((second, second))
            self.extra += [(source, first) for source in current.sources]
            self.extra += [(first, forward), (forward, second)]
            if self.rng.random() < 0.5:
                delay = self.name("delay")
                self.nodes[delay] = nir.Delay(np.full(width, DT * self.choose((1, 2, 3))))
                self.extra += [(returning, delay), (delay, back)]
            else:
                self.extra.append((returning, back))
            self.extra.append((back, first))
            self.streams.append((Stream((second,), width, current.latency), "spikes"))


@st.composite
def cases(draw: st.DrawFn, *, cycles: bool = False, loose: bool = True, spatial: bool = True) -> Case:
    """A random graph with inputs; spatial: see RandomGraph."""
    return RandomGraph(
        draw(st.integers(0, 2**32 - 1)),
        steps=draw(st.integers(1, 9)),
        samples=draw(st.integers(1, 4)),
        layers=draw(st.integers(1, 6)),
        cycles=cycles,
        loose=loose,
        spatial=spatial,
    ).case
