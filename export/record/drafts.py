"""Computing calls become drafts of nodes: joined at one place, merged over the steps of a loop, delays found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikescr.export.record.calls import Call
from spikescr.export.record.places import HELD, LATER, MEAN, STRIDE, SUM, Rows, place_of, sample_of, step_of
from spikescr.export.record.readings import APART, Reading, RefusedError, common, highest, signals_at, steps_of


@dataclass
class Draft:
    """A node before its operands are put together.

    Attributes:
        operation: of the step network.
        path: of the module.
        line: of the user's code.
        readings: what it reads.
        result: number of its signal.
        shape: of the result.
        arrays: constants.
        options: of the operation.
        steps: in which it was called: 0 and up, HELD, MEAN, SUM.
        held: signals that are the same in every step and were read in later steps than the first.
    """

    operation: str
    path: str
    line: str
    readings: list[Reading]
    result: int
    shape: tuple[int, ...]
    arrays: dict[str, NDArray[Any]]
    options: dict[str, Any]
    steps: set[int] = field(default_factory=set)
    held: set[int] = field(default_factory=set)


class Drafts:
    """All drafts of a record, in the order of their first calls."""

    def __init__(self) -> None:
        self.list: list[Draft] = []
        self.loops: set[int] = set()
        """Signals that were thought to be the same in every step and are not."""
        self.turn: int | None = None
        """The pass of a loop over time in which the next call was made: what it computes belongs to that step."""
        self._slots: dict[tuple[Any, ...], Draft] = {}
        self._counts: dict[tuple[Any, ...], int] = {}

    def input(self, name: str, shape: Sequence[int], steps: int) -> int:
        """The signal of the network's input; steps: 0 where it is held."""
        options = {"name": name, "held": not steps}
        steps_ = set(range(steps)) or {HELD}
        return self._add(Draft("input", "", "", [], len(self.list), tuple(shape), {}, options, steps_)).result

    def join(self, operands: Sequence[Rows]) -> tuple[Tensor, list[Reading]]:
        """The place of every row, and what each operand reads; the same in all rows.

        Raises:
            RefusedError: Rows hold elements of several samples or steps, or differ from one another.
        """
        known = any(bool((rows.signal >= 0).any()) for rows in operands)
        empty = [(rows.place < 0) | ((rows.signal < 0) if known else torch.tensor(False)) for rows in operands]
        steps = [step_of(rows.place) for rows in operands]
        samples = [sample_of(rows.place) for rows in operands]
        last = highest(samples, empty, -1)
        first = -highest([-sample for sample in samples], empty, -STRIDE)
        if bool(((last != first) & (last >= 0)).any()):
            raise RefusedError(
                "samples", "it joins elements of several samples", "keep the axis of the samples out of it"
            )
        now = steps_of(steps, empty)
        if self.turn is not None:
            now = torch.where(now >= HELD, now.clamp(min=self.turn), now)
        readings = []
        for rows, step, none in zip(operands, steps, empty, strict=True):
            late = (step >= 0) & (step < now[:, None]) & ~none
            if self.turn is None and bool((late & (step < now[:, None] - 1)).any()):
                raise RefusedError("steps", "it joins elements of several steps", APART)
            lag = torch.where(late, now[:, None] - step, 0)
            signal = rows.signal + lag * LATER if bool(late.any()) else rows.signal
            still = (step == HELD) & ~none & (now[:, None] > 0)
            held = signals_at(rows.signal, still) if bool(still.any()) else frozenset[int]()
            readings.append(replace(common(signal, rows.local, now, rows.shape), held=held))
        where = torch.where(last >= 0, place_of(now, last), -1)
        count = prod(operands[0].sizes)
        return where.expand(count), readings

    def emit(
        self,
        call: Call,
        where: Tensor,
        readings: list[Reading],
        operation: str,
        shape: Sequence[int],
        arrays: Mapping[str, NDArray[Any]] | None = None,
        options: Mapping[str, Any] | None = None,
        part: int = 0,
    ) -> tuple[int, Tensor]:
        """The signal of a computation, new or that of the same call in another step, and the places of its rows.

        Raises:
            RefusedError: The steps of a loop do different things.
        """
        steps = frozenset(step_of(where[where >= 0]).tolist())
        if not steps:
            raise RefusedError("structure", "it computes with constants alone", "compute them once, outside")
        if steps & {MEAN, SUM} and not _commutes(operation, steps):
            raise RefusedError(
                "steps",
                "it needs the mean or sum over all steps: no single step does it",
                "take the mean at the very end",
            )
        draft = Draft(
            operation, call.path, call.line, readings, -1, tuple(shape), dict(arrays or {}), dict(options or {})
        )
        draft = _ordered(draft)
        base = (call.path, call.name, call.line, part)
        if steps == {HELD}:
            for known in self.list:
                if known.steps == {HELD} and known.path == call.path and _same(known, draft):
                    return known.result, where
        refused: RefusedError | None = None
        later = self._a_step_later(draft, steps)
        for number, candidate in enumerate((draft, later)):
            if candidate is not None:
                then = frozenset(step + number for step in steps)
                slot = self._slots.get((*base, self._counts.get((*base, then), 0)))
                if slot is not None and not slot.steps & then:
                    try:
                        self._merge(slot, candidate, then)
                    except RefusedError as error:
                        refused = error if candidate is draft else refused
                    else:
                        self._called(slot, candidate, base, then)
                        return slot.result, where + number * STRIDE
        if refused is not None:
            raise refused
        draft.result = len(self.list)
        self._slots[*base, self._counts.get((*base, steps), 0)] = self._add(draft)
        self._called(draft, draft, base, steps)
        return draft.result, where

    def _called(self, slot: Draft, draft: Draft, base: tuple[Any, ...], steps: frozenset[int]) -> None:
        """A call was the slot's, in these steps."""
        self._counts[*base, steps] = self._counts.get((*base, steps), 0) + 1
        slot.steps |= steps
        slot.held |= frozenset[int]().union(*(reading.held for reading in draft.readings))

    def _a_step_later(self, draft: Draft, steps: frozenset[int]) -> Draft | None:
        """The call as one of the next step that reads what was made a step before: a loop's state on its way."""
        if self.turn is not None or len(steps) != 1 or min(steps) < 0:
            return None
        readings = []
        for reading in draft.readings:
            if (reading.signal >= LATER).any():
                return None
            moving = [code >= 0 and self.list[code].steps != {HELD} for code in reading.signal.tolist()]
            held = frozenset(reading.signal[np.logical_not(moving) & (reading.signal >= 0)].tolist())
            readings.append(Reading(reading.signal + np.where(moving, LATER, 0), reading.local, reading.shape, held))
        return _ordered(replace(draft, readings=readings))

    def _merge(self, slot: Draft, draft: Draft, steps: frozenset[int]) -> None:
        """The same call in other steps: constants 0 of the first are values of the steps before."""
        begun = min(max(slot.steps, default=HELD), max(steps, default=HELD))
        if not _same(slot, draft, readings=False):
            raise RefusedError(
                "structure", "the steps of a loop use other constants", "use the same layers in each step"
            )
        for number, (old, new) in enumerate(zip(slot.readings, draft.readings, strict=True)):
            same = (old.signal == new.signal) & (old.local == new.local)
            begins = (old.signal < 0) & (new.signal // LATER > begun)
            begins |= (old.signal < 0) & self._quiet(new.signal, steps)
            if not bool((same | begins).all()):
                raise RefusedError(
                    "structure",
                    "the steps of a loop read different things",
                    "start from zeros, and let every step do the same",
                )
            slot.readings[number] = Reading(
                np.where(begins, new.signal, old.signal), np.where(begins, new.local, old.local), old.shape
            )
        if HELD in slot.steps:
            self.loops.add(slot.result)

    def _quiet(self, codes: NDArray[np.int64], steps: frozenset[int]) -> NDArray[np.bool_]:
        """Which signals are 0 in the steps before these: made from states that begin at 0 (see `starts`)."""
        read = np.unique(codes[(codes >= 0) & (codes < LATER)]).tolist()
        quiet = [code for code in read if self.list[code].steps == steps and self.starts(self.list[code])]
        return np.isin(codes, quiet)

    def starts(self, draft: Draft) -> bool:
        """Whether a computation that a loop leaves out while it has no state would give 0 there."""
        codes = np.concatenate([reading.signal for reading in draft.readings])
        linear = draft.operation in QUIET and not {"bias", "addend"} & draft.arrays.keys()
        return linear and min(draft.steps) <= int(codes.min()) // LATER

    def _add(self, draft: Draft) -> Draft:
        self.list.append(draft)
        return draft


AFFINE = frozenset(["linear", "conv", "conv_transpose", "batch_norm", "scale", "bias", "sum", "reduce", "avg_pool"])
"""Operations that can be done in every step before a mean or sum over the steps as well as behind it."""


QUIET = AFFINE - {"batch_norm", "bias"}
"""Operations that make 0 of 0, where nothing is added."""


def _commutes(operation: str, steps: frozenset[int]) -> bool:
    return operation in AFFINE or (operation == "complement" and SUM not in steps)


def _ordered(draft: Draft) -> Draft:
    """Operands that may change places in one order: x + y and y + x of a loop are the same."""
    if draft.operation not in {"sum", "product", "maximum"}:
        return draft

    def rank(number: int) -> int:
        codes = draft.readings[number].signal
        return 0 if (codes < 0).all() else 1 if (codes >= LATER).any() else 2

    order = sorted(range(len(draft.readings)), key=rank)
    options = dict(draft.options)
    if "coefficients" in options:
        options["coefficients"] = tuple(options["coefficients"][number] for number in order)
    return replace(draft, readings=[draft.readings[number] for number in order], options=options)


def _same(one: Draft, other: Draft, *, readings: bool = True) -> bool:
    """Whether two drafts do the same with the same."""
    if one.operation != other.operation or one.shape != other.shape or len(one.readings) != len(other.readings):
        return False
    if one.arrays.keys() != other.arrays.keys() or one.options != other.options:
        return False
    if not all(_equal(array, other.arrays[name]) for name, array in one.arrays.items()):
        return False
    return not readings or all(
        np.array_equal(a.signal, b.signal) and np.array_equal(a.local, b.local) and a.shape == b.shape
        for a, b in zip(one.readings, other.readings, strict=True)
    )


def _equal(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Equal arrays; of the same memory without looking."""
    same = one.__array_interface__["data"] == other.__array_interface__["data"] and one.strides == other.strides
    return one.shape == other.shape and (same or np.array_equal(one, other))
