"""Kept chunks of a simulation, and who simulates those that are missing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikescr.data import Item
from spikescr.errors import SpikescrError, UsageError
from spikescr.sim.chunks import ChunkResult
from spikescr.workflows import cluster
from spikescr.workflows.cluster import require_scheduler
from spikescr.workflows.jobs import ChunkStore, Job

EMPTY: dict[str, Any] = {
    "table": np.zeros((3, 2, 4), np.int64),
    "facts": np.zeros((0, 0), np.int64),
    "fact_of": np.zeros((0, 4), np.int64),
}
SUMS: dict[str, Any] = {
    "table": np.ones((3, 2, 4), np.int64),
    "facts": np.ones((1, 2), np.int64),
    "fact_of": np.array([[2, 5, 0, 7]]),
}
RESULT = ChunkResult(
    account=SUMS,
    answers=np.array([[0.25, 0.75], [0.5, 0.5]]),
    valid=np.array([3, 4]),
    compared=np.zeros(2, np.int64),
    differing=np.zeros(2, np.int64),
    seconds=0.5,
    build_seconds=0.25,
)
AGAIN = "start this one anew with: spikescr simulate"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    graph = tmp_path / "model.nir"
    graph.write_text("a graph")
    return Job(graph, "fast", 2, "float64", 60.0, None, None)


def items(folder: Path, split: str) -> list[list[Item]]:
    """Two chunks of two recordings."""
    names = [f"{split}-{number}" for number in range(4)]
    for name in names:
        if not (folder / name).exists():  # its time is a part of what it is
            (folder / name).write_text(name)
    found = [Item(name=name, path=folder / name, label=0) for name in names]
    return [found[:2], found[2:]]


def opened(folder: Path, job: Job, split: str, *, resume: bool) -> ChunkStore:
    return ChunkStore(folder / "chunks", job, items(folder, split), resume=resume, command="spikescr simulate")


def test_a_chunk_comes_back_as_it_was_kept(tmp_path: Path, job: Job) -> None:
    opened(tmp_path, job, "valid", resume=False).put(1, RESULT)
    again = opened(tmp_path, job, "valid", resume=True)
    assert (0 in again, 1 in again) == (False, True)
    found = again.get(1, EMPTY)
    assert found.answers.tolist() == RESULT.answers.tolist()
    assert found.account["table"].tolist() == RESULT.account["table"].tolist()
    assert (found.seconds, found.build_seconds) == (0.5, 0.25)
    assert 1 not in opened(tmp_path, job, "valid", resume=False)


@pytest.mark.parametrize("key", [True, False], ids=["with their key", "a kill left them without"])
@pytest.mark.parametrize("other", ["recordings", "backend", "graph"])
def test_chunks_of_another_simulation_are_refused(tmp_path: Path, job: Job, key: bool, other: str) -> None:
    opened(tmp_path, job, "valid", resume=False).put(0, RESULT)
    if not key:
        (tmp_path / "chunks/key.json").unlink()
    if other == "graph":
        job.graph.write_text("another graph")
    now = replace(job, backend="lava") if other == "backend" else job
    with pytest.raises(UsageError, match=f"chunks holds chunks of another simulation; {AGAIN}"):
        opened(tmp_path, now, "test" if other == "recordings" else "valid", resume=True)
    assert (tmp_path / "chunks/000000.npz").exists()  # it is the user who decides


def test_chunks_without_key_are_resumed_where_they_are_of_this_simulation(tmp_path: Path, job: Job) -> None:
    opened(tmp_path, job, "valid", resume=False).put(0, RESULT)
    (tmp_path / "chunks/key.json").unlink()
    assert 0 in opened(tmp_path, job, "valid", resume=True)


def test_a_chunk_from_before_chunks_had_keys_is_refused(tmp_path: Path, job: Job) -> None:
    opened(tmp_path, job, "valid", resume=False)
    with (tmp_path / "chunks/000000.npz").open("wb") as file:
        np.savez(file, answers=RESULT.answers)
    with pytest.raises(SpikescrError, match=r"000000.npz: key is missing; remove .*chunks and simulate again$"):
        opened(tmp_path, job, "valid", resume=True)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"answers": np.full((2, 2), np.nan)}, "answers holds nan"),
        ({"valid": np.array([3, 4, 5])}, r"valid must have the shape \(samples = 2\), has \(3,\)"),
        ({"valid": np.array([0, 4])}, "valid must be 1 or more, holds 0"),
        ({"seconds": -1.0}, "seconds must be 0 or more"),
        ({"account": SUMS | {"table": np.ones((3, 2, 5), np.int64)}}, r"account.table must have the shape"),
        ({"account": {"table": SUMS["table"]}}, "account.facts is missing"),
        ({"account": SUMS | {"fact_of": np.array([[3, 5, 0, 7]])}}, "fact_of names operation 3, which is not there"),
        ({"account": SUMS | {"fact_of": np.array([[2, 5, -1, 7]])}}, "fact_of names row -1, which is not there"),
        ({"account": SUMS | {"table": np.full(SUMS["table"].shape, 2**63, np.uint64)}}, f"account.table holds {2**63}"),
        (
            {"account": SUMS | {"facts": SUMS["facts"] + 2**40, "fact_of": np.array([[2, 5, 0, 2**40]])}},
            f"facts hold [0-9]+ times {2**40}, which is no count",
        ),
    ],
)
def test_a_chunk_that_is_not_as_it_must_be_is_named(
    tmp_path: Path, job: Job, changed: dict[str, Any], message: str
) -> None:
    store = opened(tmp_path, job, "valid", resume=False)
    store.put(0, replace(RESULT, **changed))
    with pytest.raises(SpikescrError, match=rf"000000.npz: {message}.*; remove .*chunks and simulate again$"):
        store.get(0, EMPTY)


@contextmanager
def listening(kind: str) -> Iterator[str]:
    """Who accepts connections at a Dask address: says nothing, or serves web pages."""
    kept = []
    if kind == "web":

        class Page(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Page)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"tcp://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    kept.append(listener.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    for each in kept:
        each.close()


@pytest.mark.filterwarnings("ignore")  # distributed closes late what never answered
@pytest.mark.parametrize("kind", ["silent", "web"])
def test_who_is_no_scheduler_is_refused_within_seconds(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    monkeypatch.setattr(cluster, "_ANSWER_SECONDS", 2.0)
    with listening(kind) as address, pytest.raises(UsageError, match=rf"--scheduler.*{address}.* no Dask scheduler"):
        require_scheduler(address)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("tls://127.0.0.1:9", "needs certificates; name them in Dask's configuration"),
        ("http://127.0.0.1:9", "is no address like tcp://HOST:8786"),
        ("nonsense", "is no address like tcp://HOST:8786"),
    ],
)
def test_an_address_that_cannot_be_is_told(address: str, message: str) -> None:
    pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    with pytest.raises(UsageError, match=rf"--scheduler.: {address} {message}"):
        require_scheduler(address)


@pytest.mark.filterwarnings("ignore")
def test_a_scheduler_without_workers_is_refused() -> None:
    distributed = pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None, protocol="tcp") as cluster,
        pytest.raises(UsageError, match="has no workers; start some: dask worker tcp://"),
    ):
        require_scheduler(cluster.scheduler_address)
