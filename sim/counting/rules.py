"""The rules of `conventions`, evaluated on a run: what each charges, and why that is not what was executed.

A rule takes the Facts of all operations of a type and returns their Charge: AC and MAC, and the difference from what
`executed` charges for the same part, cause by cause. Charge and causes are written down independently of each other, so
that their agreement (`Audit.unexplained`) says something. A rule that asks for a fact that an audit does not keep ends
with `MissingFactError`; a rule that is `linear` charges the sums of some samples what it charges these together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from spikescr.sim.counting.facts import Facts
from spikescr.sim.counting.formula import CAUSES as FORMULA_CAUSES

Amount: TypeAlias = NDArray[Any] | float  # (rows, samples), or what can be broadcast to it


@dataclass(frozen=True)
class Charge:
    """AC and MAC; causes: cause -> AC and MAC, convention minus executed."""

    ac: Amount = 0.0
    mac: Amount = 0.0
    causes: Mapping[str, tuple[Amount, Amount]] = field(default_factory=dict)


Rule: TypeAlias = Callable[[Facts], Charge]

LINEAR: set[Rule] = set()
"""Rules that may be evaluated on sums over samples, as audits of format 1 keep them."""


def linear(rule: Rule) -> Rule:
    """Marks a rule as one of LINEAR."""
    LINEAR.add(rule)
    return rule


def _nothing(cause: str) -> Rule:
    """Charges nothing for what was executed; `cause` names what is left out."""
    return linear(lambda f: Charge(causes={cause: (-f["ac"], -f["mac"])}))


@linear
def _events(f: Facts) -> Charge:
    return Charge(f["ac"], f["mac"])


@linear
def _graded(f: Facts) -> Charge:
    multiplied = np.where(f["mac"] > 0, f["synops"], f["synops_graded"])  # real values, or integers
    plain = f["synops"] - multiplied
    return Charge(plain, multiplied, {"integer_inputs": (plain - f["ac"], multiplied - f["mac"])})


@linear
def _paper(f: Facts) -> Charge:
    causes = {cause: (-f[f"{cause}_ac"], -f[f"{cause}_mac"]) for cause in FORMULA_CAUSES}
    return Charge(f["formula_ac"], f["formula_mac"], causes)


def _typed(f: Facts) -> tuple[Amount, Amount]:
    """Executed operations moved to the column that the values of the input decide: AC if all are 0 or 1, else MAC."""
    return np.where(f.binary, f["synops"], 0) - f["ac"], np.where(f.binary, 0, f["synops"]) - f["mac"]


def _split(f: Facts, amount: Amount) -> tuple[Amount, Amount]:
    """An amount as AC where the input was 0 or 1 throughout, else as MAC."""
    return np.where(f.binary, amount, 0), np.where(f.binary, 0, amount)


def _tensor(f: Facts) -> Charge:
    outside, dense = f["synops_discarded"], f.valid * f["dense"]
    inside = f["synops"] - outside + f.zeros
    causes = {
        "integer_inputs": _typed(f),
        "kernel_ends": _split(f, -outside),
        "zero_input": (0.0, np.where(f.binary, 0, f.valid * f["real"] - f["synops"] + outside)),
        "zero_weights": (np.where(f.binary, f.zeros, 0), np.where(f.binary, 0, f.valid * (f["dense"] - f["real"]))),
    }
    return Charge(np.where(f.binary, inside, 0), np.where(f.binary, 0, dense), causes)


def _effective(f: Facts) -> Charge:
    outside = f["synops_discarded"]
    charged = _split(f, f["synops"] - outside)
    return Charge(*charged, {"integer_inputs": _typed(f), "kernel_ends": _split(f, -outside)})


def _rate(f: Facts) -> Charge:
    flops = f.valid * f["dense"]
    rated = f["entries"] * f["dense"] / f["width_in"]
    whole, more = f["dense"] == f["real"], rated - f["synops"]
    causes = {
        "integer_inputs": _typed(f),
        "kernel_ends": (np.where(f.binary & whole, more, 0), 0.0),
        "zero_input": (0.0, np.where(f.binary, 0, f.valid * f["real"] - f["synops"])),
        "zero_weights": (
            np.where(f.binary & ~whole, more, 0),
            np.where(f.binary, 0, f.valid * (f["dense"] - f["real"])),
        ),
    }
    return Charge(np.where(f.binary, rated, 0), np.where(f.binary, 0, flops), causes)


def _rate_bias(f: Facts) -> Charge:
    additions = np.where(f["own_bias"], f["width_out"] * np.where(f["over_time"], f.valid, 1), 0)
    rated = additions * f["entries"] / (np.maximum(f.valid, 1) * f["width_in"])
    charged = np.where(f.binary, rated, 0), np.where(f.binary, 0, additions)
    return Charge(*charged, {"bias": charged})


def _normalisation(per_channel: int, ac: int, mac: int) -> Rule:
    def rule(f: Facts) -> Charge:
        entries = f["width_out"] * f.valid
        charged = f["batch_norm"] * (per_channel * f["width_out"] + ac * entries), f["batch_norm"] * mac * entries
        return Charge(*charged, {"normalisation": charged})

    return rule


def _rotary_entries(f: Facts) -> Charge:
    entries = f["width_out"] * f.valid
    return Charge(entries, 0.0, {"rotary": (entries - f["ac"], -f["mac"])})


@linear
def _quadratic(f: Facts) -> Charge:
    # Real values are multiplied in this order alone, and then it is the one that was executed.
    return Charge(f["ac_quadratic"], f["mac"], {"attention_order": (f["ac_quadratic"] - f["ac"], 0.0)})


def _updates(each: int, less_once: int) -> Rule:
    def rule(f: Facts) -> Charge:
        ac = each * f["neuron"] - (less_once * f["width_out"] if less_once else 0)
        return Charge(ac, 0.0, {"neuron_updates": (ac, 0.0)})

    return rule if less_once else linear(rule)


def _sums(f: Facts) -> Charge:
    return Charge(f["sums"], 0.0, {"residual_sums": (f["sums"], 0.0)})


# A rule of None charges nothing where nothing was executed either.
RULES: Mapping[str, Mapping[str, Rule | None]] = {
    "synapse": {
        "events": _events, "graded": _graded, "paper": _paper, "tensor": _tensor, "effective": _effective,
        "rate": _rate,
    },
    "bias": {"none": None, "rate": _rate_bias},
    "normalisation": {
        "none": None, "subtract_scale": _normalisation(per_channel=1, ac=1, mac=1),
        "twice": _normalisation(per_channel=0, ac=0, mac=2),
    },
    "rotary": {"events": _events, "graded": _graded, "none": _nothing("rotary"), "entries": _rotary_entries},
    "attention": {
        "linear": _events, "quadratic": _quadratic, "paper": _paper, "none": _nothing("uncounted"),
    },
    "neuron": {"none": None, "six": _updates(6, less_once=1), "one": _updates(1, less_once=0)},
    "residual": {"none": None, "sums": _sums},
}  # fmt: skip
