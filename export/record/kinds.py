"""Spikes, counts or values: what a signal carries, from the structure of the network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spikescr.export.record.step import Kind, Node

_RANKS: tuple[Kind, ...] = ("spikes", "counts", "values")
_PASSING = frozenset(["select", "max_pool", "maximum", "delay", "relu", "output"])
"""Operations whose result is as their operands."""


def kinds_of(nodes: Sequence[Node], example: Tensor) -> list[Kind]:
    """The kind of every signal; cycles start from spikes and grow until nothing changes."""
    ranks = [0] * len(nodes)
    changed = True
    while changed:
        changed = False
        for node in nodes:
            rank = _rank(node, [ranks[operand.signal] for operand in node.operands], example)
            if rank > ranks[node.result]:
                ranks[node.result] = rank
                changed = True
    return [_RANKS[rank] for rank in ranks]


def _rank(node: Node, operands: list[int], example: Tensor) -> int:
    """Of a node's result, at least: 0 spikes, 1 counts, 2 values."""
    highest = max(operands, default=0)
    rank = {
        "input": lambda: _carried(example),
        "neuron": lambda: 0,
        "complement": lambda: 0 if highest == 0 else 2,
        "product": lambda: highest,
        "matmul": lambda: max(highest, 1),
        "attention": lambda: max(highest, 1),
        "reduce": lambda: 2 if node.options["mean"] else max(highest, 1),
        "sum": lambda: _counting(highest, np.array(node.options["coefficients"])),
        "scale": lambda: _counting(highest, node.arrays["factor"]),
        "bias": lambda: _counting(highest, node.arrays["addend"]),
    }.get(node.operation, lambda: highest if node.operation in _PASSING else 2)
    return rank()


def _carried(example: Tensor) -> int:
    whole = bool(((example >= 0) & (example == example.round())).all())
    return (0 if bool((example <= 1).all()) else 1) if whole else 2


def _counting(highest: int, numbers: NDArray[np.float64]) -> int:
    """Counts stay counts with whole numbers from 0."""
    return max(highest, 1) if bool(((numbers >= 0) & (numbers == np.round(numbers))).all()) else 2
