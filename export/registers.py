"""From real numbers to registers: which thresholds fire on a tie, and the scales that hold numbers exactly."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
EXACT = 1e-6  # relative: what float32 constants leave of exact numbers, and far less than a register resolves
FEWER_DIGITS = 4


def raised(thresholds: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    """The numbers that thresholds stand for, and which of them a membrane has only to meet.

    NIR fires above a threshold. Who trains neurons that fire at 1 (SpikingJelly) writes the next float below 1, in
    float64 or float32. Such a number has many digits and its neighbour above has few; no other threshold is taken for
    one.

    Returns:
        The thresholds with these raised to their neighbour, and where that was done.
    """
    given, place = np.unique(thresholds, return_inverse=True)
    above = np.array([_neighbour(value) for value in given], np.float64)
    place = place.reshape(thresholds.shape)
    return above[place], (above != given)[place]


def smallest_scale(numbers: FloatArray, limit: int) -> int | None:
    """The smallest whole number, `limit` at most, whose product with each of the numbers is whole; None if none is."""
    scale = 1
    for number in np.unique(np.abs(numbers[numbers != 0])):
        given = Fraction(float(number))
        denominator = _simplest(given * Fraction(1 - EXACT), given * Fraction(1 + EXACT)).denominator
        scale = math.lcm(scale, denominator)
        if scale > limit:
            return None
    return scale


def is_whole(numbers: FloatArray) -> bool:
    """Whether all are whole numbers but for the noise of floating point."""
    return bool(np.all(np.abs(numbers - np.rint(numbers)) <= EXACT * np.abs(numbers)))


def _neighbour(value: np.float64) -> float:
    kinds: list[type[np.floating]] = [np.float64]
    if float(np.float32(value)) == value:
        kinds.append(np.float32)
    for kind in kinds:
        above = np.nextafter(kind(value), kind(np.inf))
        if _digits(above) + FEWER_DIGITS <= _digits(kind(value)):
            return float(above)
    return float(value)


def _digits(value: np.floating) -> int:
    """Digits of the shortest decimal number that reads back as this one."""
    return sum(sign.isdigit() for sign in np.format_float_scientific(value, trim="-").split("e")[0])


def _simplest(low: Fraction, high: Fraction) -> Fraction:
    """The fraction of the smallest denominator between two positive ones (Stern-Brocot)."""
    whole = math.ceil(low)
    if whole <= high:
        return Fraction(whole)
    whole -= 1
    return whole + 1 / _simplest(1 / (high - whole), 1 / (low - whole))
