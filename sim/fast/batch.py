"""What an evaluation of a batch holds; convolutions, delays by channel and neurons that do not fire."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spikescr.errors import BackendError
from spikescr.sim.fast.kernels import convolution
from spikescr.sim.fast.kernels import counts as operations
from spikescr.sim.fast.memory import Buffers
from spikescr.sim.fast.plan import KIND, Plan
from spikescr.sim.fast.ports import Ports
from spikescr.sim.fast.signals import Geometry, Values
from spikescr.sim.program import ChannelDelay, Convolution, FloatArray, IntArray, Integrator, Neuron, Signal
from spikescr.sim.recording import Ledger

NO_MEMBRANES: FloatArray = np.empty((0, 0, 0))


class Evaluation(Ports):
    """One batch in evaluation; table: zeros (operations, kinds, P, B), filled with the counts."""

    def __init__(self, plan: Plan, buffers: Buffers, table: IntArray, *, spikes: bool, membranes: bool) -> None:
        self.plan = plan
        self.program = plan.program
        samples = table.shape[-1]
        super().__init__(plan.dtype, buffers, Geometry(samples, self.program.period))
        self.shape = (self.program.period, samples)
        self.record_spikes = spikes
        self.record_membranes = membranes
        self.spikes: dict[str, NDArray[np.bool_]] = {}
        self.membranes: dict[str, FloatArray] = {}
        self.outputs: dict[str, FloatArray] = {}
        names = tuple(o.name for o in self.program.operations)
        self.ledger = Ledger(names, table)
        self.counts = dict(zip(names, self.ledger.table, strict=True))
        self.valid: IntArray = np.full(samples, self.program.steps)

    def _standard(self, operation: ChannelDelay | Convolution | Integrator) -> None:
        match operation:
            case Integrator():
                self._integrator(operation)
            case Convolution():
                self._convolution(operation)
            case ChannelDelay():
                self._channel_delay(operation)

    def _count_updates(self, operation: Neuron | Integrator) -> None:
        counts = self.counts[operation.name][KIND["neuron"]]
        if operation.latency is None:
            counts[:] = operation.width
        else:
            operations.count_window(counts, operation.latency, self.valid, operation.width)

    def _integrator(self, operation: Integrator) -> None:
        name, x, rows = operation.name, self._values(operation.x), self.geometry.all
        packed = self.buffers(f"{name} out", (rows.count, operation.width), self.dtype)
        membranes = NO_MEMBRANES
        if self.record_membranes and operation.has_membrane:
            membranes = self.membranes[name] = np.zeros((*self.shape, operation.width))
        sample, step = convolution.integrate(
            packed, rows.arrays, x.packed, x.rows.arrays, self.plan.sums[name], membranes
        )
        if sample >= 0:
            raise BackendError(f"fast: {name} at step {step}: a membrane of sample {sample} is not finite")
        if not operation.current:
            self._count_updates(operation)
        self.signals[name] = Values(rows, packed)

    def _convolution(self, operation: Convolution) -> None:
        counts, kernel = self.counts[operation.name], self.plan.kernels[operation.name]
        numbers = (kernel.weight, kernel.bias, kernel.shapes, kernel.walk, kernel.fan_out, counts)
        name = f"{operation.name} out"
        if operation.x.signal is Signal.VALUES:
            x = self._values(operation.x)
            rows = self.geometry.all if operation.bias is not None else self.geometry.spanning([(x.rows, 0, 0)])
            packed = self.buffers(name, (rows.count, operation.width), self.dtype)
            convolution.convolve_values(packed, rows.arrays, x.packed, x.rows.arrays, *numbers, KIND["mac"])
        else:
            events = self._events(operation.x, unique=True)
            rows = self.geometry.all if operation.bias is not None else self.geometry.spanning([(events.rows, 0, 0)])
            packed = self.buffers(name, (rows.count, operation.width), self.dtype)
            convolution.convolve_events(packed, rows.arrays, events.arrays, *numbers, KIND["ac"])
        if operation.bias is not None:
            counts[KIND["bias"]] = operation.width
        values = Values(rows, packed)
        spikes = operation.signal is Signal.SPIKES
        self.signals[operation.name] = self._listed(operation.name, values) if spikes else values

    def _channel_delay(self, line: ChannelDelay) -> None:
        x = self._values(line.x)
        rows = self.geometry.spanning([(x.rows, int(line.delay.min()), int(line.delay.max()))])
        packed = self.buffers(f"{line.name} out", (rows.count, line.width), x.packed.dtype)
        convolution.delay_channels(packed, rows.arrays, x.packed, x.rows.arrays, line.delay)
        values = Values(rows, packed)
        self.signals[line.name] = values if line.signal is Signal.VALUES else self._listed(line.name, values)
