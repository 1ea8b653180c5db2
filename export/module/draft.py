"""A StepNetwork under change: nodes are replaced, put in and bypassed; `network` gives what is left, in order."""

from __future__ import annotations

import graphlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikescr.errors import ExportError
from spikescr.export.record.step import Kind, Node, Operand, Signal, StepNetwork


class Draft:
    """Nodes by the number of the signal that each makes.

    Attributes:
        nodes: signal -> its maker; `result` and the operands hold numbers of signals, `number` means nothing here.
        shapes, kinds: of signals.
    """

    def __init__(self, net: StepNetwork) -> None:
        """Copies the lists, not the arrays, which no one may change in place."""
        self._net = net
        self.nodes: dict[int, Node] = {node.result: node for node in net.nodes}
        self.shapes: dict[int, tuple[int, ...]] = {signal.number: signal.shape for signal in net.signals}
        self.kinds: dict[int, Kind] = {signal.number: signal.kind for signal in net.signals}
        self._next = len(net.signals)

    def readers(self, signal: int) -> list[Node]:
        """Nodes that read a signal."""
        return [n for n in self.nodes.values() if any(o.signal == signal for o in n.operands)]

    def only_reader(self, signal: int) -> Node | None:
        """The node that alone reads a signal, once; None where there are others."""
        readers = self.readers(signal)
        return readers[0] if len(readers) == 1 and sum(o.signal == signal for o in readers[0].operands) == 1 else None

    def size(self, signal: int) -> int:
        """Elements of a signal."""
        return int(np.prod(self.shapes[signal], dtype=np.int64))

    def change(self, result: int, **fields: Any) -> None:
        """Replaces fields of the node that makes a signal."""
        self.nodes[result] = replace(self.nodes[result], **fields)

    def add(
        self,
        operation: str,
        operands: Sequence[Operand],
        shape: tuple[int, ...],
        kind: Kind,
        like: Node,
        arrays: Mapping[str, NDArray[Any]] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Operand:
        """Puts in a node, named and placed as `like`; returns its signal as it is."""
        number, self._next = self._next, self._next + 1
        self.nodes[number] = Node(
            -1, operation, like.path, tuple(operands), number, arrays or {}, options or {}, like.line
        )
        self.shapes[number], self.kinds[number] = shape, kind
        return Operand(number, shape)

    def bypass(self, signal: int, by: int) -> None:
        """All who read a signal read another one of as many elements instead; its maker goes."""
        del self.nodes[signal]
        for node in self.readers(signal):
            operands = tuple(replace(o, signal=by) if o.signal == signal else o for o in node.operands)
            self.change(node.result, operands=operands)

    def prune(self) -> None:
        """Drops nodes that no output needs."""
        needed = {node.result for node in self.ordered()}
        self.nodes = {signal: node for signal, node in self.nodes.items() if signal in needed}

    def ordered(self) -> list[Node]:
        """The nodes that an output needs, operands first, but for those of a delay.

        Raises:
            ExportError: there is a cycle without a delay.
        """
        needed: dict[int, None] = {}
        waiting = [n.result for n in self.nodes.values() if n.operation in ("output", "input")]
        while waiting:
            signal = waiting.pop()
            if signal not in needed:
                needed[signal] = None
                waiting += [o.signal for o in self.nodes[signal].operands]
        before = {
            signal: [o.signal for o in node.operands if node.operation != "delay"]
            for signal, node in self.nodes.items()
            if signal in needed
        }
        try:
            return [self.nodes[signal] for signal in graphlib.TopologicalSorter(before).static_order()]
        except graphlib.CycleError as error:
            paths = " -> ".join(self.nodes[signal].path or "the module" for signal in error.args[1])
            raise ExportError(f"a cycle without a delay: {paths}") from error

    def network(self) -> StepNetwork:
        """What the outputs need, numbered anew."""
        nodes = self.ordered()
        numbers = {node.result: position for position, node in enumerate(nodes)}
        made = [
            replace(
                node,
                number=position,
                result=position,
                operands=tuple(replace(o, signal=numbers[o.signal]) for o in node.operands),
            )
            for position, node in enumerate(nodes)
        ]
        signals = [
            Signal(position, self.shapes[node.result], self.kinds[node.result], position)
            for position, node in enumerate(nodes)
        ]
        return StepNetwork(made, signals, self._net.steps, self._net.time, self._net.tail)
