"""Limits of chips as data, from limits.toml beside this file: numbers with their sources, or why they are assumed."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from spikescr.errors import UsageError


class Source(BaseModel):
    """Where a number was published."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    year: int
    url: str


class Limit(BaseModel):
    """A number of a chip, and where it comes from: `source`, a key of the file's sources, or why it is `assumed`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float = Field(ge=0, allow_inf_nan=False)
    unit: str
    source: str | None = None
    assumed: str | None = None

    @model_validator(mode="after")
    def _has_one_origin(self) -> Limit:
        if (self.source is None) == (self.assumed is None):
            raise ValueError("a limit has either a source or a reason why it is assumed")
        return self


class Chip(BaseModel):
    """A chip: what a core holds, what a chip holds, what an operation takes. Flags are 0 or 1.

    Attributes:
        title: its name.
        neurons: of a core.
        memory: of a core, bytes.
        flexible: flag, neurons, axons and synapses share `memory`; else it holds synapses alone.
        state: of one neuron, bytes.
        programmable: flag, neurons run programs.
        shared_convolution: flag, a convolution's weights are stored once.
        payload_bits: of a spike.
        cores: of a chip.
        chip_neurons: of a chip.
        weight_bits: of a weight.
        membrane_bits: of a membrane or a sum.
        delay: longest of a synapse or axon, steps.
        step_ns: of the chip's shortest step.
        synapse_ns: of a synaptic operation of a core.
        neuron_ns: of a neuron update of a core.
        input_axons: of a core, source neurons.
        output_axons: of a core, pairs of a neuron and a core that it sends to.
        axon_bytes: of an entry of an axon table.
        parameter_bytes: of a set of neuron parameters in a core.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    neurons: Limit
    memory: Limit
    flexible: Limit
    state: Limit
    programmable: Limit
    shared_convolution: Limit
    payload_bits: Limit
    cores: Limit
    chip_neurons: Limit
    weight_bits: Limit
    membrane_bits: Limit
    delay: Limit
    step_ns: Limit
    synapse_ns: Limit
    neuron_ns: Limit
    input_axons: Limit
    output_axons: Limit
    axon_bytes: Limit
    parameter_bytes: Limit

    def whole(self, name: str) -> int:
        """One of the limits, a whole number."""
        limit = getattr(self, name)
        assert isinstance(limit, Limit)
        return int(limit.value)

    @property
    def limits(self) -> dict[str, Limit]:
        """All limits by name."""
        return {name: value for name, value in self if isinstance(value, Limit)}


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    source: dict[str, Source]
    chip: dict[str, Chip]


@cache
def _read() -> _File:
    return _File.model_validate(tomllib.loads(Path(__file__).with_name("limits.toml").read_text(encoding="utf-8")))


def chips() -> Mapping[str, Chip]:
    """All chips by name."""
    return _read().chip


def sources() -> Mapping[str, Source]:
    """What limits cite, by key."""
    return _read().source


def chip_named(name: str) -> Chip:
    """A chip.

    Raises:
        UsageError: there is none of this name; the message lists those that are known.
    """
    if name not in chips():
        raise UsageError(f"no chip {name}; known: {', '.join(chips())}")
    return chips()[name]
