"""Numbers as people read them, and text that may hold anything."""

from __future__ import annotations

_PREFIXES = {-15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}


def si(value: float, unit: str = "", digits: int = 3, *, zeros: bool = False) -> str:
    """Writes a number with an SI prefix: 1.234e-5 and "J" give "12.3 µJ".

    zeros: keep trailing zeros, for columns in which every number has the same number of digits: "4.80 µJ".
    """
    if value == 0:
        return f"0 {unit}".rstrip()
    exponent = prefix(value, digits)
    # A decimal half is rounded away from zero, whatever noise sums have left in it; the report's script does the same.
    scaled = float(f"{value / 10.0**exponent:.12g}") * (1 + 1e-13)
    text = f"{scaled:{'#' if zeros else ''}.{digits}g}".removesuffix(".")
    return f"{text} {_PREFIXES[exponent]}{unit}".rstrip()


def prefix(value: float, digits: int = 3) -> int:
    """The power of ten of the SI prefix with which a number is below 1000 once it is rounded to so many digits."""
    below = 1000 - 0.5 * 10.0 ** (3 - digits)
    return next((power for power in sorted(_PREFIXES) if abs(value) < below * 10.0**power), max(_PREFIXES))


def prefixed(unit: str, exponent: int) -> str:
    """A unit with the SI prefix of a power of ten: "J" and -9 give "nJ"."""
    return _PREFIXES[exponent] + unit


def percent(share: float | None, digits: int = 1) -> str:
    """A share as a percentage; empty for None."""
    if share is None:
        return ""
    text = f"{100 * share:.{digits}f}"
    return f"{text if float(text) else text.lstrip('-')} %"  # no -0.0


def one_line(text: str, most: int = 200) -> str:
    """Text from a stranger so that it can be printed in a line: control characters are escaped, length is cut."""
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= most else f"{text[:most]}..."
