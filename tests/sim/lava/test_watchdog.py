"""A run that fails ends with an error that names operation and step, and no process outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from spikescr.errors import BackendError
from spikescr.sim.lava.backend import LavaBackend, ModelError
from spikescr.sim.program import Gate, Neuron, Port, Program, Signal, Sink, Source
from spikescr.sim.steps.neurons import NeuronStep

pytestmark = pytest.mark.lava

VALUES, SPIKES = Signal.VALUES, Signal.SPIKES


def small(period=5):
    """x -> lif -> out, two channels."""
    one = np.ones(2)
    lif = Neuron(
        name="lif",
        width=2,
        signal=SPIKES,
        x=Port(("x",), 2, VALUES),
        decay=0.5 * one,
        gain=one,
        drive=0 * one,
        threshold=one,
        v_reset=0 * one,
    )
    out = Sink(name="out", width=2, signal=SPIKES, x=Port(("lif",), 2, SPIKES))
    return Program((Source(name="x", width=2, signal=VALUES), lif, out), steps=4, dt=0.25, period=period)


def inputs(samples=1):
    return {"x": np.ones((4, samples, 2))}


def closed_and_gone(backend, gone):
    """All processes of the backend have ended and it says so."""
    with pytest.raises(BackendError, match="lava: the backend is closed"):
        backend.run(inputs())
    return gone(set(backend.process_ids.values()))


@pytest.fixture
def interruptible():
    """Ctrl-C raises, also where a shell started these tests in the background and has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_model_that_raises_is_named_with_step_and_cause(build, gone):
    backend = build(small(), 3)
    x = inputs(3)["x"]
    x[2, 1, 0] = np.nan
    with pytest.raises(
        BackendError, match=r"^lava: lif at step 2: FloatingPointError: membrane of channel 0, sample 1 is nan$"
    ) as caught:
        backend.run({"x": x})
    assert isinstance(caught.value.__cause__, ModelError)
    assert "in _step" in str(caught.value.__cause__)
    assert closed_and_gone(backend, gone)


def test_long_message_of_a_model_is_cut(build, monkeypatch):
    def fail(self, n, x):
        raise RuntimeError("ü" * 100_000)

    monkeypatch.setattr(NeuronStep, "__call__", fail)
    with pytest.raises(BackendError, match=r"^lava: lif at step 0: RuntimeError: ü{900,1000}$"):
        build(small(), 1).run(inputs())


def test_gate_refuses_spikes_other_than_zero_and_one(build, gone):
    gate = Gate(name="gate", width=2, signal=VALUES, value=Port(("x",), 2, VALUES), spike=Port(("lif", "x"), 2, SPIKES))
    program = small()
    backend = build(Program((*program.operations, gate), 4, 0.25, 5), 1)
    # v = 1, 1.5: the neuron fires at step 1, and with x = 1 on the same port that makes 2
    with pytest.raises(
        BackendError, match=r"lava: gate at step 1: ValueError: a gate opens on 1 and closes on 0, got 2"
    ):
        backend.run(inputs())
    assert closed_and_gone(backend, gone)


@pytest.mark.parametrize("name", ["lif", "out", "runtime service"])
def test_process_killed_between_batches_is_named(build, gone, name):
    backend = build(small(), 1)
    backend.run(inputs())
    os.kill(backend.process_ids[name], signal.SIGKILL)
    with pytest.raises(BackendError, match=rf"^lava: {name} at step \d: process killed by SIGKILL$"):
        backend.run(inputs())
    assert closed_and_gone(backend, gone)


def test_process_killed_during_a_batch_is_named_with_its_step(build, gone):
    backend = build(small(period=200_000), 1)
    timer = threading.Timer(0.5, os.kill, (backend.process_ids["lif"], signal.SIGKILL))
    timer.start()
    with pytest.raises(BackendError, match=r"^lava: lif at step [1-9]\d*: process killed by SIGKILL$"):
        backend.run(inputs())
    timer.join()
    assert closed_and_gone(backend, gone)


def test_process_that_stands_still_is_named_after_the_stall_time(build, gone):
    backend = build(small(), 1, stall_seconds=0.5)
    backend.run(inputs())
    os.kill(backend.process_ids["lif"], signal.SIGSTOP)
    begin = time.monotonic()
    with pytest.raises(BackendError, match=r"^lava: lif at step 0: no progress for 0.5 s$"):
        backend.run(inputs())
    assert 0.5 <= time.monotonic() - begin < 10
    assert closed_and_gone(backend, gone)


def test_model_that_cannot_be_built_is_named(monkeypatch):
    def fail(self, *built_with):
        raise MemoryError("no room for the neurons")

    monkeypatch.setattr(NeuronStep, "__init__", fail)
    with pytest.raises(
        BackendError, match=r"^lava: lif: could not be built: MemoryError: no room for the neurons$"
    ) as caught:
        LavaBackend(small(), 1)
    assert isinstance(caught.value.__cause__, MemoryError)


def test_process_that_dies_while_it_is_built_is_named(monkeypatch):
    monkeypatch.setattr(NeuronStep, "__init__", lambda self, *built_with: os._exit(3))
    with pytest.raises(BackendError, match=r"^lava: lif: process died while it was built$"):
        LavaBackend(small(), 1)


@pytest.mark.usefixtures("interruptible")
def test_interrupt_of_the_parent_ends_all_processes(build, gone):
    backend = build(small(period=200_000), 1)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        backend.run(inputs())
    timer.join()
    assert closed_and_gone(backend, gone)


@pytest.mark.usefixtures("interruptible")
def test_children_leave_interrupts_to_the_parent(build):
    backend = build(small(), 1)
    for pid in backend.process_ids.values():
        os.kill(pid, signal.SIGINT)
    # x = 1: v is 1, 1.5 (fires), 1, 1.5 (fires), and after the window 0
    assert backend.run(inputs()).spikes["lif"][:, 0, 0].tolist() == [False, True, False, True, False]


def test_backend_that_nobody_holds_ends_its_processes(gone):
    backend = LavaBackend(small(), 1)
    backend.run(inputs())
    pids = set(backend.process_ids.values())
    del backend
    assert gone(pids)


SCRIPT = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, {folder!r})
from test_watchdog import LavaBackend, inputs, small
backend = LavaBackend(small(period=200_000 if {end!r} == "interrupt" else 5), 1)
print(*backend.process_ids.values(), flush=True)
if {end!r} == "kill":
    time.sleep(60)
backend.run(inputs())
if {end!r} == "exit with a child that takes no signals":
    os.kill(backend.process_ids["lif"], signal.SIGSTOP)
"""


def start(end):
    """A Python process that builds a backend, prints the process ids and then ends as told."""
    code = SCRIPT.format(folder=str(Path(__file__).parent), end=end)
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    return process, {int(pid) for pid in process.stdout.readline().split()}


@pytest.mark.slow
@pytest.mark.parametrize("end", ["exit", "exit with a child that takes no signals"])
def test_parent_that_ends_without_closing_is_quiet_and_leaves_nothing(gone, end):
    process, pids = start(end)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")
    assert len(pids) == 4  # three operations and the runtime service
    assert gone(pids)


@pytest.mark.slow
def test_parent_that_is_killed_takes_its_children_along(gone):
    process, pids = start("kill")
    process.kill()
    process.communicate(timeout=60)
    assert len(pids) == 4  # three operations and the runtime service
    assert gone(pids)


@pytest.mark.slow
def test_ctrl_c_in_the_terminal_ends_everything(gone):
    process, pids = start("interrupt")
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert err.strip().splitlines()[-1] == "KeyboardInterrupt"
    assert err.count("Traceback") == 1
    assert len(pids) == 4  # three operations and the runtime service
    assert gone(pids)
