"""Cycles that do not mix channels run in one compiled loop: what it gives is the definition's, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.program_interpreter import InterpreterBackend
from recordings import agree

from spikescr.errors import BackendError
from spikescr.sim.fast.backend import FastBackend
from spikescr.sim.program import (
    DelayLine,
    Gate,
    Integrator,
    Neuron,
    Operation,
    Port,
    Program,
    Signal,
    Sink,
    Source,
    Synapse,
    Tap,
)

REPEATABLE = settings(derandomize=True, database=None)
N, STEPS, PERIOD, SAMPLES = 5, 6, 9, 3
SIGNALS = {"values": Signal.VALUES, "spikes": Signal.SPIKES}


def program(rng: np.random.Generator, members: int) -> Program:
    """A ring of random operations, each of which reads the one before it and perhaps others; the first is a delay."""
    signals = dict(SIGNALS)

    def port(*sources: str) -> Port:
        spikes = all(signals[source] is Signal.SPIKES for source in sources)
        return Port(sources, N, Signal.SPIKES if spikes else Signal.VALUES)

    def numbers(low: float, high: float) -> np.ndarray:
        return rng.integers(int(8 * low), int(8 * high) + 1, N) / 8

    def operation(name: str, before: str) -> Operation:
        others = [source for source in signals if source != before and rng.random() < 0.3]
        x = port(*rng.permutation([before, *others]).tolist())
        common: dict[str, Any] = {"name": name, "width": N, "signal": Signal.VALUES}
        kind = rng.integers(5)
        if kind == 0:
            return DelayLine(**common | {"signal": x.signal}, x=x, delay=int(rng.integers(1, 4)))
        if kind == 1:
            return Synapse(**common, x=x, taps=(Tap(0, numbers(-1, 1)),))
        if kind == 2:
            ticks = Port(("clock",), 1, Signal.CLOCK)
            return Gate(**common | {"signal": x.signal}, value=x, spike=ticks, inverted=bool(rng.random() < 0.3))
        if kind == 3:
            parts = {"decay": numbers(0, 1), "gain": numbers(-1, 1), "drive": numbers(0, 0.5)}
            return Integrator(**common, x=x, **parts)
        parts = {"decay": numbers(0, 1), "gain": numbers(0, 1), "drive": numbers(0, 0.5), "threshold": numbers(0, 1)}
        soft, latency = bool(rng.random() < 0.5), None if rng.random() < 0.5 else 1
        fires = common | {"signal": Signal.SPIKES, "latency": latency}
        return Neuron(**fires, x=x, **parts, v_reset=numbers(-1, 0), soft=soft)

    made: list[Operation] = []
    signals["m0"] = Signal.VALUES
    for number in range(1, members):
        made.append(operation(f"m{number}", f"m{number - 1}"))
        signals[made[-1].name] = made[-1].signal
    last = Synapse(
        name="last", width=N, signal=Signal.VALUES, x=port(f"m{members - 1}"), taps=(Tap(0, numbers(-1, 1)),)
    )
    signals["last"] = Signal.VALUES
    first = DelayLine(name="m0", width=N, signal=Signal.VALUES, x=port("last"), delay=int(rng.integers(1, 4)))
    read = port(*rng.permutation([m.name for m in (first, *made)]).tolist()[: rng.integers(1, members + 1)])
    head = Synapse(name="head", width=N, signal=Signal.VALUES, x=read, taps=(Tap(0, numbers(-1, 1)),))
    sources = [Source(name="clock", width=1, signal=Signal.CLOCK)]
    sources += [Source(name=name, width=N, signal=signal) for name, signal in SIGNALS.items()]
    sink = Sink(name="output", width=N, signal=Signal.VALUES, x=Port(("head",), N, Signal.VALUES))
    return Program((*sources, first, *made, last, head, sink), STEPS, 0.01, PERIOD)


def inputs(rng: np.random.Generator) -> dict[str, np.ndarray]:
    valid = rng.integers(1, STEPS + 1, SAMPLES)
    return {
        "clock": (np.arange(STEPS)[:, None, None] < valid[:, None]).astype(float),
        "values": rng.integers(-4, 5, (STEPS, SAMPLES, N)) / 4 * (rng.random((STEPS, SAMPLES, N)) < 0.7),
        "spikes": rng.poisson(0.5, (STEPS, SAMPLES, N)).astype(float),
    }


@settings(REPEATABLE, max_examples=150)
@given(st.integers(0, 2**32), st.integers(2, 9))
def test_it_is_the_interpreter(seed: int, members: int) -> None:
    rng = np.random.default_rng(seed)
    made, x = program(rng, members), inputs(rng)
    backend = FastBackend(made, SAMPLES)
    assert backend._plan.elementwise.keys() == {"m0"}
    agree(backend.run(x), InterpreterBackend(made, SAMPLES).run(x))
    agree(backend.run(x), FastBackend(made, SAMPLES, record_membranes=True).run(x))  # which goes by steps
    with FastBackend(made, SAMPLES, threads=2) as threads:
        agree(backend.run(x), threads.run(x))


def ring(change: Callable[[Synapse], Synapse]) -> Program:
    half = Synapse(
        name="half", width=N, signal=Signal.VALUES, x=Port(("late", "values"), N, Signal.VALUES),
        taps=(Tap(0, np.full(N, 2.0**1023)),),
    )  # fmt: skip
    total = Integrator(
        name="total", width=N, signal=Signal.VALUES, x=Port(("half",), N, Signal.VALUES), decay=np.ones(N),
        gain=np.ones(N), drive=np.zeros(N),
    )  # fmt: skip
    late = DelayLine(name="late", width=N, signal=Signal.VALUES, x=Port(("total",), N, Signal.VALUES), delay=1)
    sources = [Source(name=name, width=N, signal=signal) for name, signal in SIGNALS.items()]
    sink = Sink(name="output", width=N, signal=Signal.VALUES, x=Port(("total",), N, Signal.VALUES))
    return Program((*sources, late, change(half), total, sink), STEPS, 0.01, PERIOD)


def test_a_membrane_that_is_not_finite_is_told_with_its_step() -> None:
    x = {"values": np.zeros((STEPS, SAMPLES, N)), "spikes": np.zeros((STEPS, SAMPLES, N))}
    x["values"][2, 1, 3] = 1.0
    backend = FastBackend(ring(lambda half: half), SAMPLES)
    assert backend._plan.elementwise
    with pytest.raises(BackendError, match=r"^fast: total at step 3: a membrane of sample 1 is not finite$"):
        backend.run(x)


def test_weights_that_mix_channels_go_by_steps() -> None:
    mixing = ring(
        lambda half: Synapse(
            name="half", width=N, signal=Signal.VALUES, x=half.x, taps=(Tap(0, np.eye(N)[::-1].copy()),)
        )
    )
    backend = FastBackend(mixing, SAMPLES)
    assert backend._plan.looped == {"late", "half", "total"}
    assert not backend._plan.elementwise
