"""A Document as one HTML page that loads nothing: style, script, drawings and numbers are in it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib.resources import files

from spikescr.sim.report.document import Cell, Document, Figure, Section, Table
from spikescr.sim.report.subject import END, START
from spikescr.sim.report.svg import safe, tag

WIDE = 9  # columns beyond which a table is printed smaller


def page(document: Document) -> str:
    """The page. All text is escaped; a policy in it forbids requests, and every script but its own."""
    style, script = (files(__package__).joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    data = json.dumps(document.data, separators=(",", ":")).replace("<", "\\u003c")
    head = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{safe(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{safe(document.title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
    )
    links = "".join(tag("li", tag("a", safe(s.title), href=f"#{s.name}")) for s in document.sections)
    opening = [
        tag("h1", safe(document.title)),
        tag("p", safe(document.sentence), class_="lead"),
        tag("dl", *(_fact(*fact) for fact in document.facts), class_="facts"),
        tag("nav", tag("ul", links), aria_label="Sections"),
    ]
    body = [
        tag("header", *opening),
        tag("main", *(_section(each, tuple(document.data["conventions"])) for each in document.sections)),
    ]
    end = f'\n<script type="application/json" id="data">{data}</script>\n<script>{script}</script>\n</body>\n</html>\n'
    return head + "\n".join(body) + end


def _fact(label: str, figure: str, meaning: str) -> str:
    return tag("div", tag("dt", safe(label)), tag("dd", safe(figure)), tag("dd", safe(meaning), class_="means"))


def _section(section: Section, conventions: Sequence[str]) -> str:
    code = [tag("pre", tag("code", safe("\n".join(section.code))))] if section.code else []
    parts = [
        tag("h2", safe(section.title)),
        *(tag("p", safe(paragraph)) for paragraph in section.text),
        *code,
        *(_figure(figure, conventions) for figure in section.figures),
        *(table(each) for each in section.tables),
    ]
    return tag("section", *parts, id=section.name) + "\n"


def _figure(figure: Figure, conventions: Sequence[str]) -> str:
    numbers = tag("details", tag("summary", "Numbers"), *(table(each) for each in figure.tables))
    choice = _choice(conventions) if figure.name == "waterfall" else ""
    return tag("figure", tag("figcaption", safe(figure.caption)), choice, figure.markup, numbers, id=figure.name)


def _choice(conventions: Sequence[str]) -> str:
    """What the script shows: two lists of conventions."""
    start = START if START in conventions else END

    def options(chosen: str) -> str:
        return "".join(
            tag("option", safe(name), value=name, selected="selected" if name == chosen else None)
            for name in conventions
        )

    boxes = (
        tag("label", f"{word} ", tag("select", options(chosen)))
        for word, chosen in (("From", start), ("to", END))
    )  # fmt: skip
    return f'<div class="choice" hidden>{"".join(boxes)}</div>'


def table(content: Table) -> str:
    """A table; cells with a number carry it for sorting."""
    numeric = [any(row[column].value is not None for row in content.rows) for column in range(len(content.columns))]
    head = "".join(
        tag("th", safe(name), scope="col", class_=None if is_number else "words")
        for name, is_number in zip(content.columns, numeric, strict=True)
    )
    body = "".join(_narrow_row(row) if content.upright else _row(row, numeric) for row in content.rows)
    foot = tag("tfoot", _row(content.total, numeric)) if content.total else ""
    inner = tag(
        "table",
        tag("caption", tag("span", safe(content.caption))), tag("thead", tag("tr", head)), tag("tbody", body), foot,
        class_="upright" if content.upright else "sortable wide" if len(content.columns) > WIDE else "sortable",
    )  # fmt: skip
    return tag("div", inner, class_="scroll", role="region", aria_label=content.caption, tabindex="0")


def _row(cells: tuple[Cell, ...], numeric: list[bool]) -> str:
    first = tag("th", safe(cells[0].text), scope="row", data_v=_value(cells[0]))
    rest = "".join(
        tag("td", safe(cell.text), class_="number" if is_number else "words", data_v=_value(cell))
        for cell, is_number in zip(cells[1:], numeric[1:], strict=True)
    )
    return tag("tr", first, rest)


def _narrow_row(cells: tuple[Cell, ...]) -> str:
    """A row of an upright table: the bulk of a page, so without what only sorting needs and HTML lets one leave out."""
    return f"<tr><th scope=row>{safe(cells[0].text)}" + "".join(f"<td>{safe(cell.text)}" for cell in cells[1:])


def _value(cell: Cell) -> str | None:
    return None if cell.value is None else str(cell.value)
