"""Inputs over the window of a Program, and how many of its steps are each sample's own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from spikescr import dialect
from spikescr.errors import DataError
from spikescr.sim.program import FloatArray, IntArray, Program, Signal, Source
from spikescr.sizes import require_memory


def fit(
    program: Program, inputs: Mapping[str, FloatArray], where: str, valid: ArrayLike | None = None
) -> tuple[dict[str, FloatArray], IntArray]:
    """Inputs for every source over the program's steps, (T, B, width), and the valid steps of each sample (B,).

    Shorter ones are followed by zeros. A clock that is not there ticks on the valid steps. Where the program has a tail
    (`dialect.TAIL`), so many steps of zeros belong to every sample.

    Args:
        program: what they are for.
        inputs: as read_inputs gives them.
        where: they come from, for messages.
        valid: steps of each sample; beyond them zeros take the place of what is there. Where None, they are as many
            as a given clock ticks, else as the inputs last.

    Raises:
        DataError: the inputs last longer than the window, or do not carry what the program takes them for, or `valid`
            does not fit them.
    """
    steps, samples = next(iter(inputs.values())).shape[:2]
    tail = int(str(program.metadata.get(dialect.TAIL, 0)))
    if steps + tail > program.steps:
        raise DataError(f"{where}: lasts {steps} steps, the graph's window is {program.steps - tail}")
    width = sum(source.width for source in program.of_type(Source))
    what = f"{where}: {samples:,} samples over {program.steps:,} steps"
    require_memory(8 * program.steps * samples * width, what, "run fewer samples or steps (--steps)", DataError)
    clocks = [source.name for source in program.of_type(Source) if source.signal is Signal.CLOCK]
    lasts: IntArray = np.full(samples, steps)
    if valid is not None:
        lasts = _valid(valid, steps, samples, where)
        if any(clock in inputs for clock in clocks):
            raise DataError(f"{where}: has a clock, which tells the valid steps of each sample; leave out steps")
    ticks = np.arange(steps)[:, None, None] < lasts[:, None]
    lasts = lasts + tail
    ticking = np.arange(steps + tail)[:, None, None] < lasts[:, None]
    fitted = {}
    for source in program.of_type(Source):
        if source.name not in inputs and source.signal is not Signal.CLOCK:
            raise DataError(f"{where}: has nothing for the input {source.name!r}")
        given = inputs.get(source.name, ticking.astype(np.float64))
        allowed = {Signal.SPIKES: (given >= 0) & (given == np.floor(given)), Signal.CLOCK: np.isin(given, (0, 1))}
        fits = allowed.get(source.signal, np.True_)
        if not np.all(fits):
            step, sample, channel = np.argwhere(~fits)[0]
            what = "whole numbers, 0 or more" if source.signal is Signal.SPIKES else "0 or 1"
            raise DataError(
                f"{where}: {source.name!r} carries {source.signal.value}, must be {what}; it is "
                f"{given[step, sample, channel]:g} at step {step}, sample {sample}, channel {channel}"
            )
        inside = given if valid is None or source.name not in inputs else np.where(ticks, given, 0)
        fitted[source.name] = np.concatenate([inside, np.zeros((program.steps - len(inside), *given.shape[1:]))])
    for clock in clocks:
        lasts = np.count_nonzero(fitted[clock][..., 0], axis=0).astype(np.int64)
    return fitted, lasts


def _valid(valid: ArrayLike, steps: int, samples: int, where: str) -> IntArray:
    valid_steps = np.asarray(valid)
    if (
        valid_steps.shape != (samples,)
        or valid_steps.dtype.kind not in "iu"
        or not ((valid_steps >= 1) & (valid_steps <= steps)).all()
    ):
        raise DataError(
            f"{where}: steps must be {samples} whole numbers from 1 to {steps}, one for each sample; "
            f"got {valid_steps.tolist()}"
        )
    return valid_steps.astype(np.int64)
