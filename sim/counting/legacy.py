"""Audits of format 1: sums over the recordings, and what the conventions of their time charged.

They hold every convention that their writer knew, evaluated. One that is newer is evaluated on the sums, where its
rules are linear and ask for no shapes; `Audit.refused` says of the others why not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikescr.sim.counting.conventions import CAUSES, CONVENTIONS
from spikescr.sim.counting.formula import CAUSES as FORMULA_CAUSES
from spikescr.sim.counting.tally import Charged

_SAME = ("types", "latencies", "columns", "operations", "recordings", "labels", "predicted")


def read_first_format(names: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """The fields of `Audit` from a file of format 1.

    Args:
        names: its JSON.
        arrays: table, causes (of the formula), moments, charges, charge_causes, sample_charges, decisions, valid.

    Raises:
        KeyError, ValueError: something is not there, or a cause that nobody knows.
    """
    places = [CAUSES.index(cause) for cause in names["causes"]]
    stored = {}
    for column, convention in enumerate(names["conventions"]):
        if convention in CONVENTIONS:
            causes = np.zeros((len(names["operations"]), len(CAUSES), 2))
            causes[:, places] = arrays["charge_causes"][:, column]
            stored[convention] = Charged(
                arrays["charges"][:, column], causes, arrays["sample_charges"][:, column], np.zeros((0, len(CAUSES), 2))
            )
    first = arrays["causes"]
    if first.shape[1:] != (len(FORMULA_CAUSES), 2):
        raise ValueError(f"causes of the formula have shape {first.shape}")
    return {
        **{key: tuple(names[key]) for key in _SAME},
        **{key: names[key] for key in ("steps", "period", "dt", "about")},
        **{key: arrays[key] for key in ("valid", "table", "moments", "decisions")},
        "facts": None,
        "shapes": {},
        "refused_formula": None,
        "stored": stored,
        "first_causes": first,
    }
