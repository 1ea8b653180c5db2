"""Classes of samples as arrays, and what a network answered: how often it was right."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from spikescr import dialect
from spikescr.errors import DataError, UsageError
from spikescr.readouts import READOUTS
from spikescr.schemas import brief
from spikescr.sim.inputs import read_array
from spikescr.sim.program import FloatArray, IntArray, Program, Sink
from spikescr.sim.recording import read_out


@dataclass(frozen=True)
class Readout:
    """How a graph's one output becomes one answer, and what the classes are called."""

    name: str
    classes: tuple[str, ...]

    def answers(self, outputs: FloatArray, valid: IntArray) -> FloatArray:
        """(B, K) from (T, B, K) and valid steps (B,); see `read_out`."""
        return read_out(self.name, outputs, valid)

    def named(self, classes: IntArray) -> tuple[str, ...]:
        """Their names."""
        return tuple(self.classes[k] for k in classes.tolist())


def find_readout(program: Program, asked: str | None = None) -> Readout | None:
    """The readout that is asked for, else the one that the graph's metadata tell.

    Returns:
        None where nothing tells one that is known, or the graph has several outputs and none was asked for.

    Raises:
        UsageError: there is no readout of the name that was asked for, or it was asked for of several outputs.
    """
    sinks = program.of_type(Sink)
    if asked is not None and asked not in READOUTS:
        raise UsageError(f"readout (--readout) {asked!r}: it must be one of {', '.join(READOUTS)}")
    if len(sinks) != 1:
        if asked is not None:
            raise UsageError(f"readout (--readout) {asked}: the graph has {len(sinks)} outputs, it must have one")
        return None
    name = program.metadata.get(dialect.READOUT) if asked is None else asked
    if name not in READOUTS:
        return None
    width = sinks[0].width
    told = json.loads(str(program.metadata.get(dialect.CLASSES, "[]")))
    return Readout(name, tuple(told) if len(told) == width else tuple(map(str, range(width))))


def require_readout(program: Program, asked: str | None = None) -> Readout:
    """The same; it must be there.

    Raises:
        UsageError: as `find_readout`, or nothing tells one.
    """
    readout = find_readout(program, asked)
    if readout is None:
        told = program.metadata.get(dialect.READOUT)
        outputs = len(program.of_type(Sink))
        why = (
            f"it has {outputs} outputs, a class is chosen from one"
            if outputs != 1
            else f"its metadata {dialect.READOUT} is {brief(told)}; give readout (--readout): {', '.join(READOUTS)}"
        )
        raise UsageError(f"the graph does not say how its outputs become an answer: {why}")
    return readout


def take_labels(labels: ArrayLike | Path, samples: int, classes: int) -> IntArray:
    """The class of each sample (B,), from 0 to classes - 1.

    Args:
        labels: whole numbers (B,), or a .npy file with them.
        samples: B.
        classes: how many there are.

    Raises:
        DataError: the file cannot be read; they are no whole numbers, of another number of samples, or there is no
            such class.
    """
    given, where = (read_array(labels), str(labels)) if isinstance(labels, Path) else (np.asarray(labels), "labels")
    if given.shape != (samples,) or given.dtype.kind not in "iu":
        raise DataError(
            f"{where}: must hold {samples} whole numbers, the class of each sample; it has {given.dtype} {given.shape}"
        )
    wrong = np.flatnonzero((given < 0) | (given >= classes))
    if len(wrong):
        raise DataError(
            f"{where}: the class of sample {wrong[0]} is {given[wrong[0]]}, must be 0 to {classes - 1}, a channel of "
            "the output"
        )
    return given.astype(np.int64)
