"""What a module does on an input, neuron by neuron, in float64: what executed spikes are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from spikescr.errors import ExportError
from spikescr.export.record.neurons import equation_of, is_neuron
from spikescr.export.record.recorder import copied
from spikescr.export.record.step import FIRST, Axes, NeuronEquation, Time
from spikescr.progress import track

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Observed:
    """A module's own values.

    Attributes:
        spikes: node's name -> bool (T, B, N), of as many steps as the module's neurons go through.
        answers: what it returned, of each sample a row.
    """

    spikes: Mapping[str, NDArray[np.bool_]]
    answers: FloatArray


def observe(
    module: nn.Module,
    x: FloatArray,
    time: Time,
    widths: Mapping[str, int],
    steps: int,
    axes: Axes = FIRST,
    output_axis: int | None = None,
) -> Observed:
    """Runs a copy of a module, sample by sample, so that no sample sees another and no axis has to be guessed.

    Args:
        module: left as it is.
        x: input (T, B, ...), or (B, ...) where `time` is "held".
        time: how the steps reach the module, see `record.step.Time`.
        widths: name of a node, of a neuron or a max pool that is a module -> channels N.
        steps: T, of the network.
        axes: where the module wants steps and samples.
        output_axis: of what the module puts out, which runs over the steps.

    Returns:
        Spikes of those nodes whose names are modules; the answers (B, ...), (B, T, ...) where `time` is "loop".

    Raises:
        ExportError: the module fails on x, or a part of it put out something else than T steps or one of N
            channels in each call.
    """
    network = copied(module, axes)
    modules = dict(network.named_modules())
    calls: dict[str, list[FloatArray]] = {}
    watched = {}
    for name in widths:
        path = name.split(".call")[0]
        if path in modules or (path == "net" and not list(network.children())):
            watched[path] = modules.get(path, network)

    def keep(path: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            y = output[0] if isinstance(output, (tuple, list)) else output
            calls[path].append(y.detach().numpy().ravel().copy())

        return hook

    handles = [part.register_forward_hook(keep(path)) for path, part in watched.items()]
    axis = 0 if time == "held" else 1
    spikes: dict[str, list[NDArray[np.bool_]]] = {}
    answers = []
    try:
        with torch.no_grad():
            for b in track(range(x.shape[axis]), "Running the module", x.shape[axis]):
                for path in watched:
                    calls[path] = []
                functional.reset_net(network)
                one = torch.from_numpy(np.ascontiguousarray(x[b : b + 1] if axis == 0 else x[:, b : b + 1], np.float64))
                try:
                    made = [network(step) for step in one] if time == "loop" else network(one)
                except (RuntimeError, ValueError, TypeError, IndexError) as error:
                    told = " ".join(str(error).split())
                    raise ExportError(
                        f"{type(module).__name__} fails on an input of shape {x.shape}: {told}"
                    ) from error
                answers.append(np.stack([_numbers(m) for m in made]) if time == "loop" else _numbers(made, output_axis))
                for name in widths:
                    path = name.split(".call")[0]
                    if path in watched:
                        spikes.setdefault(name, []).append(_steps(name, calls[path], widths[name], steps))
    finally:
        for handle in handles:
            handle.remove()
    return Observed({name: np.stack(found, axis=1) for name, found in spikes.items()}, np.stack(answers))


def membrane(
    module: nn.Module, x: FloatArray, time: Time, name: str, width: int, at: tuple[int, int], axes: Axes = FIRST
) -> tuple[float, NeuronEquation] | None:
    """The membrane of one neuron of a module at a step, after its update and before its reset, and its equation.

    What reaches the neuron is heard as it runs, and its equation goes through these currents.

    Args:
        module: left as it is.
        x: one sample of the input, with its axis.
        time: how the steps reach the module.
        name: of the neurons' node.
        width: channels of it.
        at: step and channel.
        axes: where the module wants steps and samples.

    Returns:
        None where the node is no module whose equation is known.
    """
    network = copied(module, axes)
    part = dict(network.named_modules()).get(name)
    if part is None or not is_neuron(part):
        return None
    given: list[FloatArray] = []
    handle = part.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].detach().double().numpy().ravel()))
    one = torch.from_numpy(np.ascontiguousarray(x, np.float64))
    with torch.no_grad():
        for piece in one if time == "loop" else [one]:
            network(piece)
    handle.remove()
    step, channel = at
    currents = np.concatenate(given).reshape(-1, width)[: step + 1, channel]
    e = equation_of(part)
    v, i, h = e.initial, 0.0, 0.0
    for current in currents:
        i = float(current) if e.current_decay is None else e.current_decay * i + float(current)
        h = e.decay * v + e.gain * i + e.drive
        v = h if h < e.threshold else h - e.threshold if e.reset is None else e.reset
    return h, e


def _steps(name: str, calls: list[FloatArray], width: int, steps: int) -> NDArray[np.bool_]:
    """(T, N) of what a module put out in its calls, the one that the name says of several in a step.

    Neurons before a convolution that wins steps go through fewer than `steps`.
    """
    number = int(name.rpartition(".call")[2]) - 1 if ".call" in name else 0
    if calls and all(len(call) == steps * width for call in calls) and number < len(calls):
        return calls[number].reshape(steps, width) != 0
    if calls and all(len(call) == width for call in calls) and len(calls) % steps == 0:
        return np.stack(calls).reshape(steps, -1, width)[:, number] != 0
    if number < len(calls) and 0 < len(calls[number]) < steps * width and len(calls[number]) % width == 0:
        return calls[number].reshape(-1, width) != 0  # neurons that end before others
    sizes = sorted({len(call) for call in calls})
    raise ExportError(
        f"{name}: the module puts out {len(calls)} times {sizes} numbers in {steps} steps, its node {width} in each"
    )


def _numbers(answer: Any, axis: int | None = None) -> FloatArray:
    """The first tensor of an answer, its axis of steps first."""
    first = answer
    while isinstance(first, (tuple, list)):
        first = first[0]
    assert isinstance(first, Tensor)
    numbers: FloatArray = first.detach().double().numpy()
    return numbers if axis is None else np.moveaxis(numbers, axis, 0)
