"""What the commands say of that which comes before the network."""

from __future__ import annotations

from typing import Any

from spikescr.quantities import si


def sentence(figures: dict[str, Any] | None, noun: str) -> str:
    """One line.

    Args:
        figures: as `sim.counting.before.figures` gives them; None where the graph tells nothing.
        noun: what a sample is called.
    """
    if figures is None:
        return "before the network: its graph does not tell; export it again to count the front end"
    line = f"before the network, in no figure of it: {figures['title']}"
    if figures["stages"]:
        energy = "" if figures["joules"] is None else f"{si(figures['joules'], 'J')} per {noun}, "
        counts = f"{si(figures['additions'])} additions and {si(figures['multiplications'])} multiplications"
        line += f", {energy}{counts}"
    return line + (f"; not counted: {figures['not_counted']}" if figures["not_counted"] else "")
