"""A Document as Markdown (GitHub's, with tables): the page's text and numbers; a figure is its tables."""

from __future__ import annotations

import re
from collections.abc import Iterator

from spikescr.sim.report.document import Cell, Document, Section, Table
from spikescr.sim.report.svg import UNPRINTABLE


def markdown(document: Document) -> str:
    """The text, UTF-8."""
    facts = Table("", ("", "", ""), tuple((Cell(a), Cell(b), Cell(c)) for a, b, c in document.facts))
    parts = [f"# {literal(document.title)}", literal(document.sentence), _table(facts)]
    for section in document.sections:
        parts += _section(section)
    return "\n\n".join(parts) + "\n"


def literal(text: str) -> str:
    """Text that means itself: signs of Markdown and of HTML are escaped, line ends are spaces."""
    printable = " ".join(text.translate(UNPRINTABLE).split())
    return re.sub(r"([\\`*_{}\[\]<>#|~&$])", r"\\\1", printable)


def _section(section: Section) -> Iterator[str]:
    yield f"## {literal(section.title)}"
    yield from map(literal, section.text)
    if section.code:
        yield "\n".join(f"    {line}" for line in section.code)
    for figure in section.figures:
        yield literal(figure.caption)
        yield from map(_titled, figure.tables)
    yield from map(_titled, section.tables)


def _titled(table: Table) -> str:
    return f"**{literal(table.caption)}**\n\n{_table(table)}"


def _table(table: Table) -> str:
    columns = range(len(table.columns))
    numeric = [bool(k) and any(row[k].value is not None for row in table.rows) for k in columns]
    rows = [*table.rows, *([table.total] if table.total else [])]
    lines = [
        [literal(heading) for heading in table.columns],
        ["---:" if is_number else "---" for is_number in numeric],
        *([literal(cell.text) for cell in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
