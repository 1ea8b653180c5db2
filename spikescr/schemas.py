"""What is wrong with a configuration or a file, as one line; nothing that a file holds makes it longer than a few."""

from __future__ import annotations

import reprlib
from typing import Any

import numpy as np
from pydantic import ValidationError

FAULTS = 5
"""Of a configuration or file, at most, that a message tells."""
LONGEST = 200
"""Characters of a name out of a file that a message repeats."""
PARSED = 30
"""Bytes of memory, at most, that a byte of JSON or TOML takes once it is read: `[]` and a comma take 64."""


class _Brief(reprlib.Repr):
    def repr1(self, x: Any, level: int) -> str:
        """Numbers of NumPy as those of Python: NumPy 1 writes 0.5, NumPy 2 np.float64(0.5)."""
        return super().repr1(x.item() if isinstance(x, np.generic) else x, level)


_BRIEF = _Brief()
_BRIEF.maxstring = _BRIEF.maxother = LONGEST // 2


def faults(error: ValidationError) -> str:
    """The faults of a configuration or file in one line: field, what is wrong, what was given; the first few."""
    errors = error.errors(include_url=False)
    told = [
        f"{'.'.join(map(printable, field_of(fault['loc']))) or error.title}: "
        f"{printable(fault['msg'].removeprefix('Value error, '))}"
        + ("" if isinstance(fault["input"], dict) else f" (got {brief(fault['input'])})")
        for fault in errors[:FAULTS]
    ]
    return "; ".join(told) + (f"; and {len(errors) - FAULTS} more" if len(errors) > FAULTS else "")


def brief(value: object) -> str:
    """A value as Python writes it, long and deep ones cut short."""
    return _BRIEF.repr(value)


def printable(text: str) -> str:
    """Text out of a file so that it fits into one line of a message."""
    return text if text.isprintable() and len(text) <= LONGEST else _BRIEF.repr(text)


def field_of(location: tuple[int | str, ...]) -> list[str]:
    """The keys that lead to a field, without what pydantic puts in to tell the members of a union: `(tag)`."""
    return [str(key) for key in location if not str(key).startswith("(")]
