"""Accounts as audits, and what tests compare of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spikescr.sim.counting.account import Account
from spikescr.sim.counting.conventions import CONVENTIONS
from spikescr.sim.counting.saved import Audit

NAMES = tuple(CONVENTIONS)


def audit_of(account: Account) -> Audit:
    """The audit of an account; samples and classes are called r0, r1, ..."""
    names = [f"r{i}" for i in range(len(account.valid))]
    return Audit.from_account(account, names, names, names)


def total(account: Account, column: str, row: int | None = None, step: int | None = None) -> int:
    return audit_of(account).counts.total(column, row, step)


def samples(account: Account) -> list[tuple[int, ...]]:
    """Of each sample AC, MAC, and both by the formula."""
    audit = audit_of(account)
    columns = (audit.sample_counts(column).tolist() for column in ("ac", "mac", "formula_ac", "formula_mac"))
    return list(zip(*columns, strict=True))


def charges(account: Account) -> np.ndarray:
    """AC and MAC by every convention (operations, conventions, 2)."""
    audit = audit_of(account)
    return np.stack([audit.charge(name) for name in NAMES], axis=1)


def unexplained(account: Account) -> np.ndarray:
    """Convention minus executed minus its causes (operations, conventions, 2)."""
    audit = audit_of(account)
    explained = np.stack([audit.charged(name).causes.sum(axis=1) for name in NAMES], axis=1)
    return charges(account) - charges(account)[:, [NAMES.index("executed")]] - explained


def write_first_format(audit: Audit, path: Path, conventions: tuple[str, ...] = NAMES) -> None:
    """The audit as the first format had it: sums, and what some conventions charge."""
    import json

    from spikescr.sim.counting.conventions import CAUSES

    charged = [audit.charged(name) for name in conventions]
    names = {
        key: getattr(audit, key)
        for key in (
            "operations", "types", "latencies", "columns", "steps", "period", "dt", "recordings", "labels", "predicted",
            "about",
        )
    }  # fmt: skip
    text = json.dumps({"format": 1, **names, "conventions": conventions, "causes": CAUSES})
    totals = [audit.sample_counts(column) for column in ("ac", "mac", "formula_ac", "formula_mac")]
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            audit=np.array(text),
            valid=audit.valid,
            table=audit.table,
            causes=audit.formula_causes(),
            moments=audit.moments,
            charges=np.stack([each.charges for each in charged], axis=1),
            charge_causes=np.stack([each.causes for each in charged], axis=1),
            samples=np.stack(totals, axis=1),
            decisions=audit.decisions,
            sample_charges=np.stack([each.samples for each in charged], axis=1),
        )
