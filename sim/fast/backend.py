"""The fast backend: whole windows at once, or step by step where a Program has cycles."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from types import TracebackType

import numpy as np
from numpy.typing import DTypeLike

from spikescr.errors import BackendError
from spikescr.sim.backends import check_inputs, check_program
from spikescr.sim.fast import window
from spikescr.sim.fast.batch import Batch
from spikescr.sim.fast.memory import Buffers, Tables
from spikescr.sim.fast.plan import Plan
from spikescr.sim.fast.stepwise import OWN
from spikescr.sim.lowering import fixed
from spikescr.sim.program import FloatArray, Program, Role
from spikescr.sim.recording import KINDS, Recording
from spikescr.sim.steps.evaluation import Evaluation

_log = logging.getLogger(__name__)


class FastBackend:
    """Runs a Program in this process and thread, on batches of up to `batch` samples.

    The same spikes, outputs and counts as the Lava backend in float64, but for membranes within rounding of the
    threshold: sums are taken in another order. Kernels do not start threads; BLAS does unless it is told otherwise,
    and one thread per worker is best (`threadpoolctl.threadpool_limits(1)`).

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
    ) -> None:
        """Prepare weights and decide what runs together.

        Args:
            program: what to run.
            batch: most samples of one run.
            record_membranes: keep every membrane before its reset.
            record_spikes: keep the spikes; without, `Recording.spikes` is empty. Counts are always kept.
            dtype: precision of currents and membranes, float64 or float32.

        Raises:
            ValueError: `batch` is not positive, or `dtype` is neither.
            BackendError: the program has what this backend cannot run.
        """
        if batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        if np.dtype(dtype) not in (np.float64, np.float32):
            raise ValueError(f"dtype must be float64 or float32, got {np.dtype(dtype)}")
        check_program(program, "fast")
        if program.fixed and np.dtype(dtype) != np.float64:
            raise BackendError("fast: fixed point is exact in float64; give no other dtype (--precision)")
        begin = time.perf_counter()
        self.batch = batch
        self._program = program
        self._plan = Plan(program, dtype)
        self._cyclic = program.cyclic
        self._buffers: Buffers | None = Buffers()
        self._tables = Tables(self._plan.counted)
        self._spikes, self._membranes = record_spikes, record_membranes
        self.build_seconds = time.perf_counter() - begin
        kinds = {type(o) for o in program.operations if o.role is not Role.HOST}
        slow = {kind.__name__ for kind in kinds - window.KERNELS.keys()}
        if slow:
            _log.warning("fast: no kernels for %s, which go step by step in NumPy", ", ".join(sorted(slow)))
        mode = "step by step" if self._cyclic else "whole windows"
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
        if self._buffers is None:
            raise BackendError("fast: the backend is closed")
        samples = check_inputs(self._program, inputs, self.batch)
        sent, cut = fixed.messages(self._program, inputs)
        return fixed.told(self._program, self._run(self._buffers, sent, samples), cut)

    def _run(self, buffers: Buffers, inputs: Mapping[str, FloatArray], samples: int) -> Recording:
        if self._cyclic:
            stepwise = Evaluation(
                "fast",
                self._program,
                samples,
                spikes=self._spikes,
                membranes=self._membranes,
                own=OWN,
                dtype=self._plan.dtype,
            )
            return stepwise.run(inputs)
        table = self._tables((len(self._program.operations), len(KINDS), self._program.period, samples))
        batch = Batch(self._plan, buffers, table, spikes=self._spikes, membranes=self._membranes)
        return window.run(batch, inputs)

    def close(self) -> None:
        """Let go of the buffers; a second call does nothing."""
        self._buffers = None
        self._tables = Tables(())

    def __enter__(self) -> FastBackend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
