"""What comes before the network, priced like the network and never added to it: a front end of sound."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from spikescr import dialect
from spikescr.sim.counting.energy import PICO, EnergyCost
from spikescr.sim.counting.saved import Audit
from spikescr.stages import FrontWork

FRONT_END = "front_end"
"""Key of `Audit.about` under which the work of the front end stands, where it is known."""


def told(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What `Audit.about` is to say of the front end that a graph's metadata tell; nothing where they tell none."""
    return {FRONT_END: json.loads(metadata[dialect.FRONT_END])} if dialect.FRONT_END in metadata else {}


def work_of(audit: Audit) -> FrontWork | None:
    """The front end of what the network was run on; None where nothing tells it."""
    told = audit.about.get(FRONT_END)
    return None if told is None else FrontWork.model_validate(told)


def joules(cost: EnergyCost, additions: float, multiplications: float) -> float | None:
    """Energy of additions and of multiplications, what a MAC is more than an AC each, J; None where a MAC has none."""
    if cost.mac_pj is None:
        return None if multiplications else additions * cost.ac_pj * PICO
    return (additions * cost.ac_pj + multiplications * (cost.mac_pj - cost.ac_pj)) * PICO


def figures(audit: Audit, cost: EnergyCost) -> dict[str, Any] | None:
    """Means over the samples: title, additions, multiplications, joules, not_counted, and the same of each of `stages`.

    Joules are None where the constants have no energy of a multiplication. None where nothing tells the front end.
    """
    work = work_of(audit)
    if work is None:
        return None
    stages = []
    for stage in work.stages:
        times = sum(work.times(stage, steps) for steps in audit.valid.tolist()) / audit.samples
        stages.append(_figures(stage.additions * times, stage.multiplications * times, cost) | {
            "stage": stage.name, "rule": stage.rule, "each": stage.each
        })  # fmt: skip
    additions, multiplications = (sum(stage[kind] for stage in stages) for kind in ("additions", "multiplications"))
    about = {"title": work.title, "frames_per_step": work.frames_per_step, "not_counted": work.not_counted}
    return about | _figures(additions, multiplications, cost) | {"stages": stages}


def _figures(additions: float, multiplications: float, cost: EnergyCost) -> dict[str, Any]:
    return {
        "additions": additions,
        "multiplications": multiplications,
        "joules": joules(cost, additions, multiplications),
    }
