"""One suite for all backends: small programs by hand, random graphs, whole networks against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nir
import numpy as np
import pytest
from from_torch import SMALL, assert_every_layer_fires, calibrated_model, firing_rates, fold, to_nir, trace
from hypothesis import given, settings
from oracles.nir_interpreter import interpret
from oracles.program_interpreter import InterpreterBackend
from random_graphs import Case, cases

from spikescr.errors import BackendError
from spikescr.export.builder import GraphBuilder
from spikescr.sim.compare import compare
from spikescr.sim.fast.backend import FastBackend
from spikescr.sim.lowering.lower import lower
from spikescr.sim.program import (
    Attention,
    CausalAttention,
    DelayLine,
    Gate,
    Neuron,
    Port,
    Position,
    Program,
    Rotary,
    Select,
    Signal,
    Sink,
    Source,
    Synapse,
    Tap,
)
from spikescr.sim.recording import KINDS, Recording
from spikescr.sim.run import run_batches

DT = 0.01
CLOCK, SPIKES, VALUES = Signal.CLOCK, Signal.SPIKES, Signal.VALUES


def _lava(program: Program, batch: int, **options: Any) -> Any:
    from spikescr.sim.lava.backend import LavaBackend

    return LavaBackend(program, batch, **options)


BACKENDS: dict[str, Callable[..., Any]] = {"fast": FastBackend, "lava": _lava, "interpreter": InterpreterBackend}
EXCLUDED = {
    ("test_network_fires_every_spike_of_pytorch", "interpreter"): "takes minutes: it reads everything off the past",
    ("test_failure_names_the_operation", "interpreter"): "the definition has no failures; it asserts",
    ("test_inputs_that_do_not_fit_are_refused", "interpreter"): "the definition takes what it is given",
    ("test_closed_backend_says_so", "interpreter"): "holds nothing that could be closed",
}


@pytest.fixture(params=["fast", pytest.param("lava", marks=pytest.mark.lava), "interpreter"])
def backend(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Makes one of the backends from a program and a batch size."""
    reason = EXCLUDED.get((request.node.originalname, request.param))
    if reason is not None:
        pytest.skip(f"{request.param}: {reason}")
    return BACKENDS[request.param]


def port(*sources: str, width: int, signal: Signal = SPIKES) -> Port:
    return Port(sources, width, signal)


def source(name: str, width: int, signal: Signal = SPIKES) -> Source:
    return Source(name=name, width=width, signal=signal, latency=0)


def sink(name: str, x: str, width: int, signal: Signal = VALUES) -> Sink:
    return Sink(name=name, width=width, signal=signal, x=port(x, width=width, signal=signal))


def lif(name: str, x: tuple[str, ...], width: int, latency: int | None = None, **changes: float) -> Neuron:
    """The neuron of export, threshold at 1, unless changed."""
    values = {"decay": 0.5, "gain": 1.0, "drive": 0.0, "threshold": np.nextafter(1, 0), "v_reset": 0.0} | changes
    full = {key: np.full(width, value) for key, value in values.items()}
    return Neuron(
        name=name, width=width, signal=SPIKES, latency=latency, x=port(*x, width=width, signal=VALUES), **full
    )


def make(*operations: Any, steps: int, period: int) -> Program:
    return Program(operations, steps, DT, period)


def execute(backend: Callable[..., Any], program: Program, **inputs: Any) -> Recording:
    """One sample; inputs: (T, width) or (T,)."""
    arrays = {name: np.asarray(x, float).reshape(program.steps, 1, -1) for name, x in inputs.items()}
    with backend(program, 1) as running:
        return running.run(arrays)


def counted(recording: Recording, operation: str) -> dict[str, list[int]]:
    """The counts of an operation that are not all zero, step by step, of the only sample."""
    rows = {kind: recording.counts.per_step(operation, kind)[:, 0].tolist() for kind in KINDS}
    return {kind: row for kind, row in rows.items() if any(row)}


def test_synapse_adds_taps_bias_and_what_the_gate_discards(backend: Callable[..., Any]) -> None:
    """Three taps on counts; y is 0 where no clock ticks only behind the gate."""
    taps = tuple(Tap(d, np.array([[1.0, 10], [100, 1000], [0, 2]]) * 4**d) for d in range(3))
    clock = port("clock", width=1, signal=CLOCK)
    program = make(
        source("clock", 1, CLOCK),
        source("x", 2),
        Synapse(name="s", width=3, signal=VALUES, x=port("x", width=2), taps=taps, bias=np.ones(3), clock=clock,
                gated=True),
        Gate(name="g", width=3, signal=VALUES, value=port("s", width=3, signal=VALUES), spike=clock),
        sink("out", "g", 3),
        steps=2,
        period=4,
    )  # fmt: skip
    got = execute(backend, program, clock=[0, 1], x=[[2, 0], [0, 1]])
    # step 1: tap 0 with (0, 1), tap 1 with (2, 0), bias
    assert got.outputs["out"][:, 0].tolist() == [[0] * 3, [10 + 8 + 1, 1000 + 800 + 1, 2 + 1], [0] * 3, [0] * 3]
    assert counted(got, "s") == {
        "spikes": [2, 1, 0, 0],
        # channel 0 has 2 synapses in every tap, for a weight of 0 is none; channel 1 has 3
        "ac": [2 * 2, 3 + 2 * 2, 3 + 2 * 2, 3],
        "discarded": [4, 0, 7, 3],
        "bias": [0, 3, 0, 0],
        "entries": [1, 1, 0, 0],
        "graded": [1, 0, 0, 0],  # the 2
        "synops": [2, 3 + 2, 3 + 2, 3],
        "synops_graded": [2, 2, 2, 0],
        "synops_discarded": [2, 0, 5, 3],
    }
    assert counted(got, "g") == {}


@pytest.mark.parametrize(("signal", "kind"), [(SPIKES, "ac"), (VALUES, "mac")])
def test_depthwise_taps_leave_out_a_delay(backend: Callable[..., Any], signal: Signal, kind: str) -> None:
    taps = (Tap(0, np.array([1.0, 2.0])), Tap(3, np.array([0.25, 0.5])))
    program = make(
        source("x", 2, signal),
        Synapse(name="s", width=2, signal=VALUES, x=port("x", width=2, signal=signal), taps=taps),
        sink("out", "s", 2),
        steps=2,
        period=5,
    )
    got = execute(backend, program, x=[[0, 3], [1, 1]])
    assert got.outputs["out"][:, 0].tolist() == [[0, 6], [1, 2], [0, 0], [0, 1.5], [0.25, 0.5]]
    first = 3 if signal is SPIKES else 1  # a real number is one event, whatever its size
    want = {"spikes": [first, 2, 0, 0, 0], kind: [first, 2, 0, first, 2]}
    want |= {"entries": [1, 2, 0, 0, 0], "synops": [1, 2, 0, 1, 2]}
    assert counted(got, "s") == want | {"graded": [1, 0, 0, 0, 0], "synops_graded": [1, 0, 0, 1, 0]}


def test_neuron_integrates_fires_resets_and_is_counted_in_its_window(backend: Callable[..., Any]) -> None:
    program = make(
        source("clock", 1, CLOCK),
        source("x", 1, VALUES),
        DelayLine(name="late", width=1, signal=VALUES, x=port("x", width=1, signal=VALUES), delay=1),
        lif("n", ("late",), 1, latency=1),
        sink("out", "n", 1, SPIKES),
        steps=4,
        period=6,
    )
    got = execute(backend, program, clock=[1, 1, 1, 0], x=[0.75, 0.625, 0.5, 0.75])
    # 0.75; 0.375 + 0.625 = 1 fires and resets; 0.5; 0.25 + 0.75 = 1 fires
    assert got.outputs["out"][:, 0, 0].tolist() == [0, 0, 1, 0, 1, 0]
    assert got.spikes["n"][:, 0, 0].tolist() == [False, False, True, False, True, False]
    assert counted(got, "n") == {"fired": [0, 0, 1, 0, 1, 0], "neuron": [0, 1, 1, 1, 0, 0]}


@pytest.mark.parametrize(
    ("changes", "fires"),
    [
        ({"drive": 0.375, "threshold": 0.5}, [0, 1, 0, 1]),  # 0.375; 0.5625 fires; again
        ({"threshold": -0.5}, [1, 1, 1, 1]),  # fires at rest
        ({"decay": -1.0, "threshold": 0.125, "x": -0.25}, [0, 1, 0, 0]),  # swings to the other side
        ({"v_reset": 4.0, "threshold": 0.5, "x": 1.0}, [1, 1, 1, 1]),  # resets above the threshold
    ],
    ids=["driven", "at rest", "swinging", "reset above"],
)
def test_neuron_that_fires_without_input(
    backend: Callable[..., Any], changes: dict[str, float], fires: list[int]
) -> None:
    x = changes.get("x", 0.0)
    own = {key: value for key, value in changes.items() if key != "x"}
    program = make(source("x", 1, VALUES), lif("n", ("x",), 1, **own), sink("out", "n", 1, SPIKES), steps=1, period=4)
    got = execute(backend, program, x=[x])
    assert got.outputs["out"][:, 0, 0].tolist() == fires
    assert counted(got, "n") == {"fired": fires, "neuron": [1, 1, 1, 1]}


def test_neurons_with_parameters_of_their_own(backend: Callable[..., Any]) -> None:
    neuron = lif("n", ("x",), 2)
    own = {"decay": np.array([0.5, 1.0]), "gain": np.array([1.0, 2.0]), "threshold": np.array([0.75, 3.0])}
    neuron = Neuron(**{**vars(neuron), **own, "v_reset": np.array([0.0, -1.0])})
    program = make(source("x", 2, VALUES), neuron, sink("out", "n", 2, SPIKES), steps=4, period=4)
    got = execute(backend, program, x=[[0.5, 1], [0.5, 1], [0.75, 1], [0.5, 2]])
    # 0.5, 0.75, 1.125 fires, 0.5; and 2, 4 fires, -1 + 2 = 1, 1 + 4 = 5 fires
    assert got.outputs["out"][:, 0].tolist() == [[0, 0], [0, 1], [1, 0], [0, 1]]


def test_sums_of_delayed_sources_and_selections(backend: Callable[..., Any]) -> None:
    """A port of spikes with three sources: counts, the same two steps later, and a selection of them."""
    x = port("x", width=2)
    program = make(
        source("x", 2),
        DelayLine(name="late", width=2, signal=SPIKES, x=x, delay=2),
        Select(name="swapped", width=2, signal=SPIKES, x=x, index=np.array([1, -1])),
        Synapse(name="s", width=1, signal=VALUES, x=port("x", "late", "swapped", width=2),
                taps=(Tap(0, np.array([[1.0, 10]])),)),
        sink("out", "s", 1),
        steps=3,
        period=5,
    )  # fmt: skip
    got = execute(backend, program, x=[[0, 2], [1, 1], [3, 0]])
    # x (0, 2) + swapped (2, 0); (1, 1) + (1, 0); (3, 0) + (0, 2) late + (0, 0); (1, 1) late; (3, 0) late
    assert got.outputs["out"][:, 0, 0].tolist() == [22, 12, 23, 11, 3]
    assert counted(got, "s") == {
        "spikes": [4, 3, 5, 2, 3],
        "ac": [4, 3, 5, 2, 3],
        "entries": [2, 2, 2, 2, 1],  # of the sums (2, 2), (2, 1), (3, 2), (1, 1), (3, 0)
        "graded": [2, 1, 2, 0, 1],
        "synops": [2, 2, 2, 2, 1],
        "synops_graded": [2, 1, 2, 0, 1],
    }


def test_rotary_counts_positions_by_ticks(backend: Callable[..., Any]) -> None:
    cos, sin = np.array([[1.0], [0.5]]), np.array([[0.0], [0.25]])
    program = make(
        source("clock", 1, CLOCK),
        source("x", 4),
        Rotary(name="r", width=4, signal=VALUES, x=port("x", width=4), clock=port("clock", width=1, signal=CLOCK),
               heads=2, cos=cos, sin=sin),
        sink("out", "r", 4),
        steps=3,
        period=3,
    )  # fmt: skip
    got = execute(backend, program, clock=[1, 0, 1], x=[[1, 0, 0, 2], [1, 1, 1, 1], [1, 1, 0, 2]])
    turned = [0.5 - 0.25, 0.25 + 0.5, -2 * 0.25, 2 * 0.5]
    assert got.outputs["out"][:, 0].tolist() == [[1, 0, 0, 2], [0] * 4, turned]
    want = {"spikes": [3, 4, 4], "ac": [6, 8, 8], "entries": [2, 4, 3], "synops": [4, 8, 6]}
    assert counted(got, "r") == want | {"graded": [1, 0, 1], "synops_graded": [2, 0, 2]}


def _encoded() -> Program:
    encoding = Position(
        name="p", width=2, signal=VALUES, clock=port("clock", width=1, signal=CLOCK), table=np.array([[1.0, 2], [3, 4]])
    )
    summed = Synapse(
        name="s", width=1, signal=VALUES, x=port("x", "p", width=2, signal=VALUES), taps=(Tap(0, np.ones((1, 2))),)
    )
    return make(source("clock", 1, CLOCK), source("x", 2), encoding, summed, sink("out", "s", 1), steps=4, period=5)


def test_position_encodes_the_ticks_so_far_and_makes_sums_real(backend: Callable[..., Any]) -> None:
    got = execute(backend, _encoded(), clock=[0, 1, 0, 1], x=[[1, 0], [1, 0], [0, 2], [0, 0]])
    assert got.outputs["out"][:, 0, 0].tolist() == [1, 1 + 2 + 1, 2, 3 + 4, 0]
    assert counted(got, "p") == {}
    # (1, 0); (2, 2); (0, 2); (3, 4): non-zero entries, one synapse each
    assert {k: v for k, v in counted(got, "s").items() if k in ("spikes", "ac", "mac")} == {
        "spikes": [1, 2, 1, 2, 0],
        "mac": [1, 2, 1, 2, 0],
    }


def test_a_weight_of_zero_is_no_synapse(backend: Callable[..., Any]) -> None:
    """Two delays share the synapses of a 2 x 2 connection, as a layer of learnable delays does."""
    taps = (Tap(0, np.array([[0.5, 0], [0.25, 0]])), Tap(2, np.array([[0, 1.5], [0, 0]])))
    program = make(
        source("x", 2),
        Synapse(name="s", width=2, signal=VALUES, x=port("x", width=2), taps=taps),
        sink("out", "s", 2),
        steps=2,
        period=4,
    )
    got = execute(backend, program, x=[[1, 1], [0, 3]])
    assert got.outputs["out"][:, 0].tolist() == [[0.5, 0.25], [0, 0], [1.5, 0], [4.5, 0]]
    assert counted(got, "s") == {
        "spikes": [2, 3, 0, 0],
        "ac": [2, 0, 1, 3],  # channel 0 has two synapses at once, channel 1 a single one after two steps
        "entries": [2, 1, 0, 0],
        "graded": [0, 1, 0, 0],
        "synops": [2, 0, 1, 1],
        "synops_graded": [0, 0, 0, 1],
    }


def test_attention_reads_what_is_written_a_window_later(backend: Callable[..., Any]) -> None:
    clock = port("clock", width=1, signal=CLOCK)
    program = make(
        source("clock", 1, CLOCK),
        *(source(name, 2) for name in "qkv"),
        Attention(name="a", width=2, signal=VALUES, q=port("q", width=2), k=port("k", width=2), v=port("v", width=2),
                  clock=clock, heads=1, scale=0.5, steps=3),
        sink("out", "a", 2),
        steps=3,
        period=6,
    )  # fmt: skip
    got = execute(backend, program, clock=[1, 1, 0], q=[[1, 0], [2, 1], [1, 1]], k=[[1, 1], [0, 3], [1, 1]],
                  v=[[1, 0], [1, 1], [1, 1]])  # fmt: skip
    # A = (1, 1) (1, 0)^T + (0, 3) (1, 1)^T = [[1, 0], [4, 3]]; the third step does not tick: neither written nor read
    assert got.outputs["out"][:, 0].tolist() == [[0, 0]] * 3 + [[0.5, 0], [(2 + 4) / 2, 1.5], [0, 0]]
    assert counted(got, "a") == {
        "spikes": [1 + 2 + 1, 3 + 3 + 2, 2 + 2 + 2, 0, 0, 0],
        "ac": [2 * 1, 1 * 2, 0, 1 * 2, 2 * 2, 0],
        "ac_quadratic": [0, 0, 0, 1 + 3, 3 + 3, 0],  # keys: channel 0 once, channel 1 twice; 3 spikes of v
    }


def test_causal_attention_reads_what_is_written_until_then(backend: Callable[..., Any]) -> None:
    clock = port("clock", width=1, signal=CLOCK)
    program = make(
        source("clock", 1, CLOCK),
        *(source(name, 2) for name in "qkv"),
        CausalAttention(name="a", width=2, signal=VALUES, q=port("q", width=2), k=port("k", width=2),
                        v=port("v", width=2), clock=clock, heads=1, scale=0.5),
        sink("out", "a", 2),
        steps=4,
        period=5,
    )  # fmt: skip
    got = execute(backend, program, clock=[1, 1, 0, 1], q=[[1, 0], [2, 1], [1, 1], [0, 1]],
                  k=[[1, 1], [0, 3], [1, 1], [0, 0]], v=[[1, 0], [1, 1], [1, 1], [1, 0]])  # fmt: skip
    # A = [[1, 0], [1, 0]], then [[1, 0], [4, 3]]; the third step does not tick, the fourth writes nothing
    assert got.outputs["out"][:, 0].tolist() == [[0.5, 0], [(2 + 4) / 2, 1.5], [0, 0], [2, 1.5], [0, 0]]
    assert counted(got, "a") == {
        "spikes": [1 + 2 + 1, 3 + 3 + 2, 2 + 2 + 2, 1 + 0 + 1, 0],
        "ac": [2 * 1 + 1 * 2, 1 * 2 + 2 * 2, 0, 0 + 1 * 2, 0],
        "ac_quadratic": [1 + 1, (1 + 2) + 3, 0, 2 + 4, 0],  # keys: channel 0 once, channel 1 twice; 1, 3, 4 spikes of v
    }


def test_gate_of_spikes(backend: Callable[..., Any]) -> None:
    program = make(
        source("x", 2, VALUES),
        source("s", 2),
        source("one", 1),
        Gate(name="each", width=2, signal=VALUES, value=port("x", width=2, signal=VALUES), spike=port("s", width=2)),
        Gate(name="all", width=2, signal=VALUES, value=port("x", width=2, signal=VALUES), spike=port("one", width=1)),
        sink("a", "each", 2),
        sink("b", "all", 2),
        steps=2,
        period=3,
    )
    got = execute(backend, program, x=[[1.5, -2], [3, 4]], s=[[1, 0], [1, 1]], one=[1, 0])
    assert got.outputs["a"][:, 0].tolist() == [[1.5, 0], [3, 4], [0, 0]]
    assert got.outputs["b"][:, 0].tolist() == [[1.5, -2], [0, 0], [0, 0]]
    assert counted(got, "each") == {"spikes": [1, 2, 0]}
    assert counted(got, "all") == {"spikes": [1, 0, 0]}


def _loop(delay: int | None) -> Program:
    """input -> a -> b -> back to a, with or without a Delay on the way back; every weight is 1."""
    build = GraphBuilder(DT)
    build.output("output", build.linear("head", build.lif("b", build.linear("ab", build.lif("a", build.linear(
        "in", build.input("input", 1, "spikes"), np.eye(1), None)), np.eye(1), None)), np.eye(1), None))  # fmt: skip
    graph = build.graph({"spikescr.dt": DT, "spikescr.steps": 8})
    nodes = {**graph.nodes, "back": nir.Linear(np.eye(1))}
    edges = [*graph.edges, ("back", "a")]
    if delay is None:
        edges.append(("b", "back"))
    else:
        nodes["line"] = nir.Delay(np.array([delay * DT]))
        edges += [("b", "line"), ("line", "back")]
    return lower(nir.NIRGraph(nodes, edges, metadata=graph.metadata))


@pytest.mark.parametrize(("delay", "round_", "lag"), [(None, 2, 1), (0, 2, 1), (1, 1, 0), (3, 3, 0)])
def test_spike_goes_round_a_cycle(backend: Callable[..., Any], delay: int | None, round_: int, lag: int) -> None:
    """Without a Delay each of the two neurons breaks the cycle and is worth a step; a Delay is worth its own steps."""
    program = _loop(delay)
    assert program.cyclic
    got = execute(backend, program, input=[0, 1, 0, 0, 0, 0, 0, 0], clock=[1] * 8)
    a, b = ([int(n >= first and (n - first) % round_ == 0) for n in range(program.period)] for first in (1, 1 + lag))
    assert got.spikes["a"][:, 0, 0].tolist() == [bool(fired) for fired in a]
    assert got.outputs["output"][:, 0, 0].tolist() == b  # the head is outside of the cycle and gets b's spike at once
    assert counted(got, "ab.synapse")["ac"] == [0] * lag + a[: len(a) - lag]


def identical(a: Recording, b: Recording) -> None:
    """Every spike, output and count is the same, bit by bit."""
    assert a.counts.operations == b.counts.operations
    for (row, kind), same in np.ndenumerate((a.counts.table == b.counts.table).all(axis=(2, 3))):
        assert same, f"{a.counts.operations[row]} {KINDS[kind]}"
    for name in a.spikes.keys() | b.spikes.keys():
        np.testing.assert_array_equal(a.spikes[name], b.spikes[name], err_msg=name)
    for name in a.outputs.keys() | b.outputs.keys():
        np.testing.assert_array_equal(a.outputs[name], b.outputs[name], err_msg=name)


REPEATABLE = settings(derandomize=True, database=None)


def _agree(case: Case, other: Callable[..., Any]) -> None:
    program = lower(case.graph)
    samples = len(case.inputs["clock"][0])
    with other(program, samples) as running:
        identical(FastBackend(program, samples).run(case.inputs), running.run(case.inputs))


@settings(REPEATABLE, max_examples=150)
@given(cases())
def test_fast_is_the_interpreter_on_random_graphs(case: Case) -> None:
    _agree(case, InterpreterBackend)


@settings(REPEATABLE, max_examples=100)
@given(cases(cycles=True))
def test_fast_is_the_interpreter_on_random_cyclic_graphs(case: Case) -> None:
    _agree(case, InterpreterBackend)


@pytest.mark.lava
@settings(REPEATABLE, max_examples=12)
@given(cases())
def test_fast_is_lava_on_random_graphs(case: Case) -> None:
    _agree(case, _lava)


@pytest.mark.lava
@settings(REPEATABLE, max_examples=12)
@given(cases(cycles=True))
def test_fast_is_lava_on_random_cyclic_graphs(case: Case) -> None:
    _agree(case, _lava)


@pytest.mark.parametrize("cycles", [False, True])
def test_fast_is_the_interpreter_of_nir_on_random_graphs(cycles: bool) -> None:
    """Lowering included: fused taps and biases, wires, delays, the edges that break a cycle."""

    @settings(REPEATABLE, max_examples=100)
    @given(cases(cycles=cycles, loose=False))
    def check(case: Case) -> None:
        program = lower(case.graph)
        samples = len(case.inputs["clock"][0])
        got = FastBackend(program, samples).run(case.inputs)
        for b in range(samples):
            expected = interpret(case.graph, {name: x[:, b] for name, x in case.inputs.items()}, program.period)
            for name, spikes in got.spikes.items():
                np.testing.assert_array_equal(spikes[:, b], expected.outputs[name], err_msg=name)
            for name, outputs in got.outputs.items():
                np.testing.assert_array_equal(outputs[:, b], expected.outputs[name], err_msg=name)

    check()


@pytest.mark.parametrize("counts", [False, True], ids=["values", "counts"])
def test_network_fires_every_spike_of_pytorch(backend: Callable[..., Any], counts: bool) -> None:
    model, x, steps = calibrated_model(SMALL, seed=3, samples=5, window=20, counts=counts)
    assert_every_layer_fires(firing_rates(model, x, steps))
    folded = fold(model)
    program = lower(to_nir(folded, steps=20, dt=DT, signal="spikes" if counts else "values"))
    values, valid = x.transpose(0, 1).numpy(), steps.numpy()
    reference = trace(folded, values, valid)
    with backend(program, 3) as running:
        for batch in run_batches(program, running, values, valid):
            expected = {name: spikes[:, batch.samples] for name, spikes in reference.spikes.items()}
            layers, divergence = compare(program, batch.recording, expected, batch.valid)
            assert divergence is None
            assert [layer.differing for layer in layers] == [0] * 17
            assert not any(layer.silent for layer in layers)
            np.testing.assert_allclose(batch.output, reference.logits[:, batch.samples], rtol=0, atol=1e-12)


@pytest.mark.lava
def test_counts_of_lava_and_fast_are_equal_on_a_network() -> None:
    model, x, steps = calibrated_model(SMALL, seed=4, samples=5, window=20)
    program = lower(to_nir(fold(model), steps=20, dt=DT))
    values, valid = x.transpose(0, 1).numpy(), steps.numpy()
    with _lava(program, 3) as lava, FastBackend(program, 3) as fast:
        for a, b in zip(
            run_batches(program, lava, values, valid), run_batches(program, fast, values, valid), strict=True
        ):
            np.testing.assert_array_equal(a.recording.counts.table, b.recording.counts.table)
            assert b.recording.counts.total("ac") > b.recording.counts.total("fired")


def _strange_gate() -> Program:
    gate = Gate(name="gate", width=1, signal=VALUES, value=port("x", width=1, signal=VALUES), spike=port("s", width=1))
    return make(source("x", 1, VALUES), source("s", 1), gate, sink("out", "gate", 1), steps=2, period=2)


def _short_table() -> Program:
    rotary = Rotary(
        name="rotary", width=2, signal=VALUES, x=port("s", width=2), clock=port("clock", width=1, signal=CLOCK),
        heads=1, cos=np.ones((1, 1)), sin=np.zeros((1, 1)),
    )  # fmt: skip
    return make(source("clock", 1, CLOCK), source("s", 2), rotary, sink("out", "rotary", 2), steps=2, period=2)


FAILURES = {
    "positions": (_encoded, {"clock": [1, 1, 1, 0], "x": np.zeros((4, 2))}, "p"),
    "gate": (_strange_gate, {"x": [0, 0], "s": [1, 2]}, "gate"),
    "table": (_short_table, {"clock": [1, 1], "s": [[1, 0], [1, 0]]}, "rotary"),
    "membrane": (
        lambda: make(source("x", 1, VALUES), lif("n", ("x",), 1), sink("out", "n", 1, SPIKES), steps=2, period=2),
        {"x": [0, np.nan]},
        "n",
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_failure_names_the_operation(backend: Callable[..., Any], failure: str) -> None:
    program, inputs, name = FAILURES[failure][0](), FAILURES[failure][1], FAILURES[failure][2]
    with pytest.raises(BackendError, match=f": {name}( at step [12])?: "):
        execute(backend, program, **inputs)


def _chain() -> Program:
    return make(source("clock", 1, CLOCK), source("x", 2), sink("out", "x", 2, SPIKES), steps=3, period=3)


UNFIT = {
    "missing": (lambda x: {"x": x["x"]}, r"inputs must be \['clock', 'x'\], got \['x'\]"),
    "samples": (lambda x: {**x, "x": x["x"][:, :1]}, r"same 1 to 2 samples, got \[1, 2\]"),
    "shape": (
        lambda x: {**x, "x": x["x"][:2]},
        r"input 'x' must have shape \(T, B, N\) = \(3, 2, 2\), got \(2, 2, 2\)",
    ),
    "fraction": (lambda x: {**x, "x": x["x"] + 0.5}, r"input 'x' carries spikes: its values must be integers >= 0"),
    "clock": (lambda x: {**x, "clock": x["clock"] + 2}, r"input 'clock' is a clock: its values must be 0 or 1"),
}


@pytest.mark.parametrize("unfit", UNFIT)
def test_inputs_that_do_not_fit_are_refused(backend: Callable[..., Any], unfit: str) -> None:
    change, message = UNFIT[unfit]
    good = {"clock": np.zeros((3, 2, 1)), "x": np.zeros((3, 2, 2))}
    with backend(_chain(), 2) as running:
        with pytest.raises(ValueError, match=message):
            running.run(change(good))
        assert running.run(good).outputs["out"].shape == (3, 2, 2)


def test_closed_backend_says_so(backend: Callable[..., Any]) -> None:
    with backend(_chain(), 2) as running:
        pass
    with pytest.raises(BackendError, match="the backend is closed"):
        running.run({"clock": np.zeros((3, 2, 1)), "x": np.zeros((3, 2, 2))})


def test_a_run_starts_from_silence_and_leaves_the_last_one_alone(backend: Callable[..., Any]) -> None:
    program = _loop(1)
    quiet = {"input": np.zeros((8, 1, 1)), "clock": np.ones((8, 1, 1))}
    loud = {"input": np.ones((8, 1, 1)), "clock": np.ones((8, 1, 1))}
    with backend(program, 1) as running:
        first = running.run(loud)
        fired, kept = first.counts.total("fired"), first.outputs["output"].copy()
        assert running.run(quiet).counts.total("fired") == 0
        assert first.counts.total("fired") == fired == 2 * program.period
        np.testing.assert_array_equal(first.outputs["output"], kept)
        identical(running.run(loud), first)
