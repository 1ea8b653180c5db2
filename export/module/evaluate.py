"""What a StepNetwork does, step by step, in PyTorch's float64: to hold recording and folding against the module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from spikescr.export.module.timing import latencies, span, taps
from spikescr.export.record.step import NeuronEquation, Node, StepNetwork

FloatArray = NDArray[np.float64]


def evaluate(net: StepNetwork, inputs: Mapping[str, FloatArray]) -> dict[int, FloatArray]:
    """Runs a network.

    Args:
        net: folded or not.
        inputs: name of an input -> its values (T, B, ...); the network's tail is not among them.

    Returns:
        Signal -> its values (T, B, *shape), T the network's steps, a neuron's being its spikes; an output's are those
        of every step, before its readout.
    """
    given = {name: torch.from_numpy(np.ascontiguousarray(x, np.float64)) for name, x in inputs.items()}
    batch = next(iter(given.values())).shape[1]
    state: dict[int, Tensor] = {}  # of a signal's maker; ~signal: of its current
    kept: dict[int, list[Tensor]] = {signal.number: [] for signal in net.signals}
    late = latencies(net)
    with torch.no_grad():
        for moment in range(net.steps + max(late, default=0)):
            for node in net.nodes:
                t = moment - late[node.result]
                if not 0 <= t < net.steps:
                    continue
                zeros = torch.zeros(batch, *net.signals[node.result].shape, dtype=torch.float64)
                if node.operation == "input":
                    x = given[node.options["name"]]
                    y = x[t] if t < len(x) else zeros
                elif node.operation == "delay":
                    y = kept[node.operands[0].signal][t - 1] if t else zeros
                elif node.operation in _OVER_STEPS:
                    y = _OVER_STEPS[node.operation](node, [kept[o.signal] for o in node.operands], t)
                else:
                    operands = [kept[o.signal][t].reshape(-1, *o.shape) for o in node.operands]
                    if node.operation == "neuron":
                        y = _neuron(node, state, *operands) if t < span(node, net) else zeros
                    else:
                        y = _OPERATIONS[node.operation](node, *operands)
                kept[node.result].append(y.reshape(len(y), *net.signals[node.result].shape))
    return {signal: torch.stack(values).numpy() for signal, values in kept.items()}


def _array(node: Node, name: str) -> Tensor | None:
    return torch.from_numpy(node.arrays[name]) if name in node.arrays else None


def _neuron(node: Node, state: dict[int, Tensor], x: Tensor) -> Tensor:
    e: NeuronEquation = node.options["equation"]
    v = state.get(node.result)
    v = torch.full_like(x, e.initial) if v is None else v
    if e.current_decay is not None:
        x = e.current_decay * state.get(~node.result, torch.zeros_like(x)) + x
        state[~node.result] = x
    h = e.decay * v + e.gain * x + e.drive
    spike = h >= e.threshold
    state[node.result] = h - e.threshold * spike if e.reset is None else torch.where(spike, e.reset, h)
    return spike.double()


def _conv(node: Node, x: Tensor) -> Tensor:
    weight = _array(node, "weight")
    assert weight is not None
    o = node.options
    convolve = {3: functional.conv1d, 4: functional.conv2d, 5: functional.conv3d}[weight.ndim]
    return convolve(x, weight, _array(node, "bias"), o["stride"], o["padding"], o["dilation"], o["groups"])


def _temporal(node: Node, given: Sequence[Sequence[Tensor]], t: int) -> Tensor:
    """The sum of its taps' convolutions; those of no axis of space are matrices in groups."""
    weight = _array(node, "weight")
    assert weight is not None
    (x,), o, shape = given, node.options, node.operands[0].shape
    stride, padding, dilation = (tuple(o[name]) or (n,) for name, n in (("stride", 1), ("padding", 0), ("dilation", 1)))
    parts = []
    for number, offset in enumerate(taps(node)):
        read = (x[t + offset] if 0 <= t + offset < o["reads"] else torch.zeros_like(x[0])).reshape(-1, *shape)
        kernel = weight[:, :, number]
        read, kernel = (read, kernel) if len(shape) > 1 else (read[..., None], kernel[..., None])
        parts.append(functional.conv1d(read, kernel, None, stride, padding, dilation, o["groups"]))
    total = torch.stack(parts).sum(0)
    bias = _array(node, "bias")
    return total if bias is None else total + bias.reshape(-1, 1)


def _attention(node: Node, given: Sequence[Sequence[Tensor]], t: int) -> Tensor:
    read = [[x.reshape(-1, *o.shape) for x in xs] for xs, o in zip(given, node.operands, strict=True)]
    together = torch.stack([k[..., :, None] * v[..., None, :] for k, v in zip(*read[1:], strict=True)]).sum(0)
    attended: Tensor = node.options["scale"] * (read[0][t][..., None, :] @ together)
    return attended


def _rotary(node: Node, given: Sequence[Sequence[Tensor]], t: int) -> Tensor:
    cos, sin = (torch.from_numpy(node.arrays[name][t]) for name in ("cos", "sin"))
    pairs = given[0][t].reshape(len(given[0][t]), node.options["heads"], -1, 2)
    even, odd = pairs[..., 0], pairs[..., 1]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)


def _position(node: Node, given: Sequence[Sequence[Tensor]], t: int) -> Tensor:
    return given[0][t].flatten(1) + torch.from_numpy(node.arrays["table"][t])


def _conv_transpose(node: Node, x: Tensor) -> Tensor:
    weight = _array(node, "weight")
    assert weight is not None
    o = node.options
    convolve = {3: functional.conv_transpose1d, 4: functional.conv_transpose2d, 5: functional.conv_transpose3d}[
        weight.ndim
    ]
    return convolve(
        x, weight, _array(node, "bias"), o["stride"], o["padding"], o["output_padding"], o["groups"], o["dilation"]
    )


def _batch_norm(node: Node, x: Tensor) -> Tensor:
    a = node.arrays
    scale = a["weight"] / np.sqrt(a["var"] + node.options["eps"])
    shape = tuple(-1 if axis == node.options["axis"] + 1 else 1 for axis in range(x.ndim))
    return x * torch.from_numpy(scale).reshape(shape) + torch.from_numpy(a["bias"] - a["mean"] * scale).reshape(shape)


def _affine(node: Node, x: Tensor) -> Tensor:
    factor, addend = (torch.from_numpy(node.arrays[name])[:, None] for name in ("factor", "addend"))
    return x * factor + addend


def _max_pool(node: Node, x: Tensor) -> Tensor:
    o = node.options
    pool = {3: functional.max_pool1d, 4: functional.max_pool2d, 5: functional.max_pool3d}[x.ndim]
    pooled: Tensor = pool(x, o["window"], o["stride"], o["padding"], o["dilation"], o["ceil"])
    return pooled


def _avg_pool(node: Node, x: Tensor) -> Tensor:
    o = node.options
    common = (o["window"], o["stride"], o["padding"], o["ceil"], o["count_padding"])
    if x.ndim == 3:
        return functional.avg_pool1d(x, *common)
    return {4: functional.avg_pool2d, 5: functional.avg_pool3d}[x.ndim](x, *common, o["divisor"])


def _select(node: Node, *xs: Tensor) -> Tensor:
    whole = torch.cat([*(x.flatten(1) for x in xs), torch.zeros(len(xs[0]), 1, dtype=xs[0].dtype)], 1)
    return whole[:, torch.from_numpy(node.arrays["index"].ravel())]


def _sum(node: Node, *xs: Tensor) -> Tensor:
    total = torch.zeros_like(xs[0])
    for coefficient, x in zip(node.options["coefficients"], xs, strict=True):
        total = total + coefficient * x
    return total


def _reduce(node: Node, x: Tensor) -> Tensor:
    axes = [axis % (x.ndim - 1) + 1 for axis in node.options["axes"]]
    return x.mean(axes) if node.options["mean"] else x.sum(axes)


def _sum_pool(node: Node, x: Tensor) -> Tensor:
    o = node.options
    return functional.avg_pool2d(x, o["window"], o["stride"], o["padding"], o["ceil"], divisor_override=1)


def _token_attention(node: Node, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return node.options["scale"] * ((q @ k.transpose(-1, -2)) @ v)


_OPERATIONS: Mapping[str, Callable[..., Tensor]] = {
    "output": lambda node, x: x,
    "linear": lambda node, x: functional.linear(x, torch.from_numpy(node.arrays["weight"]), _array(node, "bias")),
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "batch_norm": _batch_norm,
    "affine": _affine,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "select": _select,
    "sum": _sum,
    "scale": lambda node, x: x * _array(node, "factor"),
    "bias": lambda node, x: x + _array(node, "addend"),
    "complement": lambda node, x: 1.0 - x,
    "product": lambda node, x, y: x * y,
    "maximum": lambda node, x, y: torch.maximum(x, y),
    "matmul": lambda node, x, y: x @ y,
    "reduce": _reduce,
    "sum_pool": _sum_pool,
    "token_attention": _token_attention,
}
_OVER_STEPS: Mapping[str, Callable[[Node, Sequence[Sequence[Tensor]], int], Tensor]] = {
    "temporal": _temporal,
    "attention": _attention,
    "rotary": _rotary,
    "position": _position,
}
"""Those that need more than their operands' values of a step."""
