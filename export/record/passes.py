"""Loops over time in a module's own code: in which pass each call was made.

A neuron that works step by step is called once in every pass: between its calls lie all others. What stands before
the first such neuron of a pass, or behind the last, is told apart by how often its line runs between two passes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from torch import nn

from spikescr.export.record.calls import Call, Record

Line = tuple[str, str, str]
"""Module's path, function and the user's line of a call."""


def passes_of(record: Record) -> dict[int, int]:
    """Number of a call -> the pass of the loop that it was made in, for calls of lines that run in several passes."""
    found = _runs(record) if record.time == "loop" else _between(record.calls)
    seen: defaultdict[Line, set[int]] = defaultdict(set)
    for number, step in found.items():
        seen[_line(record.calls[number])].add(step)
    return {number: step for number, step in found.items() if len(seen[_line(record.calls[number])]) > 1}


def _runs(record: Record) -> dict[int, int]:
    """A module that is called once for each step: the loop is ours."""
    starts = [*record.starts[1:], len(record.calls)]
    found: dict[int, int] = {}
    for step, (start, end) in enumerate(zip(record.starts, starts, strict=True)):
        found |= dict.fromkeys(range(start, end), step)
    return found


def _between(calls: Sequence[Call]) -> dict[int, int]:
    turns: defaultdict[nn.Module, list[int]] = defaultdict(list)
    for call in calls:
        if call.name == "neuron" and getattr(call.module, "step_mode", "m") == "s":
            assert call.module is not None
            turns[call.module].append(call.number)
    whole = max(map(len, turns.values()), default=0)
    if whole < 2:
        return {}
    marks = [numbers for numbers in turns.values() if len(numbers) == whole]
    within: dict[int, int] = {}
    gaps: defaultdict[Line, list[tuple[int, int]]] = defaultdict(list)
    for call in calls:
        counts = {bisect_left(numbers, call.number) for numbers in marks}
        own = next((numbers.index(call.number) for numbers in marks if call.number in numbers), None)
        if own is not None:
            within[call.number] = own
        elif len(counts) == 1:
            gaps[_line(call)].append((call.number, counts.pop()))
        elif max(counts) - min(counts) == 1:
            within[call.number] = min(counts)
    for line in gaps.values():
        within |= _placed(line, whole)
    return within


def _placed(gaps: Sequence[tuple[int, int]], whole: int) -> Mapping[int, int]:
    """Calls of one line in gaps (0: before the first pass, `whole`: behind the last): head of a pass or tail."""
    counts = Counter(gap for _, gap in gaps)
    tail = counts[whole]
    if all(counts[gap] == 0 for gap in range(1, whole)):
        return {}
    if tail and any(counts[gap] < tail for gap in range(1, whole)):
        return {}
    found: dict[int, int] = {}
    seen: Counter[int] = Counter()
    for number, gap in gaps:
        found[number] = gap - 1 if seen[gap] < tail and gap else gap
        seen[gap] += 1
    return found


def _line(call: Call) -> Line:
    return call.path, call.name, call.line
