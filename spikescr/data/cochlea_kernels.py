"""Compiled inner loops of the cochlea: the membrane's transfer function, hair cells, nerve fibres and bushy cells."""

# Kernels take what numba infers: their docstrings state shapes and types.
# mypy: allow-untyped-defs, allow-untyped-decorators, no-warn-unreachable

from __future__ import annotations

import cmath
import math

import numpy as np
from numba import njit

compiled = njit(nogil=True, cache=True, error_model="numpy")

_EULER = 0.5772156649015329
_FAR = 12.0
"""From this |z| on the asymptotic series has more digits than the ascending one."""
_TERMS = 24
_GOLDEN, _MIX1, _MIX2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@compiled
def hankel(z):
    """Hankel function of the first kind and order 0, H(z) = J(z) + i Y(z); DLMF 10.2.2, 10.8.2 and 10.17.5."""
    if abs(z) >= _FAR:
        term, total = 1 + 0j, 1 + 0j
        for k in range(1, _TERMS):
            following = term * -1j * (2 * k - 1) ** 2 / (8 * k * z)
            if abs(following) >= abs(term):
                break
            term = following
            total += term
        return cmath.sqrt(2 / (math.pi * z)) * cmath.exp(1j * (z - math.pi / 4)) * total
    quarter = z * z / 4
    term, j, rest, harmonic = 1 + 0j, 1 + 0j, 0j, 0.0
    for k in range(1, 60):
        term *= -quarter / (k * k)
        harmonic += 1 / k
        j += term
        rest -= term * harmonic
        if abs(term) * harmonic < 1e-17 * abs(j):
            break
    return j + 1j * (2 / math.pi) * ((cmath.log(z / 2) + _EULER) * j + rest)


@compiled
def transfer(positions, omegas, impedance, alpha, tension, stiffness, friction, mass, density, height, out):
    """Velocity of the membrane for a unit stimulus, `out` (channels, frequencies) complex.

    positions: cm from the base (channels,). omegas: rad/s, above 0 (frequencies,). impedance: of the cochlea at its
    base (frequencies,), complex. The rest: constants of `Cochlea`.
    """
    for f in range(len(omegas)):
        w = omegas[f]
        q = math.sqrt(tension + mass * w * w)
        scale = w * math.sqrt(density / height)

        root = cmath.sqrt(stiffness - tension - mass * w * w - 1j * w * friction)
        first = -root + 1j * (2 * q * q + 1j * w * friction) / (2 * q)
        start = 2 * scale / (alpha * root)
        pressure = cmath.sqrt(start * root) * hankel(start)

        for n in range(len(positions)):
            u = math.exp(-alpha * positions[n] / 2)
            xi = stiffness * u * u - tension - mass * w * w - 1j * w * friction * u
            root = cmath.sqrt(xi)
            last = (-root + 1j * (2 * q * q + 1j * w * friction * u) / (2 * q)) / u
            g = start - 2j * scale / (alpha * q) * cmath.log(first / last)
            own = cmath.sqrt(g * root) * hankel(g)
            out[n, f] = 2 * w / xi * own / pressure * impedance[f]


@compiled
def uniform(state):
    """A number from 0 to 1 (1 excluded), of 53 bits; advances `state` (1,), uint64 (splitmix64, Steele et al. 2014)."""
    state[0] += _GOLDEN
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * _MIX1
    z = (z ^ (z >> np.uint64(27))) * _MIX2
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


@compiled
def binomial(n, p, state):
    """How many of n fire that do so with probability p each, by inversion."""
    if p <= 0 or n == 0:
        return 0
    if p >= 1:
        return n
    u, k = uniform(state), 0
    if u < 1 - n * p:  # which is less than (1 - p)^n
        return 0
    left, odds = math.exp(n * math.log1p(-p)), p / (1 - p)
    while u >= left and k < n:
        u -= left
        left *= odds * (n - k) / (k + 1)
        k += 1
    return k


@compiled
def hear_cell(velocity, rate, constants, probability):
    """Meddis' hair cell: `probability` (steps,) that a fibre fires within a step, from the velocity (steps,)."""
    y, g, loss, r, x, a, b, h, m = constants
    dt = 1 / rate
    k = g * a / (a + b)
    cleft = m * y * k / (loss * k + y * (loss + r))
    free = cleft * (loss + r) / k
    store = cleft * r / x
    for t in range(len(velocity)):
        s = velocity[t] + a
        k = g * dt * s / (s + b) if s > 0 else 0.0
        made = y * dt * (m - free) if free < m else 0.0
        released, back = k * free, x * dt * store
        free, cleft, store = (
            max(free + made - released + back, 0.0),
            max(cleft + released - (loss + r) * dt * cleft, 0.0),
            max(store + r * dt * cleft - back, 0.0),
        )
        probability[t] = h * dt * cleft


@compiled
def bushy_cell(probability, rate, fibres, refractory, tau_membrane, tau_synapse, weight, state, times):
    """Steps at which a bushy cell fires that `fibres` nerve fibres drive, in `times`; returns how many.

    A fibre rests for `refractory` steps from its spike on. Fibres are alike and the cell takes their sum, so that their
    number is drawn at once, of those that do not rest.
    """
    dt = 1 / rate
    keep_membrane, keep_synapse = math.exp(-dt / tau_membrane), math.exp(-dt / tau_synapse)
    recent = np.zeros(refractory, np.int64)
    resting = count = rest = 0
    v = current = 0.0
    for t in range(len(probability)):
        slot = t % refractory
        resting -= recent[slot]
        fired = binomial(fibres - resting, probability[t], state)
        recent[slot] = fired
        resting += fired
        current = current * keep_synapse + fired
        if rest > 0:
            rest -= 1
            continue
        v = v * keep_membrane + current * weight * dt
        if v >= 1:
            times[count] = t
            count += 1
            v, rest = 0.0, refractory
    return count
