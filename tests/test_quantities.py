from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikescr.quantities import percent, prefix, prefixed, si

FACTORS = {"f": -15, "p": -12, "n": -9, "µ": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12}


@pytest.mark.parametrize(
    ("value", "unit", "expected", "zeros"),
    [
        (1.234e-5, "J", "12.3 µJ", "12.3 µJ"),
        (4.8e-6, "J", "4.8 µJ", "4.80 µJ"),
        (1e-9, "J", "1 nJ", "1.00 nJ"),
        (100e-9, "J", "100 nJ", "100 nJ"),
        (999.4e-9, "J", "999 nJ", "999 nJ"),
        (999.6e-9, "J", "1 µJ", "1.00 µJ"),  # rounding goes up to the next prefix, never to 1e+03
        (-999.7e3, "", "-1 M", "-1.00 M"),
        (108.5, "", "109", "109"),  # halves go away from zero
        (-108.5, "", "-109", "-109"),
        (-20.5 * 0.9e-12, "J", "-18.5 pJ", "-18.5 pJ"),
        (0, "J", "0 J", "0 J"),
        (0, "", "0", "0"),
        (5e-18, "J", "0.005 fJ", "0.00500 fJ"),
    ],
)
def test_numbers_with_prefixes(value: float, unit: str, expected: str, zeros: str) -> None:
    assert si(value, unit) == expected
    assert si(value, unit, zeros=True) == zeros


@given(st.floats(1e-15, 1e14), st.sampled_from([-1, 1]))
def test_what_is_written_is_the_number_to_three_digits(value: float, sign: int) -> None:
    text, _, unit = si(sign * value, "J", zeros=True).partition(" ")
    assert float(text) * 10.0 ** FACTORS[unit.removesuffix("J")] == pytest.approx(sign * value, rel=5.001e-3)
    assert "e" not in text
    assert len(text.strip("-").replace(".", "").lstrip("0")) == 3
    assert prefixed("J", prefix(value)) == unit


def test_percent() -> None:
    assert percent(0.12345, 2) == "12.35 %"
    assert percent(None) == ""
    assert [percent(share) for share in (-0.0004, -0.0006)] == ["0.0 %", "-0.1 %"]
