"""What an audit says, as plain data: conventions, the way from one to another, memory, steps, decisions.

Operations and energies are means over the samples; energies in joules. Conventions that cannot be evaluated on a run
are left out; `Audit.refused` says why.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spikescr.errors import SpikescrError
from spikescr.sim.counting.conventions import CAUSES, CONVENTIONS
from spikescr.sim.counting.energy import PICO, EnergyCost, MemoryCost
from spikescr.sim.counting.saved import Audit
from spikescr.sim.program import FloatArray, IntArray, operation_types


def joules(cost: EnergyCost, charge: FloatArray) -> FloatArray:
    """Energy of AC and MAC in the last axis, J."""
    energy: FloatArray = charge @ np.array([cost.ac_pj, cost.mac_pj or 0.0]) * PICO
    return energy


def conventions(audit: Audit, cost: EnergyCost) -> dict[str, dict[str, Any]]:
    """Convention -> title, source, rules, ac, mac, joules, spread_j: the standard deviation over samples; end_to_end.

    The spread is None where an audit of format 1 has sums only.
    """
    figures = {}
    for name in audit.conventions:
        convention = CONVENTIONS[name]
        ac, mac = (audit.charge(name).sum(axis=0) / audit.samples).tolist()
        each = joules(cost, audit.charged(name).samples)
        figures[name] = {
            "title": convention.title,
            "source": convention.source,
            "rules": dict(convention.rules),
            "ac": ac,
            "mac": mac,
            "joules": cost.joules(ac, mac),
            "spread_j": float(each.std()) if each.size else None,
            "end_to_end": convention.end_to_end,
        }
    return figures


def reconciliation(audit: Audit, cost: EnergyCost, start: str, end: str) -> dict[str, Any]:
    """The way from one convention to another: `causes` (cause -> ac, mac, joules), and `layers`, the same for each.

    Causes without any operations are left out.
    """
    difference = audit.difference(start, end) / audit.samples
    return {
        "from": start,
        "to": end,
        "causes": _causes(audit, cost, difference.sum(axis=0)),
        "layers": {layer: _causes(audit, cost, difference[audit.rows(layer)].sum(axis=0)) for layer in audit.layers},
    }


def _causes(audit: Audit, cost: EnergyCost, difference: FloatArray) -> dict[str, dict[str, float]]:
    return {
        cause: {"ac": float(ac), "mac": float(mac), "joules": cost.joules(float(ac), float(mac))}
        for cause, (ac, mac) in zip(CAUSES, difference, strict=True)
        if ac or mac
    }


def layers(audit: Audit, cost: EnergyCost) -> list[dict[str, Any]]:
    """For each layer that does anything: layer, firing_rate (None without neurons), joules by convention."""
    active = []
    fired, updates = (audit.counts[column].sum(axis=1) for column in ("fired", "neuron"))
    for layer in audit.layers:
        rows = audit.rows(layer)
        energies = {
            name: float(joules(cost, audit.charge(name)[rows].sum(axis=0))) / audit.samples
            for name in audit.conventions
        }
        if any(energies.values()):
            rate = float(fired[rows].sum() / updates[rows].sum()) if updates[rows].any() else None
            active.append({"layer": layer, "firing_rate": rate, "joules": energies})
    return active


def memory(audit: Audit, cost: EnergyCost, prices: dict[str, MemoryCost]) -> dict[str, Any]:
    """Traffic that the run implies, `bytes` by part, and `joules` by price; apart from the compute figure.

    A weight (or table entry) is read for every accumulation, a bias for every addition, a membrane read and written for
    every update, and for every accumulation of attention two words of its state or output are moved. Words have the
    bits of `cost`. Spikes, addresses and the accumulators of currents are not counted.
    """
    moved = {part: float(count.sum()) * cost.bits / 8 / audit.samples for part, count in _words(audit).items()}
    total = sum(moved.values())
    return {"bytes": moved, "joules": {name: price.joules(total) for name, price in prices.items()}}


def _words(audit: Audit) -> dict[str, IntArray]:
    """Words moved by part, (operations, steps), sums over the recordings."""
    known = operation_types()
    attention = np.array([[known[kind].in_state] for kind in audit.types])
    executed = audit.counts["ac"] + audit.counts["mac"]
    return {
        "weights": np.where(attention, 0, executed),
        "biases": audit.counts["bias"],
        "membranes": 2 * audit.counts["neuron"],
        "attention state": np.where(attention, 2 * executed, 0),
    }


def per_step(audit: Audit, cost: EnergyCost) -> dict[str, Any]:
    """Each layer at each executed step, lists (layers, steps) in the order of `layers`.

    mean_j: executed energy, mean over the recordings; spread_j: its standard deviation; mean_bytes: memory traffic, as
    `memory` counts it.
    """
    ac_pj, mac_pj, n = cost.ac_pj, cost.mac_pj or 0.0, audit.samples
    mean = (ac_pj * audit.moment("ac") + mac_pj * audit.moment("mac")) / n
    # Python's integers: what all recordings have in common must cancel exactly, and int64 may be too short for it.
    ac, mac = (audit.moment(name).astype(object) for name in ("ac", "mac"))
    variance = np.zeros(mean.shape)
    for weight, name, product in (
        (ac_pj**2, "ac_ac", ac * ac), (mac_pj**2, "mac_mac", mac * mac), (2 * ac_pj * mac_pj, "ac_mac", ac * mac),
    ):  # fmt: skip
        variance += weight * (n * audit.moment(name).astype(object) - product).astype(float)
    spread = np.sqrt(np.maximum(variance, 0)) / n
    moved = np.sum(list(_words(audit).values()), axis=0) * cost.bits / 8 / n
    traffic = np.array([moved[audit.rows(layer)].sum(axis=0) for layer in audit.layers])
    return {
        "layers": list(audit.layers),
        "mean_j": (mean * PICO).tolist(),
        "spread_j": (spread * PICO).tolist(),
        "mean_bytes": traffic.tolist(),
    }


def decisions(audit: Audit, cost: EnergyCost) -> dict[str, float] | None:
    """When predictions were final, means over the recordings; None where no class was chosen.

    step: the first step from which the prediction stayed; share: that step over the recording's steps; joules: executed
    until the output of that step.
    """
    decisions = audit.decisions
    if not len(decisions):
        return None
    until = joules(cost, decisions[:, 1:].astype(float))
    return {
        "step": float(decisions[:, 0].mean()),
        "step_spread": float(decisions[:, 0].std()),
        "share": float(((decisions[:, 0] + 1) / audit.valid).mean()),
        "joules": float(until.mean()),
        "spread_j": float(until.std()),
    }


def comparison(first: Audit, other: Audit, cost: EnergyCost, convention: str, seed: int = 0) -> dict[str, Any]:
    """The change of the mean energy from one run to another, with a 95 % interval by bootstrap.

    Where both runs have the same samples these are drawn in pairs. change: (other - first) / first; low, high: the
    2.5th and 97.5th percentile of it over 10,000 draws of samples with replacement.

    Raises:
        SpikescrError: the convention was not kept for each sample.
    """
    a, b = (joules(cost, audit.charged(convention).samples) for audit in (first, other))
    if not (len(a) and len(b)):
        raise SpikescrError(f"{convention}: an audit of format 1 keeps it in sums only; simulate again")
    rng = np.random.default_rng(seed)
    paired = first.recordings == other.recordings and first.about.get("input") == other.about.get("input")
    changes = []
    for _ in range(20):
        i = rng.integers(len(a), size=(500, len(a)))
        j = i if paired else rng.integers(len(b), size=(500, len(b)))
        changes.append(b[j].mean(axis=1) / a[i].mean(axis=1) - 1)
    low, high = np.percentile(np.concatenate(changes), [2.5, 97.5])
    return {
        "convention": convention,
        "paired": paired,
        "first_j": float(a.mean()),
        "other_j": float(b.mean()),
        "change": float(b.mean() / a.mean() - 1),
        "low": float(low),
        "high": float(high),
    }
