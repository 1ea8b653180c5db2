"""Fixed point as Loihi 2 computes: what integers a graph may hold, and how hosts talk to it.

The arithmetic is that of Lava's bit-accurate models (lava-nc 0.10.0, `PyLifModelBitAcc` and `PyDenseModelBitAcc`). All
numbers are integers in float64, which is exact below 2^53: `check_weights` keeps what a synapse sums up below. Lava
sums in int32; sums wrap alike wherever that happens, so it is enough to wrap the current.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import nir
import numpy as np

from spikescr import dialect
from spikescr.dialect import INT32, MESSAGE, SHIFT, UNITY, WRAP
from spikescr.errors import GraphError
from spikescr.schemas import brief
from spikescr.sim.program import FixedNeuron, FloatArray, IntArray, Port, Program, Sink, Source
from spikescr.sim.recording import KINDS, Recording

TOLERANCE = 1e-6
"""Of registers that fields in floating point state again."""
MOST_EVENTS = 2**13
"""Events of one channel in one step that sums are safe for."""


def is_fixed(metadata: Mapping[str, Any]) -> bool:
    """Whether a graph's metadata say that it is in fixed point.

    Raises:
        GraphError: they name a precision that there is not.
    """
    precision = metadata.get(dialect.PRECISION)
    if precision not in (None, dialect.LOIHI2):
        raise GraphError(
            f"metadata {dialect.PRECISION} is {brief(precision)}; it must be {dialect.LOIHI2} or not there"
        )
    return precision is not None


def check_weights(name: str, metadata: Mapping[str, Any], weight: FloatArray) -> None:
    """Refuses numbers of a Linear or Scale that are not mantissa * 2^exponent as its metadata say.

    Mantissas of b bits are multiples of 2^(8 - b), from 0 to 255 or from -255 to 0; where signs are mixed, one bit is
    the sign: multiples of 2^(9 - b) from -256 to 255 (Lava's `truncate_weights` and `clip_weights`).

    Raises:
        GraphError: the message names node, field and value.
    """
    bits = _integer(name, metadata, dialect.BITS, 1, 8)
    exponent = _integer(name, metadata, dialect.EXPONENT, 0, 7)
    mode = metadata.get(dialect.SIGN_MODE)
    limits = {"mixed": (-256, 255), "excitatory": (0, 255), "inhibitory": (-255, 0)}
    if mode not in limits:
        raise GraphError(f"{name}: metadata {dialect.SIGN_MODE} must be one of {', '.join(limits)}, is {brief(mode)}")
    low, high = limits[mode]
    step = 2 ** (8 - bits + (mode == "mixed"))
    mantissa = weight / 2**exponent
    fits = (mantissa % step == 0) & (mantissa >= low) & (mantissa <= high)
    if not fits.all():
        raise GraphError(
            f"{name}: {weight[~fits].flat[0]:g} is no weight of {bits} bits with the exponent {exponent}: its mantissa "
            f"must be a multiple of {step} from {low} to {high}"
        )
    reach = np.abs(np.atleast_2d(weight)).sum(axis=-1).max(initial=0.0)
    if reach * MOST_EVENTS * MESSAGE * SHIFT >= 2**53:
        raise GraphError(f"{name}: its weights add up to {reach:g}, beyond what is summed up exactly")


def check_packed(name: str, metadata: Mapping[str, Any]) -> None:
    """Refuses a packed operation that has other numbers than integers.

    A rotary table's entries are mantissa * 2^exponent with a mantissa from -127 to 127; the attention's scale is a
    power of two; a table of positions is none of this.

    Raises:
        GraphError: the message names node, field and value.
    """
    match metadata[dialect.OP]:
        case "rotary":
            exponent = _integer(name, metadata, dialect.EXPONENT, 0, 7)
            mantissa = np.stack([metadata["cos"], metadata["sin"]]) / 2**exponent
            fits = (mantissa == np.rint(mantissa)) & (np.abs(mantissa) <= MESSAGE)
            if not fits.all():
                raise GraphError(
                    f"{name}: {mantissa[~fits].flat[0] * 2**exponent:g} is no entry of 8 bits with the exponent "
                    f"{exponent}: its mantissa must be an integer from -{MESSAGE} to {MESSAGE}"
                )
        case "attention" | "causal_attention" | "token_attention":
            scale = float(metadata["scale"])
            if not (scale >= 1 and np.log2(scale).is_integer()):
                raise GraphError(f"{name}: in fixed point the scale must be a power of 2 from 1 on, it is {scale:g}")
        case "position":
            raise GraphError(f"{name}: a table of real positions cannot be run in fixed point")


def fixed_neuron(node: nir.NIRNode, dt: float, x: Port, common: dict[str, Any]) -> FixedNeuron:
    """The neuron of a LIF or CubaLIF whose metadata hold its registers.

    Raises:
        GraphError: another type, a register out of range, or fields that say otherwise than the registers.
    """
    name, width, metadata = common["name"], common["width"], node.metadata
    if not isinstance(node, (nir.LIF, nir.CubaLIF)):
        raise GraphError(f"{name} ({type(node).__name__}): in fixed point there are LIF and CubaLIF neurons alone")
    dv = _integer(name, metadata, dialect.DV, 0, UNITY - 1)
    vth = _integer(name, metadata, dialect.VTH, 0, dialect.REGISTER)
    du = _integer(name, metadata, dialect.DU, 0, UNITY - 1) if isinstance(node, nir.CubaLIF) else UNITY - 1
    mantissa = _integer(name, metadata, dialect.BIAS_MANT, -UNITY, UNITY - 1, default=0)
    exponent = _integer(name, metadata, dialect.BIAS_EXP, 0, 7, default=0)
    if (np.asarray(node.v_threshold) != SHIFT * vth).any():
        raise GraphError(f"{name}: v_threshold is not {SHIFT} times the register {dialect.VTH}, {vth}")
    if np.any(node.v_reset):
        raise GraphError(f"{name}: v_reset must be 0 in fixed point")
    share = dt / (node.tau if isinstance(node, nir.LIF) else node.tau_mem)
    if (np.abs(share * UNITY - dv) > TOLERANCE).any() or (np.abs(node.r * share - SHIFT) > TOLERANCE).any():
        raise GraphError(
            f"{name}: its time constant and r do not say what the register {dialect.DV}, {dv}, does: dt / tau must be "
            f"{dv} / {UNITY}, r dt / tau {SHIFT}"
        )
    full = np.ones(width)
    return FixedNeuron(
        **common,
        x=x,
        decay=full * (UNITY - dv) / UNITY,
        gain=full * SHIFT,
        drive=full * mantissa * 2**exponent,
        threshold=full * SHIFT * vth,
        v_reset=0 * full,
        current_decay=full * (UNITY - 1 - du) / UNITY,
    )


def decayed(state: FloatArray, decay: FloatArray) -> FloatArray:
    """What is left of a state, toward zero; decay a multiple of 1 / 4096."""
    left: FloatArray = np.trunc(state * decay)
    return left


def wrapped(current: FloatArray) -> FloatArray:
    """A current as Lava wraps it: into its int32, then once by 2^24, which is 24 bits unless it was beyond 3 * 2^23."""
    current = current - 2 * INT32 * np.floor((current + INT32) / (2 * INT32))
    return np.where(current > WRAP, current - 2 * WRAP, np.where(current <= -WRAP, current + 2 * WRAP, current))


def update(
    operation: FixedNeuron, u: FloatArray, v: FloatArray, x: FloatArray
) -> tuple[FloatArray, FloatArray, IntArray]:
    """One step of (B, N): the new current, the membrane before its reset, what was saturated of each sample (B,)."""
    current = decayed(u, operation.current_decay) + operation.gain * x
    new_u = wrapped(current)
    membrane = decayed(v, operation.decay) + new_u + operation.drive
    new_v = np.clip(membrane, 1 - WRAP, WRAP - 1)
    return new_u, new_v, ((new_u != current).sum(axis=1) + (new_v != membrane).sum(axis=1)).astype(np.int64)


def messages(program: Program, inputs: Mapping[str, FloatArray]) -> tuple[dict[str, FloatArray], dict[str, IntArray]]:
    """What sources send for the host's real values: 8-bit units; and how many entries were cut, source -> (T, B)."""
    sent, cut = dict(inputs), {}
    for source in program.of_type(Source):
        if source.unit is not None:
            units = np.rint(inputs[source.name] / source.unit)
            sent[source.name] = np.clip(units, -MESSAGE - 1, MESSAGE)
            cut[source.name] = (units != sent[source.name]).sum(axis=-1)
    return sent, cut


def told(program: Program, recording: Recording, cut: Mapping[str, IntArray]) -> Recording:
    """A recording as the host is told: outputs in real numbers, cut inputs in the counts."""
    table = recording.counts.table
    for name, entries in cut.items():
        table[recording.counts.operations.index(name), KINDS.index("saturated"), : len(entries)] = entries
    scales = {sink.name: sink.scale for sink in program.of_type(Sink) if sink.scale != 1.0}
    if not scales:
        return recording
    return replace(recording, outputs={name: out * scales.get(name, 1.0) for name, out in recording.outputs.items()})


def _integer(name: str, metadata: Mapping[str, Any], key: str, low: int, high: int, default: int | None = None) -> int:
    value = metadata.get(key, default)
    if not isinstance(value, (int, np.integer)) or not low <= value <= high:
        found = "is not there" if value is None else f"is {brief(value)}"
        raise GraphError(f"{name}: metadata {key} must be an integer from {low} to {high}, {found}")
    return int(value)
