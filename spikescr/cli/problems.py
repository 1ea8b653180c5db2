"""What stands against the graph of a user's module, as `check` and `export --module` show it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

if TYPE_CHECKING:
    from spikescr.export.record import Problem


def problem_table(problems: Iterable[Problem]) -> Table:
    """A row for each: module, class, operation, the user's line, why, and what would help."""
    table = Table(title="what does not go through", box=SIMPLE_HEAD, pad_edge=False)
    for name in ("module", "class", "operation", "line"):
        table.add_column(name, overflow="fold")
    table.add_column("why; what would help", ratio=1, overflow="fold")
    for problem in problems:
        remedy = f"; {problem.remedy}" if problem.remedy else ""
        cells = (problem.path or "(whole)", problem.owner, problem.operation, problem.line)
        table.add_row(*cells, f"{problem.reason}{remedy}")
    return table
