"""The audit of a simulation: all that was counted, to be read without the graph and without running it; as a file."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikescr.errors import SpikescrError, UsageError
from spikescr.quantities import si
from spikescr.sim.counting import schema
from spikescr.sim.counting.account import COLUMNS, MOMENTS, Account, layer_of
from spikescr.sim.counting.conventions import CAUSES, CONVENTIONS
from spikescr.sim.counting.counts import Counts
from spikescr.sim.counting.energy import CONSTANTS, DEFAULT_COST, EnergyCost
from spikescr.sim.counting.facts import FORMULA_KINDS, Facts, MissingFactError, SampleFacts, shapes
from spikescr.sim.counting.formula import CAUSES as FORMULA_CAUSES
from spikescr.sim.counting.legacy import read_first_format
from spikescr.sim.counting.tally import Charged, evaluate
from spikescr.sim.program import FloatArray, IntArray
from spikescr.tables import ShortTable, ShowsTable

_ARRAYS = ("table", "moments", "decisions", "valid")


@dataclass(frozen=True, repr=False)
class Audit(ShowsTable):
    """What a run counted, with names. Conventions are evaluated when they are asked for, on the facts that it keeps.

    In a notebook or a terminal it shows itself as a short table: every convention with AC, MAC and energy per sample.

    Attributes:
        operations: names, in the order of execution.
        types: of the operations, names of classes of `sim.program`.
        latencies: of the operations, steps; None where the graph does not tell.
        columns: of `table`.
        steps: of the window.
        period: executed steps.
        dt: seconds per step.
        recordings: name of each sample.
        labels: class of each sample, "" where nobody tells it; empty where there are no classes.
        predicted: the network's answer for each sample; empty where there are no classes.
        valid: steps of each sample (samples,).
        table: counts (operations, columns, executed steps), sums over the samples.
        moments: (layers, `account.MOMENTS`, executed steps), sums over the samples.
        decisions: a row for each sample, see `Account`; no rows where no class was chosen.
        facts: (operation, fact) of each sample. None of an audit of format 1, which kept sums.
        shapes: of `facts.SHAPES`, (operations,) each; none of an audit of format 1.
        refused_formula: why the paper's formula cannot be evaluated; None where it can.
        about: more of the run (data, model, backend, versions, hashes, seed).
        stored: conventions that are not to be evaluated, but were when the audit was written (format 1).
        first_causes: executed minus formula (operations, causes of the formula, 2), of an audit of format 1.
    """

    operations: tuple[str, ...]
    types: tuple[str, ...]
    latencies: tuple[int | None, ...]
    columns: tuple[str, ...]
    steps: int
    period: int
    dt: float
    recordings: tuple[str, ...]
    labels: tuple[str, ...]
    predicted: tuple[str, ...]
    valid: IntArray
    table: IntArray
    moments: IntArray
    decisions: IntArray
    facts: SampleFacts | None
    shapes: Mapping[str, IntArray]
    refused_formula: str | None
    about: Mapping[str, Any]
    stored: Mapping[str, Charged] = field(default_factory=dict)
    first_causes: IntArray | None = None
    _evaluated: dict[str, Charged | MissingFactError] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @staticmethod
    def from_account(
        account: Account,
        recordings: Sequence[str],
        labels: Sequence[str] = (),
        predicted: Sequence[str] = (),
        about: Mapping[str, Any] | None = None,
    ) -> Audit:
        """The audit of an account.

        Args:
            account: of all samples.
            recordings: their names.
            labels: their classes, nothing where there are none.
            predicted: the network's answers.
            about: whatever the caller wants to be known of the run, JSON.
        """
        program = account.program
        return Audit(
            operations=tuple(o.name for o in program.operations),
            types=tuple(type(o).__name__ for o in program.operations),
            latencies=tuple(o.latency for o in program.operations),
            columns=COLUMNS,
            steps=program.steps,
            period=program.period,
            dt=program.dt,
            recordings=tuple(recordings),
            labels=tuple(labels),
            predicted=tuple(predicted),
            valid=np.array(account.valid, np.int64),
            table=account.table,
            moments=account.moments,
            decisions=np.array(account.decisions, np.int64).reshape(-1, 3),
            facts=account.facts,
            shapes=shapes(program),
            refused_formula=account.refused,
            about=dict(about or {}),
        )

    def save(self, path: Path | str) -> None:
        """Writes an .npz archive: the arrays, and `audit`, JSON with the rest; no pickled objects.

        Raises:
            SpikescrError: this one was read from a file of format 1, which lacks what a new one holds.
        """
        if self.facts is None:
            raise SpikescrError("an audit of format 1 cannot be written as one of today; simulate again")
        arrays = {name: getattr(self, name) for name in _ARRAYS} | self.facts.arrays()
        arrays |= {schema.SHAPE + name: column for name, column in self.shapes.items()}
        names = {
            key: value
            for key, value in vars(self).items()
            if key not in (*_ARRAYS, "facts", "shapes", "stored", "first_causes", "_evaluated")
        }
        text = json.dumps({"format": schema.FORMAT, **names, "facts": self.facts.names})
        with Path(path).open("wb") as file:
            np.savez_compressed(file, audit=np.array(text), **{name: _small(a) for name, a in arrays.items()})

    @staticmethod
    def load(path: Path | str) -> Audit:
        """Reads what `save` wrote, of this version or an earlier one.

        Raises:
            SpikescrError: the file is damaged, of a later version, or something in it is missing or not as it must be.
            UsageError: unpacked, it would take more memory than is allowed.
        """
        number, names, arrays = schema.read(Path(path))
        return Audit(**read_first_format(names, arrays)) if number == 1 else _read(names, arrays)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, as along the first axis of the moments."""
        return tuple(dict.fromkeys(layer_of(name) for name in self.operations))

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(self.valid)

    @property
    def noun(self) -> str:
        """What its samples are called: recordings where they have classes and names, not numbers alone."""
        numbered = self.recordings == tuple(map(str, range(self.samples)))
        return "recordings" if self.labels and not numbered else "samples"

    @property
    def accuracy(self) -> float | None:
        """Share of recordings whose class was predicted; None where there are no classes, or one is not told."""
        if not self.labels or "" in self.labels:
            return None
        return float(np.mean([p == w for p, w in zip(self.predicted, self.labels, strict=True)]))

    @property
    def counts(self) -> Counts:
        """Counts by operation and executed step, sums over the samples."""
        return Counts(self.operations, self.types, self.latencies, self.columns, self.table)

    def rows(self, layer: str) -> list[int]:
        """The operations of a layer."""
        return [row for row, name in enumerate(self.operations) if layer_of(name) == layer]

    @property
    def conventions(self) -> tuple[str, ...]:
        """Names of the conventions that can be evaluated."""
        return tuple(name for name in CONVENTIONS if name not in self.refused)

    @property
    def refused(self) -> dict[str, str]:
        """Conventions that cannot be evaluated, and why."""
        outcomes = {name: self._evaluate(name) for name in CONVENTIONS}
        return {name: str(why) for name, why in outcomes.items() if isinstance(why, MissingFactError)}

    def charged(self, convention: str) -> Charged:
        """What a convention charges.

        Raises:
            UsageError: there is no such convention.
            SpikescrError: it cannot be evaluated on this run; the message says why.
        """
        if convention not in CONVENTIONS:
            raise UsageError(f"{convention}: no such convention; known: {', '.join(CONVENTIONS)}")
        outcome = self._evaluate(convention)
        if isinstance(outcome, MissingFactError):
            raise SpikescrError(f"{convention} cannot be evaluated on this run: {outcome}")
        return outcome

    def _evaluate(self, name: str) -> Charged | MissingFactError:
        if name in self.stored:
            return self.stored[name]
        if name not in self._evaluated:
            try:
                each = self.facts is not None
                self._evaluated[name] = evaluate(CONVENTIONS[name], self.types, self._facts_of, each=each)
            except MissingFactError as error:
                self._evaluated[name] = error
        return self._evaluated[name]

    def _facts_of(self, rows: Sequence[int]) -> Facts:
        def look_up(name: str) -> IntArray:
            cause, _, way = name.rpartition("_")
            if self.refused_formula is not None and (name in FORMULA_KINDS or cause in FORMULA_CAUSES):
                raise MissingFactError(self.refused_formula)
            if name in self.shapes:
                return self.shapes[name][rows][:, None]
            if self.facts is not None:
                return self.facts.table(rows, name)
            if name in self.columns:
                return self.table[rows, self.columns.index(name)].sum(axis=1)[:, None]
            if cause in FORMULA_CAUSES and self.first_causes is not None:
                return self.first_causes[rows, FORMULA_CAUSES.index(cause), ("ac", "mac").index(way)][:, None]
            raise MissingFactError(f"this audit does not keep {name}; simulate again")

        valid = self.valid if self.facts is not None else self.valid.sum(keepdims=True)
        return Facts(valid[None, :], functools.cache(look_up))

    def charge(self, convention: str) -> FloatArray:
        """AC and MAC by a convention, (operations, 2), sums over the samples."""
        return self.charged(convention).charges

    def difference(self, start: str, end: str) -> FloatArray:
        """Charge of one convention minus that of another by cause, (operations, causes, 2)."""
        difference: FloatArray = self.charged(end).causes - self.charged(start).causes
        return difference

    def energy(self, convention: str = "executed", cost: str | EnergyCost = DEFAULT_COST) -> FloatArray:
        """Energy of each sample by a convention of counting (docs/energy.md), J, (samples,).

        Args:
            convention: its name, one of `conventions`.
            cost: constants, or the name of some (sim/counting/costs.toml); a MAC without a price is free.

        Raises:
            UsageError: there is no such convention, or there are no such constants.
            SpikescrError: the convention cannot be evaluated on this run; the message says why.
        """
        charged = self.charged(convention)
        if not len(charged.samples):
            raise SpikescrError(f"{convention}: an audit of format 1 keeps it in sums only; simulate again")
        return _joules(charged.samples, _cost(cost))

    def why(self, start: str, end: str, cost: str | EnergyCost = DEFAULT_COST) -> dict[str, FloatArray]:
        """Why the energy of one convention is not that of another: cause -> J of each sample (samples,).

        The causes add up to energy(end) - energy(start), in operations exactly, in joules up to rounding. Causes
        without any operation are left out. Arguments and errors as of `energy`.
        """
        first, last = self.charged(start), self.charged(end)
        if not (len(first.sample_causes) and len(last.sample_causes)):
            raise SpikescrError("an audit of format 1 keeps the causes of all recordings together; simulate again")
        difference = last.sample_causes - first.sample_causes
        constants = _cost(cost)
        return {
            cause: _joules(difference[:, column], constants)
            for column, cause in enumerate(CAUSES)
            if difference[:, column].any()
        }

    def unexplained(self) -> float:
        """Operations of all conventions that the causes leave unexplained, to a millionth of an operation."""
        executed = self.charge("executed")
        rest = (self.charge(n) - executed - self.charged(n).causes.sum(axis=1) for n in self.conventions)
        return round(float(sum(np.abs(each).sum() for each in rest)), 6)

    def moment(self, name: str) -> IntArray:
        """One of `account.MOMENTS`, (layers, executed steps), sums over the samples."""
        moment: IntArray = self.moments[:, MOMENTS.index(name)]
        return moment

    def formula_causes(self) -> IntArray:
        """Executed minus formula by cause of `formula.CAUSES`, (operations, causes, 2), sums over the samples."""
        if self.facts is None:
            assert self.first_causes is not None
            return self.first_causes
        rows = range(len(self.operations))
        names = [[f"{cause}_{way}" for way in ("ac", "mac")] for cause in FORMULA_CAUSES]
        return np.array([[self.facts.table(rows, n).sum(axis=1) for n in pair] for pair in names]).transpose(2, 0, 1)

    def sample_counts(self, column: str) -> IntArray:
        """A column of the counts of each sample, all operations together, (samples,)."""
        if self.facts is None:
            raise SpikescrError("an audit of format 1 keeps the counts of all recordings together; simulate again")
        return self.facts.total(column)

    def short_table(self) -> ShortTable:
        """Every convention with AC, MAC and energy, means of the samples; those that cannot be evaluated say why."""
        cost = _cost(DEFAULT_COST)
        rows = []
        for name in self.conventions:
            ac, mac = (self.charge(name).sum(axis=0) / self.samples).tolist()
            rows.append((name, CONVENTIONS[name].title, si(ac), si(mac), si(cost.joules(ac, mac), "J")))
        rows += [(name, f"not evaluated: {why}", "", "", "") for name, why in self.refused.items()]
        title = f"mean of {self.samples} {self.noun}, {self.steps} steps of {si(self.dt, 's')}; energy: {DEFAULT_COST}"
        return ShortTable(title, ("convention", "", "AC", "MAC", "energy"), rows, names=2)


def _joules(charges: FloatArray, cost: EnergyCost) -> FloatArray:
    return cost.joules(charges[:, 0], charges[:, 1])


def _cost(cost: str | EnergyCost) -> EnergyCost:
    if isinstance(cost, EnergyCost):
        return cost
    if cost not in CONSTANTS.costs:
        raise UsageError(f"{cost}: no such constants; known: {', '.join(CONSTANTS.costs)}")
    return CONSTANTS.costs[cost]


def _small(array: NDArray[Any]) -> NDArray[Any]:
    """The same numbers in the smallest type of integers that holds them."""
    if array.dtype != np.int64 or not array.size:
        return array
    return array.astype(np.result_type(np.min_scalar_type(array.min()), np.min_scalar_type(array.max())))


def _read(names: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Audit:
    """An audit of this format. Facts go by name: one with fewer is read, and rules that ask for more are refused."""
    facts = SampleFacts(names.pop("facts"))
    facts.merge(arrays)
    lists = {key: tuple(value) for key, value in names.items() if isinstance(value, list)}
    numbers: dict[str, Any] = {name: arrays[name].astype(np.int64) for name in _ARRAYS}
    shape_columns = {
        n.removeprefix(schema.SHAPE): array.astype(np.int64)
        for n, array in arrays.items()
        if n.startswith(schema.SHAPE)
    }
    return Audit(**names | lists, **numbers, facts=facts, shapes=shape_columns)
