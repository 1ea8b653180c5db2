"""Resets that a file does not say: given when lowering, as `simulate --reset` does."""

from __future__ import annotations

import itertools
from typing import Any

import nir
import numpy as np
import pytest
from oracles.nir_interpreter import interpret

from spikescr.errors import GraphError
from spikescr.sim.fast.backend import FastBackend
from spikescr.sim.lowering.lower import lower

DT = 1e-3
SAID = {"metadata": {"reset_mechanism": "subtract"}}


def graph(node: dict[str, Any], **metadata: object) -> nir.NIRGraph:
    one = np.ones(2)
    first = nir.LIF(2 * DT * one, 2 * one, 0 * one, one, node.pop("v_reset", 0) * one, **node)
    second = nir.IF(one / DT, one)
    named = {"input": nir.Input(np.array([2])), "a": first, "b": second, "output": nir.Output(np.array([2]))}
    return nir.NIRGraph(named, [*itertools.pairwise(named)], metadata=metadata)


def spikes(network: nir.NIRGraph, x: np.ndarray, **options: Any) -> np.ndarray:
    program = lower(network, dt=DT, steps=len(x), **options)
    return FastBackend(program, 1).run({"input": x[:, None]}).outputs["output"][:, 0]


def test_a_reset_that_is_given_is_that_of_the_metadata() -> None:
    x = np.random.default_rng(0).uniform(0, 3, (40, 2))
    expected = interpret(graph({}, reset_mechanism="subtract", **{"spikescr.dt": DT}), {"input": x}, 40).outputs[
        "output"
    ]
    plain = spikes(graph({}), x)
    assert np.array_equal(spikes(graph({}), x, reset="subtract"), expected)
    assert np.array_equal(spikes(graph({}), x, reset="zero"), plain)
    assert not np.array_equal(expected, plain)


def test_a_file_that_says_it_is_not_contradicted() -> None:
    x = np.ones((3, 2))
    assert np.array_equal(spikes(graph(dict(SAID)), x, reset="subtract"), spikes(graph({}), x, reset="subtract"))
    with pytest.raises(
        GraphError, match=r"a \(LIF\): metadata reset_mechanism is subtract; it cannot be run with zero"
    ):
        spikes(graph(dict(SAID)), x, reset="zero")
    with pytest.raises(GraphError, match=r"the reset that was asked for is subtract, but v_reset is -1.0; one must go"):
        spikes(graph({"v_reset": -1.0}), x, reset="subtract")
