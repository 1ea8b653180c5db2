"""Neurons of a StepNetwork in NIR's words: constants that make forward Euler the training neuron in float64.

A `NeuronEquation` is h = decay v + gain x + drive, a spike where h >= threshold, then a reset, from v = initial. NIR's
membranes start at 0, so that the node's is u = v - initial. SpikingJelly's neurons with a reset value start at it and
leak towards it: in u they start, leak and reset to 0.
"""

from __future__ import annotations

from typing import Any

import nir
import numpy as np

from spikescr.dialect import LATENCY, RESET
from spikescr.errors import ExportError
from spikescr.export.membrane import membrane
from spikescr.export.record.step import NeuronEquation

_ULPS = 4  # of a drive: what two ways of rounding the same leak differ by


def neuron_node(name: str, equation: NeuronEquation, shape: tuple[int, ...], dt: float) -> nir.NIRNode:
    """An IF where nothing leaks, a CubaLIF where a current does, else a LIF, of which every spike is the equation's.

    NIR fires above the threshold, the equation at it: the threshold is the next smaller float64. A soft reset subtracts
    that one too, 1 ulp less than the equation's.

    Args:
        name: of the node, for messages.
        equation: of the neurons.
        shape: of the layer in one step.
        dt: seconds per step.

    Raises:
        ExportError: NIR has no such neuron, or no constants state it exactly at this dt.
    """
    e = equation
    where = f"{name} ({e.model})"
    drive = e.drive - (1.0 - e.decay) * e.initial
    if abs(drive) <= _ULPS * np.spacing(abs(e.drive)):
        drive = 0.0
    threshold = e.threshold - e.initial
    if e.reset is None and e.initial != 0:
        raise ExportError(
            f"{where}: its membrane starts at {e.initial} and the threshold is subtracted; membranes of NIR start at 0"
        )
    metadata: dict[str, Any] = {LATENCY: 0}
    if e.reset is None:
        metadata[RESET] = "subtract"
    full = np.ones(shape)
    fires = {
        "v_threshold": np.nextafter(threshold, -np.inf) * full,
        "v_reset": (0.0 if e.reset is None else e.reset - e.initial) * full,
        "metadata": metadata,
    }
    if e.decay == 1.0 and e.current_decay is None:
        if drive != 0:
            raise ExportError(f"{where}: adds {drive} in every step without a leak; an IF of NIR cannot")
        return nir.IF(r=_resistance(where, e.gain, dt) * full, **fires)
    try:
        constants = membrane(e.decay, dt, e.gain)
        current = None if e.current_decay is None else membrane(e.current_decay, dt)
    except ExportError as error:
        raise ExportError(f"{where}: {error}") from error
    leak = drive / (dt / constants.tau) * full
    if current is None:
        return nir.LIF(tau=constants.tau * full, r=constants.r * full, v_leak=leak, **fires)
    return nir.CubaLIF(
        tau_mem=constants.tau * full,
        tau_syn=current.tau * full,
        r=constants.r * full,
        v_leak=leak,
        w_in=current.r * full,
        **fires,
    )


def _resistance(where: str, gain: float, dt: float) -> float:
    """r with r dt = gain exactly."""
    nearest = gain / dt
    for ulps in range(-4, 5):
        r = nearest + ulps * np.spacing(nearest)
        if r * dt == gain:
            return float(r)
    raise ExportError(
        f"{where}: no r states a gain of {gain} exactly for steps of {dt} s; take another dt, such as 0.001"
    )
