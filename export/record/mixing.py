"""Samples or steps that change one another, found by running: the batch in another order, cut, padded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from spikescr.errors import ExportError
from spikescr.export.record.neurons import is_neuron
from spikescr.export.record.recorder import copied
from spikescr.export.record.step import FIRST, Axes, Time

SAMPLES = (5, 3, 7)
"""Samples that are run together: the first of these that is no other length of the input."""
PADDED = 2
"""Steps of zeros that are put behind the others."""
ROUNDING = 1e-9
"""Outputs of other batches may differ by this much of the largest: sums are taken in another order."""


@dataclass(frozen=True)
class Mixed:
    """A trial in which outputs changed that should not have.

    Attributes:
        trial: what was done to the batch.
        path: of the first module, in the order of execution, whose output is not the same; "" the whole module.
        owner: its class.
        difference: the largest.
    """

    trial: str
    path: str
    owner: str
    difference: float


@dataclass(frozen=True)
class Trials:
    """What running showed.

    Attributes:
        mixed: trials that failed.
        done: trials by name.
        left_out: trials that could not be made, and why.
        silent: paths of neurons that never fired: nothing is shown about what stands behind them.
        neurons: layers of neurons.
    """

    mixed: tuple[Mixed, ...]
    done: tuple[str, ...]
    left_out: dict[str, str]
    silent: tuple[str, ...]
    neurons: int


def tried(module: nn.Module, example: Tensor, time: Time = "steps", steps: int = 0, axes: Axes = FIRST) -> Trials:
    """Runs a copy of a module on batches that should give the same.

    Args:
        module: left as it is.
        example: as for `recorder.record`.
        time: likewise.
        steps: that the module makes of a held input, 0 where that is not known.
        axes: where the module wants steps and samples.

    Raises:
        ExportError: The module fails on the example.
    """
    network = copied(module, axes)
    axis = 0 if time == "held" else 1
    x = _batch(example.detach().cpu().double(), axis)
    samples, steps = x.shape[axis], steps if time == "held" else len(x)
    outputs = _run(network, x, time)
    silent, neurons = _silent(network, outputs)
    order = torch.arange(samples).roll(1)
    other = torch.cat([x.narrow(axis, 0, 1), _others(x.narrow(axis, 1, samples - 1))], axis)
    trials: dict[str, tuple[Tensor, Callable[[Tensor, int], Tensor]]] = {
        "the batch in another order": (x.index_select(axis, order), lambda part, at: part.index_select(at, order)),
        "a sample alone": (x.narrow(axis, 0, 1), lambda part, at: part.narrow(at, 0, 1)),
        "other samples beside it": (other, lambda part, at: part.narrow(at, 0, 1)),
    }
    if time != "held":
        padded = torch.cat([x, torch.zeros_like(x[:1]).expand(PADDED, *x.shape[1:])])
        trials["steps of zeros behind it"] = (padded, lambda part, at: part)
    mixed, done, left_out = [], [], {}
    for name, (given, same) in trials.items():
        padding = len(given) - len(x) if time != "held" else 0
        try:
            found = _run(network, given, time)
        except ExportError as error:
            left_out[name] = str(error)
            continue
        done.append(name)
        first = _first(network, outputs, found, same, (steps, samples), padding)
        if first is not None:
            path, owner, difference = first
            mixed.append(Mixed(name, path, owner, difference))
    return Trials(tuple(mixed), tuple(done), left_out, tuple(silent), neurons)


def _batch(x: Tensor, axis: int) -> Tensor:
    """As many samples as are run together; what lacks is made of those that are there."""
    others = {*x.shape[:axis], *x.shape[axis + 1 :]}
    samples = next((count for count in SAMPLES if count not in others), SAMPLES[0])
    x = x.narrow(axis, 0, min(samples, x.shape[axis]))
    while x.shape[axis] < samples:
        x = torch.cat([x, _others(x.narrow(axis, x.shape[axis] - 1, 1))], axis)
    return x


def _others(x: Tensor) -> Tensor:
    """Other samples with the same numbers: their features in reverse."""
    return x.flatten(2).flip(-1).reshape(x.shape) if x.ndim > 2 else x.flip(-1)


def _run(network: nn.Module, x: Tensor, time: Time) -> dict[str, list[Tensor]]:
    """Outputs of every module without parts, and of the whole (""), call by call, in the order of their ends."""
    found: dict[str, list[Tensor]] = {}
    hooks = []
    neurons = tuple(f"{path}." for path, module in network.named_modules() if is_neuron(module))
    for path, module in network.named_modules():
        if path.startswith(neurons):
            continue  # its surrogate, which neurons share
        if not path or not list(module.children()) or is_neuron(module):

            def kept(_: nn.Module, __: Any, output: Any, path: str = path) -> None:
                if isinstance(output, Tensor):
                    found.setdefault(path, []).append(output)
                elif isinstance(output, tuple | list) and output and isinstance(output[0], Tensor):
                    found.setdefault(path, []).append(output[0])

            hooks.append(module.register_forward_hook(kept))
    functional.reset_net(network)
    try:
        with torch.no_grad():
            for part in x if time == "loop" else [x]:
                network(part)
    except Exception as error:
        text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise ExportError(f"{type(network).__name__} fails on an input of shape {tuple(x.shape)}: {text}") from error
    finally:
        for hook in hooks:
            hook.remove()
        functional.reset_net(network)
    return found


def _silent(network: nn.Module, outputs: dict[str, list[Tensor]]) -> tuple[list[str], int]:
    neurons = [path for path, module in network.named_modules() if is_neuron(module) and path in outputs]
    return [path for path in neurons if not any(bool(part.any()) for part in outputs[path])], len(neurons)


def _first(
    network: nn.Module,
    outputs: dict[str, list[Tensor]],
    found: dict[str, list[Tensor]],
    same: Callable[[Tensor, int], Tensor],
    sizes: tuple[int, int],
    padding: int,
) -> tuple[str, str, float] | None:
    """The first module whose output is not the same; `sizes` are steps and samples."""
    modules = dict(network.named_modules())
    for path, parts in outputs.items():
        if padding and not is_neuron(modules[path]):
            continue  # a mean over the steps changes with their number, as it should
        for before, after in zip(parts, found.get(path, []), strict=False):
            difference = _difference(before, after, same, sizes, padding)
            if difference > ROUNDING * max(1.0, float(before.abs().max())):
                return path, type(modules[path]).__name__, difference
    return None


def _difference(
    before: Tensor, after: Tensor, same: Callable[[Tensor, int], Tensor], sizes: tuple[int, int], padding: int
) -> float:
    """The largest between what should be the same of two outputs, 0 where their axes of samples are not known."""
    steps, samples = sizes
    if steps and len(before) == steps * samples:
        before, after = before.unflatten(0, (steps, samples)), after.unflatten(0, (steps + padding, -1))
    if before.ndim > 1 and before.shape[:2] == (steps, samples):
        expected, after = same(before, 1), after[:steps]
    elif before.ndim and len(before) == samples:
        expected = same(before, 0)
    else:
        return 0.0
    if expected.shape != after.shape or not expected.numel():
        return 0.0
    return float((expected.double() - after.double()).abs().max())
