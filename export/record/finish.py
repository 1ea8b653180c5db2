"""From drafts to the step network: outputs, readouts, routes between nodes, kinds of signals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from spikescr.export.record.assembly import Assembly, Result, entire
from spikescr.export.record.calls import Problem, Ref
from spikescr.export.record.drafts import AFFINE, Draft
from spikescr.export.record.places import HELD, LATER, MEAN, SUM, cut, outer_axes, step_of, varying
from spikescr.export.record.readings import Reading, RefusedError
from spikescr.export.record.scope import Scope
from spikescr.export.record.step import Readout, StepNetwork


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
    network, refused = Assembly(scope).network(results)
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
    along = varying(step_of(track.place).contiguous())
    return Result(name, first, _readout(steps, scope.steps()), along[0] if along else None)


def _readout(steps: set[int], whole: int) -> Readout:
    if steps == set(range(whole)) or steps == {HELD}:
        return "every"
    if steps == {whole - 1}:
        return "last"
    if steps == {MEAN}:
        return "mean"
    if steps == {SUM}:
        return "sum"
    if steps == set(range(len(steps))) and len(steps) > 1:
        raise RefusedError(
            "steps",
            f"it has {len(steps)} steps, layers before it {whole}",
            "pad convolutions over the steps so that none are lost",
        )
    raise RefusedError(
        "steps", f"it holds steps {sorted(steps)} of {whole}", "give all steps, the last, their sum or their mean"
    )


def _checked(scope: Scope) -> list[Problem]:
    """What only shows once all calls are seen."""
    whole, problems = scope.steps(), []
    timed = any(draft.operation == "temporal" for draft in scope.drafts.list)

    def refuse(draft: Draft, reason: str, remedy: str) -> None:
        problems.append(Problem("steps", draft.path, "", draft.operation, draft.line, reason, remedy))

    for draft in scope.drafts.list:
        went = len(draft.steps)
        spans = draft.steps == set(range(went)) and (went == whole or timed)
        if draft.operation == "neuron" and not spans:
            refuse(
                draft, f"it goes through {went} of {whole} steps", "let every neuron go through all steps, once each"
            )
        late = any((reading.signal >= LATER).any() for reading in draft.readings)
        if late and not draft.steps & {0, HELD} and not scope.drafts.starts(draft):
            refuse(draft, "it joins elements of two steps", "begin the loop with zeros, before the first step")
        if draft.held & scope.drafts.loops:
            refuse(draft, "it reads in later steps what the first step made", "let every step make its own")
    return problems


def _accumulated(scope: Scope, result: Result) -> None:
    """A sum over the steps written by hand, read in the last step, becomes a readout: every step gives its part."""
    chain: list[Draft] = []
    reading = result.reading
    while result.readout == "last":
        number = entire(scope, reading)
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
    own = [entire(scope, reading) == draft.result + LATER for reading in draft.readings]
    return draft.readings[own.index(False)] if own.count(True) == 1 else None
