"""Nodes and signals of a step network from drafts: routes between them, delays, kinds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikescr.export.record.calls import Problem
from spikescr.export.record.drafts import Draft
from spikescr.export.record.kinds import kinds_of
from spikescr.export.record.places import LATER, SUM
from spikescr.export.record.readings import Reading
from spikescr.export.record.scope import Scope
from spikescr.export.record.step import Node, Operand, Readout, Signal, StepNetwork


@dataclass
class Result:
    """An output of the network: what it reads and how over the steps, and which axis of it runs over them."""

    name: str
    reading: Reading
    readout: Readout
    axis: int | None


def entire(scope: Scope, reading: Reading) -> int | None:
    """The signal of which a reading takes every element in order."""
    if not len(reading.signal):
        return None
    number = int(reading.signal[0])
    if number < 0 or (reading.signal != number).any():
        return None
    size = prod(scope.drafts.list[number % LATER].shape)
    same = len(reading.local) == size and bool((reading.local == np.arange(size)).all())
    return number if same else None


class Assembly:
    """Nodes and signals as they are made, in the order of the drafts."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.drafts = scope.drafts.list
        self.nodes: list[Node] = []
        self.shapes: list[tuple[int, ...]] = []
        self.final: dict[int, int] = {}
        self.delays: dict[int, int] = {}
        self.routes: dict[tuple[Any, ...], int] = {}

    def network(self, results: list[Result]) -> tuple[StepNetwork | None, list[Problem]]:
        """What the results need; None where a ReLU does something."""
        needed = self._needed([result.reading for result in results])
        for draft in self.drafts:
            if draft.result in needed or draft.operation == "input":
                self._place(draft)
        for result in results:
            operand = self._operand(result.reading)
            options = {"name": result.name, "readout": result.readout, "axis": result.axis}
            self._make("output", "", "", [operand], operand.shape, {}, options)
        for code, position in self.delays.items():
            node = self.nodes[position]
            operand = Operand(self._signal(code - LATER), self.drafts[code % LATER].shape)
            self.nodes[position] = replace(node, operands=(operand,))
        kinds = kinds_of(self.nodes, self.scope.record.example)
        problems = [
            Problem(
                "operation", node.path, "", "relu", node.line, "it is a ReLU of values, not of spikes", "use a neuron"
            )
            for node in self.nodes
            if node.operation == "relu" and kinds[node.operands[0].signal] == "values"
        ]
        problems += [
            Problem("steps", node.path, "", "matmul", node.line, "it joins elements of several steps",
                    "multiply what all steps give together with the queries alone: q @ (k.transpose(-2, -1) @ v)")
            for node in self.nodes if node.operation == "correlation"
        ]  # fmt: skip
        whole = self.scope.steps()
        signals = [Signal(number, shape, kinds[number], number) for number, shape in enumerate(self.shapes)]
        nodes = _without_relu(self.nodes)
        if problems:
            return None, problems
        record = self.scope.record
        tail = whole - (record.steps or whole)
        return StepNetwork(nodes, signals, whole, record.time, tail), []

    def _needed(self, readings: list[Reading]) -> set[int]:
        needed: set[int] = set()
        waiting = list(readings)
        while waiting:
            for code in np.unique(waiting.pop().signal):
                number = int(code) % LATER if code >= 0 else -1
                if number >= 0 and number not in needed:
                    needed.add(number)
                    waiting += self.drafts[number].readings
        return needed

    def _place(self, draft: Draft) -> None:
        """A draft's node; before it what it reads in the same step, and the routes to it."""
        if draft.result in self.final:
            return
        for reading in draft.readings:
            for code in np.unique(reading.signal).tolist():
                if 0 <= code < LATER:  # made in a later pass than the first, where it reads a state
                    self._place(self.drafts[code])
        arrays, options = dict(draft.arrays), dict(draft.options)
        readings = draft.readings
        if SUM in draft.steps:
            for name in ("bias", "mean", "addend"):
                if name in arrays:
                    arrays[name] = arrays[name] / self.scope.steps()
        if draft.operation == "sum":
            kept = [index for index, reading in enumerate(readings) if (reading.signal >= 0).any()]
            readings = [readings[index] for index in kept]
            coefficients = tuple(options["coefficients"][index] for index in kept)
            if len(readings) == 1:
                operand = self._operand(readings[0])
                if coefficients == (1.0,):
                    self.final[draft.result] = operand.signal
                    return
                factor = {"factor": np.array(coefficients[0])}
                self.final[draft.result] = self._make(
                    "scale", draft.path, draft.line, [operand], draft.shape, factor, {}
                )
                return
            options["coefficients"] = coefficients
        elif draft.operation == "neuron" and len(draft.steps) < self.scope.steps():
            options["steps"] = len(draft.steps)
        elif draft.operation == "product" and any((reading.signal < 0).all() for reading in readings):
            operand = self._operand(max(readings, key=lambda reading: int(reading.signal.max())))
            zero = {"factor": np.array(0.0)}
            self.final[draft.result] = self._make("scale", draft.path, draft.line, [operand], draft.shape, zero, {})
            return
        operands = [self._operand(reading) for reading in readings]
        self.final[draft.result] = self._make(
            draft.operation, draft.path, draft.line, operands, draft.shape, arrays, options
        )

    def _operand(self, reading: Reading) -> Operand:
        """What a node reads: a signal as it is, or the result of a `select`."""
        number = entire(self.scope, reading)
        if number is not None:
            return Operand(self._signal(number), reading.shape)
        key = (reading.signal.tobytes(), reading.local.tobytes())
        if key not in self.routes:
            codes = list(dict.fromkeys(int(code) for code in reading.signal if code >= 0)) or [0]
            sources = [self._signal(code) for code in codes]
            index = np.full(len(reading.signal), -1, dtype=np.int64)
            start = 0
            for code, source in zip(codes, sources, strict=True):
                index = np.where(reading.signal == code, start + reading.local, index)
                start += prod(self.shapes[source])
            operands = [Operand(source, self.shapes[source]) for source in sources]
            self.routes[key] = self._make("select", "", "", operands, reading.shape, {"index": index}, {})
        return Operand(self.routes[key], reading.shape)

    def _signal(self, code: int) -> int:
        """The signal of a draft, or its delay."""
        if code < LATER:
            return self.final[code]
        if code not in self.delays:
            draft = self.drafts[code % LATER]
            self.delays[code] = self._make("delay", draft.path, draft.line, [], draft.shape, {}, {})
            if code >= 2 * LATER:
                self._signal(code - LATER)
        return self.delays[code]

    def _make(
        self,
        operation: str,
        path: str,
        line: str,
        operands: list[Operand],
        shape: tuple[int, ...],
        arrays: dict[str, NDArray[Any]],
        options: dict[str, Any],
    ) -> int:
        number = len(self.nodes)
        self.nodes.append(Node(number, operation, path, tuple(operands), number, arrays, options, line))
        self.shapes.append(shape)
        return number


def _without_relu(nodes: list[Node]) -> list[Node]:
    """A ReLU of spikes or counts does nothing: it stays as a sum of one."""
    return [
        replace(node, operation="sum", options={"coefficients": (1.0,)}) if node.operation == "relu" else node
        for node in nodes
    ]
