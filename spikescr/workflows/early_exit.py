"""Early exit of a run folder: a rule learnt from validation recordings, and what a simulation until sure gave."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from spikescr.documents import read_model
from spikescr.errors import SpikescrError, UsageError
from spikescr.files import sha256, write_text
from spikescr.progress import advancing
from spikescr.runs import RunFolder

if TYPE_CHECKING:
    from spikescr.data import Item
    from spikescr.sim.counting.early_exit import ExitRule, Exits, Progress, Tradeoff
    from spikescr.sim.program import IntArray
    from spikescr.workflows.deployed import Deployed
    from spikescr.workflows.execution import Execution

_CHUNK = 256
"""Recordings prepared at once."""


@dataclass(frozen=True)
class FittedExit:
    """A rule, and what it gives on the recordings that it was learnt from.

    Attributes:
        chosen: the rule with what it gives.
        whole: what no rule gives: every recording to its end.
        curve: rules of which no other executes less and is as right.
        loss: share of the recordings that might be answered wrongly more often.
        recordings: how many there were.
        split: which.
        data: of which data set.
    """

    chosen: Tradeoff
    whole: Tradeoff
    curve: tuple[Tradeoff, ...]
    loss: float
    recordings: int
    split: str
    data: str


class _Rule(BaseModel):
    lead: float = Field(allow_inf_nan=False)
    hold: int = Field(ge=1)


class _Kept(BaseModel):
    """What is read of early-exit.json; the rest is for people. files: SHA-256 by name."""

    rule: _Rule
    files: dict[str, str]


def fit_early_exit(
    run: RunFolder, *, loss: float = 0.0, data: str | None = None, split: str = "valid", limit: int | None = None
) -> FittedExit:
    """Learns when an answer is settled, and keeps the rule in the run folder.

    Of rules `sim.counting.early_exit.rules` the one that executes least and is right as often on these recordings as
    the whole network, but for `loss`. They should be other people's than those it is tested on.

    Args:
        run: with a graph.
        loss: share of the recordings, 0 or more and less than 1.
        data: data set instead of the one that the network was trained on.
        split: of it.
        limit: the first so many recordings only.

    Raises:
        UsageError: the recordings do not fit the graph, or their classes are not known.
        SpikescrError: the folder has no graph, or the simulation fails.
    """
    from spikescr.provenance import versions
    from spikescr.sim.counting.early_exit import ExitRule, fit, front, measure, rules
    from spikescr.sim.counting.energy import HOROWITZ_45NM as COST
    from spikescr.workflows.deployed import choose_recordings, open_deployed, require_current

    if not 0 <= loss < 1:
        raise UsageError(f"loss {loss:g}: must be a share of the recordings, from 0 to less than 1")
    run.require(run.graph)
    with run.locked():
        deployed = open_deployed(run.graph)
        require_current(run, deployed.program.metadata)
        items = choose_recordings(deployed, data=data, split=split, limit=limit, recording=None)
        progress, labels = follow(deployed, items)
        (chosen,) = fit(progress, labels, COST, (loss,))
        whole = measure(progress, labels, ExitRule(float("inf"), 1), COST)
        curve = front([measure(progress, labels, rule, COST) for rule in rules(progress)])
        fitted = FittedExit(chosen, whole, tuple(curve), loss, len(labels), split, data or deployed.data)
        content = {
            "rule": vars(chosen.rule),
            "loss": loss,
            "data": fitted.data,
            "split": split,
            "recordings": fitted.recordings,
            "whole": {key: value for key, value in whole.as_json().items() if key != "rule"},
            "chosen": chosen.as_json(),
            "curve": [each.as_json() for each in curve],
            "cost": COST.name,
            "files": {run.graph.name: sha256(run.graph)},
            "versions": versions("spikescr", "numpy"),
        }
        write_text(run.early_exit, json.dumps(content, indent=1) + "\n")
    return fitted


def follow(deployed: Deployed, items: Sequence[Item]) -> tuple[Progress, IntArray]:
    """Executes recordings, and gives their progress and their classes (B,).

    Raises:
        UsageError: the class of one is not known.
        DataError: most of them cannot be read.
    """
    import numpy as np
    import threadpoolctl

    from spikescr.data import load
    from spikescr.data.dataset import NO_LABEL
    from spikescr.data.left_out import require_enough
    from spikescr.sim.counting.early_exit import Progress
    from spikescr.sim.fast.backend import FastBackend
    from spikescr.sim.run import run_batches

    unknown = [item.name for item in items if item.label == NO_LABEL]
    if unknown:
        raise UsageError(f"{unknown[0]}: its class is not known; early exit is learnt from recordings of known classes")
    program, left_out = deployed.program, dict[str, str]()
    parts: list[Progress] = []
    labels: list[IntArray] = []
    batch = max(4, min(64, 6400 // program.steps))
    with (
        threadpoolctl.threadpool_limits(1),
        advancing("Simulating", len(items)) as advance,
        FastBackend(program, min(batch, len(items)), record_spikes=False) as backend,
    ):
        for start in range(0, len(items), _CHUNK):
            chunk = items[start : start + _CHUNK]
            features = load(chunk, deployed.preprocessing, is_part=True)
            for done in run_batches(program, backend, features.values, features.steps):
                parts.append(Progress.of(program, done.recording.counts, done.output, done.valid))
            labels.append(features.labels)
            left_out |= dict(features.left_out)
            advance(len(chunk))
    require_enough(left_out, len(items))
    return Progress.joined(parts), np.concatenate(labels)


def read_rule(run: RunFolder) -> ExitRule:
    """The rule that a run folder keeps.

    Raises:
        SpikescrError: there is none, the file is damaged, or it was learnt with another graph.
    """
    from spikescr.sim.counting.early_exit import ExitRule

    command = run.make_command(run.early_exit)
    kept = read_model(run.require(run.early_exit), _Kept, f"make it again with: {command}")
    if kept.files.get(run.graph.name) != sha256(run.graph):
        raise SpikescrError(f"{run.early_exit} was learnt with another graph; learn it again with: {command}")
    return ExitRule(kept.rule.lead, kept.rule.hold)


def exit_table(execution: Execution, exits: Exits) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Fields and rows of early-exit.csv."""
    from spikescr.sim.counting.energy import HOROWITZ_45NM as COST

    audit, classes = execution.audit, [execution.deployed.classes[number] for number in exits.predicted]
    joules = COST.joules(exits.ac.astype(float), exits.mac.astype(float))
    rows = zip(
        audit.recordings, audit.labels, classes, audit.predicted, exits.step.tolist(), audit.valid.tolist(),
        exits.ac.tolist(), exits.mac.tolist(), joules.tolist(), audit.energy("executed").tolist(), strict=True,
    )  # fmt: skip
    fields = (
        "recording", "label", "predicted", "predicted_at_end", "step", "steps", "ac", "mac", "events_j", "whole_j",
    )  # fmt: skip
    return fields, list(rows)


def exit_summary(execution: Execution) -> dict[str, Any] | None:
    """What a simulation until sure gave, means over the recordings, J; None where all ran to the end."""
    exits, rule = execution.exits, execution.job.until_sure
    if exits is None or rule is None:
        return None
    import numpy as np

    from spikescr.sim.counting.energy import HOROWITZ_45NM as COST

    audit = execution.audit
    answers = np.array([execution.deployed.classes[number] for number in exits.predicted])
    labels, valid = np.array(audit.labels), np.asarray(audit.valid)
    known = labels != ""
    return {
        "rule": vars(rule),
        "accuracy": float((answers == labels)[known].mean()) if known.any() else None,
        "agreement": float((answers == np.array(audit.predicted)).mean()),
        "settled": float((exits.step < valid).mean()),
        "step": float(np.minimum(exits.step + 1, valid).mean()),
        "steps": float(valid.mean()),
        "ac": int(exits.ac.sum()),
        "mac": int(exits.mac.sum()),
        "joules": COST.joules(float(exits.ac.sum()), float(exits.mac.sum())) / len(valid),
        "whole_joules": float(audit.energy("executed").mean()),
    }
