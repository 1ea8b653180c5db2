"""Energy and time of a chip's operations, data in costs.toml beside this file, with their sources and stated errors."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

FITTED = "loihi2025-fitted"


class Term(BaseModel):
    """What one operation takes: pJ and ns; `of` tells which."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pj: float = Field(ge=0, allow_inf_nan=False)
    ns: float = Field(ge=0, allow_inf_nan=False)
    of: str


class ChipCost(BaseModel):
    """A chip's operations, its mesh and its barrier.

    Attributes:
        title: the chip, and how the numbers were found.
        year: of the source.
        source: who published them.
        url: of the source.
        states: the error that the source states.
        synapse_dense: synaptic operation, weights a matrix.
        synapse_sparse: synaptic operation, weights a list.
        synapse_convolution: synaptic operation of a convolution.
        neuron_access: a neuron, each step.
        neuron_update: added where its membrane moves.
        spike_out: added where it fires.
        message_out: of a spike, for each core that it goes to.
        message_in: of a spike, at each core where it arrives.
        hop_east_west: of a spike, each tile passed along a row.
        hop_north_south: of a spike, each tile passed along a column.
        tiles_wide: tiles of a row.
        tiles_high: tiles of a column.
        tile_cores: cores of a tile.
        barrier_ns: of the end of a step, from so many tiles in use on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    year: int
    source: str
    url: str
    states: str
    synapse_dense: Term
    synapse_sparse: Term
    synapse_convolution: Term
    neuron_access: Term
    neuron_update: Term
    spike_out: Term
    message_out: Term
    message_in: Term
    hop_east_west: Term
    hop_north_south: Term
    tiles_wide: int = Field(gt=0)
    tiles_high: int = Field(gt=0)
    tile_cores: int = Field(gt=0)
    barrier_ns: Mapping[int, float]

    @field_validator("barrier_ns")
    @classmethod
    def _begins_with_one_tile(cls, table: Mapping[int, float]) -> Mapping[int, float]:
        if 1 not in table:
            raise ValueError("barrier_ns begins with 1 tile")
        return table

    @property
    def terms(self) -> dict[str, Term]:
        """All terms by name."""
        return {name: value for name, value in self if isinstance(value, Term)}

    def barrier(self, tiles: int) -> float:
        """Seconds of the barrier over so many tiles."""
        return 1e-9 * self.barrier_ns[max(count for count in self.barrier_ns if count <= max(tiles, 1))]


@cache
def chip_costs() -> Mapping[str, ChipCost]:
    """All sets of costs by name."""
    tables = tomllib.loads(Path(__file__).with_name("costs.toml").read_text(encoding="utf-8"))
    return {name: ChipCost.model_validate(fields) for name, fields in tables["cost"].items()}
