"""What all operations have in common: signals, ports, and the facts that each states about itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]


class Signal(Enum):
    """What an output carries; it decides whether a synapse accumulates or multiplies."""

    CLOCK = "clock"  # 1 on the valid steps of a sample, else 0
    SPIKES = "spikes"  # non-negative integers: n is n events
    VALUES = "values"  # real numbers


class Role(Enum):
    """What an operation does in a network; it decides where on a chip it stands and how far an entry can grow."""

    HOST = "host"  # an end of the graph
    ROUTING = "routing"  # hands on what arrives, in the same step
    DELAY = "delay"  # hands on what arrives, steps later
    CURRENT = "current"  # makes what feeds neurons
    NEURON = "neuron"  # puts out 0 or 1


@dataclass(frozen=True)
class Port:
    """The sum of the outputs of operations `sources` (names); width and signal are those of the sum."""

    sources: tuple[str, ...]
    width: int
    signal: Signal


@dataclass(frozen=True, kw_only=True)
class Operation:
    """Common to all. A class of operations states its facts, or it cannot be defined.

    Attributes:
        name: NIR node, or common prefix of fused nodes.
        width: of the output, channels.
        signal: what the output carries.
        latency: delay of the output against the graph's inputs in steps, None where the graph does not tell.
        counts: fact: the kinds of counts (`recording.KINDS`) that it may set; all others are 0.
        role: fact: what it does in a network.
        parts: fact: the kinds of work (`counting.conventions.PARTS`) for which conventions charge it.
        by_channel: fact: ports of which channel i reaches channel i of the output and no other.
        waits_for_window: fact: it puts a step out once all steps of the window have arrived.
        in_state: fact: what it accumulates goes into a state or comes out of one, not through stored weights.
    """

    name: str
    width: int
    signal: Signal
    latency: int | None = None

    counts: ClassVar[tuple[str, ...]]
    role: ClassVar[Role]
    parts: ClassVar[tuple[str, ...]]
    by_channel: ClassVar[tuple[str, ...]]
    waits_for_window: ClassVar[bool] = False
    in_state: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        missing = [fact for fact in ("counts", "role", "parts", "by_channel") if not hasattr(cls, fact)]
        if missing:
            raise TypeError(f"{cls.__name__}: an operation states its facts; missing: {', '.join(missing)}")

    @property
    def ports(self) -> dict[str, Port]:
        """The input ports by name, in the order in which they are declared."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: port for name, port in values.items() if isinstance(port, Port)}

    @property
    def has_membrane(self) -> bool:
        """Whether it keeps a membrane that a run can record."""
        return False

    @property
    def sends_first(self) -> bool:
        """Whether it puts a step out before it takes it in: it may read operations that come after it."""
        return False

    def longest_delay(self, port: str) -> int:
        """Steps from the arrival of a step at a port to the last output that it moves."""
        return 0


def operation_types() -> dict[str, type[Operation]]:
    """All types of operations by name; types that are other types' bases are there too."""
    types: dict[str, type[Operation]] = {}
    waiting = Operation.__subclasses__()
    while waiting:
        kind = waiting.pop(0)
        types[kind.__name__] = kind
        waiting += kind.__subclasses__()
    return types
