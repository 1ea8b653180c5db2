"""What a report is about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikescr.sim.counting.saved import Audit
from spikescr.sim.report.raster import Picture

START, END = "paper", "executed"


@dataclass(frozen=True)
class Run:
    """A run with its audit. name: as the report calls it."""

    name: str
    audit: Audit


@dataclass(frozen=True)
class Example:
    """One recording as executed.

    Attributes:
        name: of the recording.
        label: its class; None where there are no classes, or nobody tells it.
        predicted: the network's answer; None where there are no classes.
        final: the step from which that stayed; None where there are no classes.
        picture: its input.
        spikes: layer -> (steps, neurons), the sample's own steps.
    """

    name: str
    label: str | None
    predicted: str | None
    final: int | None
    picture: Picture
    spikes: dict[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class Provenance:
    """Where it all comes from: commands that make it again; what else there is to know, label and text."""

    commands: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
