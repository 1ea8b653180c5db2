"""Simulation in chunks: the same totals wherever they run, and whatever interrupts them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
from commands import Command, spikescr
from helpers import write_tones

TRAIN = ["steps=20", "model.heads=2", "model.width=16", "batch_size=16", "threads=1", "epochs=3"]
VARIES = {"build_seconds", "backend_seconds", "elapsed_seconds", "workers", "scheduler", "backend"}


def ok(*arguments: str, cwd: Path) -> str:
    """Runs a command that must succeed; its standard output."""
    run = spikescr(*arguments, cwd=cwd)
    assert run.returncode == 0, run.stderr
    return run.stdout


def summary(root: Path) -> dict[str, Any]:
    """What the last simulation reported, without what may vary."""
    found = json.loads((root / "runs/latest/simulation/summary.json").read_text())
    return {key: value for key, value in found.items() if key not in VARIES}


@contextmanager
def at_work(root: Path, *arguments: str) -> Iterator[Command]:
    """A simulation in Lava, started anew, with a chunk finished and most not; it is killed at the end."""
    chunks = root / "runs/latest/simulation/chunks"
    shutil.rmtree(chunks, ignore_errors=True)
    command = Command("simulate", "--backend", "lava", *arguments, cwd=root)
    try:
        deadline = time.monotonic() + 60
        while not list(chunks.glob("[0-9]*.npz")):
            assert time.monotonic() < deadline
            assert command.returncode is None, "it ended before a chunk was seen"
            time.sleep(0.01)
        yield command
    finally:
        command.kill()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an exported network and 20 test recordings."""
    root = tmp_path_factory.mktemp("work")
    write_tones(root / "tones", takes=10)
    ok("train", "--data", "folder:tones", *TRAIN, cwd=root)
    ok("export", "--to", "nir", cwd=root)
    return root


@pytest.fixture(scope="module")
def undisturbed(root: Path) -> tuple[dict[str, Any], str, str]:
    """Summary, counts and predictions of a run in one process and one chunk."""
    ok("simulate", cwd=root)
    folder = root / "runs/latest/simulation"
    return summary(root), (folder / "counts.csv").read_text(), (folder / "predictions.csv").read_text()


def assert_same(root: Path, undisturbed: tuple[dict[str, Any], str, str]) -> None:
    folder = root / "runs/latest/simulation"
    assert summary(root) == undisturbed[0]
    assert (folder / "counts.csv").read_text() == undisturbed[1]
    assert (folder / "predictions.csv").read_text() == undisturbed[2]
    assert not (folder / "chunks").exists()


@pytest.mark.lava
def test_lava_gives_the_files_of_fast(root: Path, undisturbed: tuple) -> None:
    ok("simulate", "--backend", "lava", cwd=root)
    assert_same(root, undisturbed)


@pytest.mark.parametrize("arguments", [["--chunk-size", "3"], ["--chunk-size", "3", "--workers", "2"]])
def test_totals_do_not_depend_on_chunks_or_workers(root: Path, undisturbed: tuple, arguments: list[str]) -> None:
    ok("simulate", *arguments, cwd=root)
    assert_same(root, undisturbed)


@pytest.mark.lava
def test_both_backends_are_compared(root: Path, undisturbed: tuple) -> None:
    out = ok("simulate", "--backend", "both", cwd=root)
    found = json.loads((root / "runs/latest/simulation/summary.json").read_text())
    assert found["differing"] == {"spikes": 0, "counts": 0}
    assert found["compared"]["spikes"] > 20 * 17 * 16  # samples x layers x neurons, and that for every step
    assert found["totals"] == undisturbed[0]["totals"]
    assert "0 of" in out


@pytest.mark.slow
@pytest.mark.lava
@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_interrupted_run_continues_where_it_was(root: Path, undisturbed: tuple, blow: signal.Signals) -> None:
    """Lava takes a moment for each chunk of four: the blow falls when some are finished and most are not."""
    chunks = root / "runs/latest/simulation/chunks"
    with at_work(root, "--chunk-size", "4") as command:
        command.send_signal(blow)
        command.wait(timeout=60)
    assert command.returncode == (130 if blow is signal.SIGINT else -signal.SIGKILL)
    kept = {path.name: path.stat().st_mtime_ns for path in chunks.glob("[0-9]*.npz")}
    assert 1 <= len(kept) < 5
    if blow is signal.SIGINT:
        assert f"{len(kept)} of 5 chunks are kept" in command.stderr
        assert "--resume" in command.stderr

    resumed = Command("simulate", "--backend", "lava", "--chunk-size", "4", "--resume", cwd=root)
    while resumed.returncode is None:  # what was finished stays as it was until the end, when the folder goes
        for name, written in kept.items():
            path = chunks / name
            try:
                assert path.stat().st_mtime_ns == written, f"{name} was simulated again"
            except FileNotFoundError:
                assert (root / "runs/latest/simulation/summary.json").exists()
        time.sleep(0.01)
    assert resumed.returncode == 0
    assert_same(root, undisturbed)


@pytest.mark.slow
def test_killed_run_leaves_no_worker_behind(root: Path) -> None:
    def ours() -> set[str]:
        found = set()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes()
                if (process / "cwd").readlink() == root and b"python" in command:
                    found.add(command.replace(b"\0", b" ").decode())
            except (FileNotFoundError, PermissionError, ProcessLookupError):
                continue  # it ended meanwhile
        return found

    with at_work(root, "--chunk-size", "1", "--workers", "2"):
        assert any("workflows.workers" in command for command in ours())
    deadline = time.monotonic() + 15
    while ours() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert ours() == set()


@pytest.mark.slow
@pytest.mark.lava
def test_a_killed_worker_changes_nothing(root: Path, undisturbed: tuple) -> None:
    with at_work(root, "--chunk-size", "4", "--workers", "2") as command:
        mine = f"PPid:\t{command.pid}\n"
        workers = [path for path in Path("/proc").glob("[0-9]*") if mine in _read(path / "status")]
        workers = [path for path in workers if "workflows.workers" in _read(path / "cmdline")]
        assert len(workers) == 2
        os.kill(int(workers[0].name), signal.SIGKILL)
        command.wait(timeout=120)
    assert command.returncode == 0, command.stderr
    assert command.stderr.count("warning: a worker was killed by SIGKILL; its chunk is done by another\n") == 1
    assert_same(root, undisturbed)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""  # it ended meanwhile


@pytest.mark.lava
def test_second_command_keeps_out_of_a_run_folder_at_work(root: Path) -> None:
    with at_work(root, "--chunk-size", "1") as command:
        command.send_signal(signal.SIGSTOP)  # so that it is at work for as long as it takes
        for second in ("simulate", "export", "verify"):
            run = spikescr(second, cwd=root)
            assert run.returncode == 1
            assert "another spikescr command is at work here" in run.stderr


@pytest.mark.lava
def test_changed_recordings_are_not_resumed_into(root: Path) -> None:
    """The key of kept chunks holds the files' sizes and times, not their names alone."""
    with at_work(root, "--chunk-size", "2"):
        pass
    recording = root / "tones/low/00000000_nohash_1.wav"
    before = recording.stat()
    os.utime(recording, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000_000))
    run = spikescr("simulate", "--backend", "lava", "--chunk-size", "2", "--resume", cwd=root)
    os.utime(recording, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert run.returncode == 2
    assert "holds chunks of another simulation" in run.stderr


@pytest.mark.lava
def test_damaged_chunk_is_named(root: Path) -> None:
    with at_work(root, "--chunk-size", "2"):
        pass
    kept = next((root / "runs/latest/simulation/chunks").glob("[0-9]*.npz"))
    kept.write_bytes(b"no archive")
    run = spikescr("simulate", "--backend", "lava", "--chunk-size", "2", "--resume", cwd=root)
    assert run.returncode == 1
    assert f"{kept.name}: damaged (File is not a zip file); remove runs/latest/simulation/chunks" in run.stderr


def test_chunks_of_another_simulation_are_not_mixed_in(root: Path) -> None:
    folder = root / "runs/latest/simulation/chunks"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "key.json").write_text("{}\n")
    run = spikescr("simulate", "--resume", cwd=root)
    assert run.returncode == 2
    assert "holds chunks of another simulation; start this one anew with: spikescr simulate" in run.stderr


def test_recorded_spikes_are_nirs_own_data_and_those_that_were_counted(root: Path) -> None:
    ok("simulate", "--record", "spikes", "--chunk-size", "8", cwd=root)
    files = sorted((root / "runs/latest/simulation/spikes").iterdir())
    assert [file.name for file in files] == ["000000.h5", "000001.h5", "000002.h5"]
    fired: dict[str, int] = {}
    for file, samples in zip(files, (8, 8, 4), strict=True):
        for name, node in nir.read_data(file).nodes.items():
            data = node.observables["spikes"]
            assert data.data.dtype == np.bool_
            assert data.data.shape[0] == samples
            assert data.dt == pytest.approx(1 / 20)
            fired[name] = fired.get(name, 0) + int(data.data.sum())
    assert len(fired) == 17
    assert sum(fired.values()) == summary(root)["totals"]["fired"]


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A Dask cluster on this machine: a scheduler and two workers, processes of their own."""
    distributed = pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as local:
        yield local


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # distributed closes sockets late when a worker is killed
def test_cluster_that_loses_a_worker_gives_the_same_totals(root: Path, undisturbed: tuple, cluster: Any) -> None:
    command = Command("simulate", "--chunk-size", "1", "--scheduler", cluster.scheduler_address, cwd=root)
    chunks = root / "runs/latest/simulation/chunks"
    deadline = time.monotonic() + 120
    while len(list(chunks.glob("[0-9]*.npz"))) < 2:
        assert time.monotonic() < deadline
        assert command.returncode is None, command.stderr
        time.sleep(0.005)
    os.kill(cluster.workers[0].pid, signal.SIGKILL)
    command.wait(timeout=240)
    assert command.returncode == 0, command.stderr
    assert_same(root, undisturbed)


def test_absent_scheduler_is_named(root: Path) -> None:
    run = spikescr("simulate", "--scheduler", "tcp://127.0.0.1:9", cwd=root)
    assert run.returncode == 2
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in run.stderr
