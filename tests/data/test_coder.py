"""Events of levels: against a loop written from the equation, over hypotheses, and as the network gets them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from spikescr.data import fit_and_load, load, open_data
from spikescr.data.audio import read_recording
from spikescr.data.coder import LEAST, OFF_RATES, ON_RATES, PLANES, Coder
from spikescr.data.frontend import FrontEnd
from spikescr.data.preprocessing import Preprocessing, RecordingNormaliser
from spikescr.data.spikes import SpikeBins

from .conftest import Maker

NAMES = [f"{word}/p{speaker}_nohash_{take}.wav" for word in ("a", "b") for speaker in range(4) for take in range(2)]


def coded(levels: np.ndarray, coder: Coder) -> np.ndarray:
    """Frame by frame, neuron by neuron, in Python's floats."""
    planes = [(1, row) for row in coder.on] + [(-1, row) for row in coder.off]
    v = [[0.0] * coder.bands for _ in planes]
    rows = []
    for frame in levels.reshape(-1, coder.bands).tolist():
        row = []
        for membranes, (sign, thresholds) in zip(v, planes, strict=True):
            for band, (x, threshold) in enumerate(zip(frame, thresholds, strict=True)):
                membranes[band] = coder.leak * membranes[band] + max(sign * x, 0.0)
                row.append(membranes[band] >= threshold)
                if row[-1]:
                    membranes[band] = 0.0
        rows.append(row)
    return np.array(rows, dtype=np.uint8).reshape(len(levels), -1)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.sampled_from([0.0, 0.5]))
def test_neurons_fire_as_the_equation_says(seed: int, frames: int, on: int, off: int, leak: float) -> None:
    rng = np.random.default_rng(seed)
    bands = int(rng.integers(1, 5))
    thresholds = tuple(tuple(row) for row in rng.uniform(0.1, 2, (on + off, bands)).tolist())
    coder = Coder(on=thresholds[:on], off=thresholds[on:], leak=leak)
    levels = rng.normal(size=(int(rng.integers(1, 8)), frames * bands)).astype(np.float32)
    events = coder(levels)
    assert events.dtype == np.uint8
    np.testing.assert_array_equal(events, coded(levels, coder))


def test_thresholds_give_the_rates_that_they_are_fitted_for() -> None:
    rng = np.random.default_rng(0)
    steps = rng.integers(10, 21, 300)
    values = rng.normal(size=(300, 20, 2 * 6)).astype(np.float32)
    for frames, length in zip(values, steps, strict=True):
        frames[length:] = 0.0
    coder = Coder.fit(values, steps, bands=6)
    assert coder.planes == PLANES
    events = np.concatenate([coder(frames[:length]) for frames, length in zip(values, steps, strict=True)])
    found = events.reshape(-1, 2, PLANES, 6).mean(axis=(0, 1))
    np.testing.assert_allclose(found, np.repeat([*ON_RATES, *OFF_RATES], 6).reshape(PLANES, 6), atol=0.01)


def test_a_band_that_training_hardly_heard_does_not_fire_at_a_whisper() -> None:
    coder = Coder.fit(np.zeros((3, 5, 4), np.float32), np.full(3, 5), bands=2)
    assert np.array([*coder.on, *coder.off]).min() >= LEAST
    assert not coder(np.full((5, 4), LEAST / 2, np.float32)).any()


def test_recordings_become_events_whatever_their_level(make_folder: Maker) -> None:
    dataset = open_data(f"folder:{make_folder(NAMES)}")
    settings = {"steps": 40, "bands": 10, "frames_per_step": 2, "normalise": "recording"}
    preprocessing, features = fit_and_load(dataset, **settings, spiking=True)
    assert (preprocessing.signal, preprocessing.channels) == ("spikes", 2 * PLANES * 10)
    assert features.values.dtype == np.uint8
    assert set(np.unique(features.values)) == {0, 1}
    assert Preprocessing.model_validate_json(preprocessing.model_dump_json()) == preprocessing
    np.testing.assert_array_equal(load(dataset.split("train"), preprocessing).values, features.values)
    waveform, rate = read_recording(dataset.split("train")[0].path)
    alone, steps = preprocessing(waveform, rate)
    np.testing.assert_array_equal(alone, features.values[0])
    np.testing.assert_array_equal(preprocessing(0.5 * waveform, rate)[0], alone)
    assert not alone[steps:].any()


def test_what_cannot_be_is_refused() -> None:
    front_end = FrontEnd.design(8000, steps=40, bands=4)
    coder = Coder(on=((1.0,) * 3,))
    with pytest.raises(ValidationError, match=r"must have 4 bands. Got 3"):
        Preprocessing(front_end=front_end, normaliser=RecordingNormaliser(), coder=coder)
    with pytest.raises(ValidationError, match=r"events already"):
        Preprocessing(front_end=SpikeBins(steps=40), coder=coder)
    with pytest.raises(ValidationError, match=r"same number of bands"):
        Coder(on=((1.0,),), off=((1.0, 1.0),))
