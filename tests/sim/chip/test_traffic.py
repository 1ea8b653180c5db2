"""Spikes between cores and the estimate of a run, with the arithmetic."""

from __future__ import annotations

import itertools

import nir
import numpy as np
import pytest

from spikescr.sim.chip.limits import Limit, chip_named
from spikescr.sim.chip.mapper import place
from spikescr.sim.chip.traffic import Activity, between_cores, channel_rates, estimate
from spikescr.sim.counting.energy import CONSTANTS
from spikescr.sim.lowering.lower import lower

DT = 0.01


def two_layers() -> nir.NIRGraph:
    """4 inputs, 6 neurons, a delay of 2 steps, 4 neurons."""

    def lif(width: int) -> nir.LIF:
        one = np.ones(width)
        return nir.LIF(tau=2 * DT * one, r=2 * one, v_leak=0 * one, v_threshold=one, v_reset=0 * one)

    nodes = {
        "input": nir.Input(np.array([4]), metadata={"spikescr.signal": "spikes"}),
        "a.w": nir.Linear(np.ones((6, 4))), "a.lif": lif(6), "late": nir.Delay(2 * DT * np.ones(6)),
        "relay": lif(6), "b.w": nir.Linear(np.ones((4, 6))), "b.lif": lif(4), "output": nir.Output(np.array([4])),
    }  # fmt: skip
    return nir.NIRGraph(nodes, list(itertools.pairwise(nodes)), metadata={"spikescr.dt": DT, "spikescr.steps": 8})


def test_messages_are_rates_times_cores_that_hear() -> None:
    program = lower(two_layers())
    chip = chip_named("loihi2").model_copy(update={"neurons": Limit(value=3, unit="neurons", assumed="test")})
    placement = place(program, "loihi2", chip, {})
    layers = {layer.name: layer for layer in placement.layers}
    rates = channel_rates(program, Activity({"a.lif": 1.5, "relay": 0.6, "b.lif": 0.1}, {}, 1))
    # a: 1.5 spikes per step, each to the one core where its relay is; these pass 1.5 on, each to one core
    assert between_cores(layers["a"], rates) == pytest.approx(1.5)
    assert between_cores(layers["late"], rates) == pytest.approx(1.5)
    # 0.6 spikes per step to both cores of b
    assert between_cores(layers["relay"], rates) == pytest.approx(0.6 * 2)
    assert between_cores(layers["b"], rates) == 0  # the host alone reads it
    bound = channel_rates(program, None)
    assert {n: between_cores(found, bound) for n, found in layers.items()} == {"a": 6, "late": 6, "relay": 12, "b": 0}


def test_a_chain_of_relays_on_one_core_sends_to_others_from_its_end() -> None:
    program = lower(two_layers())
    chip = chip_named("loihi2").model_copy(update={"delay": Limit(value=1, unit="steps", assumed="test")})
    (late,) = (layer for layer in place(program, "loihi2", chip, {}).layers if layer.name == "late")
    # 2 steps: two relays for each of 6 channels; the first sends to the second, on the same core
    assert (late.demand.neurons, late.reached.sum()) == (12, 12)
    assert between_cores(
        late, channel_rates(program, Activity({"a.lif": 1.5, "relay": 0.6, "b.lif": 0.1}, {}, 1))
    ) == pytest.approx(1.5)


def test_estimate_is_counts_times_published_figures() -> None:
    program = lower(two_layers())
    placement = place(program, "loihi2", chip_named("loihi2"), {})  # a core for each layer
    fired = {"a.lif": 1.5, "relay": 0.6, "b.lif": 0.1}
    found = estimate(
        placement, program, Activity(fired, {"a.w": 10.0, "b.w": 2.4}, steps=20), CONSTANTS.costs["loihi2018"]
    )
    # neurons: 6 + 6 relays + 6 + 4; messages of a, late and relay: 1.5 + 1.5 + 0.6 per step
    assert (found.synaptic, found.updates, found.messages) == pytest.approx((20 * 12.4, 20 * 22, 20 * 3.6))
    others = 20 * (12.4 * 23.6 + 3.6 * 1.7)
    assert found.joules == pytest.approx((1e-12 * (others + 440 * 52), 1e-12 * (others + 440 * 81)))
    # the busiest core: 6 neurons of a at 4.2 ns, 10 operations at 0.7 ns, and 200 ns
    assert found.layer == "a"
    assert found.step_seconds == pytest.approx(1e-9 * (200 + 6 * 4.2 + 10 * 0.7))
    assert found.seconds == pytest.approx(20 * found.step_seconds)
