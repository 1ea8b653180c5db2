"""Membrane constants: what a NIR file states is bit for bit what the folded model computes with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikescr.errors import ExportError
from spikescr.export.membrane import membrane


@given(
    decay=st.one_of(st.floats(0, 0.9999), st.floats(1e-300, 1e-3)),
    dt=st.one_of(st.integers(1, 2000).map(lambda n: 1 / n), st.floats(1e-6, 1)),
)
def test_constants_give_exactly_the_decay_and_a_gain_of_one(decay: float, dt: float) -> None:
    found = membrane(decay, dt)
    assert 1 - dt / found.tau == found.decay
    assert found.r * (dt / found.tau) == 1.0
    assert found.r * dt / found.tau == 1.0
    assert abs(found.decay - decay) <= 1e-13
    assert membrane(found.decay, dt).decay == found.decay


@pytest.mark.parametrize("steps", [40, 100, 200, 333, 500])
def test_the_neuron_of_the_paper_has_tau_two_steps(steps: int) -> None:
    found = membrane(0.5, 1 / steps)
    assert (found.tau, found.r, found.decay) == (2 / steps, 2.0, 0.5)


@pytest.mark.parametrize("decay", [1.0, -0.1, float("nan")])
def test_what_does_not_leak_is_refused(decay: float) -> None:
    with pytest.raises(ExportError, match="is no leaky integrator"):
        membrane(decay, 0.01)
