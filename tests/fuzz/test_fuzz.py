"""The fuzzer finds faults that are there, and the same ones again; the commands stand a moment of it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from fuzz import trial
from fuzz.damage import damage
from fuzz.draws import Seeded
from spikescr.errors import CheckpointError

TESTS = Path(__file__).parents[1]


def grab() -> None:
    """Two gigabytes."""
    np.ones(250_000_000)


def work(seconds: float) -> None:
    """Keeps the CPU busy for so many seconds of its own time."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


FAULTS: dict[str, tuple[Callable[[], object], str]] = {
    "an error that is not ours": (lambda: {}["missing"], "KeyError at "),
    "memory": (grab, "numpy.core._exceptions._ArrayMemoryError at "),
    "time of the CPU": (lambda: work(60), "time"),
    "time of a process that it started": (
        lambda: subprocess.run([sys.executable, "-c", "while True: 0"], check=False, timeout=90),
        "time",
    ),
    "time in which nothing happens": (lambda: time.sleep(60), "time"),
    "signal": (lambda: os.kill(os.getpid(), signal.SIGSEGV), "signal SIGSEGV"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cause, fault = FAULTS[name]
    monkeypatch.setattr("spikescr.training.state.load_state", lambda path: cause())
    monkeypatch.setattr(trial, "SECONDS", 1 if fault == "time" else 30)
    state = tmp_path / "a.safetensors"
    assert trial.judged(["state", str(state)], state).fault.startswith(fault)


def test_a_busy_machine_is_no_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Half a second of work beside four others on its core takes more than the limit by the clock, and is none."""
    monkeypatch.setattr("spikescr.training.state.load_state", lambda path: work(0.5))
    monkeypatch.setattr(trial, "SECONDS", 1.5)
    state, allowed = tmp_path / "a.safetensors", os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    others = [subprocess.Popen([sys.executable, "-c", "while True: 0"]) for _ in range(4)]
    try:
        begin = time.monotonic()
        outcome = trial.judged(["state", str(state)], state)
        took = time.monotonic() - begin
    finally:
        os.sched_setaffinity(0, allowed)
        for other in others:
            other.kill()
            other.wait(60)
    assert took > 1.5
    assert (outcome.fault, outcome.seconds) == ("", pytest.approx(0.5, abs=0.5))


def test_an_error_of_ours_that_names_the_file_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = ["a.safetensors: its tensors are missing"]

    def load(path: Path) -> None:
        raise CheckpointError(said[0])

    monkeypatch.setattr("spikescr.training.state.load_state", load)
    state = tmp_path / "a.safetensors"
    assert trial.judged(["state", str(state)], state).fault == ""
    said[0] = "its tensors are missing"
    assert trial.judged(["state", str(tmp_path / "a.safetensors")], tmp_path / "a.safetensors").fault.startswith(
        "names no file: its tensors"
    )


def small_files(folder: Path) -> list[Path]:
    """One of each format."""
    folder.mkdir()
    with h5py.File(folder / "a.h5", "w") as file:
        file["group/numbers"], file["group/text"], file["edges"] = np.arange(6.0), "LIF", ["a", "b"]
    np.save(folder / "a.npy", np.arange(6))
    np.savez(folder / "a.npz", x=np.arange(6), y=np.ones((2, 3)))
    header = (
        b'{"__metadata__": {"info": "{\\"steps\\": 3}"}, "w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
    )
    (folder / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    (folder / "a.json").write_text('{"a": [1, {"b": null}]}')
    (folder / "a.csv").write_text("name,number\none,1\ntwo,2\n")
    return sorted(folder.iterdir())


def test_damage_is_that_of_its_seed_and_seldom_none(tmp_path: Path) -> None:
    originals = small_files(tmp_path / "valid")
    for original in originals:
        found = []
        for seed in range(20):
            twice = []
            for folder in (tmp_path / "one", tmp_path / "two"):
                folder.mkdir(exist_ok=True)
                copy = Path(shutil.copy(original, folder / original.name))
                damage(copy, Seeded(seed))
                twice.append(copy.read_bytes())
            if original.suffix != ".npz":  # a zip holds the time
                assert twice[0] == twice[1], (original.name, seed)
            found.append(twice[0] != original.read_bytes())
        assert sum(found) > 12, original.name


def test_memory_that_a_damage_took_is_given_back_after_a_training() -> None:
    """The parent of the trials grew by what the largest damage takes, and to 1.8 GB in 45 minutes."""
    code = (
        "from pathlib import Path; from spikescr.training.memory import keep_freed_memory; "
        "from fuzz.__main__ import give_back\n"
        "def resident():\n    return int(Path('/proc/self/statm').read_text().split()[1]) * 4096\n"
        "assert keep_freed_memory()\n"
        "give_back()\n"
        "before = resident()\n"
        "for _ in range(3):\n    held = [bytes(3 * 10**8)[:] + b'.', b'.' * 10**5]\n    del held\n"
        "print(resident() - before)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(TESTS)}, capture_output=True, text=True,
        timeout=120, check=True,
    )  # fmt: skip
    assert int(found.stdout) < 10**8


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["seeds", "hypothesis"])
def test_commands_stand_a_moment_of_it(engine: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Of the kinds for which no network must be trained; continuous integration runs two minutes of all."""
    files = tmp_path_factory.getbasetemp() / "corpus"
    options = ["--minutes", "0.05", "--kinds", "graphs,inputs,recordings,spikes", "--engine", engine]
    found = subprocess.run(
        [sys.executable, "-m", "fuzz", *options, "--corpus", str(files), "--keep", str(files / engine)],
        env=os.environ | {"PYTHONPATH": str(TESTS)}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout[-6000:] + found.stderr[-3000:]
    inputs = re.search(r"^(\d+) inputs in \d+ s, \d+ per minute", found.stdout, re.MULTILINE)
    assert inputs, found.stdout
    assert int(inputs[1]) > 0
