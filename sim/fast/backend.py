"""The fast backend: whole windows at once, cycles apart."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from numpy.typing import DTypeLike

from spikescr.errors import BackendError
from spikescr.sim.backends import check_inputs, check_program
from spikescr.sim.fast import window
from spikescr.sim.fast.batch import Batch
from spikescr.sim.fast.memory import Buffers, Tables
from spikescr.sim.fast.plan import Plan
from spikescr.sim.fast.room import bytes_per_sample
from spikescr.sim.lowering import fixed
from spikescr.sim.program import FloatArray, Program, Role
from spikescr.sim.recording import KINDS, Recording, joined
from spikescr.sizes import require_memory

_log = logging.getLogger(__name__)


AT_ONCE = 1 << 29
"""Bytes of signals between operations, at most, for the samples that a thread takes at once; one if it takes more."""


@dataclass(frozen=True)
class Thread:
    """What a thread has for itself."""

    buffers: Buffers
    tables: Tables


class FastBackend:
    """Runs a Program in this process, on batches of up to `batch` samples.

    The same spikes, outputs and counts as the Lava backend in float64, but for membranes within rounding of the
    threshold: sums of dense synapses are taken in another order. A batch goes in parts, so that memory is bounded
    (`AT_ONCE` for each thread); parts may go to several threads. BLAS starts threads of its own unless it is told
    otherwise, and one of them is best (`threadpoolctl.threadpool_limits(1)`).

    Attributes:
        batch: most samples of one run.
        build_seconds: time that preparing took, once.
    """

    def __init__(
        self,
        program: Program,
        batch: int,
        *,
        record_membranes: bool = False,
        record_spikes: bool = True,
        dtype: DTypeLike = np.float64,
        threads: int = 1,
    ) -> None:
        """Prepare weights and decide what runs together.

        Args:
            program: what to run.
            batch: most samples of one run.
            record_membranes: keep every membrane before its reset.
            record_spikes: keep the spikes; without, `Recording.spikes` is empty. Counts are always kept.
            dtype: precision of currents and membranes, float64 or float32.
            threads: that share the samples of a batch; none are started for one.

        Raises:
            ValueError: `batch` or `threads` is not positive, or `dtype` is neither.
            BackendError: the program has what this backend cannot run, or one sample takes more memory than is allowed.
        """
        for name, value in (("batch", batch), ("threads", threads)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if np.dtype(dtype) not in (np.float64, np.float32):
            raise ValueError(f"dtype must be float64 or float32, got {np.dtype(dtype)}")
        check_program(program, "fast")
        if program.fixed and np.dtype(dtype) != np.float64:
            raise BackendError("fast: fixed point is exact in float64; give no other dtype (--precision)")
        begin = time.perf_counter()
        self.batch = batch
        self._program = program
        self._plan = Plan(program, dtype)
        one = bytes_per_sample(self._plan)
        require_memory(one, f"a sample of {program.period:,} steps", "run fewer steps (--steps)", BackendError)
        self._at_once = max(1, AT_ONCE // max(one, 1))
        self._threads = [Thread(Buffers(), Tables(self._plan.counted)) for _ in range(threads)]
        self._pool = ThreadPoolExecutor(threads) if len(self._threads) > 1 else None
        self._spikes, self._membranes = record_spikes, record_membranes
        self.build_seconds = time.perf_counter() - begin
        kinds = {type(o) for o in program.operations if o.role is not Role.HOST}
        slow = {kind.__name__ for kind in kinds - window.KERNELS.keys()}
        if slow:
            _log.warning("fast: no kernels for %s, which go step by step in NumPy", ", ".join(sorted(slow)))
        mode = "whole windows, cycles apart" if self._plan.looped else "whole windows"
        _log.info("fast: %d operations, %s, %s", len(program.operations), np.dtype(dtype), mode)

    def run(self, inputs: Mapping[str, FloatArray]) -> Recording:
        """Run one batch from a silent state.

        Args:
            inputs: for every Source its values, (T, B, width) with T = program.steps and 1 <= B <= batch.

        Returns:
            Everything over `program.period` steps; after T steps the inputs are zero.

        Raises:
            ValueError: an input is missing, unknown, of the wrong shape or not what its signal says.
            BackendError: the run failed, or the backend is closed.
        """
        if not self._threads:
            raise BackendError("fast: the backend is closed")
        samples = check_inputs(self._program, inputs, self.batch)
        sent, cut = fixed.messages(self._program, inputs)
        parts = len(self._threads) * -(-samples // (self._at_once * len(self._threads)))
        edges = [samples * part // parts for part in range(parts + 1)]
        slices = [slice(first, stop) for first, stop in itertools.pairwise(edges) if stop > first]
        return fixed.told(self._program, self._run(sent, slices), cut)

    def _run(self, inputs: Mapping[str, FloatArray], slices: Sequence[slice]) -> Recording:
        """All parts of a batch, each thread every so many of them."""
        if len(slices) == 1:
            return self._part(self._threads[0], inputs, slices[0])
        each = [slices[place :: len(self._threads)] for place in range(len(self._threads))]

        def work(thread: Thread, own: Sequence[slice]) -> list[Recording]:
            return [self._part(thread, inputs, part) for part in own]

        if self._pool is None:
            done = list(map(work, self._threads, each))
        else:
            done = list(self._pool.map(work, self._threads, each))
        return joined([done[place % len(each)][place // len(each)] for place in range(len(slices))])

    def _part(self, thread: Thread, inputs: Mapping[str, FloatArray], part: slice) -> Recording:
        own = {name: array[:, part] for name, array in inputs.items()}
        samples = part.stop - part.start
        table, spans = thread.tables((len(self._program.operations), len(KINDS), self._program.period, samples))
        batch = Batch(self._plan, thread.buffers, table, spans, spikes=self._spikes, membranes=self._membranes)
        return window.run(batch, own)

    def close(self) -> None:
        """Let go of the buffers; a second call does nothing."""
        self._threads = []
        if self._pool is not None:
            self._pool.shutdown()

    def __enter__(self) -> FastBackend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
