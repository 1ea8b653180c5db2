"""What the file of an audit may hold: names as JSON and arrays, each with type, shape and range, checked when read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from spikescr.archive import Field as Array
from spikescr.archive import read_archive
from spikescr.errors import SpikescrError
from spikescr.schemas import faults
from spikescr.sim.counting.account import COLUMNS, MOMENTS, layer_of
from spikescr.sim.counting.facts import SHAPES, SampleFacts
from spikescr.sim.counting.formula import CAUSES as FORMULA_CAUSES
from spikescr.stages import FrontWork

FORMAT = 2
"""Raised when what a reader of the previous one takes for granted changes; 1: see `legacy`."""
WIDTHS = ("width_in", "width_out")
"""Shapes that nothing has 0 of; conventions divide by them."""
SHAPE = "shape."
"""Before the names of shapes in a file."""
REMEDY = "simulate again"

_Names = tuple[str, ...]
_Latency = Annotated[int, Field(ge=0)] | None


class _About(BaseModel):
    """What is read of `about`; the rest of it is shown as it is."""

    model_config = ConfigDict(strict=True)

    files: dict[str, str] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    front_end: FrontWork | None = None


class _Header(BaseModel):
    """The JSON; fields as of `saved.Audit`."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    operations: _Names = Field(min_length=1)
    types: _Names
    latencies: tuple[_Latency, ...]
    columns: _Names
    steps: int = Field(ge=1)
    period: int = Field(ge=1)
    dt: float = Field(gt=0)
    recordings: _Names = Field(min_length=1)
    labels: _Names
    predicted: _Names
    about: dict[str, Any]

    @model_validator(mode="after")
    def _fits(self) -> _Header:
        for name, values, like in (
            ("types", self.types, self.operations),
            ("latencies", self.latencies, self.operations),
            ("labels", self.labels, self.recordings if self.labels else ()),
            ("predicted", self.predicted, self.labels),
        ):
            if len(values) != len(like):
                raise ValueError(f"{name} must have {len(like)} entries, has {len(values)}")
        if self.steps > self.period:
            raise ValueError(f"steps must be at most period, {self.period}, not {self.steps}")
        missing = [name for name in COLUMNS if name not in self.columns]
        if missing:
            raise ValueError(f"columns lack {missing[0]}")
        _About.model_validate(self.about)
        return self

    def sizes(self) -> dict[str, int]:
        """Sizes of axes by name."""
        return {
            "operations": len(self.operations),
            "columns": len(self.columns),
            "executed steps": self.period,
            "layers": len({layer_of(name) for name in self.operations}),
            "samples": len(self.recordings),
        }

    def arrays(self) -> dict[str, Array]:
        """What is in the file beside it."""
        return {
            "table": Array("i", ("operations", "columns", "executed steps"), lowest=0),
            "moments": Array("i", ("layers", len(MOMENTS), "executed steps"), lowest=0),
            "valid": Array("i", ("samples",), lowest=0, highest=self.steps),
            "decisions": Array("i", ("samples" if self.labels else "decisions", 3)),
        }


class _Now(_Header):
    refused_formula: str | None
    facts: _Names

    def arrays(self) -> dict[str, Array]:
        return {
            **super().arrays(),
            "facts": Array("i", ("rows", "samples")),
            "fact_of": Array("i", ("facts", 4)),
            **{SHAPE + name: Array("i", ("operations",), lowest=int(name in WIDTHS), needed=False) for name in SHAPES},
        }


class _First(_Header):
    """Of format 1, which held what conventions charged."""

    conventions: _Names
    causes: _Names

    def sizes(self) -> dict[str, int]:
        return {**super().sizes(), "conventions": len(self.conventions), "causes": len(self.causes)}

    def arrays(self) -> dict[str, Array]:
        return {
            **super().arrays(),
            "causes": Array("i", ("operations", len(FORMULA_CAUSES), 2)),
            "charges": Array("f", ("operations", "conventions", 2)),
            "charge_causes": Array("f", ("operations", "conventions", "causes", 2)),
            "sample_charges": Array("f", ("samples", "conventions", 2)),
        }


def read(path: Path) -> tuple[int, dict[str, Any], dict[str, NDArray[Any]]]:
    """The format of an audit's file, its names and its arrays, all as they must be.

    Raises:
        SpikescrError: the file is damaged, of a later version, or something in it is missing or not as it must be; the
            message names file, field and value.
        UsageError: unpacked, it would take more memory than is allowed.
    """
    text = str(read_archive(path, {"audit": Array("U")}, REMEDY)["audit"])
    try:
        names = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpikescrError(f"{path}: damaged (audit is no JSON: {error}); {REMEDY}") from error
    if not isinstance(names, dict):
        raise SpikescrError(f"{path}: damaged (audit must be a JSON object, is {type(names).__name__}); {REMEDY}")
    number = names.pop("format", None)
    if number not in (1, FORMAT):
        raise SpikescrError(f"{path}: was written by another version of spikescr; {REMEDY}")
    try:
        header = (_Now if number == FORMAT else _First).model_validate_json(json.dumps(names))
    except ValidationError as error:
        raise SpikescrError(f"{path}: audit: {faults(error)}; {REMEDY}") from error
    arrays = read_archive(path, header.arrays(), REMEDY, header.sizes())
    fault = SampleFacts.fault(arrays) if number == FORMAT else None
    if fault is not None:
        raise SpikescrError(f"{path}: {fault}; {REMEDY}")
    return number, dict(header), arrays
