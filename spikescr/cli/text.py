"""Numbers and tables as people read them."""

from __future__ import annotations

from rich.console import Console

from spikescr.cli.console import output
from spikescr.quantities import percent, si

__all__ = ["TABLE_WIDTH", "percent", "si", "wide_console"]

TABLE_WIDTH = 128  # the widest table; narrower output would cut its numbers


def wide_console() -> Console:
    """A console in which the widest table fits, on whatever it prints."""
    console = output()
    console.width = max(console.width, TABLE_WIDTH)
    return console
