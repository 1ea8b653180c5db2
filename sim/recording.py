"""What a run gives back: spikes, outputs and the ledger of counts, the same of all backends; the readout of outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikescr import readouts
from spikescr.errors import UsageError

KINDS = (
    "spikes", "fired", "ac", "ac_quadratic", "discarded", "mac", "bias", "neuron",
    "entries", "graded", "synops", "synops_graded", "synops_discarded", "saturated",
)  # fmt: skip


@dataclass(frozen=True)
class Ledger:
    """Counts of a run, integers: `table[operation, kind, step, sample]`; steps are executed steps.

    spikes: events arriving. fired: spikes put out by a neuron. ac: accumulations. ac_quadratic: what attention in the
    order (Q K^T) V would have accumulated. discarded: those of ac that were gated away. mac: multiply-accumulates.
    bias: clocked-axon additions. neuron: membrane updates.

    What other conventions of counting need, for synapses and rotary positions: entries, non-zero entries arriving (an
    integer n is one); graded, those of them that are not 1; synops, entry x synapse, one operation each; synops_graded,
    those of graded entries; synops_discarded, those whose result was gated away.

    saturated: in fixed point, input entries and membranes that were cut and currents that wrapped around.
    """

    operations: tuple[str, ...]
    table: NDArray[np.int64]

    def per_step(self, operation: str, kind: str) -> NDArray[np.int64]:
        """Counts of one operation and kind, shape (steps, samples)."""
        return self.table[self.operations.index(operation), KINDS.index(kind)]

    def total(self, kind: str) -> int:
        """Sum over operations, steps and samples."""
        return int(self.table[:, KINDS.index(kind)].sum())


@dataclass(frozen=True)
class Recording:
    """One batch as executed.

    spikes: neuron operation -> bool (period, B, N). membranes: the same for v after the update and before the reset,
    float64, only where asked for. outputs: sink -> float64 (period, B, N). First axis: executed steps; the sample's
    step t stands at t + latency of the operation.
    """

    spikes: dict[str, NDArray[np.bool_]]
    membranes: dict[str, NDArray[np.float64]]
    outputs: dict[str, NDArray[np.float64]]
    counts: Ledger


def joined(parts: Sequence[Recording]) -> Recording:
    """What several runs of one Program did, their samples one after the other."""
    first = parts[0]
    return Recording(
        {name: np.concatenate([part.spikes[name] for part in parts], axis=1) for name in first.spikes},
        {name: np.concatenate([part.membranes[name] for part in parts], axis=1) for name in first.membranes},
        {name: np.concatenate([part.outputs[name] for part in parts], axis=1) for name in first.outputs},
        Ledger(first.counts.operations, np.concatenate([part.counts.table for part in parts], axis=-1)),
    )


def probabilities(outputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """softmax(output) at every step, (T, B, K)."""
    shifted = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
    softmax: NDArray[np.float64] = shifted / shifted.sum(axis=-1, keepdims=True)
    return softmax


def softmax_sum(outputs: NDArray[np.float64], valid: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums softmax(output) over the valid steps; see `read_out`."""
    return read_out(readouts.SOFTMAX_SUM, outputs, valid)


def running(readout: str, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """The answer after each step, as if it were the last.

    Args:
        readout: of `spikescr.readouts`, where they are told.
        outputs: (T, B, K), the sample's own steps.

    Returns:
        y (T, B, K).

    Raises:
        UsageError: there is no such readout.
    """
    match readout:
        case readouts.SOFTMAX_SUM:
            return np.cumsum(probabilities(outputs), axis=0)
        case readouts.SUM:
            return np.cumsum(outputs, axis=0)
        case readouts.MEAN:
            return np.cumsum(outputs, axis=0) / np.arange(1, len(outputs) + 1)[:, None, None]
        case readouts.LAST:
            return outputs
        case readouts.VOTES:
            chosen = outputs.argmax(axis=-1)[..., None] == np.arange(outputs.shape[-1])
            undecided = (outputs == outputs[..., :1]).all(axis=-1, keepdims=True)
            return np.cumsum(chosen & ~undecided, axis=0).astype(np.float64)
    raise UsageError(f"readout {readout!r}: it must be one of {', '.join(readouts.READOUTS)}")


def read_out(readout: str, outputs: NDArray[np.float64], valid: NDArray[np.int64]) -> NDArray[np.float64]:
    """The answer of each sample over its valid steps.

    Args:
        readout: of `spikescr.readouts`.
        outputs: (T, B, K), the sample's own steps.
        valid: valid steps (B,).

    Returns:
        y (B, K), zeros where there are no valid steps; the prediction is its largest entry, the first of equal ones.

    Raises:
        UsageError: there is no such readout.
    """
    answers = running(readout, outputs)[np.maximum(valid, 1) - 1, np.arange(len(valid))]
    return np.where((valid > 0)[:, None], answers, 0.0)


def predictions(outputs: NDArray[np.float64], valid: NDArray[np.int64]) -> NDArray[np.int64]:
    """Class of each sample (B,) from its outputs (T, B, K), by `softmax_sum` over its valid steps (B,)."""
    classes: NDArray[np.int64] = softmax_sum(outputs, valid).argmax(axis=1)
    return classes
