"""Steps of weighted connections."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spikescr.sim.program import Convolution, IntArray, Signal, Synapse
from spikescr.sim.steps.base import Array, Step, events, tally, tally_by_channel

KIND = {Signal.SPIKES: "ac", Signal.VALUES: "mac", Signal.CLOCK: "bias"}


class SynapseStep(Step):
    """y[t] = sum_k W_k x[t - delay_k] + bias * clock[t].

    `history`: the last inputs (depth, B, in), step n in row n % depth; `arrived`: their events, non-zero entries and
    graded entries (depth, 3, B).
    """

    operation: Synapse

    def prepare(self) -> None:
        """Taps: delay, weights, fan-out of each channel, whether it is that of all channels."""
        operation = self.operation
        self.depth = 1 + max(tap.delay for tap in operation.taps)
        # gemm reads a transposed view as it is; the sum over inputs runs along contiguous memory.
        kernels = [self.cast(tap.weight if tap.weight.ndim == 1 else tap.weight.T) for tap in operation.taps]
        fan_outs = operation.fan_outs
        same = (fan_outs == fan_outs[:, :1]).all(axis=1).tolist()
        self.taps = list(zip((tap.delay for tap in operation.taps), kernels, fan_outs, same, strict=True))
        self.bias = None if operation.bias is None else self.cast(operation.bias)
        self.product = self.zeros(self.samples, operation.width)

    def reset(self) -> None:
        """A row that is not written yet is zero."""
        self.history = self.zeros(self.depth, self.samples, self.operation.x.width)
        self.arrived = np.zeros((self.depth, 3, self.samples), np.int64)

    def __call__(self, n: int, *arriving: Array) -> Array:
        """Adds up the taps, then the bias."""
        operation = self.operation
        y, arrived, (cost, synops, graded) = self._accumulate(arriving[0], n)
        kind = KIND[operation.x.signal]
        counts = {"spikes": arrived[0], kind: cost}
        if kind != "bias":
            counts |= {"entries": arrived[1], "graded": arrived[2], "synops": synops, "synops_graded": graded}
        if operation.clock is not None:
            clock = arriving[1]
            ticks = events(clock, Signal.CLOCK)
            if self.bias is not None:
                y += self.bias * clock
                counts["bias"] = operation.width * ticks + counts.get("bias", 0)
            if operation.gated and kind != "bias":
                counts["synops_discarded"] = np.where(ticks == 0, synops, 0)
                if kind == "ac":
                    counts["discarded"] = np.where(ticks == 0, cost, 0)
        elif self.bias is not None:
            y += self.bias
            counts["bias"] = operation.width + counts.get("bias", np.zeros(self.samples, np.int64))
        self.counts = counts
        return y

    def _accumulate(self, x: Array, n: int) -> tuple[Array, IntArray, IntArray]:
        """Sum over taps (B, width); events, entries, graded entries of x, and each x synapses of all taps (3, B)."""
        now, signal = n % self.depth, self.operation.x.signal
        self.history[now] = x
        self.arrived[now] = (events(x, signal), *tally(x))
        y = self.zeros(self.samples, self.operation.width)
        cost = np.zeros((3, self.samples), np.int64)
        for delay, kernel, fan_out, same in self.taps:
            row = (n - delay) % self.depth
            if self.arrived[row].any():
                combine = np.multiply if kernel.ndim == 1 else np.matmul
                y += combine(self.history[row], kernel, out=self.product)
                if same:
                    cost += fan_out[0] * self.arrived[row]
                else:
                    cost += tally_by_channel(self.history[row], signal) @ fan_out
        return y, self.arrived[now], cost


class ConvolutionStep(Step):
    """A convolution, one weight after the other: each is added to all places of the output at once.

    `parts`: for every weight of a group's input channel and place in the kernel, in this order, which is that of the
    inputs' flat indices for every output: (channel, rows and columns read, rows and columns written).
    """

    operation: Convolution

    def prepare(self) -> None:
        """Weights by group, and the parts."""
        operation = self.operation
        out, inside, *kernel = operation.weight.shape
        self.weight = self.cast(operation.weight).reshape(operation.groups, out // operation.groups, inside, *kernel)
        self.bias = None if operation.bias is None else self.cast(operation.bias).reshape(operation.groups, -1, 1, 1)
        self.parts = [
            (c, k, m, *rows, *columns)
            for c in range(inside)
            for k in range(kernel[0])
            for m in range(kernel[1])
            if (rows := self._overlap(0, k)) is not None and (columns := self._overlap(1, m)) is not None
        ]

    def _overlap(self, axis: int, place: int) -> tuple[slice, slice] | None:
        """Where one place of the kernel reads, and what it writes, on one axis; None where it meets padding alone."""
        operation = self.operation
        stride, shift = operation.stride[axis], place * operation.dilation[axis] - operation.padding[axis]
        first = max(0, -(shift // stride))  # the first i with i stride + shift >= 0
        last = min(operation.out_shape[axis + 1] - 1, (operation.in_shape[axis + 1] - 1 - shift) // stride)
        if last < first:
            return None
        start = first * stride + shift
        return slice(start, last * stride + shift + 1, stride), slice(first, last + 1)

    def __call__(self, n: int, *arriving: Array) -> Array:
        """Adds up the parts, then the bias."""
        operation, x = self.operation, arriving[0]
        groups, each = self.weight.shape[:2]
        shape = (self.samples, groups, operation.in_shape[0] // groups, *operation.in_shape[1:])
        signal = x.reshape(shape)
        y = self.zeros(self.samples, groups, each, *operation.out_shape[1:])
        if x.any():
            for c, k, m, rows, into_rows, columns, into_columns in self.parts:
                weight = self.weight[:, :, c, k, m, None, None]
                y[..., into_rows, into_columns] += weight * signal[:, :, None, c, rows, columns]
        self.counts = convolution_counts(operation, x)
        if self.bias is not None:
            y += self.bias
        return y.reshape(self.samples, operation.width)


def convolution_counts(operation: Convolution, x: Array) -> dict[str, IntArray]:
    """What a convolution counts of an input (B, N), kind -> (B,)."""
    source, fan_out = operation.x.signal, operation.fan_out
    live = x != 0
    graded = live & (x != 1)
    counts = {
        "spikes": events(x, source),
        KIND[source]: _dot(live if source is Signal.VALUES else x, fan_out),
        "entries": live.sum(axis=1),
        "graded": graded.sum(axis=1),
        "synops": _dot(live, fan_out),
        "synops_graded": _dot(graded, fan_out),
    }
    return counts if operation.bias is None else counts | {"bias": np.full(len(x), operation.width)}


def _dot(counts: Array | NDArray[np.bool_], fan_out: IntArray) -> IntArray:
    """Events (B, N) of integers times the synapses of each channel, (B,)."""
    return counts.astype(np.int64) @ fan_out
