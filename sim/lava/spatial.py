"""Process models of convolutions, of delays by channel and of neurons that do not fire."""

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
from spikescr.sim.lava.base import OperationModel, StepInPort, check_finite, events
from spikescr.sim.program import FloatArray, IntArray, Signal


@implements(proc=processes.ChannelDelayProcess, protocol=LoihiProtocol)
@requires(CPU)
class ChannelDelayModel(OperationModel):
    """y[i][t] = x[i][t - delay[i]]; like a DelayLine it sends first if every channel waits."""

    x: PyInPort = LavaPyType(StepInPort, float)
    y: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)

    operation: ops.ChannelDelay

    def _reset(self) -> None:
        self.channels = np.arange(self.operation.width)
        self.line = np.zeros((int(self.operation.delay.max()) + 1, self.batch, self.operation.width))

    def _step(self, n: int) -> None:
        depth, delay = len(self.line), self.operation.delay
        waits = self.operation.sends_first
        if not waits:
            self.line[n % depth] = self.x.recv()
        self.y.send(np.ascontiguousarray(self.line[(n - delay) % depth, :, self.channels].T))
        if waits:
            self.line[n % depth] = self.x.recv()


@implements(proc=processes.ConvolutionProcess, protocol=LoihiProtocol)
@requires(CPU)
class ConvolutionModel(OperationModel):
    """A convolution, one weight after the other: each is added to all places of the output at once.

    `parts`: for every weight of a group's input channel and place in the kernel, in this order, which is that of the
    inputs' flat indices for every output: (channel, rows and columns read, rows and columns written).
    """

    x: PyInPort = LavaPyType(StepInPort, float)
    y: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)

    operation: ops.Convolution

    def _reset(self) -> None:
        operation = self.operation
        out, inside, *kernel = operation.weight.shape
        self.weight = operation.weight.reshape(operation.groups, out // operation.groups, inside, *kernel)
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

    def _step(self, n: int) -> None:
        operation = self.operation
        x = self.x.recv()
        groups, each = self.weight.shape[:2]
        shape = (self.batch, groups, operation.in_shape[0] // groups, *operation.in_shape[1:])
        signal = x.reshape(shape)
        y = np.zeros((self.batch, groups, each, *operation.out_shape[1:]))
        if x.any():
            for c, k, m, rows, into_rows, columns, into_columns in self.parts:
                weight = self.weight[:, :, c, k, m, None, None]
                y[..., into_rows, into_columns] += weight * signal[:, :, None, c, rows, columns]
        if operation.bias is not None:
            y += operation.bias.reshape(groups, each, 1, 1)
            self.count("bias", n, np.full(self.batch, operation.width))
        self._count(n, x)
        self.y.send(y.reshape(self.batch, operation.width))

    def _count(self, n: int, x: FloatArray) -> None:
        source, fan_out = self.operation.x.signal, self.operation.fan_out
        live = x != 0
        graded = live & (x != 1)
        self.count("spikes", n, events(x, source))
        self.count("mac" if source is Signal.VALUES else "ac", n, _dot(live if source is Signal.VALUES else x, fan_out))
        self.count("entries", n, live.sum(axis=1))
        self.count("graded", n, graded.sum(axis=1))
        self.count("synops", n, _dot(live, fan_out))
        self.count("synops_graded", n, _dot(graded, fan_out))


@implements(proc=processes.IntegratorProcess, protocol=LoihiProtocol)
@requires(CPU)
class IntegratorModel(OperationModel):
    """v = v * decay + gain * x + drive;  y = v.

    Raises:
        FloatingPointError: a sum that is not finite.
    """

    x: PyInPort = LavaPyType(StepInPort, float)
    y: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)

    operation: ops.Integrator

    def _reset(self) -> None:
        self.v = np.zeros((self.batch, self.operation.width))

    def _step(self, n: int) -> None:
        operation = self.operation
        self.v = self.v * operation.decay + operation.gain * self.x.recv() + operation.drive
        check_finite(self.v)
        if self.slot.membrane is not None:
            self.slot.membrane[n] = self.v
        if not operation.current:
            self.count("neuron", n, np.where(self.inside(n), operation.width, 0))
        self.y.send(self.v)


def _dot(counts: FloatArray | NDArray[np.bool_], fan_out: IntArray) -> IntArray:
    """Events (B, N) of integers times the synapses of each channel, (B,)."""
    return counts.astype(np.int64) @ fan_out
