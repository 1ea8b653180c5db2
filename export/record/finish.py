"""From drafts to the step network: outputs, readouts, routes between nodes, kinds of signals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikescr.export.record.calls import Problem, Ref
from spikescr.export.record.drafts import AFFINE, Draft, Reading, RefusedError
from spikescr.export.record.kinds import kinds_of
from spikescr.export.record.places import HELD, LATER, MEAN, SUM, cut, outer_axes, step_of
from spikescr.export.record.scope import Scope
from spikescr.export.record.step import Node, Operand, Readout, Signal, StepNetwork


@dataclass
class Result:
    """An output of the network: what it reads and how over the steps."""

    name: str
    reading: Reading
    readout: Readout


def finished(scope: Scope) -> tuple[StepNetwork | None, list[Problem]]:
    """The step network of all drafts that an output needs, None where something stands against it."""
    problems: list[Problem] = []
    results = []
    for name, tracks in _outputs(scope.record.outputs):
        try:
            results.append(_result(scope, name, tracks))
        except RefusedError as error:
            problems.append(Problem(error.fault, "", "", f"output {name}", "", str(error), error.remedy))
    if not results and not problems:
        problems.append(
            Problem("structure", "", "", "output", "", "nothing that comes out depends on the input", "return a tensor")
        )
    problems += _checked(scope)
    if problems:
        return None, problems
    for result in results:
        _accumulated(scope, result)
    network, refused = _Assembly(scope).network(results)
    return (None, refused) if refused else (network, [])


def _outputs(trees: tuple[Any, ...]) -> Iterator[tuple[str, list[int]]]:
    """Names of the outputs, and the value of each call of the module."""

    def named(tree: Any, name: str) -> Iterator[tuple[str, int]]:
        if isinstance(tree, Ref):
            yield name, tree.number
        elif isinstance(tree, dict):
            for key, item in tree.items():
                yield from named(item, str(key))
        elif isinstance(tree, tuple | list):
            single = sum(isinstance(item, Ref) for item in tree) == 1
            for number, item in enumerate(tree):
                yield from named(item, name if single else f"{name}_{number}")

    found: dict[str, list[int]] = {}
    for tree in trees:
        for name, number in named(tree, "output"):
            found.setdefault(name, []).append(number)
    yield from found.items()


def _result(scope: Scope, name: str, numbers: list[int]) -> Result:
    steps: set[int] = set()
    readings = []
    for number in numbers:
        if number not in scope.tracks:
            raise RefusedError("structure", "it cannot be followed", "")
        track = scope.tracks[number]
        rows = cut(track, sorted(outer_axes([track])))
        where, (reading,) = scope.drafts.join([rows])
        steps |= set(step_of(where).tolist())
        readings.append(reading)
    first = readings[0]
    for other in readings[1:]:
        if not (np.array_equal(first.signal, other.signal) and np.array_equal(first.local, other.local)):
            raise RefusedError("structure", "it comes from other layers in other steps", "let every step do the same")
    whole = scope.steps()
    return Result(name, first, _readout(steps, whole))


def _readout(steps: set[int], whole: int) -> Readout:
    if steps == set(range(whole)) or steps == {HELD}:
        return "every"
    if steps == {whole - 1}:
        return "last"
    if steps == {MEAN}:
        return "mean"
    if steps == {SUM}:
        return "sum"
    raise RefusedError(
        "steps", f"it holds steps {sorted(steps)} of {whole}", "give all steps, the last, their sum or their mean"
    )


def _checked(scope: Scope) -> list[Problem]:
    """What only shows once all calls are seen."""
    whole, problems = scope.steps(), []

    def refuse(draft: Draft, reason: str, remedy: str) -> None:
        problems.append(Problem("steps", draft.path, "", draft.operation, draft.line, reason, remedy))

    for draft in scope.drafts.list:
        if draft.operation == "neuron" and draft.steps != set(range(whole)):
            went = len(draft.steps)
            refuse(
                draft, f"it goes through {went} of {whole} steps", "let every neuron go through all steps, once each"
            )
        late = any((reading.signal >= LATER).any() for reading in draft.readings)
        if late and not draft.steps & {0, HELD}:
            refuse(draft, "it joins elements of two steps", "begin the loop with zeros, before the first step")
        if draft.held & scope.drafts.loops:
            refuse(draft, "it reads in later steps what the first step made", "let every step make its own")
    return problems


def _accumulated(scope: Scope, result: Result) -> None:
    """A sum over the steps written by hand, read in the last step, becomes a readout: every step gives its part."""
    chain: list[Draft] = []
    reading = result.reading
    while result.readout == "last":
        number = _whole(scope, reading)
        if number is None or number >= LATER:
            return
        draft = scope.drafts.list[number]
        part = _part(scope, draft)
        if part is not None:
            shaped = Reading(part.signal, part.local, reading.shape)
            if chain:
                chain[-1].readings[0] = shaped
            else:
                result.reading = shaped
            for behind in chain:
                behind.steps = {SUM}
            result.readout = "sum"
        elif draft.operation in AFFINE and len(draft.readings) == 1 and draft.steps == {scope.steps() - 1}:
            chain.append(draft)
            reading = draft.readings[0]
        else:
            return


def _part(scope: Scope, draft: Draft) -> Reading | None:
    """What a sum adds to itself in every step."""
    if draft.operation != "sum" or set(draft.options["coefficients"]) != {1.0} or len(draft.readings) != 2:
        return None
    if draft.steps - {HELD} != set(range(scope.steps())) - ({0} if HELD in draft.steps else set()):
        return None
    own = [_whole(scope, reading) == draft.result + LATER for reading in draft.readings]
    return draft.readings[own.index(False)] if own.count(True) == 1 else None


def _whole(scope: Scope, reading: Reading) -> int | None:
    """The signal of which a reading takes every element in order."""
    if not len(reading.signal):
        return None
    number = int(reading.signal[0])
    if number < 0 or (reading.signal != number).any():
        return None
    size = prod(scope.drafts.list[number % LATER].shape)
    same = len(reading.local) == size and bool((reading.local == np.arange(size)).all())
    return number if same else None


class _Assembly:
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
        needed = self._needed([result.reading for result in results])
        for draft in self.drafts:
            if draft.result in needed or draft.operation == "input":
                self._place(draft)
        for result in results:
            operand = self._operand(result.reading)
            self._make("output", "", "", [operand], operand.shape, {}, {"name": result.name, "readout": result.readout})
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
        signals = [Signal(number, shape, kinds[number], number) for number, shape in enumerate(self.shapes)]
        nodes = _without_relu(self.nodes)
        if problems:
            return None, problems
        record = self.scope.record
        return StepNetwork(nodes, signals, self.scope.steps(), record.time), []

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
        """A draft's node, the routes to it before it."""
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
        number = _whole(self.scope, reading)
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
