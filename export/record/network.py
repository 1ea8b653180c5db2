"""From a record to a step network: every call by its handler, all problems at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from spikescr.errors import ExportError
from spikescr.export.record import elements, layers, names, own
from spikescr.export.record.calls import Call, Problem, Record, Ref, leaves, mapped
from spikescr.export.record.drafts import Drafts
from spikescr.export.record.finish import finished
from spikescr.export.record.passes import passes_of
from spikescr.export.record.places import HELD, ConstantError, Track, moved, place_of, sample_of
from spikescr.export.record.readings import RefusedError
from spikescr.export.record.scope import Scope, bound
from spikescr.export.record.step import StepNetwork

Handler = Callable[[Scope, Call], Track]

HANDLERS: dict[str, Handler] = {
    "linear": layers.linear,
    "conv1d": layers.convolution,
    "conv2d": layers.convolution,
    "conv3d": layers.convolution,
    "conv_transpose1d": layers.convolution,
    "conv_transpose2d": layers.convolution,
    "batch_norm": layers.batch_norm,
    "max_pool1d": layers.pool,
    "max_pool2d": layers.pool,
    "max_pool3d": layers.pool,
    "avg_pool1d": layers.pool,
    "avg_pool2d": layers.pool,
    "avg_pool3d": layers.pool,
    "adaptive_avg_pool1d": layers.adaptive_pool,
    "adaptive_avg_pool2d": layers.adaptive_pool,
    "adaptive_avg_pool3d": layers.adaptive_pool,
    "adaptive_max_pool1d": layers.adaptive_pool,
    "adaptive_max_pool2d": layers.adaptive_pool,
    "adaptive_max_pool3d": layers.adaptive_pool,
    "matmul": layers.matmul,
    "bmm": layers.matmul,
    "mm": layers.matmul,
    "add": elements.add,
    "sub": elements.subtract,
    "rsub": elements.subtract_from,
    "mul": elements.multiply,
    "div": elements.divide,
    "neg": elements.negate,
    "max": elements.maximum,
    "maximum": elements.maximum,
    "square": elements.square,
    "pow": elements.square,
    "relu": elements.rectify,
    "abs": elements.rectify,
    "sum": elements.reduce,
    "mean": elements.reduce,
    "neuron": elements.fire,
    "delay": elements.delay,
    "recurrent": own.recurrent,
    "rotary": own.rotary,
}
"""Functions that compute, by name."""

_SAME = frozenset(
    ["float", "double", "half", "bfloat16", "to", "type", "type_as", "contiguous", "detach", "data", "clone"]
)
_DROPOUT = frozenset(name for name in names.MOVES if name.endswith("dropout") or name.startswith("dropout"))
_REMEDIES = {
    "sigmoid": "spikes and weights alone go through: no gates of real values",
    "softmax": "use attention without softmax, as Spikformer does",
    "scaled_dot_product_attention": "use attention without softmax: q @ k.transpose(-2, -1) @ v",
    "layer_norm": "use BatchNorm: its statistics are fixed once trained",
    "group_norm": "use BatchNorm: its statistics are fixed once trained",
    "instance_norm": "use BatchNorm: its statistics are fixed once trained",
    "einsum": "write it as reshape, permute and @",
    "gelu": "put a neuron in its place",
} | dict.fromkeys(
    ["ge", "gt", "le", "lt", "heaviside", "sign", "clamp", "sgn"],
    "a neuron written in tensors: use IFNode, LIFNode, ParametricLIFNode or CUBALIFNode, whose equations are known",
)


def per_step(record: Record) -> tuple[StepNetwork | None, list[Problem]]:
    """What one step of one sample does, None where something stands against it; all that does."""
    scope = Scope(record, Drafts())
    problems = list(record.problems)
    _inputs(scope)
    passes = passes_of(record)
    guessed: set[int] = set()
    for call in record.calls:
        scope.drafts.turn = passes.get(call.number)
        read = [item.number for item in leaves((call.arguments, dict(call.keywords))) if isinstance(item, Ref)]
        doubtful = not guessed.isdisjoint(read)
        try:
            results = _results(scope, call)
        except RefusedError as error:
            problem = Problem(error.fault, call.path, call.owner, _called(call), call.line, str(error), error.remedy)
            follows = doubtful and error.fault in {"structure", "steps"}  # from what was refused before
            if not follows and problem not in problems:
                problems.append(problem)
            results, doubtful = _guessed(scope, call), True
        except _UnknownError:
            results = {}
        guessed.update(call.results if doubtful else ())
        scope.tracks.update(results)
    scope.drafts.turn = None
    if problems:
        return None, problems
    return finished(scope)


class _UnknownError(Exception):
    """An operand was not understood; what came of it is not either."""


def _inputs(scope: Scope) -> None:
    record = scope.record
    shape = record.values[record.inputs[0]].shape
    inner = shape[2:] if record.time == "steps" else shape[1:]
    signal = scope.drafts.input("input", inner, record.steps)
    size = int(torch.tensor(inner).prod())
    local = torch.arange(size, dtype=torch.float64).reshape(inner)
    for number, value in enumerate(record.inputs):
        lead = shape[: len(shape) - len(inner)]
        sample = torch.arange(record.samples)
        step = {"steps": torch.arange(record.steps)[:, None], "loop": torch.tensor(number), "held": torch.tensor(HELD)}
        place = place_of(step[record.time], sample).to(torch.float64)
        ones = (1,) * len(inner)
        scope.tracks[value] = Track(
            place.reshape(*lead, *ones).expand(shape),
            torch.full((), float(signal), dtype=torch.float64).expand(shape),
            local.expand(shape),
        )


def _results(scope: Scope, call: Call) -> dict[int, Track]:
    handler = HANDLERS.get(call.name)
    if handler is None and call.name not in names.MOVES and call.name != "zeros":
        raise _refused(call)
    known = [item for item in leaves((call.arguments, dict(call.keywords))) if isinstance(item, Ref)]
    if any(item.number not in scope.tracks for item in known):
        if call.name == "neuron" and call.module is not None:
            scope.equation(call.module)
        raise _UnknownError
    if handler is not None:
        return {call.results[0]: handler(scope, call)}
    if call.name == "zeros":
        return {call.results[0]: _zeros(scope, call)}
    found = _moved(scope, call)
    return dict(zip(call.results, found, strict=True))


def _zeros(scope: Scope, call: Call) -> Track:
    """Zeros may be the state before the first step: the same for every step, of the samples that their model has.

    Made like nothing they have an axis of samples where their shape has one of that length.
    """
    shape = scope.shape_of(call)
    like = next((scope.tracks[item.number] for item in call.arguments if item.number in scope.tracks), None)
    blank = torch.full((), -1.0, dtype=torch.float64).expand(shape)
    if like is not None and like.shape == shape:
        place = torch.where(like.place < 0, -1.0, place_of(torch.tensor(HELD), sample_of(like.place)))
        return Track(place, blank, blank)
    axis = next((axis for axis, size in enumerate(shape) if size == scope.record.samples), None)
    if axis is None:
        return Track(blank, blank, blank)
    ones = (1,) * (len(shape) - axis - 1)
    place = place_of(torch.tensor(HELD), torch.arange(scope.record.samples)).to(torch.float64)
    return Track(place.reshape(-1, *ones).expand(shape), blank, blank)


def _refused(call: Call) -> RefusedError:
    if call.name in names.RANDOM:
        return RefusedError("operation", "it draws random numbers in eval mode", "draw them in training alone")
    reason = "no operation of a graph does this"
    return RefusedError(
        "operation", reason, _REMEDIES.get(call.name, "leave it out, or write it with those that go through")
    )


def _moved(scope: Scope, call: Call) -> list[Track]:
    """Tracks of what only moves elements."""
    if call.name in _SAME:
        return [scope.track(call.arguments[0])]
    if call.name in _DROPOUT and bound(call, "input p training", training=True)["training"]:
        raise RefusedError(
            "operation", "it drops at random in eval mode", "use a Dropout module, or training=self.training"
        )
    if call.name == "interpolate" and (call.keywords.get("mode") or "nearest") != "nearest":
        raise RefusedError("operation", "it interpolates", "use mode='nearest'")
    function = call.function
    assert function is not None
    if call.writes:
        function = _writing(function)
    try:
        found = moved(function, call.arguments, call.keywords, scope.tracks)
    except ConstantError:
        raise RefusedError(
            "operation", "it puts constants other than 0 among the elements", "add constants, or begin with zeros"
        ) from None
    except (RuntimeError, TypeError, NotImplementedError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]  # PyTorch's tell the rest in further lines
        raise RefusedError("operation", f"it cannot be followed: {reason}", "") from error
    return [item for item in leaves(found) if isinstance(item, Track)]


def _writing(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same in a copy, which comes back."""

    def run(target: Tensor, *rest: Any, **keywords: Any) -> Tensor:
        target = target.to(torch.float64).clone()
        function(target, *rest, **keywords)
        return target

    return run


def _guessed(scope: Scope, call: Call) -> dict[int, Track]:
    """A refused call's result, so that what follows is looked at as well: as if element by element."""
    shapes = {value: scope.record.values[value].shape for value in call.results}
    for item in leaves((call.arguments, dict(call.keywords))):
        if isinstance(item, Ref) and item.number in scope.tracks:
            track = scope.tracks[item.number]
            return {value: track for value, shape in shapes.items() if shape == track.shape}
    return {}


def _called(call: Call) -> str:
    return type(call.module).__name__ if call.module is not None else call.name


class RefusedModuleError(ExportError):
    """A module cannot become a graph; the message names the first of its `problems`, and how many there are."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        more = f"; and {len(problems) - 1} more, see spikescr check" if len(problems) > 1 else ""
        super().__init__(problems[0].told + more)
        self.problems = tuple(problems)


def stepped(record: Record) -> StepNetwork:
    """As `per_step`.

    Raises:
        RefusedModuleError: Something stands against it.
    """
    network, problems = per_step(record)
    if network is None:
        raise RefusedModuleError(problems)
    return network


__all__ = ["HANDLERS", "mapped", "per_step", "stepped"]
