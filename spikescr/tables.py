"""Short tables by which results show themselves: as text in a terminal, as HTML in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class ShortTable:
    """A title, rows under headings, and lines below; the first columns are of names, the others of numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    names: int = 1

    def text(self) -> str:
        """For a terminal: columns aligned, numbers to the right."""
        table = [self.columns, *self.rows]
        widths = [max(len(row[column]) for row in table) for column in range(len(self.columns))]
        lines = [
            "  ".join(
                cell.ljust(width) if at < self.names else cell.rjust(width)
                for at, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in table
        ]
        return "\n".join((self.title, *lines, *self.notes))

    def html(self) -> str:
        """For a notebook: one table, everything escaped."""

        def cells(row: Sequence[str], tag: str) -> str:
            return "".join(
                f'<{tag} style="text-align: {"left" if at < self.names else "right"}">{escape(cell)}</{tag}>'
                for at, cell in enumerate(row)
            )

        head = f"<thead><tr>{cells(self.columns, 'th')}</tr></thead>"
        body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in self.rows)
        notes = "".join(f"<div>{escape(note)}</div>" for note in self.notes)
        return f"<table><caption>{escape(self.title)}</caption>{head}<tbody>{body}</tbody></table>{notes}"


class ShowsTable:
    """A result that shows itself as a short table; subclasses say which."""

    def short_table(self) -> ShortTable:
        """What is shown."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self.short_table().text()

    def _repr_html_(self) -> str:
        return self.short_table().html()
