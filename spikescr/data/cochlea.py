"""Recordings as the cochlea of the Heidelberg data sets hears them: from sound to spikes of 700 units.

B. Cramer, Y. Stradmann, J. Schemmel, F. Zenke: The Heidelberg spiking data sets for the systematic evaluation of
spiking neural networks, IEEE TNNLS 33, 2744 (2022), section II.B and appendix; the basilar membrane after N. Sieroka,
H. G. Dosch, A. Rupp: Semirealistic models of the cochlea, JASA 120, 297 (2006); hair cells after R. Meddis, JASA 79,
702 (1986) and 83, 1056 (1988). In turn:

- the recording is scaled to a root mean square of 0.3 and faded in and out by a Hann window as long as itself;
- the basilar membrane, shallow water in a cochlea of 3.5 cm: with xi = C0 e^(-alpha x) - a - m w^2 - i w R, where
  R = R0 e^(-alpha x / 2), g = w sqrt(rho / (h xi)) and G = 2 g(0) / alpha + the integral of g from 0 to x, pressure is
  p = sqrt(G / g) H0(G) and velocity v = 2 w / xi p(x) / p(0) Z(w), Z the impedance at the base;
- a hair cell for each of 700 places, of three pools of transmitter, gives 40 nerve fibres the probability to fire;
- a bushy cell for each place, a leaky integrator with exponential synapses, fires for the unit.

Time advances at half the sampling rate, 8 kHz. Fibres draw at random, from a seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from spikescr.data.audio import Waveform
from spikescr.data.spikes import UNITS
from spikescr.sizes import require_memory

RATE = 16_000
"""Hz to which all recordings are brought; steps are at half of it."""


@dataclass(frozen=True)
class Cochlea:
    """Constants of the model, the published ones, in cm, g and s.

    Attributes:
        level: Root mean square of a recording.
        length: Of the cochlea.
        alpha: Per cm, at which stiffness falls.
        tension: a.
        stiffness: C0, at the base.
        damping: delta; R0 = delta sqrt(C0 m).
        mass: m, per area.
        density: rho, of the liquid.
        height: h, of the channels.
        hair_cell: Meddis' y, g, l, r, x, A, B, h, M.
        fibres: For each bushy cell.
        refractory_s: Of fibres and of bushy cells.
        tau_membrane_s: Of bushy cells.
        tau_synapse_s: Of their synapses.
        weight: Of all fibres together; the threshold is 1.
    """

    level: float = 0.3
    length: float = 3.5
    alpha: float = 3.0
    tension: float = 3500.0
    stiffness: float = 1e9
    damping: float = 0.15
    mass: float = 0.05
    density: float = 1.0
    height: float = 0.1
    hair_cell: tuple[float, ...] = (5.05, 2000.0, 2500.0, 6580.0, 66.3, 5.0, 300.0, 50000.0, 1.0)
    fibres: int = 40
    refractory_s: float = 1e-3
    tau_membrane_s: float = 1e-3
    tau_synapse_s: float = 5e-4
    weight: float = 13e3


PUBLISHED = Cochlea()


def spikes_of(
    waveform: Waveform, rate: int, *, seed: int = 0, model: Cochlea = PUBLISHED
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint16]]:
    """Turn a recording into spikes.

    Args:
        waveform: Shape (n,); its level does not matter. Silence has no spikes.
        rate: Its rate in Hz, any.
        seed: Of the nerve fibres.
        model: The constants.

    Returns:
        Times in seconds, ascending, and units, 0 at the base (high tones) to 699, shape (spikes,) both.
    """
    from spikescr.data.cochlea_kernels import bushy_cell

    probabilities = firing_probabilities(waveform, rate, model)
    steps = probabilities.shape[1]
    half = RATE / 2
    found = np.empty(steps, np.int64)
    times, units = [], []
    for unit, row in enumerate(probabilities):
        state = np.array([(seed << 10 | unit) & (2**64 - 1)], np.uint64)
        count = bushy_cell(
            row,
            half,
            model.fibres,
            round(model.refractory_s * half),
            model.tau_membrane_s,
            model.tau_synapse_s,
            model.weight / model.fibres,
            state,
            found,
        )
        times.append(found[:count].copy())
        units.append(np.full(count, unit, np.uint16))
    when, who = np.concatenate(times), np.concatenate(units)
    order = np.argsort(when, kind="stable")
    return (when[order] / half).astype(np.float32), who[order]


def firing_probabilities(waveform: Waveform, rate: int, model: Cochlea = PUBLISHED) -> npt.NDArray[np.float64]:
    """Return how probable it is that a nerve fibre fires, shape (units, steps), a step every 1 / 8000 s."""
    from spikescr.data.cochlea_kernels import hear_cell

    waveform = np.asarray(waveform, np.float64)
    if rate != RATE:
        import librosa

        waveform = librosa.resample(waveform, orig_sr=rate, target_sr=RATE)
    steps = max(1, len(waveform) // 2)
    power = np.mean(waveform**2) if len(waveform) else 0.0
    if power == 0:
        return np.zeros((UNITS, steps))
    stimulus = np.hanning(len(waveform)) * waveform * (model.level / np.sqrt(power))
    velocity = membrane_velocity(stimulus, model)
    probabilities = np.empty((UNITS, steps))
    for own, row in zip(velocity, probabilities, strict=True):
        hear_cell(own[:steps], RATE / 2, model.hair_cell, row)
    return probabilities


def membrane_velocity(stimulus: Waveform, model: Cochlea = PUBLISHED) -> npt.NDArray[np.float64]:
    """Return the velocity of the basilar membrane, shape (units, at least n / 2), a step every 1 / 8000 s.

    Args:
        stimulus: At `RATE`, shape (n,); silence follows it up to the next whole second.
        model: The constants.
    """
    bins = -(-len(stimulus) // RATE) * RATE // 2
    require_memory(
        48 * UNITS * bins, f"a recording of {len(stimulus) / RATE:.0f} s in the cochlea", "cut it into pieces"
    )
    spectrum = np.fft.fft(stimulus, 2 * bins)[:bins]
    # Bins 0 to n/2 of a spectrum of n are an analytic signal at half the rate.
    return np.stack([np.fft.ifft(row * spectrum).real for row in _transfer(bins, model)])


@lru_cache(maxsize=2)
def _transfer(bins: int, model: Cochlea) -> npt.NDArray[np.complex128]:
    """The membrane's transfer function at `bins` frequencies up to half of `RATE`, shape (units, bins); read-only."""
    from scipy import special

    from spikescr.data.cochlea_kernels import transfer

    omegas = 2 * np.pi * np.maximum(np.arange(bins) * (RATE / 2 / bins), 1.0)
    argument = 2 * omegas / model.alpha * np.sqrt(2 / (model.height * model.stiffness))
    impedance = np.sqrt(2 * model.stiffness / model.height) * (
        (1j * special.j0(argument) + special.y0(argument)) / (special.j1(argument) - 1j * special.y1(argument))
    )
    out = np.empty((UNITS, bins), np.complex128)
    transfer(
        np.linspace(0, model.length, UNITS),
        omegas,
        impedance,
        model.alpha,
        model.tension,
        model.stiffness,
        model.damping * np.sqrt(model.stiffness * model.mass),
        model.mass,
        model.density,
        model.height,
        out,
    )
    out.setflags(write=False)
    return out
