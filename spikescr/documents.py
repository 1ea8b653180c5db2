"""Small text files of ours, JSON and CSV: what one may hold is declared, and checked once when it is read."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from spikescr.errors import SpikescrError
from spikescr.schemas import PARSED, faults
from spikescr.sizes import require_memory
from spikescr.strangers import open_regular

Model = TypeVar("Model", bound=BaseModel)
Row = TypeVar("Row")


def read_document(path: Path, remedy: str, error: type[SpikescrError] = SpikescrError) -> bytes:
    """The content of a regular file that fits the memory, once it is understood.

    Args:
        path: The file.
        remedy: What messages advise, as an imperative.
        error: What to raise.

    Raises:
        SpikescrError: As `error`: it is missing, no regular file, unreadable or too large.
    """
    try:
        with open_regular(path, error) as file:
            require_memory(PARSED * path.stat().st_size, str(path), remedy, error)
            return file.read()
    except OSError as cause:
        raise error(f"{path}: {cause.strerror}; {remedy}") from cause


def read_model(path: Path, schema: type[Model], remedy: str, error: type[SpikescrError] = SpikescrError) -> Model:
    """An object in a JSON file; arguments as of `read_document`.

    Raises:
        SpikescrError: As `error`: the file cannot be read, is no JSON, or does not hold what the schema says; the
            message names the fields.
    """
    try:
        return schema.model_validate_json(read_document(path, remedy, error), strict=True)
    except ValidationError as fault:
        raise error(f"{path}: {faults(fault)}; {remedy}") from fault


def read_rows(path: Path, row: type[Row], remedy: str) -> list[Row]:
    """The rows of a CSV file that begins with the names of its columns; arguments as of `read_document`.

    Args:
        path: The file.
        row: A dataclass with a field for each column that is needed.
        remedy: What messages advise.

    Raises:
        SpikescrError: The file cannot be read, is no text, has no row, or one that does not fit; the message names line
            and column.
    """
    check = TypeAdapter(row)
    rows: list[Row] = []
    try:
        text = read_document(path, remedy).decode()
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        for each in reader:
            given = {name: value for name, value in each.items() if isinstance(name, str)}
            rows.append(check.validate_python(given))
    except UnicodeDecodeError as fault:
        raise SpikescrError(f"{path}: no text in UTF-8 ({fault.reason} at byte {fault.start}); {remedy}") from fault
    except csv.Error as fault:
        raise SpikescrError(f"{path}: line {reader.line_num + 1}: {fault}; {remedy}") from fault
    except ValidationError as fault:
        raise SpikescrError(f"{path}: line {reader.line_num}: {faults(fault)}; {remedy}") from fault
    if not rows:
        raise SpikescrError(f"{path}: has no row below the names of its columns; {remedy}")
    return rows
