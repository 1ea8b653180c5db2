"""What a computation reads: rows of elements, each of one step and sample, and alike but for these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikescr.export.record.calls import Fault
from spikescr.export.record.places import HELD, LATER, MEAN, SUM

APART = "keep the axis of the steps out of it"


class RefusedError(Exception):
    """Why a call has no place in a step network."""

    def __init__(self, fault: Fault, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.fault, self.remedy = fault, remedy


@dataclass(frozen=True)
class Reading:
    """A row of elements that a draft reads in a step.

    Attributes:
        signal: of which signal, `LATER` added for each step before; -1 a constant 0.
        local: where there.
        shape: in which they are read.
        held: signals that are the same in every step and are read in later steps than the first.
    """

    signal: NDArray[np.int64]
    local: NDArray[np.int64]
    shape: tuple[int, ...]
    held: frozenset[int] = frozenset()


def highest(parts: Sequence[Tensor], empty: Sequence[Tensor], blank: int) -> Tensor:
    """The largest of every row, over all operands."""
    rows = [torch.where(none, blank, part).amax(1) for part, none in zip(parts, empty, strict=True)]
    return torch.stack(torch.broadcast_tensors(*rows)).amax(0)


def steps_of(steps: Sequence[Tensor], empty: Sequence[Tensor]) -> Tensor:
    """The step of every row.

    Raises:
        RefusedError: A mean or sum over the steps stands beside something else.
    """
    now = highest(steps, empty, SUM - 1)
    mean, total, held = (highest([(step == kind).long() for step in steps], empty, 0) > 0 for kind in (MEAN, SUM, HELD))
    if bool(((mean | total) & (now >= 0)).any()) or bool((mean & total).any()) or bool((total & held).any()):
        raise RefusedError(
            "steps", "it joins a mean or sum over the steps with something else", "add first, then take the mean or sum"
        )
    return torch.where(mean, MEAN, torch.where(total, SUM, now))


def signals_at(signal: Tensor, where: Tensor) -> frozenset[int]:
    """Signals at some elements of rows."""
    signal, where = torch.broadcast_tensors(signal, where)
    return frozenset(signal[where].unique().tolist()) - {-1}


def common(signal: Tensor, local: Tensor, now: Tensor, shape: tuple[int, ...]) -> Reading:
    """What every row reads. A constant 0 in the first step stands for the value before it.

    Raises:
        RefusedError: Rows differ.
    """
    first, where = signal.amax(0), local.amax(0)
    if signal.shape[0] > 1 or local.shape[0] > 1:
        before = (signal < 0) & (first >= LATER) & (now <= 0)[:, None]
        if not bool((((signal == first) & (local == where)) | before).all()):
            if bool((signal >= LATER).any()):
                raise RefusedError("steps", "it joins elements of several steps", APART)
            raise RefusedError(
                "structure",
                "steps or samples take different ways through it",
                "let every step and sample go through the same layers",
            )
    size = prod(shape)
    return Reading(first.expand(size).numpy(), where.expand(size).numpy(), shape)
