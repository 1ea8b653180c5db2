"""The counts of a run as a table: by operation and executed step, sums over the samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spikescr.errors import SpikescrError
from spikescr.quantities import si
from spikescr.sim.program import IntArray
from spikescr.tables import ShortTable, ShowsTable

COUNT_FIELDS = ("operation", "type", "latency", "step")
"""Of `Counts.rows`, before the columns."""
SHOWN = ("spikes", "fired", "ac", "mac", "bias", "neuron")
"""Columns that a short table shows."""


@dataclass(frozen=True, repr=False)
class Counts(ShowsTable):
    """Counts by operation, column and executed step, integers; the sample's own step is step - latency.

    `counts["ac"]` is one column, (operations, steps); `counts.per_step("fc", "ac")` that of one operation, (steps,).

    Attributes:
        operations: their names, in the order of execution.
        types: of the operations.
        latencies: of the operations, steps; None where the graph does not tell.
        columns: names of the columns: `recording.KINDS`, and formula_ac and formula_mac, what the paper's formula says.
        table: (operations, columns, steps), sums over the samples.
    """

    operations: tuple[str, ...]
    types: tuple[str, ...]
    latencies: tuple[int | None, ...]
    columns: tuple[str, ...]
    table: IntArray

    def __getitem__(self, column: str) -> IntArray:
        if column not in self.columns:
            raise SpikescrError(f"counts have no column {column!r}; these are: {', '.join(self.columns)}")
        counts: IntArray = self.table[:, self.columns.index(column)]
        return counts

    def per_step(self, operation: str, column: str) -> IntArray:
        """One column of one operation, (steps,).

        Raises:
            SpikescrError: there is no such operation or column.
        """
        if operation not in self.operations:
            raise SpikescrError(f"there is no operation {operation!r}; these are: {', '.join(self.operations)}")
        counts: IntArray = self[column][self.operations.index(operation)]
        return counts

    def total(self, column: str, operation: int | None = None, step: int | None = None) -> int:
        """Sum of a column: over everything, or one operation (its number), or one executed step."""
        rows = slice(None) if operation is None else operation
        steps = slice(None) if step is None else step
        return int(self[column][rows, steps].sum())

    def totals(self) -> dict[str, int]:
        """Sum of every column."""
        return dict(zip(self.columns, self.table.sum(axis=(0, 2)).tolist(), strict=True))

    def rows(self) -> Iterator[tuple[str | int, ...]]:
        """One row for every operation and executed step; fields COUNT_FIELDS and the columns."""
        for row, (name, kind, latency) in enumerate(zip(self.operations, self.types, self.latencies, strict=True)):
            for step, counts in enumerate(self.table[row].T):
                yield name, kind, "" if latency is None else latency, step, *map(int, counts)

    def short_table(self) -> ShortTable:
        """Operations that did anything, sums over steps and samples."""
        sums = {column: self[column].sum(axis=1).tolist() for column in SHOWN if column in self.columns}
        rows = []
        for row, (name, kind) in enumerate(zip(self.operations, self.types, strict=True)):
            numbers = [column[row] for column in sums.values()]
            if any(numbers):
                rows.append((name, kind, *(si(number) if number else "" for number in numbers)))
        return ShortTable("counts, sums over the samples", ("operation", "type", *sums), rows, names=2)
