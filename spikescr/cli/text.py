"""Numbers and tables as people read them."""

from __future__ import annotations

from rich.console import Console

from spikescr.cli.console import output

TABLE_WIDTH = 128  # the widest table; narrower output would cut its numbers

_PREFIXES = {-15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}


def si(value: float, unit: str = "", digits: int = 3) -> str:
    """Writes a number with an SI prefix: 1.234e-5 and "J" give "12.34 µJ"."""
    if value == 0:
        return f"0 {unit}".rstrip()
    exponent = max(_PREFIXES)
    for power in sorted(_PREFIXES):
        if abs(value) < 999.95 * 10.0**power:
            exponent = power
            break
    return f"{value / 10.0**exponent:.{digits}g} {_PREFIXES[exponent]}{unit}".rstrip()


def percent(share: float | None, digits: int = 1) -> str:
    """A share as a percentage; empty for None."""
    return "" if share is None else f"{100 * share:.{digits}f} %"


def wide_console() -> Console:
    """A console in which the widest table fits, on whatever it prints."""
    console = output()
    console.width = max(console.width, TABLE_WIDTH)
    return console
