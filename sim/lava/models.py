"""Process models: what each type of Operation does in one step, as the docstrings of `sim.program` define it."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from numpy.typing import NDArray

from spikescr.sim import program as ops
from spikescr.sim.lava import processes
from spikescr.sim.lava.base import OperationModel, StepInPort, check_finite, events, tally, tally_by_channel
from spikescr.sim.program import FloatArray, IntArray, Signal


@implements(proc=processes.SourceProcess, protocol=LoihiProtocol)
@requires(CPU)
class SourceModel(OperationModel):
    """y = what the host wrote for this step; zero after the window."""

    y: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    link_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    link_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)

    def _reset(self) -> None:
        self.quiet = np.zeros(self.slot.record.shape[1:])

    def _step(self, n: int) -> None:
        inputs = self.slot.record
        self.y.send(inputs[n] if n < len(inputs) else self.quiet)


@implements(proc=processes.SinkProcess, protocol=LoihiProtocol)
@requires(CPU)
class SinkModel(OperationModel):
    """Writes its input down for the host."""

    x: PyInPort = LavaPyType(StepInPort, float)
    y: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)

    def _step(self, n: int) -> None:
        self.slot.record[n] = self.x.recv()
        self.y.send(self.slot.record[n])


@implements(proc=processes.SynapseProcess, protocol=LoihiProtocol)
@requires(CPU)
class SynapseModel(OperationModel):
    """y[t] = sum_k W_k x[t - delay_k] + bias * clock[t].

    `history`: the last inputs (depth, B, in), step n in row n % depth; `arrived`: their events, non-zero entries and
    graded entries (depth, 3, B).
    """

    x: PyInPort = LavaPyType(StepInPort, float)
    clock: PyInPort = LavaPyType(StepInPort, float)
    y: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)

    operation: ops.Synapse

    def _reset(self) -> None:
        operation = self.operation
        self.depth = 1 + max(tap.delay for tap in operation.taps)
        self.history = np.zeros((self.depth, self.batch, operation.x.width))
        self.arrived = np.zeros((self.depth, 3, self.batch), np.int64)
        # gemm reads a transposed view as it is; the sum over inputs runs along contiguous memory.
        self.kernels = [tap.weight if tap.weight.ndim == 1 else tap.weight.T for tap in operation.taps]
        self.product = np.empty((self.batch, operation.width))

    def _step(self, n: int) -> None:
        operation = self.operation
        y, arrived, (cost, synops, graded) = self._accumulate(self.x.recv(), n)
        kind = {Signal.SPIKES: "ac", Signal.VALUES: "mac", Signal.CLOCK: "bias"}[operation.x.signal]
        counts = {"spikes": arrived[0], kind: cost}
        if kind != "bias":
            counts |= {"entries": arrived[1], "graded": arrived[2], "synops": synops, "synops_graded": graded}
        if operation.clock is not None:
            clock = self.clock.recv()
            ticks = events(clock, Signal.CLOCK)
            if operation.bias is not None:
                y += operation.bias * clock
                counts["bias"] = operation.width * ticks + counts.get("bias", 0)
            if operation.gated and kind != "bias":
                counts["synops_discarded"] = np.where(ticks == 0, synops, 0)
                if kind == "ac":
                    counts["discarded"] = np.where(ticks == 0, cost, 0)
        elif operation.bias is not None:
            y += operation.bias
            counts["bias"] = operation.width + counts.get("bias", np.zeros(self.batch, np.int64))
        self.y.send(y)
        for name, amount in counts.items():
            self.count(name, n, amount)

    def _accumulate(self, x: FloatArray, n: int) -> tuple[FloatArray, IntArray, IntArray]:
        """Sum over taps (B, width); events, entries, graded entries of x, and each x synapses of all taps (3, B)."""
        now = n % self.depth
        self.history[now] = x
        self.arrived[now] = (events(x, self.operation.x.signal), *tally(x))
        y = np.zeros((self.batch, self.operation.width))
        cost = np.zeros((3, self.batch), np.int64)
        for tap, kernel, fan_out in zip(self.operation.taps, self.kernels, self.operation.fan_outs, strict=True):
            row = (n - tap.delay) % self.depth  # a row not written yet in this batch is zero
            if self.arrived[row].any():
                combine = np.multiply if kernel.ndim == 1 else np.matmul
                y += combine(self.history[row], kernel, out=self.product)
                if (fan_out == fan_out[0]).all():
                    cost += fan_out[0] * self.arrived[row]
                else:
                    cost += tally_by_channel(self.history[row], self.operation.x.signal) @ fan_out
        return y, self.arrived[now], cost


@implements(proc=processes.DelayLineProcess, protocol=LoihiProtocol)
@requires(CPU)
class DelayLineModel(OperationModel):
    """y[t] = x[t - delay]; `line` holds the last `delay` + 1 inputs.

    With a delay it sends before it receives: on a cycle its input comes from those who wait for its output.
    """

    x: PyInPort = LavaPyType(StepInPort, float)
    y: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)

    operation: ops.DelayLine

    def _reset(self) -> None:
        self.line = np.zeros((self.operation.delay + 1, self.batch, self.operation.width))

    def _step(self, n: int) -> None:
        depth, delay = len(self.line), self.operation.delay
        if delay:
            self.y.send(self.line[(n - delay) % depth])
        self.line[n % depth] = self.x.recv()
        if not delay:
            self.y.send(self.line[n % depth])


@implements(proc=processes.SelectProcess, protocol=LoihiProtocol)
@requires(CPU)
class SelectModel(OperationModel):
    """y[i] = x[index[i]], 0 where index[i] is -1."""

    x: PyInPort = LavaPyType(StepInPort, float)
    y: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)

    operation: ops.Select

    def _reset(self) -> None:
        self.wired = np.flatnonzero(self.operation.index >= 0)
        self.origin = self.operation.index[self.wired]
        self.out = np.zeros((self.batch, self.operation.width))

    def _step(self, n: int) -> None:
        self.out[:, self.wired] = self.x.recv()[:, self.origin]
        self.y.send(self.out)


@implements(proc=processes.NeuronProcess, protocol=LoihiProtocol)
@requires(CPU)
class NeuronModel(OperationModel):
    """v = v * decay + gain * x + drive;  s = v > threshold;  v = v_reset, or v - threshold, where s.

    Raises:
        FloatingPointError: a membrane that is not finite; it would be silent from then on and look like a quiet layer.
    """

    x: PyInPort = LavaPyType(StepInPort, float)
    y: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)

    operation: ops.Neuron

    def _reset(self) -> None:
        self.v = np.zeros((self.batch, self.operation.width))

    def _step(self, n: int) -> None:
        operation, slot = self.operation, self.slot
        v = self.v * operation.decay + operation.gain * self.x.recv() + operation.drive
        check_finite(v)
        if slot.membrane is not None:
            slot.membrane[n] = v
        fired = v > operation.threshold
        slot.record[n] = fired
        self.v = np.where(fired, v - operation.threshold if operation.soft else operation.v_reset, v)
        self.count("fired", n, fired.sum(axis=1))
        self.count("neuron", n, np.where(self.inside(n), operation.width, 0))
        self.y.send(fired.astype(np.float64))


@implements(proc=processes.RotaryProcess, protocol=LoihiProtocol)
@requires(CPU)
class RotaryModel(OperationModel):
    """Rotates interleaved pairs of each head by the number of clock ticks so far; 0 without a tick.

    Raises:
        IndexError: more ticks than the tables have rows.
    """

    x: PyInPort = LavaPyType(StepInPort, float)
    clock: PyInPort = LavaPyType(StepInPort, float)
    y: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)

    operation: ops.Rotary

    def _reset(self) -> None:
        self.position = np.zeros(self.batch, np.int64)

    def _step(self, n: int) -> None:
        operation = self.operation
        x = self.x.recv()
        ticking = np.flatnonzero(self.clock.recv()[:, 0])
        at = self.position[ticking]
        cos, sin = operation.cos[at, None], operation.sin[at, None]  # (b, 1, D/2)
        pairs = x[ticking].reshape(len(ticking), operation.heads, operation.cos.shape[1], 2)
        even, odd = pairs[..., 0], pairs[..., 1]
        y = np.zeros((self.batch, operation.width))
        y[ticking] = np.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1).reshape(
            len(ticking), x.shape[1]
        )
        self.position[ticking] += 1
        arrived, (entries, graded) = events(x, operation.x.signal), tally(x)
        self.count("spikes", n, arrived)
        self.count("mac" if operation.x.signal is Signal.VALUES else "ac", n, 2 * arrived)
        self.count("entries", n, entries)
        self.count("graded", n, graded)
        self.count("synops", n, 2 * entries)
        self.count("synops_graded", n, 2 * graded)
        self.y.send(y)


@implements(proc=processes.PositionProcess, protocol=LoihiProtocol)
@requires(CPU)
class PositionModel(OperationModel):
    """The table's row of the clock ticks so far; 0 without a tick.

    Raises:
        IndexError: more ticks than the table has rows.
    """

    clock: PyInPort = LavaPyType(StepInPort, float)
    y: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)

    operation: ops.Position

    def _reset(self) -> None:
        self.position = np.zeros(self.batch, np.int64)

    def _step(self, n: int) -> None:
        ticking = np.flatnonzero(self.clock.recv()[:, 0])
        y = np.zeros((self.batch, self.operation.width))
        y[ticking] = self.operation.table[self.position[ticking]]
        self.position[ticking] += 1
        self.y.send(y)


@implements(proc=processes.AttentionProcess, protocol=LoihiProtocol)
@requires(CPU)
class AttentionModel(OperationModel):
    """Q (K^T V), streaming: writes A while the clock ticks and reads with the q of T steps before.

    `state`: A (B, heads, D, D). `queries`: q of the last T steps (T, B, heads, D), zero where the clock did not tick;
    `ticked` (T, B) tells which. `keys`, `values`: spikes so far, (B, heads, D) per channel and (B,) in all.
    """

    q: PyInPort = LavaPyType(StepInPort, float)
    k: PyInPort = LavaPyType(StepInPort, float)
    v: PyInPort = LavaPyType(StepInPort, float)
    clock: PyInPort = LavaPyType(StepInPort, float)
    y: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)

    operation: ops.Attention

    def _reset(self) -> None:
        operation, heads = self.operation, self.operation.heads
        self.key_depth, self.value_depth = operation.k.width // heads, operation.v.width // heads
        self.state = np.zeros((self.batch, heads, self.key_depth, self.value_depth))
        self.queries = np.zeros((operation.steps, self.batch, heads, self.key_depth))
        self.ticked = np.zeros((operation.steps, self.batch), np.int64)
        self.keys = np.zeros((self.batch, heads, self.key_depth), np.int64)
        self.values = np.zeros(self.batch, np.int64)

    def _step(self, n: int) -> None:
        operation = self.operation
        q, k, v = self.q.recv(), self.k.recv(), self.v.recv()
        ticks = self.clock.recv()[:, 0] != 0
        arrived = [events(x, p.signal) for x, p in ((q, operation.q), (k, operation.k), (v, operation.v))]
        self.count("spikes", n, arrived[0] + arrived[1] + arrived[2])
        row = n % operation.steps
        # The row holds step n - T until this step overwrites it.
        before, read = self.queries[row].copy(), self.ticked[row].copy()
        written = self._write(row, q, k, v, ticks)
        out = np.zeros((self.batch, operation.heads, self.value_depth))
        if before.any():
            np.matmul(before[:, :, None, :], self.state, out=out[:, :, None, :])
            out *= operation.scale
        live = before != 0
        self.count("ac", n, written + live.sum(axis=(1, 2)) * self.value_depth)
        coincidences = (live * self.keys).sum(axis=(1, 2))
        self.count("ac_quadratic", n, read * (coincidences + self.values))
        self.y.send(out.reshape(self.batch, operation.width))

    def _write(self, row: int, q: FloatArray, k: FloatArray, v: FloatArray, ticks: NDArray[np.bool_]) -> IntArray:
        """Store q and add k v^T where the clock ticks; returns the accumulations of each sample (B,)."""
        shape = (self.batch, self.operation.heads)
        open_ = ticks[:, None, None]
        q, k, v = (np.where(open_, x.reshape(*shape, x.shape[1] // shape[1]), 0.0) for x in (q, k, v))
        self.queries[row] = q
        self.ticked[row] = ticks
        live_k, live_v = k != 0, v != 0
        if live_k.any() and live_v.any():
            self.state += k[..., :, None] * v[..., None, :]
        self.keys += live_k
        self.values += live_v.sum(axis=(1, 2))
        written: IntArray = (live_k.sum(axis=2) * live_v.sum(axis=2)).sum(axis=1)
        return written


@implements(proc=processes.GateProcess, protocol=LoihiProtocol)
@requires(CPU)
class GateModel(OperationModel):
    """y = value where spike is 1, 0 where it is 0.

    Raises:
        ValueError: a gating spike that is neither 0 nor 1.
    """

    value: PyInPort = LavaPyType(StepInPort, float)
    spike: PyInPort = LavaPyType(StepInPort, float)
    y: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)

    operation: ops.Gate

    def _step(self, n: int) -> None:
        value, spike = self.value.recv(), self.spike.recv()
        is_open = spike == 1
        strange = spike[~(is_open | (spike == 0))]
        if strange.size:
            raise ValueError(f"a gate opens on 1 and closes on 0, got {strange[0]}")
        if self.operation.spike.signal is not Signal.CLOCK:
            self.count("spikes", n, is_open.sum(axis=1))
        self.y.send(np.where(is_open, value, 0.0))
