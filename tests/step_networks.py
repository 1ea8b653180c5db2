"""StepNetworks put together by hand, for tests of what is made of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from spikescr.export.record.step import Kind, NeuronEquation, Node, Operand, Signal, StepNetwork

IF = NeuronEquation("IFNode", decay=1.0, gain=1.0, threshold=1.0, reset=0.0)


class Maker:
    """Adds nodes one by one; signals are their numbers, read in their own shape or in another."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Node] = []
        self.signals: list[Signal] = []

    def add(
        self,
        operation: str,
        *operands: int | tuple[int, tuple[int, ...]],
        shape: tuple[int, ...],
        kind: Kind = "values",
        path: str | None = None,
        arrays: dict[str, Any] | None = None,
        **options: Any,
    ) -> int:
        number = len(self.nodes)
        read = [Operand(o, self.signals[o].shape) if isinstance(o, int) else Operand(*o) for o in operands]
        self.signals.append(Signal(number, shape, kind, number))
        self.nodes.append(
            Node(number, operation, path or f"{operation}{number}", tuple(read), number, arrays or {}, options)
        )
        return number

    def shape(self, signal: int) -> tuple[int, ...]:
        return self.signals[signal].shape

    def input(self, *shape: int, kind: Kind = "values") -> int:
        return self.add("input", shape=shape, kind=kind, path="", name="input", held=False)

    def neurons(self, x: int, equation: NeuronEquation = IF) -> int:
        return self.add("neuron", x, shape=self.shape(x), kind="spikes", equation=equation)

    def conv(
        self, x: int, out: int, kernel: tuple[int, ...], stride: int = 1, padding: int = 0, groups: int = 1,
        bias: bool = False,
    ) -> int:  # fmt: skip
        channels, *space = self.shape(x)
        weight = self.rng.normal(size=(out, channels // groups, *kernel))
        arrays = {"weight": weight, **({"bias": self.rng.normal(size=out)} if bias else {})}
        after = tuple((n + 2 * padding - k) // stride + 1 for n, k in zip(space, kernel, strict=True))
        axes = len(kernel)
        return self.add(
            "conv", x, shape=(out, *after), arrays=arrays, stride=(stride,) * axes, padding=(padding,) * axes,
            dilation=(1,) * axes, groups=groups,
        )  # fmt: skip

    def linear(self, x: int, out: int, bias: bool = False, reads: tuple[int, ...] | None = None) -> int:
        read = reads or self.shape(x)
        arrays = {"weight": self.rng.normal(size=(out, read[-1]))}
        if bias:
            arrays["bias"] = self.rng.normal(size=out)
        return self.add("linear", (x, read), shape=(*read[:-1], out), arrays=arrays)

    def norm(self, x: int) -> int:
        channels = self.shape(x)[0]
        arrays = {name: self.rng.uniform(0.5, 1.5, channels) for name in ("mean", "var", "weight", "bias")}
        return self.add("batch_norm", x, shape=self.shape(x), arrays=arrays, eps=1e-5, axis=0)

    def select(self, x: int, index: Any, shape: tuple[int, ...]) -> int:
        return self.add(
            "select", x, shape=shape, kind=self.signals[x].kind, arrays={"index": np.asarray(index, np.int64).ravel()}
        )

    def transposed(self, x: int) -> int:
        a, b = self.shape(x)
        return self.select(x, np.arange(a * b).reshape(a, b).T, (b, a))

    def network(self, x: int, readout: str = "every", steps: int = 4) -> StepNetwork:
        """With x for its output."""
        self.add("output", x, shape=self.shape(x), kind=self.signals[x].kind, path="", name="output", readout=readout)
        return StepNetwork(self.nodes, self.signals, steps)
