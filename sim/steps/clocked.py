"""Steps of what goes by the clock: positions and attention."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spikescr.sim.program import Attention, CausalAttention, IntArray, Position, Rotary, Signal
from spikescr.sim.steps.base import Array, Step, events, tally


class _Positions(Step):
    """Counts the ticks of each sample."""

    def reset(self) -> None:
        """Before the first tick."""
        self.position = np.zeros(self.samples, np.int64)

    def advance(self, clock: Array, length: int) -> tuple[IntArray, IntArray]:
        """Samples that tick in this step, and their positions."""
        ticking = np.flatnonzero(clock[:, 0])
        at = self.position[ticking]
        if (at >= length).any():
            raise IndexError(f"more ticks than the {length} positions of its tables")
        self.position[ticking] += 1
        return ticking, at


class RotaryStep(_Positions):
    """Rotates interleaved pairs of each head by the number of clock ticks so far; 0 without a tick."""

    operation: Rotary

    def prepare(self) -> None:
        """Tables in the precision of the run."""
        self.cos, self.sin = self.cast(self.operation.cos), self.cast(self.operation.sin)

    def __call__(self, n: int, *arriving: Array) -> Array:
        """Turns those samples that tick."""
        operation, (x, clock) = self.operation, arriving
        ticking, at = self.advance(clock, len(self.cos))
        cos, sin = self.cos[at, None], self.sin[at, None]  # (b, 1, D/2)
        pairs = x[ticking].reshape(len(ticking), operation.heads, self.cos.shape[1], 2)
        even, odd = pairs[..., 0], pairs[..., 1]
        y = self.zeros(self.samples, operation.width)
        y[ticking] = np.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1).reshape(
            len(ticking), x.shape[1]
        )
        arrived, (entries, graded) = events(x, operation.x.signal), tally(x)
        self.counts = {
            "spikes": arrived,
            "mac" if operation.x.signal is Signal.VALUES else "ac": 2 * arrived,
            "entries": entries,
            "graded": graded,
            "synops": 2 * entries,
            "synops_graded": 2 * graded,
        }
        return y


class PositionStep(_Positions):
    """The table's row of the clock ticks so far; 0 without a tick."""

    operation: Position

    def prepare(self) -> None:
        """The table in the precision of the run."""
        self.table = self.cast(self.operation.table)

    def __call__(self, n: int, *arriving: Array) -> Array:
        """Looks up."""
        ticking, at = self.advance(arriving[0], len(self.table))
        y = self.zeros(self.samples, self.operation.width)
        y[ticking] = self.table[at]
        return y


class AttentionStep(Step):
    """Q (K^T V), streaming: writes A while the clock ticks and reads with the q of T steps before.

    `state`: A (B, heads, D, D). `queries`: q of the last T steps (T, B, heads, D), zero where the clock did not tick;
    `ticked` (T, B) tells which. `keys`, `values`: spikes so far, (B, heads, D) per channel and (B,) in all.
    """

    operation: Attention

    def prepare(self) -> None:
        """The scale in the precision of the run."""
        self.scale = self.cast(np.asarray(self.operation.scale))

    def reset(self) -> None:
        """Nothing written, nothing to be read."""
        operation, heads = self.operation, self.operation.heads
        self.depth = operation.width // heads
        self.state = self.zeros(self.samples, heads, self.depth, self.depth)
        self.queries = self.zeros(operation.steps, self.samples, heads, self.depth)
        self.ticked = np.zeros((operation.steps, self.samples), np.int64)
        self.keys = np.zeros((self.samples, heads, self.depth), np.int64)
        self.values = np.zeros(self.samples, np.int64)

    def __call__(self, n: int, *arriving: Array) -> Array:
        """Writes, then reads."""
        operation, (q, k, v, clock) = self.operation, arriving
        arrived = [events(x, p.signal) for x, p in ((q, operation.q), (k, operation.k), (v, operation.v))]
        row = n % operation.steps
        # The row holds step n - T until this step overwrites it.
        before, read = self.queries[row].copy(), self.ticked[row].copy()
        written = self._write(row, q, k, v, clock[:, 0] != 0)
        out = self.zeros(self.samples, operation.heads, self.depth)
        if before.any():
            np.matmul(before[:, :, None, :], self.state, out=out[:, :, None, :])
            out *= self.scale
        live = before != 0
        coincidences = (live * self.keys).sum(axis=(1, 2))
        self.counts = {
            "spikes": arrived[0] + arrived[1] + arrived[2],
            "ac": written + live.sum(axis=(1, 2)) * self.depth,
            "ac_quadratic": read * (coincidences + self.values),
        }
        return out.reshape(self.samples, operation.width)

    def _write(self, row: int, q: Array, k: Array, v: Array, ticks: NDArray[np.bool_]) -> IntArray:
        """Store q and add k v^T where the clock ticks; returns the accumulations of each sample (B,)."""
        shape = (self.samples, self.operation.heads, self.depth)
        open_ = ticks[:, None, None]
        q, k, v = (np.where(open_, x.reshape(shape), self.dtype.type(0)) for x in (q, k, v))
        self.queries[row] = q
        self.ticked[row] = ticks
        live_k, live_v = k != 0, v != 0
        if live_k.any() and live_v.any():
            self.state += k[..., :, None] * v[..., None, :]
        self.keys += live_k
        self.values += live_v.sum(axis=(1, 2))
        written: IntArray = (live_k.sum(axis=2) * live_v.sum(axis=2)).sum(axis=1)
        return written


class CausalAttentionStep(Step):
    """Writes A and reads it in the same step, where the clock ticks.

    `state`: A (B, heads, D, D). `keys`, `values`: spikes so far, (B, heads, D) per channel and (B,) in all.
    """

    operation: CausalAttention

    def prepare(self) -> None:
        """The scale in the precision of the run."""
        self.scale = self.cast(np.asarray(self.operation.scale))

    def reset(self) -> None:
        """Nothing written."""
        heads = self.operation.heads
        depth = self.operation.width // heads
        self.state = self.zeros(self.samples, heads, depth, depth)
        self.keys = np.zeros((self.samples, heads, depth), np.int64)
        self.values = np.zeros(self.samples, np.int64)

    def __call__(self, n: int, *arriving: Array) -> Array:
        """Writes, then reads what it wrote too."""
        operation, (q, k, v, clock) = self.operation, arriving
        arrived = [events(x, p.signal) for x, p in ((q, operation.q), (k, operation.k), (v, operation.v))]
        ticks = clock[:, 0] != 0
        q, k, v = (np.where(ticks[:, None, None], x.reshape(self.keys.shape), self.dtype.type(0)) for x in (q, k, v))
        live_q, live_k, live_v = q != 0, k != 0, v != 0
        self.state += k[..., :, None] * v[..., None, :]
        self.keys += live_k
        self.values += live_v.sum(axis=(1, 2))
        written = (live_k.sum(axis=2) * live_v.sum(axis=2)).sum(axis=1)
        self.counts = {
            "spikes": arrived[0] + arrived[1] + arrived[2],
            "ac": written + live_q.sum(axis=(1, 2)) * self.keys.shape[2],
            "ac_quadratic": ticks * ((live_q * self.keys).sum(axis=(1, 2)) + self.values),
        }
        out: Array = (q[:, :, None, :] @ self.state)[:, :, 0] * self.scale
        return out.reshape(self.samples, operation.width)
