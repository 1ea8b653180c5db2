"""The interface of the backend: what it refuses, what it leaves untouched, and that it is silent."""

from __future__ import annotations

import gc
import logging
import resource
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl
from lava.magma.compiler.channels.pypychannel import CspRecvPort, CspSendPort

from spikescr.errors import BackendError
from spikescr.sim.lava.backend import LavaBackend
from spikescr.sim.program import Operation, Port, Program, Role, Select, Signal, Sink, Source, Synapse, Tap

pytestmark = pytest.mark.lava


def routed(*, signal=Signal.VALUES, sources=("x",)):
    """x -> w -> out, two channels swapped; two steps."""
    return Program(
        (
            Source(name="x", width=2, signal=signal),
            Select(name="w", width=2, signal=signal, x=Port(sources, 2, signal), index=np.array([1, 0])),
            Sink(name="out", width=2, signal=signal, x=Port(("w",), 2, signal)),
        ),
        steps=2,
        dt=0.5,
        period=3,
    )


def test_inputs_that_do_not_fit_are_refused_and_the_backend_stays_usable(build):
    backend = build(routed(), 2)
    with pytest.raises(ValueError, match=r"inputs must be \['x'\], got \['y'\]"):
        backend.run({"y": np.zeros((2, 1, 2))})
    with pytest.raises(ValueError, match=r"the same 1 to 2 samples, got \[3\]"):
        backend.run({"x": np.zeros((2, 3, 2))})
    with pytest.raises(ValueError, match=r"the same 1 to 2 samples, got \[0\]"):
        backend.run({"x": np.zeros((2, 0, 2))})
    with pytest.raises(ValueError, match=r"'x' must have shape \(T, B, N\) = \(2, 1, 2\), got \(3, 1, 2\)"):
        backend.run({"x": np.zeros((3, 1, 2))})
    x = np.arange(4.0).reshape(2, 1, 2)
    assert backend.run({"x": x}).outputs["out"].tolist() == [[[1, 0]], [[3, 2]], [[0, 0]]]


@pytest.mark.parametrize("value", [0.5, -1.0, np.nan, np.inf])
def test_spikes_that_are_not_counts_are_refused(build, value):
    backend = build(routed(signal=Signal.SPIKES), 1)
    with pytest.raises(ValueError, match="input 'x' carries spikes: its values must be integers >= 0"):
        backend.run({"x": np.full((2, 1, 2), value)})


def test_a_clock_that_is_not_zero_or_one_is_refused(build):
    backend = build(routed(signal=Signal.CLOCK), 1)
    with pytest.raises(ValueError, match="input 'x' is a clock: its values must be 0 or 1"):
        backend.run({"x": np.full((2, 1, 2), 2.0)})


def test_programs_that_lava_cannot_run_are_refused_by_name():
    class Unknown(Operation):
        """An operation without a step."""

        counts = parts = by_channel = ()
        role = Role.CURRENT

    program = routed()
    strange = Unknown(name="strange", width=2, signal=Signal.VALUES)
    with pytest.raises(BackendError, match="lava: strange: no step for operations of type Unknown"):
        LavaBackend(Program((*program.operations, strange), 2, 0.5, 3), 1)
    with pytest.raises(BackendError, match="two operations are called 'x'"):
        LavaBackend(Program((program["x"], *program.operations), 2, 0.5, 3), 1)
    with pytest.raises(BackendError, match=r"lava: w: port 'x' reads one source twice: \('x', 'x'\)"):
        LavaBackend(routed(sources=("x", "x")), 1)
    with pytest.raises(ValueError, match="batch must be at least 1, got 0"):
        LavaBackend(program, 0)


def test_parts_without_connection_run_together(build):
    a, b = routed(), routed()
    rename = {"x": "x2", "w": "w2", "out": "out2"}
    values = Signal.VALUES
    second = (
        Source(name="x2", width=2, signal=values),
        Select(name="w2", width=2, signal=values, x=Port(("x2",), 2, values), index=np.array([0, 0])),
        Sink(name="out2", width=2, signal=values, x=Port(("w2",), 2, values)),
    )
    assert {o.name for o in second} == set(rename.values())
    backend = build(Program((*a.operations, *second, Source(name="idle", width=1, signal=values)), 2, 0.5, b.period), 1)
    x = np.arange(4.0).reshape(2, 1, 2)
    outputs = backend.run({"x": x, "x2": x, "idle": np.zeros((2, 1, 1))}).outputs
    assert outputs["out"].tolist() == [[[1, 0]], [[3, 2]], [[0, 0]]]
    assert outputs["out2"].tolist() == [[[0, 0]], [[2, 2]], [[0, 0]]]


def test_results_of_one_batch_are_not_overwritten_by_the_next(build):
    backend = build(routed(), 1)
    first = backend.run({"x": np.ones((2, 1, 2))})
    backend.run({"x": np.zeros((2, 1, 2))})
    assert first.outputs["out"].tolist() == [[[1, 1]], [[1, 1]], [[0, 0]]]


def test_closed_backend_refuses_to_run_and_closes_twice():
    with LavaBackend(routed(), 1) as backend:
        assert 0 < backend.build_seconds < 30
        assert set(backend.process_ids) == {"x", "w", "out", "runtime service"}
    backend.close()
    with pytest.raises(BackendError, match="lava: the backend is closed"):
        backend.run({"x": np.zeros((2, 1, 2))})


@pytest.mark.parametrize("late", [0.0, 0.05], ids=["as it comes", "threads end late"])
def test_closing_gives_back_files_threads_and_shared_memory(monkeypatch, late):
    def ends_late(body):
        def callback(port, semaphore):
            body(port, semaphore)
            time.sleep(late)

        return callback

    monkeypatch.setattr(CspSendPort, "_ack_callback", ends_late(CspSendPort._ack_callback))
    monkeypatch.setattr(CspRecvPort, "_req_callback", ends_late(CspRecvPort._req_callback))

    def cycle():
        with LavaBackend(routed(), 1) as backend:
            backend.run({"x": np.zeros((2, 1, 2))})
        gc.collect()  # Lava's objects refer to each other
        shared = Path("/proc/self/maps").read_text().count("/dev/zero")
        return len(list(Path("/dev/fd").iterdir())), threading.active_count(), shared

    before = threading.active_count()
    first = cycle()
    assert first[1] == before
    assert [cycle() for _ in range(3)] == [first] * 3


def test_nothing_is_written_to_the_file_system(build, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    build(routed(), 1).run({"x": np.zeros((2, 1, 2))})
    assert list(tmp_path.iterdir()) == []
    assert "/dev/shm/psm_" not in Path("/proc/self/maps").read_text()  # named blocks of shared memory


def test_two_backends_at_a_time_do_not_disturb_each_other(build):
    one, other = build(routed(), 1), build(routed(), 2)
    x = np.arange(4.0).reshape(2, 1, 2)
    one.close()
    assert other.run({"x": x}).outputs["out"].tolist() == [[[1, 0]], [[3, 2]], [[0, 0]]]


def test_nothing_is_printed_and_no_log_handler_is_left(capfd):
    handlers = list(logging.getLogger().handlers)
    with LavaBackend(routed(), 1) as backend:
        backend.run({"x": np.zeros((2, 1, 2))})
    assert logging.getLogger().handlers == handlers
    assert capfd.readouterr() == ("", "")


def test_the_limit_of_open_files_is_raised_where_it_is_too_low(build):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/dev/fd").iterdir())) + 4, hard))
    try:
        backend = build(routed(), 1)
        x = np.arange(4.0).reshape(2, 1, 2)
        assert backend.run({"x": x}).outputs["out"].tolist() == [[[1, 0]], [[3, 2]], [[0, 0]]]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_operations_multiply_with_one_thread_and_the_parent_keeps_its_own(build):
    before = threadpoolctl.threadpool_info()
    n = 400
    x = Port(("x",), n, Signal.SPIKES)
    synapse = Synapse(name="s", width=n, signal=Signal.VALUES, x=x, taps=(Tap(0, np.ones((n, n))),))
    backend = build(Program((Source(name="x", width=n, signal=Signal.SPIKES), synapse), 2, 0.5, 2), n)
    tasks = Path(f"/proc/{backend.process_ids['s']}/task")
    idle = len(list(tasks.iterdir()))
    counts = backend.run({"x": np.ones((2, n, n))}).counts
    assert counts.total("ac") == 2 * n * n * n  # steps x samples x events x fan-out
    assert len(list(tasks.iterdir())) == idle
    assert threadpoolctl.threadpool_info() == before
