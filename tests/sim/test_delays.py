"""Delays of a graph are whole steps, up to what arithmetic in seconds rounds off."""

from __future__ import annotations

import nir
import numpy as np
import pytest

from spikescr.errors import GraphError
from spikescr.sim.lowering.lower import lower
from spikescr.sim.program import DelayLine, Program, Synapse

DT = 0.01


def lowered(seconds: float, *, tap: bool) -> Program:
    """A Delay alone, or one that a Linear takes up as its tap."""
    nodes = {
        "input": nir.Input(np.array([2])),
        "late": nir.Delay(np.full(2, seconds)),
        "output": nir.Output(np.array([2])),
    }
    edges = [("input", "late"), ("late", "output")]
    if tap:
        nodes["fc"] = nir.Linear(np.ones((2, 2)))
        edges = [("input", "late"), ("late", "fc"), ("fc", "output")]
    return lower(nir.NIRGraph(nodes, edges, metadata={"spikescr.dt": DT, "spikescr.steps": 6}))


@pytest.mark.parametrize("tap", [False, True])
@pytest.mark.parametrize("steps", [1.1, 0.9, 1.3, 0.01, 2.001, 2.9999])
def test_fraction_of_a_step_is_refused(steps: float, tap: bool) -> None:
    with pytest.raises(GraphError, match=r"^late: delay must be whole steps of 0\.01 s"):
        lowered(steps * DT, tap=tap)


@pytest.mark.parametrize("round_delays", [False, True])
def test_delay_below_0_is_told_as_such_whatever_else_is_wrong(round_delays: bool) -> None:
    nodes = {
        "input": nir.Input(np.array([2])),
        "late": nir.Delay(np.array([1.05 * DT, -20 * DT])),
        "output": nir.Output(np.array([2])),
    }
    graph = nir.NIRGraph(nodes, [("input", "late"), ("late", "output")], metadata={"spikescr.dt": DT})
    with pytest.raises(GraphError, match=r"^late: delay must be 0 or more, found -0\.2 s$"):
        lower(graph, steps=5, round_delays=round_delays)


@pytest.mark.parametrize("tap", [False, True])
@pytest.mark.parametrize(("steps", "whole"), [(1 + 1e-9, 1), (1 - 1e-9, 1), (3 - 1e-8, 3), (1e-9, 0), (-1e-9, 0)])
def test_rounding_is_not_a_fraction(steps: float, whole: int, tap: bool) -> None:
    program = lowered(steps * DT, tap=tap)
    if tap:
        (synapse,) = program.of_type(Synapse)
        assert [t.delay for t in synapse.taps] == [whole]
    else:
        (line,) = program.of_type(DelayLine)
        assert line.delay == whole
    assert program.period == 6 + whole
