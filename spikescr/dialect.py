"""The NIR dialect: metadata keys, the packed operations and their node table, for the exporter and the lowering alike.

Everything that standard NIR can say is said in standard NIR. Four operations are beyond it: `rotary`, `position`,
`attention` and `gate`. Each is a nested graph with one Input, one Output and a body that is a Linear of NaN, so that a
tool that ignores the metadata gets NaN and never a plausible wrong answer. The operands are packed one after the other
into the one input by 0/1 selection matrices, *wires*.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

FORMAT = 1  # version of the dialect, raised when a reader of the previous one would misread a file
FIXED_FORMAT = 2  # of graphs in fixed point, which a reader of format 1 would run in floating point

OP = "spikescr.op"  # node: "clock" (Input), "wire" (Linear), or a packed operation (NIRGraph)
LATENCY = "spikescr.latency"  # node: steps by which its output is late against the inputs
SIGNAL = "spikescr.signal"  # Input: "values" (real numbers) or "spikes" (integer counts)
# Linear from the clock: what the bias was in the trained network, of "bias" (a layer's own) and "batch_norm", joined
# by "+". It changes nothing in what is executed; conventions that charge a network for its normalisation ask for it.
ORIGIN = "spikescr.origin"
RESET = "reset_mechanism"  # neuron or graph: "subtract" (soft: v - v_threshold) or "zero"; snnTorch's words

# Graphs in fixed point, as Loihi 2 computes (metadata PRECISION of the graph is LOIHI2):
PRECISION = "spikescr.precision"
LOIHI2 = "loihi2"
# Linear, Scale, rotary: numbers are integers, mantissa * 2^exponent; bits of the mantissa; its sign mode, of Lava's.
EXPONENT = "spikescr.exponent"
BITS = "spikescr.bits"
SIGN_MODE = "spikescr.sign_mode"
SCALE = "spikescr.scale"  # what one unit stands for: of weights, of an Input's values, of an Output's
DV = "spikescr.dv"  # LIF: 12-bit decay of the membrane
VTH = "spikescr.vth"  # LIF: threshold register, fires above it shifted by 6
DU = "spikescr.du"  # CubaLIF: 12-bit decay of the current, less 1
BIAS_MANT = "spikescr.bias_mant"  # neuron: added at every step, shifted by BIAS_EXP; 0 where not there
BIAS_EXP = "spikescr.bias_exp"

# Its numbers, those of Lava's `PyLifModelBitAcc` and `PyDenseModelBitAcc` (lava-nc 0.10.0):
UNITY = 4096  # a decay of 1, 12 bits
SHIFT = 64  # six bits, by which thresholds and what synapses put out are shifted
WRAP = 2**23  # currents wrap around beyond it, membranes end one below it: 24 bits with sign
INT32 = 2**31  # before that, currents wrap around from here on, for Lava has them in int32
MESSAGE = 127  # largest entry of an input in 8 bits, and of a rotary table
REGISTER = 2**17 - 1  # largest threshold register, and largest current that 6 more bits leave within 24

GRAPH_FORMAT = "spikescr.format"  # graph: FORMAT
DT = "spikescr.dt"  # graph: seconds per step
STEPS = "spikescr.steps"  # graph: T, the window in steps
READOUT = "spikescr.readout"  # graph: how the outputs over the steps become one answer, of `spikescr.readouts`
CLASSES = "spikescr.classes"  # graph: JSON list of class names
DATA = "spikescr.data"  # graph: JSON, data set, seed and preprocessing
MODEL = "spikescr.model"  # graph: JSON, the model's configuration
CHECKPOINT = "spikescr.checkpoint"  # graph: SHA-256 of the checkpoint's file
VERSIONS = "spikescr.versions"  # graph: JSON, package versions

CLOCK = "clock"
WIRE = "wire"


@dataclass(frozen=True)
class Operand:
    """One operand of a packed operation: its name and its slots [start, stop) in the packed input."""

    name: str
    start: int
    stop: int

    @property
    def width(self) -> int:
        """Number of slots."""
        return self.stop - self.start


@dataclass(frozen=True)
class PackedOperation:
    """An entry of the node table.

    parameters: metadata key -> type that it must have. widths: from metadata and output width to the operands'
    widths in the order of packing.
    """

    parameters: Mapping[str, type]
    widths: Callable[[Mapping[str, Any], int], Mapping[str, int]]

    def operands(self, metadata: Mapping[str, Any], width: int) -> tuple[Operand, ...]:
        """Slots of every operand in the packed input of a node with this metadata and output width."""
        operands, start = [], 0
        for name, size in self.widths(metadata, width).items():
            operands.append(Operand(name, start, start + size))
            start += size
        return tuple(operands)


PACKED_OPERATIONS: Mapping[str, PackedOperation] = {
    "rotary": PackedOperation(
        parameters={"heads": int, "cos": np.ndarray, "sin": np.ndarray},
        widths=lambda metadata, n: {"x": n, "clock": 1},
    ),
    "position": PackedOperation(  # puts out the row of its table whose number is the ticks so far
        parameters={"table": np.ndarray},
        widths=lambda metadata, n: {"clock": 1},
    ),
    "attention": PackedOperation(
        parameters={"heads": int, "scale": float, "steps": int},
        widths=lambda metadata, n: {"q": n, "k": n, "v": n, "clock": 1},
    ),
    "gate": PackedOperation(
        parameters={"width": int, "spike_width": int},
        widths=lambda metadata, n: {"value": n, "spike": int(metadata["spike_width"])},
    ),
}


def packed_node(op: str, width: int, latency: int, parameters: Mapping[str, Any]) -> nir.NIRGraph:
    """A nested graph that stands for a packed operation.

    Args:
        op: key of PACKED_OPERATIONS.
        width: output width.
        latency: of the output, steps.
        parameters: values for the metadata keys that the table asks for.
    """
    slots = PACKED_OPERATIONS[op].operands(parameters, width)[-1].stop
    return nir.NIRGraph(
        nodes={
            "body": nir.Linear(weight=np.full((width, slots), np.nan)),
            "input": nir.Input(input_type=np.array([slots])),
            "output": nir.Output(output_type=np.array([width])),
        },
        edges=[("input", "body"), ("body", "output")],
        metadata=dict(sorted({**parameters, OP: op, LATENCY: latency}.items())),
    )


def wire(operand: Operand, slots: int, latency: int) -> nir.Linear:
    """The selection that puts a signal of the operand's width into its slots of a packed input."""
    weight: NDArray[np.float64] = np.zeros((slots, operand.width))
    weight[operand.start : operand.stop] = np.eye(operand.width)
    return nir.Linear(weight=weight, metadata={LATENCY: latency, OP: WIRE})
