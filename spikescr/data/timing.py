"""Steps of a window, exactly."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

from spikescr.errors import UsageError

LONGEST_WINDOW_S = 60


@cache
def exact(seconds: float) -> Fraction:
    """Return what the decimal notation of a number says: 0.1 s at 30 steps/s are 3 steps, not 3.0000000000000004."""
    return Fraction(repr(float(seconds)))


def window_steps(window_s: float, steps: int) -> int:
    """Return T, the steps of a window of `window_s` seconds at `steps` per second, rounded up."""
    return math.ceil(exact(window_s) * steps)


def require_window(window_s: float) -> None:
    """Refuse a window that no recording of a word needs.

    Raises:
        UsageError: It is longer than `LONGEST_WINDOW_S`.
    """
    if window_s > LONGEST_WINDOW_S:
        raise UsageError(f"window_s must be at most {LONGEST_WINDOW_S}. Got {window_s}")
