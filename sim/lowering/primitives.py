"""NIR's primitives: one table of what each is, which lowering, inspection and the reading of files share.

A new one takes an entry here and, where its shape or its equations are new, a rule in `shapes` or an operation in
`synapses` or `neurons`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any

import nir
import numpy as np

from spikescr import dialect
from spikescr.schemas import brief
from spikescr.sim.lowering import shapes
from spikescr.sim.lowering.shapes import ShapeRule


class Kind(Enum):
    """What becomes of a node."""

    INPUT = "input"
    OUTPUT = "output"
    SYNAPSE = "synapse"  # weights without a bias: taps of one connection over time
    AFFINE = "affine"
    CONVOLUTION = "convolution"
    POOL = "pool"
    NEURON = "neuron"
    DELAY = "delay"
    FLATTEN = "flatten"
    PACKED = "packed"  # an operation of the dialect, of several operands
    UNKNOWN = "unknown"


class Carries(Enum):
    """What a node puts out."""

    SPIKES = "spikes"
    VALUES = "values"
    ARRIVING = "what arrives"  # or sums of it


@dataclass(frozen=True)
class Primitive:
    """An entry of the table.

    Attributes:
        kind: what becomes of it.
        carries: what it puts out.
        shape: the rule that tells the shape of its output.
        numbers: its fields that hold parameters -> how many axes an array of them has at least, and at most (None: as
            many as there are).
        whole: its fields that hold whole numbers -> the least, and how many there are at most.
        states: variables that a neuron of it keeps; None of what is no neuron.
    """

    kind: Kind
    carries: Carries
    shape: ShapeRule
    numbers: Mapping[str, tuple[int, int | None]] = field(default_factory=lambda: MappingProxyType({}))
    whole: Mapping[str, tuple[int, int]] = field(default_factory=lambda: MappingProxyType({}))
    states: int | None = None

    @property
    def weighted(self) -> bool:
        """Whether it is a connection whose weights are parameters."""
        return self.kind in (Kind.SYNAPSE, Kind.AFFINE, Kind.CONVOLUTION)


def _any(*names: str) -> Mapping[str, tuple[int, int | None]]:
    """Parameters of any shape that fits what arrives."""
    return dict.fromkeys(names, (0, None))


_MATRIX = {"weight": (2, None)}
_CUBA = ("tau_mem", "tau_syn", "r", "v_leak")
_RESET = ("v_threshold", "v_reset")
_OWN = shapes.own
_MOST = 2**31 - 1
_SHAPE = {"shape": (1, 32)}
_WINDOW = {"stride": (1, 2), "padding": (0, 2)}
_KERNEL = {"input_shape": (1, 2), **_WINDOW, "dilation": (1, 2), "groups": (1, 1)}
_POOL = {"kernel_size": (1, 2), **_WINDOW}
_AXES = {"start_dim": (-_MOST, 1), "end_dim": (-_MOST, 1), "input_type": (1, 32)}

PRIMITIVES: Mapping[type[nir.NIRNode], Primitive] = {
    nir.Input: Primitive(Kind.INPUT, Carries.ARRIVING, shapes.declared, whole=_SHAPE),
    nir.Output: Primitive(Kind.OUTPUT, Carries.ARRIVING, shapes.arriving_or_declared, whole=_SHAPE),
    nir.Linear: Primitive(Kind.SYNAPSE, Carries.VALUES, shapes.rows, _MATRIX),
    nir.Affine: Primitive(Kind.AFFINE, Carries.VALUES, shapes.rows, {**_MATRIX, "bias": (0, None)}),
    nir.Scale: Primitive(Kind.SYNAPSE, Carries.VALUES, _OWN, _any("scale")),
    nir.Conv1d: Primitive(Kind.CONVOLUTION, Carries.VALUES, shapes.window, {"weight": (3, 3), "bias": (1, 1)}, _KERNEL),
    nir.Conv2d: Primitive(Kind.CONVOLUTION, Carries.VALUES, shapes.window, {"weight": (4, 4), "bias": (1, 1)}, _KERNEL),
    nir.SumPool2d: Primitive(Kind.POOL, Carries.ARRIVING, shapes.window, whole=_POOL),
    nir.AvgPool2d: Primitive(Kind.POOL, Carries.VALUES, shapes.window, whole=_POOL),
    nir.Delay: Primitive(Kind.DELAY, Carries.ARRIVING, _OWN, _any("delay")),
    nir.Flatten: Primitive(Kind.FLATTEN, Carries.ARRIVING, shapes.flattened, whole=_AXES),
    nir.I: Primitive(Kind.NEURON, Carries.VALUES, _OWN, _any("r"), states=1),
    nir.IF: Primitive(Kind.NEURON, Carries.SPIKES, _OWN, _any("r", *_RESET), states=1),
    nir.LI: Primitive(Kind.NEURON, Carries.VALUES, _OWN, _any("tau", "r", "v_leak"), states=1),
    nir.LIF: Primitive(Kind.NEURON, Carries.SPIKES, _OWN, _any("tau", "r", "v_leak", *_RESET), states=1),
    nir.CubaLI: Primitive(Kind.NEURON, Carries.VALUES, _OWN, _any(*_CUBA, "w_in"), states=2),
    nir.CubaLIF: Primitive(Kind.NEURON, Carries.SPIKES, _OWN, _any(*_CUBA, *_RESET, "w_in"), states=2),
    nir.Threshold: Primitive(Kind.NEURON, Carries.SPIKES, _OWN, _any("threshold"), states=0),
}


@dataclass(eq=False)
class Unreadable(nir.NIRNode):
    """A node of a file that nir cannot make one of.

    Attributes:
        kind: as the file calls it.
        why: nir cannot.
    """

    kind: str
    why: str

    def __post_init__(self) -> None:
        """Leaves its shapes unknown."""
        self.input_type, self.output_type = {"input": None}, {"output": None}


PACKED = Primitive(Kind.PACKED, Carries.VALUES, shapes.declared)
_PASSING = Primitive(Kind.PACKED, Carries.ARRIVING, shapes.declared)
_PACKED = {dialect.SELECT: _PASSING, "maximum": _PASSING}
UNKNOWN = Primitive(Kind.UNKNOWN, Carries.VALUES, shapes.unknown)


def primitive(node: nir.NIRNode) -> Primitive:
    """The entry of a node; a nested graph is packed, whatever its metadata call it."""
    if isinstance(node, nir.NIRGraph):
        return _PACKED.get(str(node.metadata.get(dialect.OP)), PACKED)
    return PRIMITIVES.get(type(node), UNKNOWN)


def kind_of(node: nir.NIRNode) -> Kind:
    """What becomes of a node."""
    return primitive(node).kind


def kind_name(node: nir.NIRNode) -> str:
    """The type of a node, as its file calls it."""
    return node.kind if isinstance(node, Unreadable) else type(node).__name__


def op_of(node: nir.NIRNode) -> str | None:
    """What the dialect calls a node: a packed operation, "wire" or "clock"; None for all that is standard NIR."""
    op = node.metadata.get(dialect.OP)
    if not isinstance(op, str):
        return None
    if isinstance(node, nir.NIRGraph):
        return op if op in dialect.PACKED_OPERATIONS else None
    return op if op == {nir.Linear: dialect.WIRE, nir.Input: dialect.CLOCK}.get(type(node)) else None


def faults(node: nir.NIRNode) -> list[str]:
    """What is wrong with the parameters of a node: not real numbers, or too few or too many axes."""
    faults = []
    for name, (least, most) in primitive(node).numbers.items():
        value = getattr(node, name)
        if value is not None and (fault := fault_of(name, value, least, most)):
            faults.append(fault)
    return faults


def fault_of(name: str, value: Any, least: int, most: int | None) -> str | None:
    """What is wrong with a parameter, None where nothing is."""
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        what = {"c": "complex numbers", "S": "text", "U": "text", "O": "objects", "V": "compounds"}
        return f"{name} must be real numbers, it holds {what.get(array.dtype.kind, str(array.dtype))}"
    if array.ndim < least or (most is not None and array.ndim > most):
        wanted = f"{least}" if most == least else f"{least} or more"
        return f"{name} must have {wanted} axes, found shape {array.shape}"
    return None


def whole_fault(name: str, value: Any, least: int, most: int) -> str | None:
    """What is wrong with a field of whole numbers, None where nothing is.

    Args:
        name: of the field.
        value: what a file holds for it.
        least: of each number.
        most: numbers that there may be; there is one at least.
    """
    array = np.asarray(value)
    numbers = array.ravel()
    if (
        array.dtype.kind not in "iuf"
        or not 1 <= array.size <= most
        or not ((numbers >= least) & (numbers <= _MOST) & (numbers == np.floor(numbers))).all()
    ):
        count = "a whole number" if most == 1 else f"1 to {most} whole numbers"
        bound = f"{least} or more" if least >= 0 else "not as large"
        return f"{name} must be {count}, {bound}, found {brief(value)}"
    return None
