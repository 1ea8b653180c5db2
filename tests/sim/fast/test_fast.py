"""What the fast backend has beyond the others: two ways to sum, two precisions, compiled code and memory used again."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from from_torch import SMALL, calibrated_model, fold, to_nir
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.program_interpreter import InterpreterBackend
from random_graphs import Case, cases
from recordings import agree
from scipy.sparse.csgraph import connected_components

from spikescr.errors import BackendError
from spikescr.sim.backends import Options
from spikescr.sim.fast import backend as backends
from spikescr.sim.fast import currents
from spikescr.sim.fast.backend import FastBackend
from spikescr.sim.fast.stepwise import OWN
from spikescr.sim.lowering.lower import lower
from spikescr.sim.program import Integrator, Neuron, Port, Program, Signal, Sink, Source, Synapse, Tap
from spikescr.sim.run import run_batches
from spikescr.sim.steps.backend import StepBackend
from spikescr.sizes import memory_limited

REPEATABLE = settings(derandomize=True, database=None)


def chain(threshold: float = 1.0, width: int = 2) -> Program:
    """Input of spikes, one synapse of weight 1 each to each, neurons that forget at once."""
    x = Port(("x",), width, Signal.SPIKES)
    current = Port(("s",), width, Signal.VALUES)
    one = np.ones(width)
    return Program(
        (
            Source(name="x", width=width, signal=Signal.SPIKES),
            Synapse(name="s", width=width, signal=Signal.VALUES, x=x, taps=(Tap(0, np.ones((width, width))),)),
            Neuron(name="n", width=width, signal=Signal.SPIKES, x=current, decay=0 * one, gain=one, drive=0 * one,
                   threshold=threshold * one, v_reset=0 * one),
            Sink(name="out", width=width, signal=Signal.SPIKES, x=Port(("n",), width, Signal.SPIKES)),
        ),
        3,
        0.01,
        3,
    )  # fmt: skip


@settings(REPEATABLE, max_examples=60)
@given(cases())
def test_products_and_events_give_the_same_sums(case: Case) -> None:
    program = lower(case.graph)
    results = []
    for limit in (0.0, np.inf):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(currents, "DENSE_FROM", limit)
            patch.setattr(currents, "DENSE_FROM_NEAR", limit)
            results.append(FastBackend(program, 4).run(case.inputs))
    agree(*results)


@settings(REPEATABLE, max_examples=60)
@given(cases())
def test_step_by_step_is_the_whole_window(case: Case) -> None:
    program = lower(case.graph)
    with StepBackend("steps", program, Options(batch=4), OWN) as stepwise:
        agree(stepwise.run(case.inputs), FastBackend(program, 4).run(case.inputs))


@settings(REPEATABLE, max_examples=100)
@given(cases(cycles=True))
def test_components_are_scipys_and_read_nothing_of_later_ones(case: Case) -> None:
    program = lower(case.graph)
    listed = [o.name for o in program.operations]
    reads = [(source, o.name) for o in program.operations for port in o.ports.values() for source in port.sources]
    leads = np.zeros((len(listed), len(listed)))
    for source, reader in reads:
        leads[listed.index(source), listed.index(reader)] = 1
    labels = connected_components(leads, connection="strong")[1]
    found = [[o.name for o in part] for part in program.components]
    expected = [[name for name, own in zip(listed, labels, strict=True) if own == label] for label in set(labels)]
    assert sorted(found) == sorted(expected)
    place = {name: number for number, part in enumerate(found) for name in part}
    assert all(place[source] <= place[name] for source, name in reads)
    if not program.cyclic:
        assert [name for part in found for name in part] == listed


@settings(REPEATABLE, max_examples=60)
@given(cases())
def test_membranes_are_the_interpreters_and_change_nothing_else(case: Case) -> None:
    program = lower(case.graph)
    got = FastBackend(program, 4, record_membranes=True).run(case.inputs)
    leaky = {o.name for o in program.of_type(Integrator) if not o.current}
    assert got.membranes.keys() == {o.name for o in program.of_type(Neuron)} | leaky
    agree(got, InterpreterBackend(program, 4).run(case.inputs))


@settings(REPEATABLE, max_examples=60)
@given(cases())
def test_without_spikes_all_else_is_there(case: Case) -> None:
    program = lower(case.graph)
    got = FastBackend(program, 4, record_spikes=False).run(case.inputs)
    assert got.spikes == {}
    agree(got, FastBackend(program, 4).run(case.inputs))


@settings(REPEATABLE, max_examples=40)
@given(cases())
def test_single_precision_is_exact_where_its_numbers_are(case: Case) -> None:
    """Weights, tables and membranes of the random graphs are short sums of eighths."""
    program = lower(case.graph)
    got = FastBackend(program, 4, dtype=np.float32).run(case.inputs)
    expected = FastBackend(program, 4).run(case.inputs)
    quiet = {name for name in got.spikes if (got.spikes[name] != expected.spikes[name]).any()}
    assert quiet <= {name for name in got.spikes if name.startswith("own")}  # tau of their own: many digits


def test_single_precision_fires_at_the_same_threshold() -> None:
    """nextafter(1, 0) rounds up to 1 in float32, and a membrane of exactly 1 would not fire any more."""
    program = chain(threshold=np.nextafter(1.0, 0.0))
    x = np.array([[1.0, 0], [0, 0], [1, 1]])[:, None]
    for dtype in (np.float64, np.float32):
        got = FastBackend(program, 1, dtype=dtype).run({"x": x})
        assert got.outputs["out"][:, 0].tolist() == [[1, 1], [0, 0], [1, 1]]


def test_single_precision_changes_few_spikes_of_a_network() -> None:
    model, x, steps = calibrated_model(SMALL, seed=5, samples=6, window=20)
    program = lower(to_nir(fold(model), steps=20, dt=0.01))
    values, valid = x.transpose(0, 1).numpy(), steps.numpy()
    runs = (run_batches(program, FastBackend(program, 6, dtype=dtype), values, valid) for dtype in ("f8", "f4"))
    (a,), (b,) = (list(run) for run in runs)
    spikes = sum(int(s.sum()) for s in a.recording.spikes.values())
    changed = sum(int((s != b.recording.spikes[name]).sum()) for name, s in a.recording.spikes.items())
    assert spikes > 1000
    assert changed < 0.01 * spikes


def test_what_it_cannot_be_built_with_is_refused() -> None:
    with pytest.raises(ValueError, match="dtype must be float64 or float32, got float16"):
        FastBackend(chain(), 1, dtype=np.float16)
    with pytest.raises(ValueError, match="batch must be at least 1, got 0"):
        FastBackend(chain(), 0)
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        FastBackend(chain(), 1, threads=0)


def test_a_sample_that_takes_more_memory_than_is_allowed_is_refused() -> None:
    with memory_limited(1000), pytest.raises(BackendError, match=r"a sample of 3 steps takes 2\.69 kB of memory"):
        FastBackend(chain(width=20), 1)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("width", [1, 31, 32, 64, 65, 300])
def test_events_are_summed_whatever_their_number_and_that_of_the_columns(width: int, dtype: type) -> None:
    """Of integers, so that the order of a sum does not matter; 0 to 70 events a step, also several of a channel."""
    rng, steps, inside = np.random.default_rng(width), 72, 70
    taps = tuple(Tap(delay, rng.integers(-9, 10, (width, inside)).astype(float)) for delay in (0, 3))
    x = Port(("x",), inside, Signal.SPIKES)
    program = Program(
        (
            Source(name="x", width=inside, signal=Signal.SPIKES),
            Synapse(name="s", width=width, signal=Signal.VALUES, x=x, taps=taps),
            Sink(name="out", width=width, signal=Signal.VALUES, x=Port(("s",), width, Signal.VALUES)),
        ),
        steps, 0.01, steps,
    )  # fmt: skip
    for most in (1, 3):
        events = np.zeros((steps, 2, inside))
        for n in range(steps):
            events[n, 0, rng.permutation(inside)[: n % 71]] = 1
        events[:, 0] *= rng.integers(1, most + 1, events[:, 0].shape)
        expected = events @ taps[0].weight.T
        expected[3:] += events[:-3] @ taps[1].weight.T
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(currents, "DENSE_FROM", 2.0)
            patch.setattr(currents, "DENSE_FROM_NEAR", 2.0)
            found = FastBackend(program, 2, dtype=dtype).run({"x": events}).outputs["out"]
        np.testing.assert_array_equal(found, expected)


@settings(REPEATABLE, max_examples=60)
@given(cases())
def test_nothing_of_a_batch_is_left_in_the_next(case: Case) -> None:
    """Tables of counts are used again, and only what was set in them is cleared."""
    program, silence = lower(case.graph), {name: np.zeros_like(array) for name, array in case.inputs.items()}
    with FastBackend(program, 4) as backend:
        expected = [FastBackend(program, 4).run(inputs) for inputs in (case.inputs, silence)]
        for _ in range(2):
            agree(backend.run(case.inputs), expected[0])
            agree(backend.run(silence), expected[1])


@settings(REPEATABLE, max_examples=15)
@given(cases(), st.integers(1, 3), st.booleans())
def test_parts_and_threads_change_nothing(case: Case, threads: int, one_by_one: bool) -> None:
    program = lower(case.graph)
    with pytest.MonkeyPatch.context() as patch:
        if one_by_one:
            patch.setattr(backends, "AT_ONCE", 1)
        with FastBackend(program, 4, record_membranes=True, threads=threads) as parted:
            runs = [parted.run(case.inputs) for _ in "ab"]
    expected = FastBackend(program, 4, record_membranes=True).run(case.inputs)
    for run in runs:
        assert run.membranes.keys() == expected.membranes.keys()
        agree(run, expected)


def test_counts_that_somebody_holds_are_not_overwritten() -> None:
    loud, quiet = np.ones((3, 2, 2)), np.zeros((3, 2, 2))
    backend = FastBackend(chain(), 2)
    part = backend.run({"x": loud}).counts.per_step("s", "ac")[1]  # keeps a slice alone
    for _ in range(4):
        assert backend.run({"x": quiet}).counts.total("ac") == 0
    assert part.tolist() == [4, 4]  # 2 events x 2 synapses


def test_memory_of_counts_is_used_again() -> None:
    backend = FastBackend(chain(), 2)
    places = {backend.run({"x": np.ones((3, 2, 2))}).counts.table.ctypes.data for _ in range(6)}
    assert len(places) == 1


@pytest.mark.parametrize("width", [1, 7, 8, 9, 64, 130])
def test_every_neuron_of_any_width_is_listed(width: int) -> None:
    """Flags are gathered eight at a time; the last eight may be fewer."""
    rng = np.random.default_rng(width)
    program = chain(width=width)
    own = Neuron(**{**vars(program["n"]), "x": Port(("x",), width, Signal.SPIKES), "threshold": np.full(width, 0.5)})
    summed = Synapse(**{**vars(program["s"]), "x": Port(("n",), width, Signal.SPIKES)})
    out = Sink(name="out", width=width, signal=Signal.VALUES, x=Port(("s",), width, Signal.VALUES))
    x = (rng.random((3, 2, width)) < 0.4).astype(float)
    got = FastBackend(Program((program["x"], own, summed, out), 3, 0.01, 3), 2).run({"x": x})
    np.testing.assert_array_equal(got.spikes["n"], x == 1)
    np.testing.assert_array_equal(got.outputs["out"], np.repeat(x.sum(axis=2, keepdims=True), width, axis=2))
    np.testing.assert_array_equal(got.counts.per_step("n", "fired"), x.sum(axis=2))


SCRIPT = """
import sys
import numpy as np
from spikescr.sim.fast.kernels import counts, events, neurons
from spikescr.sim.fast.backend import FastBackend
from spikescr.sim.program import Port, Program, Signal, Sink, Source, Neuron
one, x = np.ones(4), Port(("x",), 4, Signal.SPIKES)
neuron = Neuron(name="n", width=4, signal=Signal.SPIKES, x=x, decay=one / 2, gain=one, drive=0 * one, threshold=one,
                v_reset=0 * one)
sink = Sink(name="out", width=4, signal=Signal.SPIKES, x=Port(("n",), 4, Signal.SPIKES))
program = Program((Source(name="x", width=4, signal=Signal.SPIKES), neuron, sink), 2, 0.01, 2)
FastBackend(program, 1).run({"x": np.ones((2, 1, 4))})
compiled = [k for module in (neurons, counts, events) for k in vars(module).values() if hasattr(k, "stats")]
print(*(sum(sum(getattr(k.stats, which).values()) for k in compiled) for which in ("cache_misses", "cache_hits")))
print(sorted({"torch", "lava", "spikescr.model"} & set(sys.modules)))
"""


def test_second_process_compiles_nothing_and_imports_no_torch() -> None:
    runs = [
        subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=300)
        for _ in "ab"
    ]
    compiled, imported = runs[1].stdout.splitlines()
    assert compiled.split()[0] == "0"
    assert int(compiled.split()[1]) >= 4
    assert imported == "[]"
