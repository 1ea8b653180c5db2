"""Tables of papers to be reproduced: what each row prints, and how its network is trained. Imports no torch.

A table is a TOML file, of `spikescr/recipes/reproduce` or one of your own: about, data (a kind of data set), source,
seeds, differs (of all rows), and `[[rows]]`, each a `Row`.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from spikescr.documents import read_document
from spikescr.errors import UsageError
from spikescr.model.config import FAMILIES
from spikescr.schemas import faults
from spikescr.training.recipes import CHANGE, FOLDER

TABLES = FOLDER / "reproduce"
_FAMILY = "model.family="

Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Line = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\x00-\x1f]*$")]


class Row(BaseModel):
    """A row of a table.

    Attributes:
        name: Unique in its file.
        table: Which of the tables it is of: accuracy, ablation, ...
        train: Recipe of `spikescr train`; of a row that is trained directly.
        distill: Recipe of `spikescr distill`; of a row that is a stage of a curriculum.
        stage: Steps per second of that stage.
        changes: KEY=VALUE each, to the recipe.
        printed: Accuracy on the test split as printed, per cent.
        source: Where; None: as the file says.
        differs: What is not as it was there, where something is not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Word
    table: Word
    train: Line | None = None
    distill: Line | None = None
    stage: int | None = Field(None, ge=1)
    changes: tuple[Line, ...] = ()
    printed: float = Field(ge=0, le=100)
    source: Line | None = None
    differs: Line | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Row:
        if (self.train is None) == (self.distill is None) or (self.distill is None) != (self.stage is None):
            raise ValueError(f"row {self.name}: give train, or distill and stage")
        wrong = [change for change in self.changes if not CHANGE.fullmatch(change)]
        if wrong:
            raise ValueError(f"row {self.name}: {wrong[0]!r} is not KEY=VALUE")
        return self

    @property
    def unavailable(self) -> str | None:
        """Why this version cannot train it, None where it can."""
        families = [change.removeprefix(_FAMILY) for change in self.changes if change.startswith(_FAMILY)]
        missing = [family for family in families if family not in FAMILIES]
        return f"this version has no model.family={missing[0]}" if missing else None


class Table(BaseModel):
    """The tables of a data set.

    Attributes:
        about: One line.
        data: Kind of data set that they are of.
        source: Where the figures are printed.
        seeds: How many, unless one asks for others.
        differs: What of all rows is not as it was there, where something is not.
        rows: Of all tables.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    about: Line
    data: Word
    source: Line
    seeds: int = Field(3, ge=1)
    differs: Line | None = None
    rows: tuple[Row, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Table:
        names = [row.name for row in self.rows]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"row {twice[0]} is there twice")
        return self


def table_names() -> list[str]:
    """Names of the tables that spikescr has."""
    return sorted(path.stem for path in TABLES.glob("*.toml"))


def read_table(name: str) -> Table:
    """Reads the tables of a data set.

    Args:
        name: one of `table_names`, or the path of a `.toml` file.

    Raises:
        UsageError: there are none of that name, or the file does not hold tables; the message names it.
    """
    if name.endswith(".toml"):
        path = Path(name)
        if not path.exists():
            raise UsageError(f"{path}: there is no such file of tables")
    elif name in table_names():
        path = TABLES / f"{name}.toml"
    else:
        raise UsageError(f"no tables are named '{name}': choose {', '.join(table_names())} or a .toml file of your own")
    try:
        content = tomllib.loads(read_document(path, "mend it", UsageError).decode())
        return Table.model_validate(content)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: is no TOML: {error}") from error
    except ValidationError as error:
        raise UsageError(f"{path}: {faults(error)}") from error


@dataclass(frozen=True)
class Chosen:
    """Rows that can be trained, and those that cannot, with the reason."""

    rows: tuple[Row, ...]
    unavailable: tuple[tuple[Row, str], ...]


def choose_rows(table: Table, patterns: tuple[str, ...] = ()) -> Chosen:
    """The rows whose name or table matches one of the patterns (`*` for anything), all where there is none.

    Raises:
        UsageError: a pattern matches none.
    """
    for pattern in patterns:
        if not any(_matches(row, pattern) for row in table.rows):
            raise UsageError(
                f"no row is like {pattern!r}: there are {', '.join(row.name for row in table.rows)} "
                f"(tables: {', '.join(dict.fromkeys(row.table for row in table.rows))})"
            )
    wanted = [row for row in table.rows if not patterns or any(_matches(row, pattern) for pattern in patterns)]
    lacking = tuple((row, why) for row in wanted if (why := row.unavailable) is not None)
    return Chosen(tuple(row for row in wanted if row.unavailable is None), lacking)


def _matches(row: Row, pattern: str) -> bool:
    return fnmatchcase(row.name, pattern) or fnmatchcase(row.table, pattern)
