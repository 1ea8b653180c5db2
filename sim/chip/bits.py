"""The bits that a graph in fixed point gives its weights."""

from __future__ import annotations

import nir

from spikescr.dialect import BITS
from spikescr.sim.chip.layers import groups
from spikescr.sim.lowering.flat import FlatGraph
from spikescr.sim.program import Program


def layer_bits(graph: nir.NIRGraph, program: Program) -> dict[str, int]:
    """Bits of the weights of each layer whose nodes tell; of several in a layer the most.

    Args:
        graph: that was lowered.
        program: what became of it.

    Raises:
        GraphError: a node's bits are no positive whole number.
    """
    layer_of = {o.name: group.name for group in groups(program) for o in group.operations}
    bits: dict[str, int] = {}
    for name, node in FlatGraph(graph).nodes.items():
        told = node.metadata.get(BITS)
        if told is None:
            continue
        # A node's operation is named like it, or like what its taps' names have in common.
        owner = next((o for o in _prefixes(name) if o in layer_of), None)
        if owner is not None:
            bits[layer_of[owner]] = max(bits.get(layer_of[owner], 0), int(told))
    return bits


def _prefixes(name: str) -> list[str]:
    words = name.split(".")
    return [".".join(words[:n]) for n in range(len(words), 0, -1)]
