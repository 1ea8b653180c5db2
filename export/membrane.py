"""Membrane constants in NIR's terms that give exactly one pair of coefficients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spikescr.errors import ExportError

REACH = 4096  # representable numbers looked at on each side of dt / (1 - decay)


@dataclass(frozen=True)
class Membrane:
    """tau (seconds) and r such that in float64 1 - dt / tau is `decay` and r dt / tau is the gain, in either order."""

    tau: float
    r: float
    decay: float


def membrane(decay: float, dt: float, gain: float = 1.0) -> Membrane:
    """The membrane constants of v = decay v + gain I by NIR's forward Euler, v = v (1 - dt / tau) + r dt / tau I.

    Not every number is 1 - dt / tau for a representable tau, nor has every dt / tau a representable r that makes the
    gain exact. Of those that have, the nearest to `decay` is taken; asked for again it is candidate again.

    Args:
        decay: what is to be left of a membrane after a step, 0 <= decay < 1.
        dt: seconds per step.
        gain: of the input, above 0.

    Raises:
        ExportError: there is none within a relative distance of about 1e-12.
    """
    if not 0 <= decay < 1:
        raise ExportError(f"a membrane that keeps {decay} of itself in a step is no leaky integrator; train again")
    nearest = dt / (1.0 - decay)
    offsets = np.arange(-REACH, REACH + 1)
    taus = nearest + np.spacing(nearest) * offsets
    best: Membrane | None = None
    ratios = dt / taus
    for ulps in (0, -1, 1, -2, 2, -3, 3):
        r = gain / ratios
        r = r + ulps * np.spacing(r)
        exact = np.flatnonzero((r * ratios == gain) & (r * dt / taus == gain))
        if not len(exact):
            continue
        away = np.abs((1.0 - ratios[exact]) - decay)
        at = exact[np.lexsort((np.abs(offsets[exact]), away))[0]]
        candidate = Membrane(float(taus[at]), float(r[at]), float(1.0 - ratios[at]))
        if best is None or abs(candidate.decay - decay) < abs(best.decay - decay):
            best = candidate
    if best is None:
        raise ExportError(f"no tau and r state a membrane that keeps {decay} of itself in a step of {dt} s")
    return best
