"""A network as one step of one sample sees it: signals, and the nodes that make them. No torch, no SpikingJelly.

The closed list of operations. Axes are those of the shape in which a node reads its operand (`Operand.shape`): one step
of one sample, (C, H, W) of an image, (C, L) or (L, C) of tokens, (N,) of a dense layer. `arrays` are float64.

| operation | operands | arrays | options |
|---|---|---|---|
| `input` | | | `name`; `held`: the same value in every step |
| `output` | x | | `name`; `readout`: every, sum, mean or last, over the steps; `axis` of the steps |
| `linear` | x (..., I) | weight (O, I), bias (O,) | |
| `conv` | x (C, *space) | weight (O, C / groups, *kernel), bias (O,) | stride, padding, dilation, per axis; groups |
| `temporal` | x (C, *space) | weight (O, C / groups, K, *kernel), bias (O,) | as conv; `shift`, `spacing`, `reads` |
| `conv_transpose` | x (C, *space) | weight (C, O / groups, *kernel), bias (O,) | as conv, and output_padding |
| `batch_norm` | x | mean, var, weight, bias, each (C,) | eps; `axis`, that of the channels |
| `neuron` | x | | `equation`: a `NeuronEquation`; `steps`, where it goes through the first ones alone |
| `max_pool` | x (C, *space) | | window, stride, padding, dilation, ceil |
| `avg_pool` | x (C, *space) | | window, stride, padding, ceil, `count_padding`, `divisor` (None: the window's size) |
| `select` | any number | index | y[i] = x[index[i]] of all operands' elements in turn; -1: 0 |
| `sum` | two or more, of the result's shape | | `coefficients`, one of each operand |
| `scale` | x | factor, of shape () or broadcast to x's | |
| `bias` | x | addend, of shape () or broadcast to x's | |
| `complement` | x | | 1 - x |
| `product` | x, y of the result's shape | | x y, element by element |
| `maximum` | x, y of the result's shape | | |
| `matmul` | x (..., n, k), y (..., k, m) | | |
| `attention` | q, k, v, each (..., D) | | `scale`: of q[t] sum over all steps of k v^T |
| `rotary` | x | cos, sin (T, D / 2) | `heads`: pairs of each are turned by their step |
| `position` | x | table (T, elements) | x + table[t] |
| `reduce` | x | | `axes`, `mean` (else the sum) |
| `delay` | x | | the previous step's x, 0 in the first: breaks a cycle |

`temporal` is a convolution over the steps: tap k reads the step `shift + k spacing` behind its own, of the first
`reads` steps; 0 stands before and behind them.
bias of `linear` and `conv` is absent where the layer has none; weight and bias of `batch_norm` are 1 and 0 there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from spikescr.errors import ExportError

Kind = Literal["spikes", "counts", "values"]
Readout = Literal["every", "sum", "mean", "last"]
Time = Literal["steps", "held", "loop"]
"""How the example's time reaches the module: its first axis in one call, not at all (every step has the same input), or
one call for each step."""

Axes = tuple[int, int]
"""Of steps and samples in what a module takes."""
FIRST: Axes = (0, 1)


@dataclass(frozen=True)
class Signal:
    """What a node puts out in one step of one sample.

    Attributes:
        number: its place in `StepNetwork.signals`.
        shape: of one step of one sample; elements in row-major order.
        kind: "spikes" are 0 or 1, "counts" whole numbers from 0, "values" anything; from structure, not from data.
        maker: number of the node.
    """

    number: int
    shape: tuple[int, ...]
    kind: Kind
    maker: int

    @property
    def size(self) -> int:
        """Elements."""
        return prod(self.shape)


@dataclass(frozen=True)
class Operand:
    """A signal as a node reads it: `shape` holds as many elements as the signal's own."""

    signal: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class NeuronEquation:
    """h = decay v + gain x + drive; a spike where h >= threshold, then the reset; v starts at `initial`.

    Attributes:
        model: the module's class, for messages.
        decay: of the membrane, per step.
        gain: of the input.
        drive: what the membrane gets in each step whatever the input (a decay towards a reset value that is not 0).
        threshold: in units of the membrane.
        reset: the value after a spike; None where the threshold is subtracted.
        initial: the membrane before the first step.
        current_decay: of a current between input and membrane, i = current_decay i + x, h = decay v + gain i + drive;
            None where there is none.
    """

    model: str
    decay: float
    gain: float
    threshold: float
    reset: float | None
    drive: float = 0.0
    initial: float = 0.0
    current_decay: float | None = None


@dataclass(frozen=True)
class Node:
    """One operation.

    Attributes:
        number: its place in `StepNetwork.nodes`.
        operation: of the module's table.
        path: of the module, "layer1.0.conv1"; of the innermost one whose forward calls, where a function is called.
        operands: what it reads.
        result: number of the signal that it makes.
        arrays: weights and other constants, float64 (`index` int64).
        options: see the table.
        line: the user's "file:line", empty where there is none.
    """

    number: int
    operation: str
    path: str
    operands: tuple[Operand, ...]
    result: int
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    line: str = ""


@dataclass(frozen=True)
class StepNetwork:
    """Nodes in an order in which every operand is made before it is read, except those of a `delay`.

    Attributes:
        nodes: all; `input` and `output` among them. A node whose result nothing reads is left out.
        signals: `signals[i].number == i`.
        steps: of the whole: of its neurons and outputs.
        time: how they reached the module.
        tail: steps by which it is longer than its input: zeros follow.
    """

    nodes: Sequence[Node]
    signals: Sequence[Signal]
    steps: int
    time: Time = "steps"
    tail: int = 0

    def __post_init__(self) -> None:
        for position, node in enumerate(self.nodes):
            if node.number != position:
                raise ExportError(f"node {position} of the step network calls itself {node.number}")
            for operand in node.operands:
                if prod(operand.shape) != self.signals[operand.signal].size:
                    raise ExportError(
                        f"{node.operation} {node.path}: reads signal {operand.signal} of shape "
                        f"{self.signals[operand.signal].shape} as {operand.shape}"
                    )
        for position, signal in enumerate(self.signals):
            if signal.number != position or self.nodes[signal.maker].result != position:
                raise ExportError(f"signal {position} of the step network and its maker do not agree")

    def readers(self, signal: int) -> list[Node]:
        """Nodes that read a signal, in order."""
        return [node for node in self.nodes if any(operand.signal == signal for operand in node.operands)]


def values(array: Any) -> NDArray[np.float64]:
    """A constant as a node keeps it: float64, contiguous, not shared with the module."""
    return np.array(array, dtype=np.float64, order="C")
