"""Energy of counted operations, in joules; the constants are data, in costs.toml beside this file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from spikescr.documents import read_document
from spikescr.errors import UsageError
from spikescr.schemas import brief, faults, printable

PICO = 1e-12
Amount = TypeVar("Amount", float, NDArray[np.float64])
DEFAULT_COST = "horowitz2014-45nm-fp32"


class EnergyCost(BaseModel):
    """Energy of one operation in picojoules, with where the figures come from; None where the source gives none.

    `neuron_idle_pj` and `spike_pj` are for estimates of a chip (`sim.chip`) and in no figure of executed operations.

    Attributes:
        name: in the file of constants.
        title: technology and format of numbers.
        bits: width of operands and weights.
        ac_pj: accumulation.
        mac_pj: multiply-accumulate.
        neuron_pj: membrane update.
        neuron_idle_pj: membrane update of a neuron without activity.
        spike_pj: a spike that leaves a core.
        year: of the source.
        source: who published them, and where.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    bits: int = Field(gt=0)
    ac_pj: float = Field(ge=0, allow_inf_nan=False)
    mac_pj: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    neuron_pj: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    neuron_idle_pj: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    spike_pj: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    year: int
    source: str

    def joules(self, ac: Amount, mac: Amount, neuron: float = 0.0) -> Amount:
        """Energy of accumulations, multiply-accumulates and membrane updates, J; what has no constant adds nothing."""
        return (ac * self.ac_pj + mac * (self.mac_pj or 0) + neuron * (self.neuron_pj or 0)) * PICO


class MemoryCost(BaseModel):
    """Energy of memory traffic in picojoules per byte, with where the figure comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    pj_per_byte: float = Field(ge=0, allow_inf_nan=False)
    year: int
    source: str

    def joules(self, count: float) -> float:
        """Energy of so many bytes read or written, J."""
        return count * self.pj_per_byte * PICO


@dataclass(frozen=True)
class Constants:
    """Costs of operations and of memory traffic, by name."""

    costs: Mapping[str, EnergyCost] = field(default_factory=dict)
    memories: Mapping[str, MemoryCost] = field(default_factory=dict)


def read_constants(path: Path) -> Constants:
    """Reads a TOML file of tables [cost.NAME] and [memory.NAME], fields as in EnergyCost and MemoryCost.

    Raises:
        UsageError: it cannot be read, or a field is missing, unknown or out of range; the message names it.
    """
    document = read_document(path, "give a file of tables [cost.NAME] and [memory.NAME]", UsageError)
    try:
        content = tomllib.loads(document.decode())
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read as TOML: {error}") from error
    unknown = content.keys() - {"cost", "memory"}
    if unknown:
        raise UsageError(f"{path}: {printable(min(unknown))} is not known; tables are [cost.NAME] and [memory.NAME]")
    return Constants(_tables(EnergyCost, path, "cost", content), _tables(MemoryCost, path, "memory", content))


def _tables(kind: type[Any], path: Path, table: str, content: Mapping[str, Any]) -> dict[str, Any]:
    named = content.get(table, {})
    if not isinstance(named, dict):
        raise UsageError(f"{path}: {table} must be tables [{table}.NAME], found {brief(named)}")
    return {name: _checked(kind, path, table, name, fields) for name, fields in named.items()}


def _checked(kind: type[Any], path: Path, table: str, name: str, fields: Any) -> Any:
    if not isinstance(fields, dict):
        raise UsageError(f"{path}: {table}.{printable(name)} must be a table, found {brief(fields)}")
    if "name" in fields:
        raise UsageError(f"{path}: [{table}.{printable(name)}] name: is that of the table; leave it out")
    try:
        return kind(name=name, **fields)
    except ValidationError as error:
        raise UsageError(f"{path}: [{table}.{printable(name)}] {faults(error)}") from error


CONSTANTS = read_constants(Path(__file__).with_name("costs.toml"))
HOROWITZ_45NM = CONSTANTS.costs[DEFAULT_COST]
