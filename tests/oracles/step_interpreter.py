"""A step network executed from its table of operations, step by step, by torch in float64; it knows no recording."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 -- its usual name

from spikescr.export.record.step import Node, StepNetwork


class Interpreter:
    """Membranes and last values of a network for one batch."""

    def __init__(self, network: StepNetwork) -> None:
        self.network = network
        self.states: dict[int, dict[str, Tensor]] = {}
        self.last: dict[int, Tensor] = {}
        self.spikes: dict[int, list[Tensor]] = {}

    def run(self, x: Tensor) -> dict[str, Tensor]:
        """Outputs by name, (T, B, ...) or (B, ...) where a readout takes the steps together; x is (T, B, ...)."""
        found: dict[str, list[Tensor]] = {}
        for step in range(self.network.steps):
            values: dict[int, Tensor] = {}
            for node in self.network.nodes:
                if node.operation == "output":
                    operand = node.operands[0]
                    part = values[operand.signal].reshape(-1, *operand.shape)
                    found.setdefault(node.options["name"], []).append(part)
                    values[node.result] = part
                else:
                    values[node.result] = self.node(node, values, x[step])
            self.last = values
        read = {
            node.options["name"]: node.options["readout"] for node in self.network.nodes if node.operation == "output"
        }
        return {name: readout(torch.stack(parts), read[name]) for name, parts in found.items()}

    def node(self, node: Node, values: dict[int, Tensor], x: Tensor) -> Tensor:
        shape = self.network.signals[node.result].shape
        if node.operation == "delay":
            return self.last.get(node.operands[0].signal, torch.zeros(len(x), *shape, dtype=torch.float64))
        operands = [values[o.signal].reshape(-1, *o.shape) for o in node.operands]
        if node.operation == "neuron":
            return self.neuron(node, operands[0])
        arrays = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in node.arrays.items()}
        result = x if node.operation == "input" else compute(node.operation, operands, arrays, dict(node.options))
        assert result[0].numel() == torch.Size(shape).numel(), node
        return result.reshape(-1, *shape)

    def neuron(self, node: Node, x: Tensor) -> Tensor:
        equation = node.options["equation"]
        state = self.states.setdefault(
            node.number, {"v": torch.full_like(x, equation.initial), "i": torch.zeros_like(x)}
        )
        current = x if equation.current_decay is None else equation.current_decay * state["i"] + x
        h = equation.decay * state["v"] + equation.gain * current + equation.drive
        spikes = (h >= equation.threshold).double()
        soft = h - equation.threshold * spikes
        self.states[node.number] = {
            "v": soft if equation.reset is None else torch.where(spikes > 0, equation.reset, h),
            "i": current,
        }
        self.spikes.setdefault(node.number, []).append(spikes)
        return spikes


def readout(values: Tensor, kind: str) -> Tensor:
    return {"every": values, "sum": values.sum(0), "mean": values.mean(0), "last": values[-1]}[kind]


def compute(operation: str, operands: list[Tensor], arrays: dict[str, Tensor], options: dict[str, Any]) -> Tensor:  # noqa: PLR0911, PLR0912 -- a table
    x = operands[0]
    match operation:
        case "linear":
            return F.linear(x, arrays["weight"], arrays.get("bias"))
        case "conv" | "conv_transpose":
            function = getattr(F, f"{operation}{x.ndim - 2}d")
            return function(x, arrays["weight"], arrays.get("bias"), **options)
        case "batch_norm":
            axis = options["axis"] + 1
            turned = x.movedim(axis, 1)
            normed = F.batch_norm(
                turned, arrays["mean"], arrays["var"], arrays["weight"], arrays["bias"], eps=options["eps"]
            )
            return normed.movedim(1, axis)
        case "max_pool":
            o = options
            pool = F.max_pool1d if x.ndim == 3 else F.max_pool2d
            return pool(x, o["window"], o["stride"], o["padding"], o["dilation"], o["ceil"])
        case "avg_pool" if x.ndim == 3:
            o = options
            return F.avg_pool1d(x, o["window"], o["stride"], o["padding"], o["ceil"], o["count_padding"])
        case "avg_pool":
            o = options
            return F.avg_pool2d(x, o["window"], o["stride"], o["padding"], o["ceil"], o["count_padding"], o["divisor"])
        case "select":
            flat = torch.cat([operand.flatten(1) for operand in operands], 1)
            padded = torch.cat([flat, torch.zeros(len(flat), 1, dtype=torch.float64)], 1)
            return padded[:, arrays["index"]]
        case "sum":
            return torch.stack([c * o for c, o in zip(options["coefficients"], operands, strict=True)]).sum(0)
        case "scale":
            return x * arrays["factor"]
        case "bias":
            return x + arrays["addend"]
        case "complement":
            return 1 - x
        case "product":
            return x * operands[1]
        case "maximum":
            return torch.maximum(x, operands[1])
        case "matmul":
            return x @ operands[1]
        case "reduce":
            axes = [axis + 1 for axis in options["axes"]]
            return x.mean(axes) if options["mean"] else x.sum(axes)
    raise AssertionError(operation)
