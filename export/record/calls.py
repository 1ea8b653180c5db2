"""What one forward pass of a module did: calls on values, as they came. Nothing is interpreted here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from spikescr.export.record.step import Time

Fault = Literal["operation", "neuron", "samples", "steps", "data", "structure"]
"""What a problem is: an operation or a neuron that has no place in a graph, samples or steps that are mixed, control
that depends on data, steps or samples that take different ways through the network."""


@dataclass(frozen=True)
class Ref:
    """A value among a call's arguments."""

    number: int


@dataclass(frozen=True)
class Value:
    """A tensor that depends on the input.

    Attributes:
        number: its place in `Record.values`.
        shape: as the module saw it.
        maker: number of the call, None of an input.
    """

    number: int
    shape: tuple[int, ...]
    maker: int | None


@dataclass(frozen=True)
class Call:
    """A function on tensors, or a neuron, that was called with values.

    Attributes:
        number: its place in `Record.calls`.
        name: of the function, "conv2d"; "neuron" of a module that is known as a whole.
        function: it, to be called again on other tensors; of a neuron None.
        module: the neuron.
        path: of the innermost module whose forward runs, "layer1.0.conv1".
        owner: that module's class.
        arguments: positional, `Ref` in the place of a value.
        keywords: likewise.
        results: numbers of the values that came out, in order.
        structure: what came out, `Ref` in the place of a value.
        line: the user's "file:line".
        writes: the first argument was changed in place.
    """

    number: int
    name: str
    function: Callable[..., Any] | None
    module: nn.Module | None
    path: str
    owner: str
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    results: tuple[int, ...]
    structure: Any
    line: str
    writes: bool = False


@dataclass(frozen=True)
class Problem:
    """Why a module cannot become a graph: one row of the table.

    Attributes:
        fault: what kind.
        path: of the module.
        owner: its class.
        operation: the function or neuron.
        line: the user's "file:line".
        reason: what is wrong.
        remedy: what would help.
    """

    fault: Fault
    path: str
    owner: str
    operation: str
    line: str
    reason: str
    remedy: str

    @property
    def told(self) -> str:
        """In one line: the module, or the whole one's class, the user's line, what is wrong and what would help."""
        where = (self.path or self.owner) + (f" ({self.line})" if self.line else "")
        return f"{where}: {self.operation}: {self.reason}" + (f"; {self.remedy}" if self.remedy else "")


@dataclass(frozen=True)
class Record:
    """A forward pass.

    Attributes:
        calls: in order.
        values: `values[i].number == i`.
        inputs: values that went in: one, or one of each step where `time` is "loop".
        outputs: what came out, `Ref` in the place of a value: of each call of the module.
        time: how the input's time reached the module.
        steps: of the input; 0 where it has none (`time` is "held").
        samples: in the batch that was recorded.
        example: the input, as recorded.
        starts: number of the first call of each call of the module.
        problems: met while recording.
    """

    calls: Sequence[Call]
    values: Sequence[Value]
    inputs: tuple[int, ...]
    outputs: tuple[Any, ...]
    time: Time
    steps: int
    samples: int
    example: Tensor
    starts: tuple[int, ...] = (0,)
    problems: list[Problem] = field(default_factory=list)


def mapped(tree: Any, change: Callable[[Any], Any]) -> Any:
    """A tree of tuples, lists, dicts and slices with every leaf changed."""
    if isinstance(tree, tuple):
        return tuple(mapped(item, change) for item in tree)
    if isinstance(tree, list):
        return [mapped(item, change) for item in tree]
    if isinstance(tree, dict):
        return {name: mapped(item, change) for name, item in tree.items()}
    if isinstance(tree, slice):
        return slice(change(tree.start), change(tree.stop), change(tree.step))
    return change(tree)


def leaves(tree: Any) -> list[Any]:
    """Its leaves, in order."""
    found: list[Any] = []
    mapped(tree, found.append)
    return found
