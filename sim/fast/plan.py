"""What is known before the first batch: which operations run as one, weights as the kernels want them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from spikescr.sim.fast.elementwise import elementwise
from spikescr.sim.fast.kernels.vectors import lanes
from spikescr.sim.fast.memory import aligned
from spikescr.sim.program import (
    Convolution,
    FixedNeuron,
    FloatArray,
    Gate,
    IntArray,
    Integrator,
    Maximum,
    Neuron,
    Operation,
    Port,
    Program,
    Select,
    Signal,
    Synapse,
)
from spikescr.sim.recording import KINDS
from spikescr.sim.steps.base import threshold_in

KIND = {name: row for row, name in enumerate(KINDS)}


@dataclass(frozen=True)
class Weights:
    """A synapse's numbers in the precision of the run.

    Attributes:
        delays: of the taps.
        fan_outs: (taps, in), or (taps, 1) where all channels of a tap have the same.
        blocks: (blocks * taps * in, lanes), a row for each event in each block of columns, zeros after the last column;
            None for depthwise taps and for values.
        channels: (N, longest delay + 1), None for dense taps.
        bias: (out,), zeros where there is none.
    """

    delays: IntArray
    fan_outs: IntArray
    blocks: NDArray[Any] | None
    channels: NDArray[Any] | None
    bias: NDArray[Any]


Meetings: TypeAlias = tuple[IntArray, IntArray, IntArray]
"""Of one axis: (n + 1,) where the list of each of n inputs begins; of each entry the tap, and the place it adds to."""

FEW = 8
"""Output channels of a group, below which a convolution goes plane by plane."""


@dataclass(frozen=True)
class Kernel:
    """A convolution's numbers as `kernels.convolution` wants them.

    Attributes:
        planes: whether `convolve_planes` takes it: its groups have few output channels.
        weight: (groups, in channels of the group x rows x columns, out channels of the group); of planes (in channels,
            rows, columns, out channels of the group).
        bias: (out channels,), zeros where there is none.
        shapes: of input and output (2, 3).
        walk: stride, padding, dilation, size of the kernel (4, 2).
        meetings: for input rows and for input columns.
        framing: as `kernels.products.multiply` wants them, rows and columns of an image with zeros around it (2,), what
            of it the first tap of each output place reads, and how far from there each tap of a group's channels does.
        fan_out: (in width,).
    """

    planes: bool
    weight: NDArray[Any]
    bias: NDArray[Any]
    shapes: IntArray
    walk: IntArray
    meetings: tuple[Meetings, Meetings]
    framing: tuple[IntArray, IntArray, IntArray]
    fan_out: IntArray

    @property
    def numbers(self) -> tuple[Any, ...]:
        """What kernels take."""
        return self.weight, self.bias, self.shapes, self.meetings[0] if self.planes else self.walk, self.meetings[1]


@dataclass(frozen=True)
class Drive:
    """What feeds a neuron and runs with it: a synapse, and the gate of the synapse's own clock if there is one."""

    synapse: Synapse
    gated: bool


@dataclass(frozen=True)
class Image:
    """A convolution that feeds a neuron alone and runs with it, and what else the neuron reads, if anything."""

    convolution: Convolution
    other: Port | None


class Plan:
    """A Program prepared for whole windows.

    Attributes:
        dtype: of currents and membranes.
        program: what is prepared.
        components: its operations in the order of evaluation, cycles together.
        looped: operations in cycles.
        elementwise: first operation of a cycle -> its form for `kernels.cycles`; the others run step by step.
        readers: operation -> those that read it.
        drives: neuron -> what runs with it.
        images: neuron -> the convolution that runs with it.
        windows: maximum -> the select that runs with it.
        absorbed: operations that run with a neuron, or a maximum.
        read: operation -> those that nobody reads after it.
        weights: synapse -> Weights.
        lif: neuron -> (5, N) or (5, 1), 4 rows where the reset is soft, 6 in fixed point; behind an image in the order
            (places, channels).
        kernels: convolution -> Kernel.
        sums: integrator -> decay, gain, drive (3, N).
        selects: select -> where each channel's begin (in + 1,), and which outputs take it, channel by channel.
        reshapes: selects that take every channel to its own place.
        counted: operation, by its place -> kinds of all counts that a run may set.
        quiet: neurons that cannot fire but in the steps in which something arrives.
    """

    def __init__(self, program: Program, dtype: DTypeLike) -> None:
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.program = program
        self.readers: dict[str, list[str]] = {o.name: [] for o in program.operations}
        for operation in program.operations:
            for port in operation.ports.values():
                for source in port.sources:
                    self.readers[source].append(operation.name)
        self.components = program.components
        self.looped = {o.name for part in self.components if self._is_cycle(part) for o in part}
        forms = {part[0].name: elementwise(part, self.dtype) for part in self.components if part[0].name in self.looped}
        self.elementwise = {name: form for name, form in forms.items() if form is not None}
        by_name = {o.name: o for o in program.operations}
        self.drives: dict[str, Drive] = {}
        straight = [n for n in program.of_type(Neuron) if n.name not in self.looped]
        for neuron in straight:
            drive = self._drive(by_name, neuron)
            if drive is not None:
                self.drives[neuron.name] = drive
        self.kernels = {c.name: kernel_of(c, dtype) for c in program.of_type(Convolution)}
        found = {n.name: self._image(by_name, n) for n in straight}
        self.images = {name: image for name, image in found.items() if image is not None}
        self.absorbed = {d.synapse.name for d in self.drives.values()}
        self.absorbed |= {i.convolution.name for i in self.images.values()}
        maxima = [m for m in program.of_type(Maximum) if m.name not in self.looped]
        self.windows = {m.name: w for m in maxima if (w := self._window(by_name, m)) is not None}
        self.absorbed |= {w.name for w in self.windows.values()}
        self.absorbed |= {n.x.sources[0] for n in program.of_type(Neuron) if n.name in self.drives}
        self.read = self._read()
        self._columns: dict[str, NDArray[Any]] = {}
        self.weights = {s.name: self._weights(s) for s in program.of_type(Synapse)}
        self.lif = {n.name: self._lif(n) for n in program.of_type(Neuron)}
        self.sums = {i.name: self._array(np.stack([i.decay, i.gain, i.drive])) for i in program.of_type(Integrator)}
        self.selects = {s.name: _targets(s) for s in program.of_type(Select)}
        self.reshapes = {s.name for s in program.of_type(Select) if np.array_equal(s.index, np.arange(s.x.width))}
        self.counted = {row: [KIND[kind] for kind in o.counts] for row, o in enumerate(program.operations) if o.counts}
        self.quiet = {n.name for n in program.of_type(Neuron) if _is_quiet(n)}

    def _is_cycle(self, part: tuple[Operation, ...]) -> bool:
        return len(part) > 1 or part[0].name in self.readers[part[0].name]

    def _drive(self, by_name: dict[str, Operation], neuron: Neuron) -> Drive | None:
        gated = False
        feeding = self._only(by_name, neuron.x.sources)
        if isinstance(feeding, Gate) and feeding.spike.signal is Signal.CLOCK and feeding.value.signal is Signal.VALUES:
            clock, gated = feeding.spike, True
            feeding = self._only(by_name, feeding.value.sources)
            if not isinstance(feeding, Synapse) or feeding.clock != clock:
                return None
        return Drive(feeding, gated) if isinstance(feeding, Synapse) else None

    def _image(self, by_name: dict[str, Operation], neuron: Neuron) -> Image | None:
        """The sum of two is the same in any order; of more it is not, and they do not run with it."""
        sources = neuron.x.sources
        if isinstance(neuron, FixedNeuron) or len(sources) > 2 or len(set(sources)) != len(sources):
            return None
        fitting = [
            feeding
            for name in sources
            if isinstance(feeding := by_name[name], Convolution)
            and len(self.readers[name]) == 1
            and not self.kernels[name].planes
        ]
        if not fitting:
            return None
        image = max(fitting, key=lambda convolution: convolution.weight.size)
        others = tuple(name for name in sources if name != image.name)
        return Image(image, Port(others, neuron.width, by_name[others[0]].signal) if others else None)

    def _window(self, by_name: dict[str, Operation], maximum: Maximum) -> Select | None:
        select = self._only(by_name, maximum.x.sources)
        return select if isinstance(select, Select) and select.signal is Signal.VALUES else None

    def _only(self, by_name: dict[str, Operation], sources: tuple[str, ...]) -> Operation | None:
        """The one source, if nothing else reads it."""
        return by_name[sources[0]] if len(sources) == 1 and len(self.readers[sources[0]]) == 1 else None

    def _read(self) -> dict[str, list[str]]:
        runs_with = {name: name for name in self.readers}
        for neuron in self.program.of_type(Neuron):
            if neuron.name in self.images:
                runs_with[self.images[neuron.name].convolution.name] = neuron.name
            elif neuron.name in self.drives:
                runs_with |= dict.fromkeys((self.drives[neuron.name].synapse.name, neuron.x.sources[0]), neuron.name)
        runs_with |= {select.name: name for name, select in self.windows.items()}
        order = {o.name: place for place, part in enumerate(self.components) for o in part}
        read: dict[str, list[str]] = {name: [] for name in self.readers}
        for name, readers in self.readers.items():
            read[max((runs_with[r] for r in readers), key=order.__getitem__, default=name)].append(name)
        return read

    def _weights(self, synapse: Synapse) -> Weights:
        delays = np.array([tap.delay for tap in synapse.taps], np.int64)
        fan_outs = synapse.fan_outs
        if (fan_outs == fan_outs[:, :1]).all():
            fan_outs = np.ascontiguousarray(fan_outs[:, :1])
        bias = np.zeros(synapse.width) if synapse.bias is None else synapse.bias
        blocks = channels = None
        if all(tap.weight.ndim == 1 for tap in synapse.taps):
            channels = np.zeros((synapse.width, int(delays.max()) + 1))
            for tap in synapse.taps:
                channels[:, tap.delay] += tap.weight
        elif synapse.x.signal is not Signal.VALUES:
            blocks = self._array(_in_blocks(np.concatenate(_transposed(synapse)), lanes(self.dtype)))
        return Weights(delays, fan_outs, blocks, None if channels is None else self._array(channels), self._array(bias))

    def columns(self, synapse: Synapse) -> NDArray[Any]:
        """The factor of one product for all taps, (in, taps * out); made when first asked for: few events need none."""
        if synapse.name not in self._columns:
            self._columns[synapse.name] = self._array(np.concatenate(_transposed(synapse), axis=1))
        return self._columns[synapse.name]

    def _lif(self, neuron: Neuron) -> NDArray[Any]:
        threshold = threshold_in(neuron.threshold, self.dtype)
        parameters = [neuron.decay, neuron.gain, neuron.drive, threshold, *([] if neuron.soft else [neuron.v_reset])]
        if isinstance(neuron, FixedNeuron):
            parameters.append(neuron.current_decay)
        stacked = np.stack([np.broadcast_to(parameter, (neuron.width,)) for parameter in parameters])
        if (stacked == stacked[:, :1]).all():
            return self._array(stacked[:, :1])
        if neuron.name in self.images:
            shape = self.images[neuron.name].convolution.out_shape
            stacked = stacked.reshape(-1, shape[0], shape[1] * shape[2]).transpose(0, 2, 1).reshape(stacked.shape)
        return self._array(stacked)

    def _array(self, values: NDArray[Any]) -> NDArray[Any]:
        return _own_copy(values, self.dtype)


def _transposed(synapse: Synapse) -> list[FloatArray]:
    """The weights of each tap, (in, out)."""
    return [np.diag(tap.weight) if tap.weight.ndim == 1 else tap.weight.T for tap in synapse.taps]


def _in_blocks(rows: FloatArray, each: int) -> FloatArray:
    """Rows (R, N) as blocks of `each` columns, one after the other, (blocks * R, each)."""
    blocks = -(-rows.shape[1] // each)
    padded = np.zeros((len(rows), blocks * each))
    padded[:, : rows.shape[1]] = rows
    return padded.reshape(len(rows), blocks, each).transpose(1, 0, 2).reshape(-1, each)


def _targets(select: Select) -> tuple[IntArray, NDArray[np.int32]]:
    wired = np.flatnonzero(select.index >= 0)
    starts = np.zeros(select.x.width + 1, np.int64)
    np.cumsum(np.bincount(select.index[wired], minlength=select.x.width), out=starts[1:])
    return starts, wired[np.argsort(select.index[wired], kind="stable")].astype(np.int32)


def kernel_of(convolution: Convolution, dtype: DTypeLike) -> Kernel:
    """A convolution's numbers in the precision of a run."""
    out, inside, *size = convolution.weight.shape
    groups, each = convolution.groups, out // convolution.groups
    planes = groups > 1 and each < FEW
    weight = convolution.weight.reshape(groups, each, inside, *size).transpose(0, 2, 3, 4, 1)
    shape = (groups * inside, *size, each) if planes else (groups, inside * size[0] * size[1], each)
    return Kernel(
        planes,
        _own_copy(weight.reshape(shape), dtype),
        _own_copy(np.zeros(out) if convolution.bias is None else convolution.bias, dtype),
        np.array([convolution.in_shape, convolution.out_shape], np.int64),
        np.array([convolution.stride, convolution.padding, convolution.dilation, size], np.int64),
        (_meetings(convolution, 0), _meetings(convolution, 1)),
        _framing(convolution),
        convolution.fan_out,
    )


def _meetings(convolution: Convolution, axis: int) -> Meetings:
    """Which taps of the kernel meet an input of one axis, in their order, and for which places of the output."""
    places, taps = np.indices((convolution.out_shape[axis + 1], convolution.weight.shape[axis + 2])).reshape(2, -1)
    read = places * convolution.stride[axis] + taps * convolution.dilation[axis] - convolution.padding[axis]
    order = np.lexsort((taps, read))
    starts = np.searchsorted(read[order], np.arange(convolution.in_shape[axis + 1] + 1))
    return starts, np.ascontiguousarray(taps[order]), np.ascontiguousarray(places[order])


def _framing(convolution: Convolution) -> tuple[IntArray, IntArray, IntArray]:
    stride, padding, dilation = (
        np.array(pair, np.int64) for pair in (convolution.stride, convolution.padding, convolution.dilation)
    )
    inside, *taps = convolution.weight.shape[1:]
    places = np.array(convolution.out_shape[1:])
    read = (places - 1) * stride + (np.array(taps) - 1) * dilation + 1
    size = np.maximum(read, convolution.in_shape[1:] + padding)

    def places_of(*axes: int) -> tuple[IntArray, ...]:
        return tuple(np.indices(axes).reshape(len(axes), -1))

    y, x = places_of(*places)
    c, k, m = places_of(inside, *taps)
    reads = y * stride[0] * size[1] + x * stride[1]
    return size, reads, (c * size[0] + k * dilation[0]) * size[1] + m * dilation[1]


def _own_copy(values: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """Every kernel is compiled for contiguous, writable arrays alone."""
    own = aligned(values.shape, dtype)
    own[...] = values
    return own


def _is_quiet(neuron: Neuron) -> bool:
    """Whether nothing arriving means no spike, whatever came before: v then only moves towards 0 from below."""
    return bool(
        not neuron.soft
        and not (isinstance(neuron, FixedNeuron) and np.any(neuron.current_decay != 0))
        and np.all(neuron.decay >= 0)
        and np.all(neuron.decay <= 1)
        and np.all(neuron.drive == 0)
        and np.all(neuron.threshold >= 0)
        and np.all(neuron.v_reset <= neuron.threshold)
    )
