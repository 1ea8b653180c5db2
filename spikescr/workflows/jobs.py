"""Simulation in chunks: each is prepared, simulated and kept on its own, in this process, in several, or on a cluster.

Where a chunk runs does not change what it gives. Finished chunks are files, so an interrupted run
can continue.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikescr.errors import UsageError
from spikescr.files import remove_folder, replacing, sha256, write_text
from spikescr.progress import Notify, silent
from spikescr.workflows.cluster import on_cluster
from spikescr.workflows.workers import end_with, spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spikescr.data import Item
    from spikescr.sim.chunks import ChunkResult
    from spikescr.sim.counting.early_exit import ExitRule
    from spikescr.workflows.deployed import Deployed


@dataclass(frozen=True)
class Job:
    """What all chunks of a run share; it is sent to the workers.

    graph: the NIR file. backend: fast, lava, or both, compared. batch_size: samples at once. precision: float64 or
    float32, of the fast backend, or that of the graph in integers. stall_seconds: watchdog of Lava. spikes: folder
    for the spikes of every chunk, None where not asked for. client: process id of whom workers on this machine
    serve; None where they are a cluster's. until_sure: when an answer is settled, where that ends a recording.
    """

    graph: Path
    backend: str
    batch_size: int
    precision: str
    stall_seconds: float
    spikes: Path | None
    client: int | None
    until_sure: ExitRule | None = None

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
    def for_job(cls, job: Job) -> _Engine:
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
    import numpy as np
    import threadpoolctl

    from spikescr.data import load
    from spikescr.sim.chunks import SpikeRecorder, run_chunk
    from spikescr.sim.recording import softmax_sum

    end_with(job.client)
    with threadpoolctl.threadpool_limits(1):
        fresh = _Engine.current is None or _Engine.current.job != job
        engine = _Engine.for_job(job)
        features = load(items, engine.deployed.preprocessing, is_part=True)
        program = engine.deployed.program
        recorder = None if job.spikes is None else SpikeRecorder(program)
        result = run_chunk(
            program, engine.backend, features.values, features.steps, softmax_sum, recorder, job.until_sure
        )
        if recorder is not None and job.spikes is not None and len(features):
            with replacing(job.spikes / f"{index:06d}.h5") as temporary:
                recorder.write(temporary)
    left_out = np.array(list(features.left_out.items()), np.str_).reshape(-1, 2)
    build_seconds = engine.backend.build_seconds if fresh else 0.0
    return index, dataclasses.replace(result, build_seconds=build_seconds, left_out=left_out)


def _fingerprint(chunks: Sequence[Sequence[Item]]) -> str:
    """Tells recordings apart: which files in which chunk, of what size, when changed last."""
    digest = hashlib.sha256()
    for chunk in chunks:
        for item in chunk:
            status = item.path.stat()
            digest.update(f"{item.path}\0{item.name}\0{item.label}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
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
        notify: Notify = silent,
    ) -> None:
        """Opens the folder, empty unless `resume`.

        Args:
            folder: where the chunks are kept.
            job: what they share.
            chunks: recordings of each.
            resume: whether those that are there are kept.
            command: that starts anew, for messages.
            notify: told where there is nothing to resume.

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
        if job.until_sure is not None:
            key["until_sure"] = f"{job.until_sure.lead!r} {job.until_sure.hold}"
        text, path = json.dumps(key, indent=1) + "\n", folder / "key.json"
        self._key = hashlib.sha256(text.encode()).hexdigest()
        if not resume:
            remove_folder(folder)
        kept = [index for index in range(len(chunks)) if index in self]
        same = not path.exists() or path.read_bytes() == text.encode()
        if not same or any(self._key_of(index) != self._key for index in kept):
            raise UsageError(f"{folder} holds chunks of another simulation; start this one anew with: {command}")
        if resume and not kept:
            notify("nothing is there to resume; starting from the beginning")
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, text)

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.npz"

    def __contains__(self, index: int) -> bool:
        return self._path(index).exists()

    def put(self, index: int, result: ChunkResult) -> None:
        """Keeps a chunk, as a whole or not at all."""
        with replacing(self._path(index)) as temporary:
            dataclasses.replace(result, key=self._key).save(temporary)

    def get(self, index: int, account: Mapping[str, NDArray[Any]]) -> ChunkResult:
        """A chunk that was kept; account: arrays of an empty one, which its own must be like.

        Raises:
            SpikescrError: its file is damaged, or something in it is not as it must be.
        """
        from spikescr.sim.chunks import ChunkResult

        return ChunkResult.load(self._path(index), account, self._remedy)

    def _key_of(self, index: int) -> str:
        from spikescr.sim.chunks import read_key

        return read_key(self._path(index), self._remedy)

    @property
    def _remedy(self) -> str:
        return f"remove {self.folder} and simulate again"

    def clear(self) -> None:
        """Removes the folder."""
        remove_folder(self.folder)


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
    missing = [index for index in range(len(chunks)) if index not in store]
    yield sum(len(chunk) for index, chunk in enumerate(chunks) if index in store)
    try:
        for index, result in _results(job, [(job, index, chunks[index]) for index in missing], workers, scheduler):
            store.put(index, result)
            yield len(chunks[index])
    finally:
        _Engine.release()


def _results(
    job: Job, tasks: Sequence[tuple[Job, int, Sequence[Item]]], workers: int, scheduler: str | None
) -> Iterator[tuple[int, ChunkResult]]:
    if scheduler is not None:
        yield from on_cluster(simulate_chunk, tasks, scheduler)
    elif workers == 1:
        yield from (simulate_chunk(*task) for task in tasks)
    else:
        yield from spread(simulate_chunk, tasks, workers=workers, stall_seconds=job.stall_seconds)
