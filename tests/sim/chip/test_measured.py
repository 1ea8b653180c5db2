"""What others measured: as read in the texts that stand with it, beside the estimates and in none of them."""

from __future__ import annotations

import pytest

from spikescr.sim.chip.measured import measured

# In microjoules, from the lines "Median energy cost is ..." of the result files, and the abstract of arXiv 2406.15112,
# and table 1 of arXiv 1812.01739.
READ = {
    "Xylo": 6.6,
    "Syntiant": 31.537,
    "Loihi": 270,
    "STM32U385": 245.3412,
    "STM32U575": 656.163,
    "STM32L4R5": 1430.6681,
}


def test_every_figure_is_the_one_that_was_read_with_its_source() -> None:
    rows = measured()
    assert len(rows) == len(READ)
    for row in rows:
        (name,) = (name for name in READ if name in row.system)
        assert 1e6 * row.joules == pytest.approx(READ[name])
        assert row.url.startswith("https://")
        assert "results.txt" in row.source or "arXiv" in row.source
        assert row.of
    assert [row.joules for row in rows] == sorted(row.joules for row in rows)
