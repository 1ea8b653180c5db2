"""Binning against a plain loop in exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import ValidationError

from spikescr.data.spikes import SpikeBins, densest_stretch
from spikescr.errors import DataError, UsageError
from spikescr.sizes import memory_limited

TIMES = arrays.arrays(np.float16, st.integers(0, 40), elements=st.floats(0, 1.5, width=16))


def plain(times: np.ndarray, units: np.ndarray, steps: int, bands: int) -> np.ndarray:
    """Spike by spike: bin floor(t * steps) of the number in the file, group unit // (700 / bands)."""
    places = [int(Fraction(float(t)) * steps) for t in times]
    counts = np.zeros((max(places, default=-1) + 1, bands), dtype=int)
    for place, unit in zip(places, units, strict=True):
        counts[place, int(unit) * bands // 700] += 1
    return counts


@given(
    times=TIMES,
    steps=st.one_of(st.sampled_from([40, 100, 200, 400, 500]), st.integers(1, 3000)),
    bands=st.sampled_from([1, 7, 140, 700]),
    seed=st.integers(0, 2**32),
)
def test_counts_are_those_of_a_plain_loop(times: np.ndarray, steps: int, bands: int, seed: int) -> None:
    units = np.random.default_rng(seed).integers(0, 700, len(times)).astype(np.uint16)
    np.testing.assert_array_equal(
        SpikeBins(steps=steps, bands=bands).count(times, units), plain(times, units, steps, bands)
    )


@given(
    times=st.sampled_from([32, 64]).flatmap(
        lambda width: arrays.arrays(f"f{width // 8}", st.integers(0, 40), elements=st.floats(0, 1.5, width=width))
    ),
    near=arrays.arrays(np.int64, st.integers(0, 40), elements=st.integers(0, 700)),
    steps=st.one_of(st.sampled_from([40, 100, 200, 400, 500]), st.integers(1, 3000)),
    units=st.sampled_from(["u2", ">u2", "i4", "u8"]),
    seed=st.integers(0, 2**32),
)
def test_other_types_are_counted_exactly(
    times: np.ndarray, near: np.ndarray, steps: int, units: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    near = near[near <= 60 * steps]  # a recording ends after a minute
    edges = np.nextafter(near / steps, rng.choice([-1.0, 1.0], len(near))).clip(0, 2)  # on edges, and just beside
    times = np.concatenate([times, near / steps, edges]).astype(times.dtype)
    fired = rng.integers(0, 700, len(times)).astype(units)
    np.testing.assert_array_equal(SpikeBins(steps=steps).count(times, fired), plain(times, fired, steps, 140))


@pytest.mark.parametrize("steps", [40, 100, 500, 1000])
def test_every_float16_up_to_two_seconds_is_in_the_bin_of_its_exact_value(steps: int) -> None:
    times = np.arange(2**16, dtype=np.uint16).view(np.float16)
    times = times[(times >= 0) & (times <= 2)]
    counts = SpikeBins(steps=steps).count(times, np.zeros(len(times), np.uint16))
    assert counts[:, 0].sum() == len(times) > 16_000
    np.testing.assert_array_equal(counts, plain(times, np.zeros(len(times)), steps, 140))


def test_spike_on_an_edge_opens_the_later_bin() -> None:
    edge = np.float16(0.25)  # 10 steps of 25 ms, exactly
    before, after = np.nextafter(edge, np.float16(0)), np.nextafter(edge, np.float16(1))
    for time, place in ((before, 9), (edge, 10), (after, 10)):
        counts = SpikeBins(steps=40).count(np.array([time]), np.array([699], np.uint16))
        assert counts.shape == (place + 1, 140)
        assert counts[place, 139] == counts.sum() == 1


def test_order_of_the_spikes_does_not_matter_and_nothing_is_no_step() -> None:
    rng = np.random.default_rng(0)
    times, units = rng.uniform(0, 1, 500).astype(np.float16), rng.integers(0, 700, 500).astype(np.uint16)
    order = rng.permutation(500)
    bins = SpikeBins(steps=100)
    np.testing.assert_array_equal(bins.count(times, units), bins.count(times[order], units[order]))
    assert bins.count(times[:0], units[:0]).shape == (0, 140)


@pytest.mark.parametrize(
    ("time", "unit", "message"),
    [
        (-0.5, 3, "spike 1 is at -0.5 s; expected 0 to 60 s"),
        (np.nan, 3, "spike 1 is at nan s"),
        (np.inf, 3, "spike 1 is at inf s"),
        (60.03, 3, "spike 1 is at 60.03125 s"),
        (0.5, 700, "spike 1 is of unit 700; there are 700"),
        (0.5, 65535, "spike 1 is of unit 65535"),
        (-0.5, 700, "spike 1 is at -0.5 s"),
    ],
)
def test_impossible_spikes_are_named(time: float, unit: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        SpikeBins(steps=500, bands=700).count(np.array([0.1, time], np.float16), np.array([699, unit], np.uint16))


@pytest.mark.parametrize(
    ("time", "unit", "message"),
    [
        (1e12, 3, r"spike 1 is at 1000000000000\.0 s; expected 0 to 60 s"),
        (np.nan, 3, "spike 1 is at nan s"),
        (0.5, -1, "spike 1 is of unit -1; there are 700"),
        (0.5, 2**40, "spike 1 is of unit 1099511627776"),
    ],
)
def test_impossible_spikes_of_other_types_are_named(time: float, unit: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        SpikeBins(steps=500).count(np.array([0.1, time]), np.array([699, unit]))


def test_as_many_times_as_units() -> None:
    with pytest.raises(DataError, match="2 times, but 1 units"):
        SpikeBins(steps=10).count(np.zeros(2, np.float16), np.zeros(1, np.uint16))


def test_recording_of_more_steps_than_the_memory_holds_is_refused() -> None:
    message = r"^a recording of 60 s in 60,\d{3},\d{3} steps of 140 channels takes 202 GB of memory, allowed are 10 GB"
    with memory_limited(10**10), pytest.raises(UsageError, match=message):
        SpikeBins(steps=10**6).count(np.array([60], np.float16), np.zeros(1, np.uint16))


def test_densest_stretch_is_the_first_of_most_spikes() -> None:
    counts = np.array([[0], [3], [1], [0], [4], [0], [9]])
    np.testing.assert_array_equal(densest_stretch(counts, 3)[:, 0], [4, 0, 9])
    np.testing.assert_array_equal(densest_stretch(counts[:6], 2)[:, 0], [3, 1])
    np.testing.assert_array_equal(densest_stretch(counts[:4], 2)[:, 0], [3, 1])
    assert densest_stretch(counts, 7) is counts


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"bands": 139}, "bands must divide the 700 units into equal groups. Got 139"),
        ({"steps": 0}, "steps must be a positive number. Got 0"),
        ({"window_s": 61}, "window_s must be at most 60. Got 61"),
    ],
)
def test_absurd_bins_are_refused(numbers: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SpikeBins.design(**({"steps": 40} | numbers))


def test_bins_survive_json_and_are_checked() -> None:
    bins = SpikeBins.design(steps=500, window_s=1.37)
    assert SpikeBins.model_validate_json(bins.model_dump_json()) == bins
    assert bins.window_steps == 685
    with pytest.raises(ValidationError, match="equal groups"):
        SpikeBins(steps=40, bands=3)
