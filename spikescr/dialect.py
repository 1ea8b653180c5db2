"""The NIR dialect: metadata keys, the packed operations and their node table, for the exporter and the lowering alike.

Everything that standard NIR can say is said in standard NIR. What is beyond it, PACKED_OPERATIONS: each is a nested
graph with one Input, one Output and a body of NaN, so that a tool that ignores the metadata gets NaN and never a
plausible wrong answer. The operands are packed one after the other into the one input: by 0/1 selection matrices,
*wires*, or by `select`s, whose index vectors say the same in less.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

FORMAT = 1  # version of the dialect, raised when a reader of the previous one would misread a file
TAIL_FORMAT = 3  # of graphs that last longer than their inputs (TAIL), which a reader of format 1 would cut
FIXED_FORMAT = 2  # of graphs in fixed point, which a reader of format 1 would run in floating point

OP = "spikescr.op"  # node: "clock" (Input), "wire" (Linear), or a packed operation (NIRGraph)
LATENCY = "spikescr.latency"  # node: steps by which its output is late against the inputs
SIGNAL = "spikescr.signal"  # Input: "values" (real numbers) or "spikes" (integer counts)
HELD = "spikescr.held"  # Input: 1 where the same is to be put in at every step; the host may give it once
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
TAIL = "spikescr.tail"  # graph: steps by which a sample lasts longer than its input; zeros follow, the clock ticks on
READOUT = "spikescr.readout"  # graph: how the outputs over the steps become one answer, of `spikescr.readouts`
CLASSES = "spikescr.classes"  # graph: JSON list of class names
DATA = "spikescr.data"  # graph: JSON, data set, seed and preprocessing
FRONT_END = "spikescr.front_end"  # graph: JSON, `spikescr.stages.FrontWork`, what comes before the network
MODEL = "spikescr.model"  # graph: JSON, the model's configuration
CHECKPOINT = "spikescr.checkpoint"  # graph: SHA-256 of the checkpoint's file
VERSIONS = "spikescr.versions"  # graph: JSON, package versions

CLOCK = "clock"
WIRE = "wire"
SELECT = "select"
GATES = {"gate": False, "inverted_gate": True}  # name -> whether it opens where its spike is 0


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


def _gate(metadata: Mapping[str, Any], width: int) -> Mapping[str, int]:
    return {"value": width, "spike": int(metadata["spike_width"])}


def _tokens(metadata: Mapping[str, Any], width: int) -> Mapping[str, int]:
    heads, tokens, depth = (int(metadata[key]) for key in ("heads", "tokens", "depth"))
    return {"q": heads * tokens * depth, "k": heads * tokens * depth, "v": width}


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
    "causal_attention": PackedOperation(  # of what came until then, in the same step
        parameters={"heads": int, "scale": float},
        widths=lambda metadata, n: {"q": n, "k": n, "v": n, "clock": 1},
    ),
    "token_attention": PackedOperation(  # within a step, over the tokens of each head
        parameters={"heads": int, "tokens": int, "depth": int, "scale": float},
        widths=_tokens,
    ),
    "gate": PackedOperation(parameters={"width": int, "spike_width": int}, widths=_gate),
    "inverted_gate": PackedOperation(parameters={"width": int, "spike_width": int}, widths=_gate),
    "maximum": PackedOperation(  # of `fan` operands, one after the other
        parameters={"fan": int},
        widths=lambda metadata, n: {"x": int(metadata["fan"]) * n},
    ),
    SELECT: PackedOperation(  # routing; the one whose operand may come from any node
        parameters={"index": np.ndarray, "source_width": int},
        widths=lambda metadata, n: {"x": int(metadata["source_width"])},
    ),
}


def packed_node(
    op: str,
    width: int,
    latency: int,
    parameters: Mapping[str, Any],
    *,
    reads: Sequence[int] | None = None,
    shape: Sequence[int] | None = None,
) -> nir.NIRGraph:
    """A nested graph that stands for a packed operation.

    Args:
        op: key of PACKED_OPERATIONS.
        width: output width.
        latency: of the output, steps.
        parameters: values for the metadata keys that the table asks for.
        reads: shape of what arrives, whose elements in C order are the slots; one axis where None.
        shape: of the output, likewise.
    """
    slots = PACKED_OPERATIONS[op].operands(parameters, width)[-1].stop
    into, out = tuple(reads or (slots,)), tuple(shape or (width,))
    if math.prod(into) != slots or math.prod(out) != width:
        raise ValueError(f"{op}: shapes {into} and {out} do not hold {slots} slots and {width} outputs")
    body = _body(into, out)
    names = ["input", *body, "output"]
    return nir.NIRGraph(
        nodes={**body, "input": nir.Input(input_type=np.array(into)), "output": nir.Output(output_type=np.array(out))},
        edges=list(itertools.pairwise(names)),
        metadata=dict(sorted({**parameters, OP: op, LATENCY: latency}.items())),
    )


def select_node(
    index: NDArray[np.int64], reads: Sequence[int], shape: Sequence[int] | None = None, latency: int = 0
) -> nir.NIRGraph:
    """A `select`: y[i] = x[index[i]], 0 where index[i] is -1; x and y in C order.

    Args:
        index: (N,), from -1 to the size of `reads` less 1.
        reads: shape of what arrives.
        shape: of the output, of N elements; (N,) where None.
        latency: of the output, steps.
    """
    parameters = {"index": np.asarray(index, np.int64), "source_width": math.prod(reads)}
    return packed_node(SELECT, len(index), latency, parameters, reads=reads, shape=shape)


def into_slots(operand: Operand, slots: int, reads: Sequence[int], latency: int = 0) -> nir.NIRGraph:
    """The `select` that puts a signal of the shape `reads` into an operand's slots of a packed input."""
    index = np.full(slots, -1)
    index[operand.start : operand.stop] = np.arange(operand.width)
    return select_node(index, reads, latency=latency)


def wire(operand: Operand, slots: int, latency: int) -> nir.Linear:
    """The selection that puts a signal of the operand's width into its slots of a packed input."""
    weight: NDArray[np.float64] = np.zeros((slots, operand.width))
    weight[operand.start : operand.stop] = np.eye(operand.width)
    return nir.Linear(weight=weight, metadata={LATENCY: latency, OP: WIRE})


LARGEST_MATRIX = 2**18
"""Entries that a body of one Linear may have."""
MOST_AXES = 3
"""Of the output of a packed operation."""


def _body(into: tuple[int, ...], out: tuple[int, ...]) -> dict[str, nir.NIRNode]:
    """Nodes that lead from one shape to another by way of NaN.

    One Linear; where that would be large, or a shape has several axes, a convolution, whose few numbers serve any
    shape. The Flattens before it make one channel of one row of what arrives: one that ends before it begins adds an
    axis of 1.
    """
    slots, width = math.prod(into), math.prod(out)
    if len(into) == len(out) == 1 and slots * width <= LARGEST_MATRIX:
        return {"body": nir.Linear(weight=np.full((width, slots), np.nan))}
    if len(out) > MOST_AXES:
        raise ValueError(f"the output of a packed operation has at most {MOST_AXES} axes, not the shape {out}")
    channels, rows, columns = (out[0], 1, out[1]) if len(out) == 2 else (1,) * (MOST_AXES - len(out)) + out
    (pad0, spread0), (pad1, spread1) = _reaching(1, rows), _reaching(slots, columns)
    kernel = np.full((channels, 1, 2, 2), np.nan)
    body: dict[str, nir.NIRNode] = {
        "flat": nir.Flatten({"input": np.array(into)}, 0, -1),
        "row": nir.Flatten({"input": np.array([slots])}, 0, -2),
        "channel": nir.Flatten({"input": np.array([1, slots])}, 0, -3),
        "body": nir.Conv2d((1, slots), kernel, (1, 1), (pad0, pad1), (spread0, spread1), 1, np.zeros(channels)),
    }
    if len(out) < MOST_AXES:
        shape = {"input": np.array([channels, rows, columns])}
        body["shape"] = nir.Flatten(shape, len(out) - 1, -1)
    return body


def _reaching(length: int, wanted: int) -> tuple[int, int]:
    """Padding and dilation with which a kernel of two entries turns one length into another."""
    padding = max(0, (wanted - length + 2) // 2)
    return padding, length + 2 * padding - wanted
