"""Simulation in chunks: each is prepared, simulated and kept on its own, in this process, in several, or on a cluster.

joblib schedules; where a chunk runs does not change what it gives. Finished chunks are files, so an interrupted run
can continue.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

from spikescr.errors import SpikescrError, UsageError
from spikescr.files import replacing, sha256, write_text
from spikescr.progress import Notify, silent

if TYPE_CHECKING:
    from spikescr.data import Item
    from spikescr.sim.chunks import ChunkResult
    from spikescr.workflows.deployed import Deployed


@dataclass(frozen=True)
class Job:
    """What all chunks of a run share; it is sent to the workers.

    graph: the NIR file. backend: fast, lava, or both, compared. batch_size: samples at once. precision: float64 or
    float32, of the fast backend, or that of the graph in integers. stall_seconds: watchdog of Lava. spikes: folder
    for the spikes of every chunk, None where not asked for. client: process id of whom workers on this machine
    serve; None where they are a cluster's.
    """

    graph: Path
    backend: str
    batch_size: int
    precision: str
    stall_seconds: float
    spikes: Path | None
    client: int | None

    @property
    def dtype(self) -> str:
        """Of the fast backend's numbers; integers are exact in float64."""
        return "float32" if self.precision == "float32" else "float64"


class _Engine:
    """A job's graph and backend in this process, built at the first chunk and used for all."""

    current: _Engine | None = None

    def __init__(self, job: Job) -> None:
        from spikescr.sim.backends import Options, build
        from spikescr.workflows.deployed import open_deployed

        self.job = job
        self.deployed: Deployed = open_deployed(job.graph)
        options = Options(
            job.batch_size,
            spikes=job.spikes is not None,
            dtype=job.dtype,
            stall_seconds=job.stall_seconds,
        )
        self.backend = build(job.backend, self.deployed.program, options)

    @classmethod
    def of(cls, job: Job) -> _Engine:
        if cls.current is None or cls.current.job != job:
            cls.release()
            cls.current = cls(job)
        return cls.current

    @classmethod
    def release(cls) -> None:
        """Ends the backends of this process."""
        if cls.current is not None:
            cls.current.backend.close()
            cls.current = None


def simulate_chunk(job: Job, index: int, items: Sequence[Item]) -> tuple[int, ChunkResult]:
    """Reads, prepares and simulates some recordings, in whatever process this is; one thread."""
    import threadpoolctl

    from spikescr.data import load
    from spikescr.sim.chunks import SpikeRecorder, run_chunk
    from spikescr.sim.recording import softmax_sum

    _end_with(job.client)
    with threadpoolctl.threadpool_limits(1):
        fresh = _Engine.current is None or _Engine.current.job != job
        engine = _Engine.of(job)
        features = load(items, engine.deployed.preprocessing)
        program = engine.deployed.program
        recorder = None if job.spikes is None else SpikeRecorder(program)
        result = run_chunk(program, engine.backend, features.values, features.steps, softmax_sum, recorder)
        if recorder is not None and job.spikes is not None:
            with replacing(job.spikes / f"{index:06d}.h5") as temporary:
                recorder.write(temporary)
    return index, dataclasses.replace(result, build_seconds=engine.backend.build_seconds if fresh else 0.0)


@functools.cache
def _end_with(client: int | None) -> None:
    """Ends this worker when its client is gone: joblib's own would wait five minutes for more work."""
    if client is None or client == os.getpid():
        return

    def watch() -> None:
        while os.getppid() == client:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _fingerprint(chunks: Sequence[Sequence[Item]]) -> str:
    """Tells recordings apart: which files in which chunk, of what size, when changed last."""
    digest = hashlib.sha256()
    for chunk in chunks:
        for item in chunk:
            found = item.path.stat()
            digest.update(f"{item.path}\0{item.name}\0{item.label}\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
        digest.update(b"\n")
    return digest.hexdigest()


class ChunkStore:
    """A folder of finished chunks; its key says what they are chunks of."""

    def __init__(
        self,
        folder: Path,
        job: Job,
        chunks: Sequence[Sequence[Item]],
        *,
        resume: bool,
        command: str,
        notice: Notify = silent,
    ) -> None:
        """Opens the folder, empty unless `resume`.

        Args:
            folder: where the chunks are kept.
            job: what they share.
            chunks: recordings of each.
            resume: whether those that are there are kept.
            command: that starts anew, for messages.
            notice: told where there is nothing to resume.

        Raises:
            UsageError: there are chunks to resume, but of another run.
        """
        self.folder = folder
        key: dict[str, str | int] = {
            "graph": sha256(job.graph),
            "recordings": _fingerprint(chunks),
            "backend": job.backend,
            "precision": job.precision,
        }
        key |= {"batch_size": job.batch_size, "spikes": job.spikes is not None}
        text, path = json.dumps(key, indent=1) + "\n", folder / "key.json"
        if resume and path.exists() and path.read_text() != text:
            raise UsageError(f"{folder} holds chunks of another simulation; start this one anew with: {command}")
        if resume and not path.exists():
            notice("nothing is there to resume; starting from the beginning")
        if not resume and folder.exists():
            shutil.rmtree(folder)
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_text(path, text)

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.npz"

    def __contains__(self, index: int) -> bool:
        return self._path(index).exists()

    def put(self, index: int, result: ChunkResult) -> None:
        """Keeps a chunk, as a whole or not at all."""
        with replacing(self._path(index)) as temporary:
            result.save(temporary)

    def get(self, index: int) -> ChunkResult:
        """A chunk that was kept."""
        from spikescr.sim.chunks import ChunkResult

        try:
            return ChunkResult.load(self._path(index))
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise SpikescrError(f"{self._path(index)}: damaged; remove {self.folder} and simulate again") from error

    def clear(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder)


def run_chunks(
    job: Job, chunks: Sequence[Sequence[Item]], store: ChunkStore, *, workers: int, scheduler: str | None
) -> Iterator[int]:
    """Simulates the chunks that the store does not have yet; yields the recordings done, chunk by chunk.

    Args:
        job: what they share.
        chunks: recordings of each.
        store: where results are kept.
        workers: processes on this machine, each with one thread; 1 is this one.
        scheduler: address of a Dask scheduler whose workers are used instead.
    """
    import joblib

    missing = [index for index in range(len(chunks)) if index not in store]
    yield sum(len(chunk) for index, chunk in enumerate(chunks) if index in store)
    try:
        with _workers(scheduler):
            parallel = joblib.Parallel(n_jobs=-1 if scheduler else workers, return_as="generator_unordered")
            tasks = (joblib.delayed(simulate_chunk)(job, index, chunks[index]) for index in missing)
            for index, result in parallel(tasks):
                store.put(index, result)
                yield len(chunks[index])
    finally:
        _Engine.release()


@contextmanager
def _workers(scheduler: str | None) -> Iterator[None]:
    if scheduler is None:
        yield
        return
    import joblib

    try:
        from distributed import Client
    except ImportError as error:
        raise UsageError(
            "a scheduler (--scheduler) needs Dask; install it with: pip install 'spikescr[cluster]'"
        ) from error
    try:
        client = Client(scheduler, timeout=10)
    except (OSError, ValueError) as error:
        raise UsageError(f"no Dask scheduler answers at {scheduler} (--scheduler): {error}") from error
    with client, joblib.parallel_config(backend="dask"):
        yield
