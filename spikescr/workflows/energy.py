"""What a simulation cost by every convention of counting, as plain data: of one run, and of several compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spikescr.errors import SpikescrError, UsageError
from spikescr.files import sha256
from spikescr.runs import RunFolder
from spikescr.sim.counting import before, summary
from spikescr.sim.counting.energy import CONSTANTS, Constants, EnergyCost, read_constants
from spikescr.sim.counting.saved import Audit

AUDIT = "audit.npz"


def audit_file(path: Path) -> Path:
    """The audit in a run folder, or in the folder that `simulate GRAPH` wrote; a file is the audit itself.

    Raises:
        SpikescrError: there is none; the message has the command that makes it.
    """
    if path.is_file():
        return path
    run = RunFolder(path)
    run.recover()
    if (path / AUDIT).is_file():
        return path / AUDIT
    return run.require(run.audit)


def open_audit(path: Path) -> Audit:
    """The audit of a simulation; path as of `audit_file`.

    Raises:
        SpikescrError: there is none, it is damaged, or the run folder holds another graph or network now.
    """
    file, run = audit_file(path), RunFolder(path)
    audit = Audit.load(file)
    if file == run.audit:
        for source, what in ((run.graph, "graph"), (run.checkpoint, "network")):
            digest = audit.about.get("files", {}).get(source.name)
            if digest is not None and source.exists() and sha256(source) != digest:
                raise SpikescrError(f"{source} is another {what} than was simulated; {run.make_command(file)} again")
    return audit


def known_constants(file: Path | None, cost: str) -> Constants:
    """All constants, those of a file included, among which `cost` must be.

    Raises:
        UsageError: the file cannot be used or takes a name that is taken, or there are no constants of that name.
    """
    own = Constants() if file is None else read_constants(file)
    taken = sorted(CONSTANTS.costs.keys() & own.costs.keys() | CONSTANTS.memories.keys() & own.memories.keys())
    if taken:
        raise UsageError(f"{file}: {taken[0]} is the name of constants that are known already; take another")
    known = Constants({**CONSTANTS.costs, **own.costs}, {**CONSTANTS.memories, **own.memories})
    if cost not in known.costs:
        raise UsageError(f"{cost}: no such constants (--cost); known: {', '.join(known.costs)}")
    return known


def everything(audit: Audit, known: Constants, cost: str, start: str, end: str) -> dict[str, Any]:
    """All that is known of one run; means over the samples, energies in joules.

    Args:
        audit: of the run.
        known: constants.
        cost: name of those of all figures that have no others.
        start: convention from which the difference is explained.
        end: convention to which; where one of the two cannot be evaluated, there is no `reconciliation`.
    """
    told = audit.refused.keys().isdisjoint((start, end))
    chosen = known.costs[cost]
    neuron = audit.counts["neuron"].sum() / audit.samples
    ac, mac = audit.charge("executed").sum(axis=0) / audit.samples
    return {
        "samples": audit.samples,
        "accuracy": audit.accuracy,
        "cost": chosen.model_dump(),
        "conventions": summary.conventions(audit, chosen),
        "before_network": before.figures(audit, chosen),
        "not_evaluated": audit.refused,
        "unexplained_operations": audit.unexplained(),
        "reconciliation": summary.reconciliation(audit, chosen, start, end) if told else None,
        "layers": summary.layers(audit, chosen),
        "constants": {
            name: {**each.model_dump(), "executed_j": each.joules(ac, mac, neuron)}
            for name, each in known.costs.items()
        },
        "memory": {
            **summary.memory(audit, chosen, dict(known.memories)),
            "prices": {name: price.model_dump() for name, price in known.memories.items()},
        },
        "per_step": summary.per_step(audit, chosen),
        "decision": summary.decisions(audit, chosen),
        "about": dict(audit.about),
    }


def compare(audits: Sequence[tuple[str, Audit]], cost: EnergyCost, convention: str) -> list[tuple[str, dict[str, Any]]]:
    """The change of energy from the first of some runs to each of the others, with 95 % intervals.

    Args:
        audits: runs, with their names.
        cost: constants.
        convention: by which it is charged.

    Raises:
        SpikescrError: the convention cannot be evaluated on one of them.
    """
    rows = []
    for number, (name, audit) in enumerate(audits):
        audit.charged(convention)
        charged = summary.conventions(audit, cost)[convention]
        row: dict[str, Any] = {
            "steps_per_second": round(1 / audit.dt),
            "samples": audit.samples,
            "accuracy": audit.accuracy,
            "joules": charged["joules"],
            "spread_j": charged["spread_j"],
        }
        if number:
            row["change"] = summary.comparison(audits[0][1], audit, cost, convention)
        rows.append((name, row))
    return rows
