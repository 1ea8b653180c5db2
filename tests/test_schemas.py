"""What messages repeat of a file's values."""

from __future__ import annotations

import numpy as np
import pytest

from spikescr.schemas import LONGEST, brief


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.float64(-1.0), "-1.0"),
        (np.int64(3), "3"),
        (np.bool_(True), "True"),
        (np.str_("zero"), "'zero'"),
        ((np.int64(2), [np.float32(0.5)]), "(2, [0.5])"),
        (0.25, "0.25"),
        (None, "None"),
    ],
)
def test_numbers_of_any_numpy_are_told_as_pythons(value: object, told: str) -> None:
    """NumPy 2 writes its own as np.float64(-1.0), NumPy 1 as -1.0."""
    assert brief(value) == told


def test_what_is_long_is_cut_short() -> None:
    assert len(brief("x" * 10_000)) <= LONGEST
    assert len(brief(np.arange(10_000.0))) <= LONGEST
