"""Limits as data: every number has a source or a reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from spikescr.errors import UsageError
from spikescr.sim.chip.limits import Limit, chip_named, chips, sources


@pytest.mark.parametrize("name", ["loihi2", "loihi1"])
def test_every_limit_has_a_source_that_is_listed_or_a_reason(name: str) -> None:
    for limit in chips()[name].limits.values():
        assert (limit.source in sources()) != bool(limit.assumed)
    assert all(source.url.startswith("https://") and source.year >= 2018 for source in sources().values())


def test_figures_of_the_chips() -> None:
    two, one = chip_named("loihi2"), chip_named("loihi1")
    assert two.whole("memory") == 192 * 1024
    assert one.whole("memory") == 16 * 2**20 // 128  # 16 MB on 128 cores
    assert one.whole("chip_neurons") == 128 * one.whole("neurons") == 131_072
    # 5 times and twice as fast as Loihi
    assert two.synapse_ns.value == pytest.approx(one.synapse_ns.value / 5)
    assert two.neuron_ns.value == pytest.approx(one.neuron_ns.value / 2)
    assert two.input_axons.assumed is not None
    assert one.input_axons.source == "nengo_loihi"


def test_a_limit_without_origin_or_with_two_is_refused() -> None:
    with pytest.raises(ValidationError, match="either a source or a reason"):
        Limit(value=1, unit="x")
    with pytest.raises(ValidationError, match="either a source or a reason"):
        Limit(value=1, unit="x", source="lava", assumed="so")


def test_unknown_chip_is_named_with_those_that_are_known() -> None:
    with pytest.raises(UsageError, match="no chip loihi3; known: loihi2, loihi1"):
        chip_named("loihi3")


def test_the_page_has_every_limit_as_it_is() -> None:
    page = (Path(__file__).parents[3] / "docs" / "chip.md").read_text()
    found = sources()
    order = list(found)
    for name in chip_named("loihi2").limits:
        (row,) = (line for line in page.splitlines() if line.startswith(f"| {name.replace('_', ' ')} |"))
        cells = [cell.strip() for cell in row.strip("|").split("|")][2:]
        for chip, (value, origin) in zip(("loihi2", "loihi1"), (cells[:2], cells[2:]), strict=True):
            limit = chip_named(chip).limits[name]
            assert float(value.replace(",", "")) == limit.value
            assert origin == ("assumed" if limit.source is None else f"[{order.index(limit.source) + 1}]")
    assert all(source.url in page for source in found.values())
