"""Energies that others measured on silicon, data in measured.toml beside this file, with where each was read."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class Measured(BaseModel):
    """A measurement.

    Attributes:
        system: what was measured.
        kind: of the system.
        task: what it did.
        joules: of an inference.
        of: what the figure takes in.
        macs: multiplications that the same layers take without spikes, where the text gives their sizes.
        source: text that gives it.
        url: of the source.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: str
    kind: str
    task: str
    joules: float = Field(gt=0, allow_inf_nan=False)
    of: str
    macs: int | None = Field(None, gt=0)
    source: str
    url: str


@cache
def measured() -> tuple[Measured, ...]:
    """All measurements, the least energy first."""
    content = tomllib.loads(Path(__file__).with_name("measured.toml").read_text(encoding="utf-8"))
    return tuple(sorted((Measured.model_validate(row) for row in content["measured"]), key=lambda row: row.joules))
