"""Fixed point: the arithmetic of Lava's bit-accurate models, what a graph may hold, how hosts talk to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nir
import numpy as np
import pytest
from fixed.agreement import after_reset, executed
from fixed.cases import KINDS, Case, Path, draw, graph_of
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.program_interpreter import InterpreterBackend

from spikescr import dialect
from spikescr.errors import BackendError, GraphError
from spikescr.sim.fast.backend import FastBackend
from spikescr.sim.lowering.fixed import check_weights
from spikescr.sim.lowering.lower import lower
from spikescr.sim.program import FixedNeuron

TOP = 2**23 - 1
# networkx 2.8, while Lava compiles
pytestmark = pytest.mark.filterwarnings("ignore:pandas not found:ImportWarning")


@pytest.fixture(params=["fast", pytest.param("lava", marks=pytest.mark.lava), "interpreter"])
def backend(request: pytest.FixtureRequest) -> Any:
    if request.param == "lava":
        from spikescr.sim.lava.backend import LavaBackend

        return LavaBackend
    return {"fast": FastBackend, "interpreter": InterpreterBackend}[request.param]


def one_neuron(mantissa: int, exponent: int, x: list[int], **registers: int) -> Case:
    """A neuron behind one excitatory or inhibitory synapse."""
    mode = "excitatory" if mantissa >= 0 else "inhibitory"
    path = Path(np.array([[mantissa]]), exponent, 8, mode, "x")
    return Case("dense", (path,), {"dv": 2048, **registers}, {"x": np.array(x, float).reshape(-1, 1, 1)})


def membranes(case: Case, backend: Any) -> tuple[list[int], list[int]]:
    """Membranes before the reset and spikes of the one neuron."""
    recording = executed(case, backend)
    kept, spikes = (found["layer"][: case.steps, 0, 0] for found in (recording.membranes, recording.spikes))
    return kept.astype(int).tolist(), spikes.astype(int).tolist()


def test_membranes_decay_toward_zero_and_fire_above_the_register(backend: Any) -> None:
    # 64 * 3 = 192; 192 / 2 = 96; 96 / 2 + 192 = 240; the register 3 stands for 192, which 192 does not exceed.
    case = one_neuron(3, 0, [1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0], vth=3)
    assert membranes(case, backend) == ([192, 96, 240, 192, 96, 48, 24, 12, 6, 3, 1], [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    # Toward zero on the other side too: -3 / 2 is -1, not -2.
    case = one_neuron(-3, 0, [1, 0, 0, 0, 0, 0, 0, 0, 0], vth=3)
    assert membranes(case, backend)[0] == [-192, -96, -48, -24, -12, -6, -3, -1, 0]


def test_a_threshold_of_training_is_met_from_one_unit_above_the_register(backend: Any) -> None:
    # theta = 7 units: the register is 6, and 7 * 64 exceeds 6 * 64; what decays to just above 6 units fires as well.
    assert membranes(one_neuron(7, 0, [1], vth=6), backend)[1] == [1]
    assert membranes(one_neuron(6, 0, [1], vth=6), backend)[1] == [0]


def test_currents_wrap_and_membranes_are_cut(backend: Any) -> None:
    # 255 << 7 << 6 = 2,088,960 per event; 5 events exceed 2^23 = 8,388,608 and wrap: 10,444,800 - 2^24 = -6,332,416.
    case = one_neuron(255, 7, [5, 5, 0], vth=2**17 - 1)
    kept, spikes = membranes(case, backend)
    # -3,166,208 - 6,332,416 = -9,498,624 is cut to -(2^23 - 1), which halves toward zero.
    assert (kept, spikes) == ([-6_332_416, -TOP, -(TOP // 2)], [0, 0, 0])
    assert executed(case, backend).counts.per_step("layer", "saturated")[:, 0].tolist() == [1, 2, 0]


def test_a_membrane_at_the_top_of_its_range_cannot_exceed_the_largest_register(backend: Any) -> None:
    # (2^17 - 1) * 64 = 8,388,544 is exceeded by 2^23 - 1 = 8,388,607 alone: 4 events, 8,355,840, then half more.
    kept, spikes = membranes(one_neuron(255, 7, [4, 4], vth=2**17 - 1), backend)
    assert (kept, spikes) == ([8_355_840, TOP], [0, 1])


def identical(case: Case, one: Any, other: Any) -> None:
    a, b = executed(case, one), executed(case, other)
    np.testing.assert_array_equal(a.spikes["layer"], b.spikes["layer"])
    np.testing.assert_array_equal(a.membranes["layer"], b.membranes["layer"])
    np.testing.assert_array_equal(a.counts.table, b.counts.table)


CASES = st.builds(draw, st.sampled_from(KINDS), st.integers(0, 2**32), steps=st.integers(1, 12))


@settings(max_examples=150)
@given(CASES)
def test_fast_is_the_interpreter_in_integers(case: Case) -> None:
    identical(case, FastBackend, InterpreterBackend)


@pytest.mark.lava
@pytest.mark.parametrize("kind", KINDS)
def test_our_models_are_lavas_own_in_fixed_point(kind: str) -> None:
    from fixed import stock

    from spikescr.sim.lava.backend import LavaBackend

    fired = saturated = 0
    for seed in range(3):
        case = draw(kind, seed)
        spikes, kept = stock.run(case, 1)
        for backend in (FastBackend, LavaBackend):
            recording = executed(case, backend)
            ours, membrane = after_reset(recording, case)
            np.testing.assert_array_equal(ours[:, 1], spikes)
            np.testing.assert_array_equal(membrane[:, 1], kept)
        fired += int(spikes.sum())
        saturated += recording.counts.total("saturated")
    assert fired
    assert saturated or kind in ("depthwise", "recurrent")  # these draws do not overflow


def overflowing(seed: int, inputs: int = 40) -> Case:
    """Messages and weights whose sums, times 64, leave 32 bits."""
    rng = np.random.default_rng(seed)
    kind = ("dense", "synaptic current")[seed % 2]
    mode = ("mixed", "excitatory", "inhibitory")[seed % 3]
    levels = rng.integers(200, 256, (5, inputs))
    mantissa = {"mixed": levels // 2 * 2 * rng.choice([-1, 1], (5, 1)), "excitatory": levels, "inhibitory": -levels}
    x = rng.integers(0, 128, (30, 2, inputs)) * (rng.random((30, 2, 1)) < 0.7) * (rng.random((30, 2, inputs)) < 0.8)
    registers = {"dv": int(rng.choice([0, 1, 500, 4095])), "vth": int(rng.integers(0, 2**17))}
    if kind == "synaptic current":
        registers["du"] = int(rng.choice([0, 700, 2047, 4094]))
    mantissa["mixed"][0, :2] = 2, -2  # of both signs
    return Case(kind, (Path(mantissa[mode], 7, 8, mode, "x"),), registers, {"x": x.astype(float)})


@pytest.mark.lava
@pytest.mark.parametrize("seed", range(6))
def test_currents_beyond_32_bits_wrap_as_lavas_do(seed: int) -> None:
    from fixed import stock

    from spikescr.sim.lava.backend import LavaBackend

    case = overflowing(seed)
    reach = 64 * np.abs(case.inputs["x"] @ (case.paths[0].mantissa.T * 2.0**7))
    assert (reach >= 2**31).mean() > 0.1
    spikes, kept = stock.run(case, 1)
    for backend in (FastBackend, LavaBackend, InterpreterBackend):
        recording = executed(case, backend)
        ours, membrane = after_reset(recording, case)
        np.testing.assert_array_equal(ours[:, 1], spikes)
        np.testing.assert_array_equal(membrane[:, 1], kept)
    identical(case, FastBackend, InterpreterBackend)
    identical(case, FastBackend, LavaBackend)


def test_weights_beyond_what_is_summed_exactly_are_refused() -> None:
    metadata = {dialect.BITS: 8, dialect.EXPONENT: 7, dialect.SIGN_MODE: "excitatory"}
    check_weights("wide", metadata, np.full((2, 4000), 255 * 128.0))
    with pytest.raises(GraphError, match=r"^wide: its weights add up to"):
        check_weights("wide", metadata, np.full((2, 5000), 255 * 128.0))


def changed(change: Callable[[nir.NIRGraph], object], kind: str = "dense") -> nir.NIRGraph:
    graph = graph_of(draw(kind, 1))
    change(graph)
    return graph


def put(node: str, key: str, value: object) -> Callable[[nir.NIRGraph], object]:
    return lambda graph: graph.nodes[node].metadata.__setitem__(key, value)


def weigh(value: float) -> Callable[[nir.NIRGraph], object]:
    def change(graph: nir.NIRGraph) -> None:
        stated = {dialect.BITS: 8, dialect.EXPONENT: 1, dialect.SIGN_MODE: "mixed"}
        graph.nodes["synapse0"].metadata.update(stated)
        graph.nodes["synapse0"].weight = np.full_like(graph.nodes["synapse0"].weight, value)

    return change


def without_decay(graph: nir.NIRGraph) -> None:
    del graph.nodes["layer"].metadata[dialect.DV]


def with_integrate_and_fire(graph: nir.NIRGraph) -> None:
    graph.nodes["layer"] = nir.IF(r=np.ones(5), v_threshold=np.ones(5))


def say(key: str, value: object) -> Callable[[nir.NIRGraph], object]:
    return lambda graph: graph.metadata.__setitem__(key, value)


REFUSED = {
    "bits": (put("synapse0", dialect.BITS, 9), r"^synapse0: metadata spikescr.bits must be .* from 1 to 8, is 9$"),
    "exponent": (put("synapse0", dialect.EXPONENT, -1), r"^synapse0: metadata spikescr.exponent must be .* is -1$"),
    "sign mode": (put("synapse0", dialect.SIGN_MODE, "both"), r"^synapse0: metadata spikescr.sign_mode must be one of"),
    "odd mantissa": (weigh(6.0), r"^synapse0: 6 is no weight of 8 bits with the exponent 1: its mantissa must be"),
    "fraction": (weigh(0.5), r"^synapse0: 0.5 is no weight of 8 bits"),
    "too large": (weigh(516.0), r"^synapse0: 516 is no weight of 8 bits .* multiple of 2 from -256 to 255$"),
    "threshold": (put("layer", dialect.VTH, 2**17), r"^layer: metadata spikescr.vth must be .* from 0 to 131071"),
    "other threshold": (put("layer", dialect.VTH, 77), r"^layer: v_threshold is not 64 times the register"),
    "no decay": (without_decay, r"^layer: metadata spikescr.dv must be .* not there$"),
    "decay of 13 bits": (put("layer", dialect.DV, 4096), "must be a whole number from 0 to 4095, is 4096$"),
    "decay": (put("layer", dialect.DV, 77), r"^layer: its time constant and r do not say what the register"),
    "precision": (say(dialect.PRECISION, "loihi3"), r"^metadata spikescr.precision is 'loihi3'"),
    "format": (say(dialect.GRAPH_FORMAT, 1), r"^metadata spikescr.format is 1, .* reads 2"),
    "neuron": (with_integrate_and_fire, r"^layer \(IF\): in fixed point there are LIF and CubaLIF neurons alone$"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_numbers_that_the_chip_could_not_hold_are_refused(fault: str) -> None:
    change, message = REFUSED[fault]
    with pytest.raises(GraphError, match=message):
        lower(changed(change), steps=5)


IMAGES = {
    "Conv2d": nir.Conv2d((4, 4), np.ones((1, 1, 3, 3)), 1, 1, 1, 1, np.zeros(1)),
    "SumPool2d": nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
    "AvgPool2d": nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_convolutions_over_images_and_pools_are_refused(kind: str) -> None:
    size = 4 if kind == "Conv2d" else 2
    nodes = {
        "input": nir.Input(np.array([1, 4, 4])),
        "layer": IMAGES[kind],
        "output": nir.Output(np.array([1, size, size])),
    }
    metadata = {dialect.GRAPH_FORMAT: dialect.FIXED_FORMAT, dialect.PRECISION: dialect.LOIHI2, dialect.DT: 1e-3}
    graph = nir.NIRGraph(nodes, [("input", "layer"), ("layer", "output")], metadata=metadata)
    with pytest.raises(GraphError, match=rf"^layer \({kind}\): cannot be run in fixed point, where synapses are"):
        lower(graph, steps=5)


def test_float32_is_refused_in_fixed_point() -> None:
    program = lower(graph_of(draw("dense", 1)), steps=5)
    with pytest.raises(BackendError, match="fixed point is exact in float64"):
        FastBackend(program, 1, dtype=np.float32)


@pytest.mark.lava
@pytest.mark.parametrize("name", ["fast", "lava"])
def test_inputs_become_messages_and_outputs_real_numbers(name: str) -> None:
    from spikescr.sim.lava.backend import LavaBackend

    graph = graph_of(one_neuron(2, 0, [0, 0, 0, 0], vth=0))
    graph.nodes["x"].metadata = {dialect.SIGNAL: "values", dialect.SCALE: 0.5, dialect.BITS: 8}
    edges = [("x", "synapse0"), ("synapse0", "output")]
    nodes = {name: graph.nodes[name] for name in ("x", "synapse0", "output")}
    nodes["output"].metadata = {dialect.SCALE: 0.25}
    # The layer of neurons stays, beside the way from the input to the output.
    nodes["layer"], edges = graph.nodes["layer"], [*edges, ("synapse0", "layer")]
    nodes["silent"] = nir.Output(output_type=np.array([1]))
    program = lower(nir.NIRGraph(nodes, [*edges, ("layer", "silent")], metadata=graph.metadata), steps=4)
    backends: dict[str, Any] = {"fast": FastBackend, "lava": LavaBackend}
    with backends[name](program, 1) as made:
        recording = made.run({"x": np.array([0.74, -1.3, 70.0, -64.0]).reshape(4, 1, 1)})
    # 0.74 / 0.5 is 1, -1.3 / 0.5 is -3; 70 / 0.5 is cut to 127, and -128 is just there; times 2, times 0.25.
    assert recording.outputs["output"][:, 0, 0].tolist() == [0.5, -1.5, 63.5, -64.0]
    assert recording.counts.per_step("x", "saturated")[:, 0].tolist() == [0, 0, 1, 0]


def test_a_plain_reader_finds_the_same_neuron_in_real_numbers() -> None:
    case = one_neuron(100, 3, [1, 0, 1, 0, 0, 1, 1, 0], vth=1000)
    graph = graph_of(case)
    for key in (dialect.PRECISION, dialect.GRAPH_FORMAT):
        del graph.metadata[key]
    floating = lower(graph, steps=case.steps)
    assert not any(isinstance(o, FixedNeuron) for o in floating.operations)
    recording = FastBackend(floating, 1, record_membranes=True).run(case.inputs)
    kept, spikes = membranes(case, FastBackend)
    np.testing.assert_allclose(recording.membranes["layer"][:, 0, 0], kept, atol=1)
    assert recording.spikes["layer"][:, 0, 0].astype(int).tolist() == spikes
