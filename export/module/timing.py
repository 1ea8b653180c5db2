"""When a node of a StepNetwork does a step: convolutions that look ahead make it late."""

from __future__ import annotations

from collections.abc import Sequence

from spikescr.errors import ExportError
from spikescr.export.record.step import Node, StepNetwork


def taps(node: Node) -> list[int]:
    """Of a convolution over the steps: which step each tap reads, less its own; above 0 those still to come."""
    first, spacing = int(node.options["shift"]), int(node.options["spacing"])
    return [first + number * spacing for number in range(node.arrays["weight"].shape[2])]


def span(node: Node, net: StepNetwork) -> int:
    """Steps that neurons go through, from the first on."""
    return int(node.options.get("steps", net.steps))


def latencies(net: StepNetwork) -> list[int]:
    """Of every signal, by how many steps its values come behind the input's of the same step.

    What a node reads has come: a look-ahead of n steps makes it n later than what it reads. Neurons that end before
    others are late by as many steps, so that a clock can tell them (see `lower`).

    Raises:
        ExportError: A loop reads steps that it has still to make.
    """
    late = [0] * len(net.signals)
    for _ in range(len(net.nodes) + 1):
        changed = False
        for node in net.nodes:
            least = max((late[operand.signal] for operand in node.operands), default=0)
            if node.operation == "temporal":
                least += max(0, *taps(node))
            elif node.operation == "attention":
                least += net.steps
            elif node.operation == "neuron":
                least = max(least, net.steps - span(node, net))
            if least > late[node.result]:
                late[node.result], changed = least, True
        if not changed:
            return late
    path = next(node.path for node in net.nodes if node.operation == "temporal")
    raise ExportError(f"{path}: a convolution over the steps in a loop reads steps that the loop has still to make")


def is_timed(net: StepNetwork, late: Sequence[int]) -> bool:
    """Whether some node has steps other than the executed ones: then a clock tells which."""
    told = any(node.operation in ("rotary", "position") for node in net.nodes)
    return any(late) or net.tail > 0 or told


def silent_outside(net: StepNetwork) -> list[bool]:
    """Of every signal, whether it is 0 before its first step and behind its last one, where neurons' currents are."""
    still = [True] * len(net.signals)
    changed = True
    while changed:
        changed = False
        for node in net.nodes:
            if still[node.result] and not _still(node, [still[operand.signal] for operand in node.operands]):
                still[node.result], changed = False, True
    return still


def last_steps(net: StepNetwork) -> list[int]:
    """Of every signal that is silent outside of its steps, how many they are."""
    last = [net.steps] * len(net.signals)
    for node in net.nodes:
        if node.operation == "input":
            last[node.result] = net.steps - net.tail
        elif node.operation == "neuron":
            last[node.result] = span(node, net)
        elif node.operation not in ("temporal", "delay"):
            last[node.result] = max(last[operand.signal] for operand in node.operands)
    return last


def _still(node: Node, operands: Sequence[bool]) -> bool:
    match node.operation:
        case "neuron":
            e = node.options["equation"]
            return e.reset is not None and e.current_decay is None and e.threshold > e.initial
        case "conv":
            return all(operands) and not ("bias" in node.arrays and node.arrays["bias"].any())
        case "temporal" | "delay" | "complement" | "affine":
            return False
        case "gate":
            return operands[0]
        case _:  # a Linear's bias is clocked
            return all(operands)
