"""Early exit: when an answer is settled while its recording is still executed, and what was executed until then.

After every step the running readout y names a class and has a lead: how far its largest entry is above the next one.
The softmax of y, which training takes for probabilities, gives the class exp(lead) times as much as any other. A rule
settles the answer at the first step at which the same class has led by enough for some steps; the recording ends there.
One that is never settled runs to its end. What was executed until the output of the step appeared (the sink's latency
later) is what is counted, recording by recording: a run of one alone that ends at that executed step counts the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from spikescr.readouts import SOFTMAX_SUM
from spikescr.sim.counting.energy import EnergyCost
from spikescr.sim.program import FloatArray, IntArray, Program, Sink
from spikescr.sim.recording import KINDS, Ledger, running

HOLDS = (1, 2, 3, 4, 6, 8, 12, 16)
"""Steps that a lead must last, of the rules that are tried."""
LEADS = 96
"""Leads that are tried for each of them, quantiles of those of the recordings."""


@dataclass(frozen=True)
class ExitRule:
    """When an answer is settled: the same class has led by `lead` or more in `hold` steps in a row."""

    lead: float
    hold: int


@dataclass(frozen=True)
class Progress:
    """What some recordings had answered and cost after each of their own steps, rows (B, T).

    Attributes:
        predicted: class that the running readout names.
        lead: of its largest entry over the next one.
        ac: executed when the output of the step appeared.
        mac: likewise.
        whole: AC and MAC of the whole run (B, 2).
        valid: valid steps (B,); what stands beyond them means nothing.
    """

    predicted: IntArray
    lead: FloatArray
    ac: IntArray
    mac: IntArray
    whole: IntArray
    valid: IntArray

    @staticmethod
    def of(
        program: Program, ledger: Ledger, outputs: FloatArray, valid: IntArray, readout: str = SOFTMAX_SUM
    ) -> Progress:
        """Of one batch.

        Args:
            program: what was run.
            ledger: its counts.
            outputs: (T, B, K) of the samples' own steps.
            valid: valid steps (B,), at least 1.
            readout: of `spikescr.readouts`.
        """
        late = program.of_type(Sink)[0].latency or 0
        executed = ledger.table[:, [KINDS.index("ac"), KINDS.index("mac")]].sum(axis=0).cumsum(axis=1)
        until = executed[:, late : late + len(outputs)]
        y = running(readout, outputs)
        top = np.sort(y, axis=-1)
        return Progress(
            y.argmax(axis=-1).T, (top[..., -1] - top[..., -2]).T, until[0].T, until[1].T, executed[:, -1].T,
            np.asarray(valid, np.int64),
        )  # fmt: skip

    @staticmethod
    def joined(parts: Sequence[Progress]) -> Progress:
        """Of several batches, one after the other."""
        return Progress(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Progress)))

    def __len__(self) -> int:
        return len(self.valid)

    @property
    def answers(self) -> IntArray:
        """What is answered after the last valid step, (B,)."""
        return self.predicted[np.arange(len(self)), self.valid - 1]

    def held(self, hold: int) -> FloatArray:
        """The least lead of the last `hold` steps if they name one class, -inf else and beyond the end; (B, T)."""
        steps = self.predicted.shape[1]
        same = np.ones(self.predicted.shape, np.bool_)
        least = self.lead.copy()
        for back in range(1, min(hold, steps + 1)):
            same[:, :back] = False
            same[:, back:] &= self.predicted[:, back:] == self.predicted[:, :-back]
            least[:, back:] = np.minimum(least[:, back:], self.lead[:, :-back])
        if hold > steps:
            same[:] = False
        return np.where(same & (np.arange(steps) < self.valid[:, None]), least, -np.inf)


@dataclass(frozen=True)
class Exits:
    """How recordings ended under a rule, (B,) each.

    Attributes:
        step: at which the answer was settled; the valid steps where it never was.
        predicted: the answer.
        ac: executed until then, of the whole run where it never was settled.
        mac: likewise.
    """

    step: IntArray
    predicted: IntArray
    ac: IntArray
    mac: IntArray

    @property
    def table(self) -> IntArray:
        """A row for each recording, (B, 4)."""
        return np.stack([getattr(self, f.name) for f in fields(Exits)], axis=1)

    @staticmethod
    def from_table(table: IntArray) -> Exits:
        """The reverse of `table`."""
        return Exits(*table.T)


def leave(progress: Progress, rule: ExitRule) -> Exits:
    """How recordings end under a rule."""
    settled = progress.held(rule.hold) >= rule.lead
    rows, never = np.arange(len(progress)), ~settled.any(axis=1)
    step = settled.argmax(axis=1)
    ac, mac = (
        np.where(never, whole, until[rows, step])
        for whole, until in zip(progress.whole.T, (progress.ac, progress.mac), strict=True)
    )
    predicted = np.where(never, progress.answers, progress.predicted[rows, step])
    return Exits(np.where(never, progress.valid, step), predicted, ac, mac)


@dataclass(frozen=True)
class Tradeoff:
    """What a rule gives on some recordings.

    Attributes:
        rule: it.
        accuracy: share of right answers.
        agreement: share of answers that are those after the last step.
        settled: share of recordings that it ended.
        step: mean of the step after which they ended, of the recording's own.
        joules: executed for a recording, mean.
    """

    rule: ExitRule
    accuracy: float
    agreement: float
    settled: float
    step: float
    joules: float

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        return {**{f.name: getattr(self, f.name) for f in fields(Tradeoff)}, "rule": vars(self.rule)}


def measure(progress: Progress, labels: IntArray, rule: ExitRule, cost: EnergyCost) -> Tradeoff:
    """What a rule gives on recordings of known classes (B,)."""
    exits = leave(progress, rule)
    return Tradeoff(
        rule,
        float((exits.predicted == labels).mean()),
        float((exits.predicted == progress.answers).mean()),
        float((exits.step < progress.valid).mean()),
        float(np.minimum(exits.step + 1, progress.valid).mean()),
        cost.joules(float(exits.ac.sum()), float(exits.mac.sum())) / len(progress),
    )


def rules(progress: Progress) -> list[ExitRule]:
    """Rules to try on recordings: leads at which some of them end earlier or later, and one that ends none."""
    tried = []
    for hold in HOLDS:
        most = np.maximum.accumulate(progress.held(hold), axis=1)
        seen = np.unique(most[np.isfinite(most)])
        if seen.size:
            chosen = np.unique(np.quantile(seen, np.linspace(0, 1, LEADS), method="nearest"))
            tried += [ExitRule(float(lead), hold) for lead in chosen]
    none = float(np.nextafter(progress.lead.max(initial=0.0), np.inf))
    return [*tried, ExitRule(none, 1)]


def fit(progress: Progress, labels: IntArray, cost: EnergyCost, losses: Sequence[float]) -> list[Tradeoff]:
    """For each loss of accuracy the rule that executes least on these recordings and loses no more.

    Args:
        progress: of the recordings.
        labels: their classes (B,).
        cost: of operations.
        losses: shares of the recordings, 0 for none.
    """
    whole = int((progress.answers == labels).sum())
    tried = [measure(progress, labels, rule, cost) for rule in rules(progress)]
    chosen = []
    for loss in losses:
        least = whole - math.floor(loss * len(progress) + 1e-9)  # a share that rounding made too small
        fitting = [each for each in tried if round(each.accuracy * len(progress)) >= least]
        chosen.append(min(fitting, key=lambda each: (each.joules, -each.rule.lead, each.rule.hold)))
    return chosen


def front(tradeoffs: Sequence[Tradeoff]) -> list[Tradeoff]:
    """Those of which no other executes less and is as right, from the least executed on."""
    kept: list[Tradeoff] = []
    for each in sorted(tradeoffs, key=lambda each: (each.joules, -each.accuracy)):
        if not kept or each.accuracy > kept[-1].accuracy:
            kept.append(each)
    return kept
