"""SpikCommander's parts as nodes: sums over time are integrators that never leak, which gates let through or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nir
import numpy as np

from spikescr.dialect import LATENCY
from spikescr.errors import ExportError
from spikescr.export.arithmetic import array
from spikescr.export.builder import GraphBuilder, Stream, Weights
from spikescr.model.commander import HALF_THRESHOLD, LOOKAHEAD, ShiftedLIF

if TYPE_CHECKING:
    from spikescr.model.commander import HeadConvolution


def shifted_lif(build: GraphBuilder, name: str, current: Stream, lif: ShiftedLIF) -> Stream:
    """Neurons v = decay v + gain I with decay 1/2, or 0 for a threshold without memory; threshold 0.5, reset to 0."""
    full, decay = np.ones(current.width), lif.decay
    node = nir.LIF(
        tau=build.dt / (1.0 - decay) * full,
        r=lif.gain / (1.0 - decay) * full,
        v_leak=0 * full,
        v_threshold=np.nextafter(HALF_THRESHOLD, 0.0) * full,
        v_reset=0 * full,
        metadata={LATENCY: current.latency},
    )
    return build.node(name, node, current)


def moving_sum(build: GraphBuilder, name: str, x: Stream) -> Stream:
    """Sum over |j| <= w of x[t + j], late by w: what came less what came 2 w + 1 steps before, summed up."""
    latency = x.latency + LOOKAHEAD
    signs = {0: 1.0, 2 * LOOKAHEAD + 1: -1.0}
    return build.gate(f"{name}.gate", _summed(build, name, x, signs, latency), build.clock(latency))


def whole_sum(build: GraphBuilder, name: str, x: Stream, steps: int) -> Stream:
    """Sum over the recording, from its end on, late by the window of `steps`: an integrator that nothing empties."""
    return _summed(build, name, x, {0: 1.0}, x.latency + steps)


def head_convolution(build: GraphBuilder, name: str, v: Stream, convolution: HeadConvolution) -> Stream:
    """Both convolutions as one, so that spikes are all that it reads; entries of 0 stand for no synapse."""
    return build.convolution(name, v, *Weights(array(convolution.kernel())))


def _summed(build: GraphBuilder, name: str, x: Stream, signs: dict[int, float], latency: int) -> Stream:
    sources: tuple[str, ...] = ()
    for delay, sign in signs.items():
        late = build.delay(f"{name}.synapse.delay{delay}", x, delay, x.latency + delay)
        node = nir.Scale(np.full(x.width, sign), metadata={LATENCY: latency})
        sources += build.node(f"{name}.synapse.tap{delay}", node, late).sources
    r = np.full(x.width, _unit_gain(name, build.dt))
    integrator = nir.I(r=r, metadata={LATENCY: latency})
    return build.node(f"{name}.sum", integrator, Stream(sources, x.width, latency))


def _unit_gain(name: str, dt: float) -> float:
    """r of an integrator v + (r dt) I with which it sums up: r dt is 1."""
    nearest = 1.0 / dt
    for r in (nearest, np.nextafter(nearest, 0.0), np.nextafter(nearest, np.inf)):
        if r * dt == 1.0:
            return float(r)
    raise ExportError(f"{name}: no integrator sums up exactly in steps of {dt} s; take another number of steps")
