"""The NIR paper's traces of one LIF on other platforms, and its chain of two LIFs, on both backends."""

from __future__ import annotations

from pathlib import Path

import nir
import numpy as np
import pytest
from frameworks import recorded
from frameworks.comparison import BackendName, differing, execute
from frameworks.recorded import DT, EXACT, LIF, PLATFORMS

from spikescr.sim.lowering.graph_file import read_graph

TRACES = Path(__file__).parents[3] / "shared" / "nir_conformance"
pytestmark = pytest.mark.skipif(not TRACES.is_dir(), reason="no folder ../shared/nir_conformance beside the repository")

FIRES = {"Norse": 460, "snnTorch": 460, "exact solution": 460, "Lava, CPU": 461, "Spyx": 461}  # first spike


@pytest.fixture(params=["fast", pytest.param("lava", marks=pytest.mark.lava)])
def backend(request: pytest.FixtureRequest) -> BackendName:
    name: BackendName = request.param
    return name


def test_what_the_platforms_agree_in_is_what_we_do(backend: BackendName) -> None:
    traces = {
        name: recorded.read(TRACES, platform) for name, platform in {**PLATFORMS, "exact solution": EXACT}.items()
    }
    assert {name: int(trace.spikes.argmax()) for name, trace in traces.items()} == FIRES
    assert {int(trace.spikes.sum()) for trace in traces.values()} == {4}
    x = traces["Norse"].x
    assert all(np.array_equal(trace.x, x) for trace in traces.values())
    for integration in ("euler", "exponential"):
        _, got = execute(recorded.published(TRACES), x[:, None, None], DT, backend, integration)
        assert np.flatnonzero(got.spikes[LIF]).tolist() == [460, 510, 710, 760]
        off = {name: differing(got, {LIF: trace.spikes[:, None, None]}) for name, trace in traces.items()}
        assert off == {"Norse": 0, "snnTorch": 0, "exact solution": 0, "Lava, CPU": 8, "Spyx": 8}


@pytest.mark.parametrize("name", PLATFORMS)
def test_variant_of_the_equation_gives_the_platforms_trace(backend: BackendName, name: str) -> None:
    """Every spike and the membrane, to float32 rounding; without the variant the membrane is far off."""
    platform = PLATFORMS[name]
    made, trace = recorded.case(TRACES, platform), recorded.read(TRACES, platform)
    assert made.mended is not None
    program, got = execute(made.mended, made.x, DT, backend)
    assert differing(got, made.spikes) == 0
    np.testing.assert_allclose(platform.membrane(program, got), trace.membrane, rtol=0, atol=platform.tolerance)
    exponential = execute(made.mended, made.x, DT, backend, "exponential")
    assert np.abs(platform.membrane(*exponential) - trace.membrane).max() > 1e-3  # all four take Euler's step
    if name != "Norse":
        plain = recorded.after_reset(*execute(made.nir, made.x, DT, backend))
        assert np.abs(plain - trace.membrane).max() > 1e-2


def test_exact_solution_is_ours_with_exponential_integration_up_to_the_first_reset(backend: BackendName) -> None:
    trace, graph = recorded.read(TRACES, EXACT), recorded.published(TRACES)
    _, got = execute(graph, trace.x[:, None, None], DT, backend, "exponential")
    ours, first = got.membranes[LIF][:, 0, 0], FIRES["exact solution"]
    np.testing.assert_allclose(ours[:first], trace.membrane[:first], rtol=0, atol=EXACT.tolerance)
    assert abs(ours[first + 1] - trace.membrane[first + 1]) > 5e-3  # the reset falls within the step
    closed = recorded.exact(graph, trace.x)
    np.testing.assert_array_equal(closed.spikes, trace.spikes)
    np.testing.assert_allclose(closed.membrane, trace.membrane, rtol=0, atol=EXACT.tolerance)


@pytest.mark.parametrize("second_threshold", [20.0, 0.011], ids=["published", "lowered"])
def test_chain_driven_by_its_leak_is_a_loop_of_the_equations(backend: BackendName, second_threshold: float) -> None:
    """The published threshold of the second neuron is out of reach of spikes of height 1; for 0.011 two will do."""
    graph = read_graph(TRACES / "two_lif_neurons.nir")
    graph.nodes["lif2"].v_threshold = np.array([second_threshold])
    steps, x = 2000, np.zeros((2000, 1, 1))
    _, got = execute(graph, x, DT, backend)
    first = second = 0.0
    membranes, spikes = np.zeros((steps, 2)), np.zeros((steps, 2), bool)
    for t in range(steps):
        first += DT / 0.01 * (1.2 - first)
        fires = first > 1.0
        second += DT / 0.01 * (fires - second)
        membranes[t], spikes[t] = (first, second), (fires, second > second_threshold)
        first, second = 0.0 if fires else first, 0.0 if spikes[t, 1] else second
    for i, name in enumerate(("lif1", "lif2")):
        np.testing.assert_array_equal(got.spikes[name][:, 0, 0], spikes[:, i])
        np.testing.assert_allclose(got.membranes[name][:, 0, 0], membranes[:, i], rtol=0, atol=1e-14)
    period = int(np.ceil(np.log(1 - 1 / 1.2) / np.log(1 - DT / 0.01)))
    assert np.flatnonzero(spikes[:, 0])[:3].tolist() == [period - 1, 2 * period - 1, 3 * period - 1]
    assert (spikes[:, 1].sum() > 0) == (second_threshold < 1)
    assert membranes[:, 1].max() > 0


def test_graph_is_the_one_of_the_readme() -> None:
    graph = recorded.published(TRACES)
    (lif,) = (node for node in graph.nodes.values() if isinstance(node, nir.LIF))
    assert (lif.tau.item(), lif.v_threshold.item()) == pytest.approx((2.5e-3, 0.1))
