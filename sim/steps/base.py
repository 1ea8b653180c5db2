"""What all steps share: state of a batch, counts of the step, and what is counted of an input."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from spikescr.sim.program import IntArray, Operation, Signal

Array = NDArray[Any]


class Step:
    """One operation and its state for all samples of a batch, (B, N).

    Called once for every executed step, in order, with what arrives at the ports in the order of `operation.ports`.
    What it returns may be its own memory, and holds until it is called again.

    Attributes:
        operation: what it does.
        samples: of a batch, B.
        valid: valid steps of each sample (B,), read anew in each batch.
        dtype: of signals and state.
        counts: of the step that was last, kind -> (B,); the kinds are the same at every step.
        membrane: of that step before its reset, (B, N), where the operation has one.
    """

    def __init__(self, operation: Any, samples: int, valid: IntArray, dtype: DTypeLike = np.float64) -> None:
        self.operation = operation
        self.samples = samples
        self.valid = valid
        self.dtype = np.dtype(dtype)
        self.counts: dict[str, IntArray] = {}
        self.membrane: Array | None = None
        self.prepare()
        self.reset()

    def prepare(self) -> None:
        """Brings the operation's numbers into the form that a step wants, once."""

    def reset(self) -> None:
        """Sets all state to zero: a batch begins."""

    def put_out(self, n: int) -> Array:
        """The output of step n ahead of its input, of operations that send first."""
        raise NotImplementedError

    def __call__(self, n: int, *arriving: Array) -> Array:
        """Step n: takes what arrives (B, width of the port), gives the output (B, N).

        Raises:
            ValueError, IndexError, FloatingPointError: something arrives that the operation does not take, or a
                membrane is not finite.
        """
        raise NotImplementedError

    def zeros(self, *shape: int) -> Array:
        """Of the precision of the run."""
        return np.zeros(shape, self.dtype)

    def cast(self, numbers: Array) -> Array:
        """The operation's numbers in the precision of the run."""
        return numbers.astype(self.dtype, copy=False)

    def updates(self, n: int) -> IntArray:
        """Membrane updates of step n, (B,): the width within each sample's window, or at all steps without latency."""
        operation: Operation = self.operation
        first = operation.latency
        if first is None:
            return np.full(self.samples, operation.width)
        return np.where((first <= n) & (n < first + self.valid), operation.width, 0)


def events(x: Array, signal: Signal) -> IntArray:
    """Events of each sample: the sum of x (B, N), an integer n being n events; non-zero entries of VALUES."""
    if signal is Signal.VALUES:
        return np.count_nonzero(x, axis=1)
    return x.sum(axis=1).astype(np.int64)


def tally(x: Array) -> tuple[IntArray, IntArray]:
    """Non-zero entries of each sample of x (B, N), and those of them that are not 1."""
    live = x != 0
    return live.sum(axis=1), (live & (x != 1)).sum(axis=1)


def tally_by_channel(x: Array, signal: Signal) -> IntArray:
    """Events, non-zero entries and graded entries of every channel of x (B, N), (3, B, N); sums as in the others."""
    live = x != 0
    return np.stack([live if signal is Signal.VALUES else x, live, live & (x != 1)]).astype(np.int64)


def check_finite(v: Array) -> None:
    """Raises FloatingPointError for a membrane (B, N) that is not finite."""
    if not np.isfinite(v).all():
        sample, channel = np.argwhere(~np.isfinite(v))[0]
        raise FloatingPointError(f"membrane of channel {channel}, sample {sample} is {v[sample, channel]}")


def threshold_in(threshold: Array, dtype: DTypeLike) -> Array:
    """Thresholds that v > threshold passes for the v of this precision for which it does in float64.

    A threshold that is rounded up would swallow the spikes of v between the two.
    """
    rounded = np.asarray(threshold).astype(dtype)
    floored: Array = np.where(rounded > threshold, np.nextafter(rounded, rounded.dtype.type(-np.inf)), rounded)
    return floored
