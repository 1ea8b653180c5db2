"""What a report consists of. The page and its Markdown twin are two ways of writing the same Document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spikescr.quantities import percent, prefix, prefixed, si

MOST_COLUMNS = 20  # of a table that has a column for every layer: what a printed page takes


@dataclass(frozen=True)
class Cell:
    """What a table shows, and the number by which it sorts; None for text and for what is not there."""

    text: str
    value: float | None = None


@dataclass(frozen=True)
class Table:
    """A table; the first cell of a row names it. upright: has many narrow columns, whose headings stand upright."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    total: tuple[Cell, ...] | None = None
    upright: bool = False


@dataclass(frozen=True)
class Figure:
    """A drawing (SVG markup, or HTML with one in it) with a caption and its numbers."""

    name: str
    caption: str
    markup: str
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        name: its id on the page.
        title: its heading.
        text: paragraphs.
        figures: drawings.
        tables: numbers.
        code: commands to type.
    """

    name: str
    title: str
    text: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    code: tuple[str, ...] = ()


@dataclass(frozen=True)
class Document:
    """A report. facts: label, figure, and what it means. data: what the page's script draws with, JSON."""

    title: str
    sentence: str
    facts: tuple[tuple[str, str, str], ...]
    sections: tuple[Section, ...]
    data: Mapping[str, Any] = field(default_factory=dict)


def words(text: object) -> Cell:
    """A cell of text."""
    return Cell(str(text))


def number(value: float, unit: str = "") -> Cell:
    """A number with an SI prefix."""
    return Cell(si(value, unit, zeros=bool(value) and (bool(unit) or abs(value) >= 1000)), value)


def count(value: int) -> Cell:
    """A whole number, all of its digits."""
    return Cell(f"{value:,}", value)


def share(value: float | None, digits: int = 1) -> Cell:
    """A percentage."""
    return Cell(percent(value, digits), value)


def plain(value: float, digits: int) -> Cell:
    """A number with so many digits after the point."""
    return Cell(f"{value:.{digits}f}", value)


def by_step(
    caption: str, first: Sequence[tuple[str, Sequence[Cell]]], names: Sequence[str], columns: Sequence[Sequence[float]],
    unit: str = "",
) -> tuple[Table, ...]:  # fmt: skip
    """Tables with a row for every step and a column for every layer, at most MOST_COLUMNS of them in each.

    Args:
        caption: what the numbers are; the unit is added.
        first: columns that stand first in every table: heading, a cell for each step.
        names: of the layers.
        columns: a number for every step, for each layer. 0 is left empty; steps without any other are left out.
        unit: with it, all numbers are given in the prefix of the largest; without, they are whole numbers.
    """
    exponent = prefix(max((max(map(abs, column), default=0) for column in columns), default=0)) if unit else 0
    tables, steps = [], [step for step in range(len(first[0][1])) if any(column[step] for column in columns)]
    for start in range(0, max(len(names), 1), MOST_COLUMNS):
        chosen = columns[start : start + MOST_COLUMNS]
        rows = tuple(
            (*(cells[step] for _, cells in first), *(_short(column[step], exponent, unit) for column in chosen))
            for step in steps
        )
        headings = (*(heading for heading, _ in first), *names[start : start + MOST_COLUMNS])
        more = ", continued" if start else ""
        tables.append(
            Table(f"{caption}{f', {prefixed(unit, exponent)}' if unit else ''}{more}", headings, rows, upright=True)
        )
    return tuple(tables)


def _short(value: float, exponent: int, unit: str) -> Cell:
    if value == 0:
        return Cell("", 0)
    return Cell(f"{value / 10.0**exponent:#.3g}".removesuffix(".") if unit else f"{value:.0f}", value)
