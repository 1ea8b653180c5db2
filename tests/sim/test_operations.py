"""Facts of operations: each type states them, they are true, and no table and no reader leaves a type out."""

from __future__ import annotations

import gc
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import pytest
from oracles.program_interpreter import RULES, InterpreterBackend

from spikescr.errors import GraphError
from spikescr.sim.chip.limits import chip_named
from spikescr.sim.chip.mapper import place
from spikescr.sim.counting.conventions import PARTS
from spikescr.sim.counting.facts import gather
from spikescr.sim.counting.formula import evaluate
from spikescr.sim.fast import window
from spikescr.sim.fast.backend import FastBackend
from spikescr.sim.lowering.timing import longest_delay
from spikescr.sim.program import (
    Attention,
    CausalAttention,
    ChannelDelay,
    Convolution,
    DelayLine,
    FixedNeuron,
    Gate,
    Integrator,
    Maximum,
    Neuron,
    Operation,
    Port,
    Position,
    Program,
    Role,
    Rotary,
    Select,
    Signal,
    Sink,
    Source,
    Synapse,
    Tap,
    TokenAttention,
    operation_types,
)
from spikescr.sim.recording import KINDS
from spikescr.sim.steps.make import STEPS

WINDOW, WIDTH = 4, 4
CLOCK, SPIKES, VALUES = Signal.CLOCK, Signal.SPIKES, Signal.VALUES
SOURCES = (
    Source(name="clock", width=1, signal=CLOCK, latency=0),
    Source(name="spikes", width=WIDTH, signal=SPIKES, latency=0),
    Source(name="values", width=WIDTH, signal=VALUES, latency=0),
)
S, V, C = (Port((o.name,), o.width, o.signal) for o in (SOURCES[1], SOURCES[2], SOURCES[0]))
ONE = np.ones(WIDTH)
NEURON = {"decay": ONE / 2, "gain": ONE, "drive": 0 * ONE, "threshold": ONE / 2, "v_reset": 0 * ONE}
FIXED = {"gain": 64 * ONE, "drive": (2.0**23 - 33) * ONE, "threshold": (2.0**23 - 17) * ONE}  # an entry more is cut
MATRIX = np.arange(WIDTH * WIDTH, dtype=float).reshape(WIDTH, WIDTH)
CONVOLUTION = {
    "weight": np.ones((1, 1, 2, 2)), "in_shape": (1, 2, 2), "out_shape": (1, 2, 2), "stride": (1, 1),
    "padding": (1, 1), "dilation": (2, 2), "groups": 1,
}  # fmt: skip
TABLE = np.linspace(0.5, 1.5, WINDOW)[:, None]
TURN = {"heads": 2, "cos": TABLE, "sin": TABLE / 2}


def made(kind: type[Operation], signal: Signal = VALUES, **fields: object) -> Operation:
    return kind(name="it", width=WIDTH, signal=signal, latency=0, **fields)


# Operations of each type that together set every count that the type may set.
EXAMPLES: dict[type[Operation], list[Operation]] = {
    Source: [Source(name="it", width=WIDTH, signal=VALUES, unit=1 / 256)],
    Sink: [made(Sink, SPIKES, x=S)],
    DelayLine: [made(DelayLine, SPIKES, x=S, delay=2), made(DelayLine, SPIKES, x=S, delay=0)],
    ChannelDelay: [made(ChannelDelay, SPIKES, x=S, delay=np.array([3, 1, 1, 2]))],
    Select: [made(Select, SPIKES, x=S, index=np.array([3, 2, -1, 0]))],
    Synapse: [
        made(Synapse, x=S, taps=(Tap(0, MATRIX), Tap(2, MATRIX)), bias=ONE, clock=C, gated=True),
        made(Synapse, x=V, taps=(Tap(1, MATRIX),), origin=("batch_norm",), bias=ONE),
    ],
    Convolution: [made(Convolution, x=S, bias=np.ones(1), **CONVOLUTION), made(Convolution, x=V, **CONVOLUTION)],
    Neuron: [made(Neuron, SPIKES, x=V, **NEURON)],
    FixedNeuron: [made(FixedNeuron, SPIKES, x=S, **(NEURON | FIXED), current_decay=0 * ONE)],
    Integrator: [
        made(Integrator, x=V, decay=ONE / 2, gain=ONE, drive=0 * ONE, current=current) for current in (False, True)
    ],
    Rotary: [made(Rotary, x=S, clock=C, **TURN), made(Rotary, x=V, clock=C, **TURN)],
    Position: [made(Position, clock=C, table=np.repeat(TABLE, WIDTH, axis=1))],
    Attention: [made(Attention, q=S, k=S, v=S, clock=C, heads=2, scale=0.5, steps=WINDOW)],
    CausalAttention: [made(CausalAttention, q=S, k=S, v=S, clock=C, heads=2, scale=0.5)],
    Gate: [made(Gate, value=V, spike=Port(("binary",), WIDTH, SPIKES), inverted=off) for off in (False, True)],
    TokenAttention: [
        made(TokenAttention, q=S, k=S, v=S, heads=1, tokens=4, scale=0.5),
        made(TokenAttention, q=S, k=S, v=S, heads=2, tokens=1, scale=0.5),
        made(TokenAttention, q=S, k=S, v=V, heads=1, tokens=2, scale=0.5),
    ],
    Maximum: [made(Maximum, SPIKES, x=Port(("wide",), 2 * WIDTH, SPIKES), fan=2)],
}
TYPES = sorted(operation_types().values(), key=lambda kind: kind.__name__)


def missing(table: Collection[type[Operation]]) -> set[str]:
    """Names of the types that a table leaves out."""
    return {name for name, kind in operation_types().items() if kind not in table}


def alone(operation: Operation) -> Program:
    """A Program of one operation, what it reads, and an end."""
    binary = Source(name="binary", width=WIDTH, signal=SPIKES, latency=0)
    wide = Source(name="wide", width=2 * WIDTH, signal=SPIKES, latency=0)
    end = () if isinstance(operation, Sink) else (
        Sink(name="out", width=WIDTH, signal=operation.signal, x=Port(("it",), WIDTH, operation.signal)),
    )  # fmt: skip
    operations = (*SOURCES, binary, wide, operation, *end)
    return Program(operations, WINDOW, 0.01, WINDOW + longest_delay(operations))


def inputs(program: Program) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    counts = rng.integers(0, 3, (WINDOW, 2, WIDTH)).astype(float)
    given = {
        "clock": np.array([[1, 1], [1, 1], [1, 0], [0, 0]], float)[..., None], "spikes": counts,
        "values": np.where(counts, rng.normal(size=counts.shape), 0), "binary": counts.clip(0, 1), "it": counts,
        "wide": np.concatenate([counts, counts[..., ::-1]], axis=-1),
    }  # fmt: skip
    return {o.name: given[o.name] for o in program.of_type(Source)}


@pytest.mark.parametrize("table", [EXAMPLES, RULES], ids=["examples", "interpreter"])
def test_no_table_leaves_a_type_out(table: Collection[type[Operation]]) -> None:
    assert missing(table) == set()


def test_all_types_have_a_step_but_the_ends_of_a_graph() -> None:
    """Lava computes by steps, and whatever a backend does not implement."""
    assert missing(STEPS) == {"Source", "Sink"}
    assert missing(window.KERNELS) == {"Source", "Sink"}


def test_a_type_that_a_table_leaves_out_is_found_and_readers_say_so() -> None:
    """A made-up type: the tests here and all that read operations notice it."""

    @dataclass(frozen=True, kw_only=True)
    class Doubling(Operation):
        counts = ("ac",)
        role = Role.CURRENT
        parts = ("synapse",)
        by_channel = ("x",)

        x: Port

    program = alone(made(Doubling, x=V))
    assert missing(EXAMPLES) == {"Doubling"}
    ledger = InterpreterBackend(alone(made(Sink, x=V)), 2).run(inputs(program)).counts
    assert evaluate(program, ledger, np.array([3, 2])).refused == "it: the formula does not know a Doubling"
    with pytest.raises(GraphError, match="it: what a Doubling needs of a chip is not known"):
        place(program, "loihi2", chip_named("loihi2"), {})
    del Doubling, program
    gc.collect()  # or it would be a type for the tests that come after
    assert missing(EXAMPLES) == set()


def test_a_type_without_facts_cannot_be_defined() -> None:
    with pytest.raises(TypeError, match="Silent: an operation states its facts; missing: counts, role, parts"):
        type("Silent", (Operation,), {"by_channel": ()})


@pytest.mark.parametrize("kind", TYPES)
def test_counts_are_those_that_the_type_states(kind: type[Operation]) -> None:
    """Stated kinds are set in some example, no other kind is, and a second run finds no stale ones."""
    seen = set()
    for operation in EXAMPLES[kind]:
        program = alone(operation)
        silent = {name: 0 * x for name, x in inputs(program).items()}
        with FastBackend(program, 2) as backend:
            ledger = backend.run(inputs(program)).counts
            seen |= {name for name in KINDS if ledger.per_step("it", name).any()}
            expected = InterpreterBackend(program, 2).run(silent).counts.table
            for _ in range(3):
                np.testing.assert_array_equal(backend.run(silent).counts.table, expected)
        del ledger
    assert seen == set(kind.counts)
    assert set(kind.counts) <= set(KINDS)


@pytest.mark.parametrize("kind", [kind for kind in TYPES if kind.role is not Role.HOST])
def test_fast_runs_a_type_without_kernels_by_steps(
    kind: type[Operation], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(window, "KERNELS", {own: run for own, run in window.KERNELS.items() if own is not kind})
    for operation in EXAMPLES[kind]:
        program = alone(operation)
        got = FastBackend(program, 2, record_membranes=True).run(inputs(program))
        expected = InterpreterBackend(program, 2).run(inputs(program))
        np.testing.assert_array_equal(got.counts.table, expected.counts.table)
        for ours, theirs in ((got.spikes, expected.spikes), (got.membranes, expected.membranes)):
            assert ours.keys() == theirs.keys()
            assert all((ours[name] == theirs[name]).all() for name in ours)
        np.testing.assert_allclose(got.outputs["out"], expected.outputs["out"], rtol=0, atol=1e-12)
    assert f"no kernels for {kind.__name__}, which go step by step" in caplog.text


@pytest.mark.parametrize("kind", TYPES)
def test_what_is_executed_is_charged_to_a_part(kind: type[Operation]) -> None:
    assert set(kind.parts) <= set(PARTS)
    assert kind.parts or not {"ac", "ac_quadratic", "mac"} & set(kind.counts)


@pytest.mark.parametrize("kind", TYPES)
def test_membranes_are_recorded_of_those_that_have_one(kind: type[Operation]) -> None:
    for operation in EXAMPLES[kind]:
        program = alone(operation)
        got = FastBackend(program, 2, record_membranes=True).run(inputs(program))
        assert (operation.name in got.membranes) == operation.has_membrane
        assert (operation.name in got.spikes) == (kind.role is Role.NEURON)


@pytest.mark.parametrize("kind", TYPES)
def test_an_impulse_is_out_after_the_longest_delay_and_not_after(kind: type[Operation]) -> None:
    """Of operations without a membrane, which remember for ever."""
    for operation in EXAMPLES[kind]:
        if operation.has_membrane or kind.role is Role.NEURON or getattr(operation, "current", False):
            continue
        program = alone(operation)
        last = longest_delay(program.operations)
        longer = Program(program.operations, WINDOW, 0.01, program.period + 3)
        first = {name: np.where(np.arange(WINDOW)[:, None, None] == 0, x.max() and 1.0, 0.0) * np.ones_like(x)
                 for name, x in inputs(longer).items()}  # fmt: skip
        if getattr(operation, "bias", None) is not None and getattr(operation, "clock", None) is None:
            continue  # it puts out its bias for ever
        if getattr(operation, "inverted", False):
            first["binary"] = np.zeros_like(first["binary"])  # nothing stops the impulse
        out = InterpreterBackend(longer, 2).run(first).outputs
        series = np.abs(next(iter(out.values()))).sum(axis=(1, 2))
        assert series[last] > 0
        assert not series[last + 1 :].any()


@pytest.mark.parametrize("kind", TYPES)
def test_channels_stay_apart_where_the_type_says_so(kind: type[Operation]) -> None:
    for operation in EXAMPLES[kind]:
        wide = [name for name, port in operation.ports.items() if port.width == WIDTH]
        for name in set(wide) - {"spike"}:  # a gate's spike may be one for all channels
            program = alone(operation)
            source = operation.ports[name].sources[0]
            base = inputs(program)
            changed = {**base, source: base[source].copy()}
            changed[source][..., 1] = 1 - changed[source][..., 1].clip(0, 1)
            one, other = (next(iter(InterpreterBackend(program, 2).run(x).outputs.values())) for x in (base, changed))
            apart = (one != other).any(axis=(0, 1)).tolist() == [False, True, False, False]
            assert apart == (name in kind.by_channel)


def fed_by_neurons(attention: Attention | CausalAttention) -> Program:
    """Attention behind neurons, whose spikes the formula reads."""
    neuron = Neuron(name="n", width=WIDTH, signal=SPIKES, latency=0, x=V, **NEURON)
    n = Port(("n",), WIDTH, SPIKES)
    *before, it, out = alone(replace(attention, q=n, k=n, v=n)).operations
    return Program((*before, neuron, it, out), WINDOW, 0.01, 2 * WINDOW)


@pytest.mark.parametrize("kind", TYPES)
def test_formula_conventions_and_chip_know_the_type(kind: type[Operation]) -> None:
    for operation in EXAMPLES[kind]:
        program = fed_by_neurons(operation) if isinstance(operation, Attention | CausalAttention) else alone(operation)
        ledger = FastBackend(program, 2).run(inputs(program)).counts
        valid, row = np.array([3, 2]), ledger.operations.index("it")
        formula = evaluate(program, ledger, valid)
        assert formula.refused is None
        facts = gather(program, ledger, formula, valid)
        np.testing.assert_array_equal(facts[row, : len(KINDS)], ledger.table[row].sum(axis=1))
        layers = place(program, "loihi2", chip_named("loihi2"), {}).layers
        placed = any("it" in layer.demand.operations for layer in layers)
        assert placed == (kind.role not in (Role.HOST, Role.ROUTING))
