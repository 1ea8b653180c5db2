"""The Lava backend: builds the network of a Program once and streams batches through it under a watchdog."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import time
import weakref
from collections.abc import Mapping
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikescr.errors import BackendError
from spikescr.signals import interrupts_held
from spikescr.sim.backends import check_inputs, check_program
from spikescr.sim.lava.network import Network
from spikescr.sim.lava.shared import Board
from spikescr.sim.lowering import fixed
from spikescr.sim.program import FloatArray, Neuron, Operation, Program, Role, Signal, Sink, Source
from spikescr.sim.recording import Ledger, Recording
from spikescr.sim.steps.make import STEPS

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.005


class ModelError(Exception):
    """The traceback of a process model that raised, as text; the cause of a BackendError."""


class LavaBackend:
    """Runs a Program in Lava, one process per operation, on batches of up to `batch` samples.

    A process model that raises, a process that dies and a network without progress for `stall_seconds` end the run
    with a BackendError; all processes are then gone and the backend is closed. On Linux the processes also end with
    the thread that built the backend.

    Attributes:
        batch: most samples of one run.
        build_seconds: time that building took, once.
        process_ids: process id of each operation and of "runtime service".
    """

    def __init__(
        self, program: Program, batch: int, *, record_membranes: bool = False, stall_seconds: float = 60.0
    ) -> None:
        """Build and start the network.

        Raises:
            ValueError: `batch` is not positive.
            BackendError: the program has what this backend cannot run, or the network does not start.
        """
        if batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        _check(program)
        begin = time.perf_counter()
        self._program = program
        self.batch = batch
        self._stall_seconds = stall_seconds
        self._pid = os.getpid()
        self._network: Network | None = None
        self._board = Board(program, batch, membranes=record_membranes)
        try:
            with interrupts_held():
                self._network = Network(program, batch, self._board.slots)
        except BackendError:
            raise
        except Exception as error:
            raise BackendError(f"lava: the network did not start: {type(error).__name__}: {error}") from error
        _open.add(self)
        self.process_ids = {name: actor.pid for name, actor in self._network.actors.items()}
        self.build_seconds = time.perf_counter() - begin
        _log.info("lava: %d operations built in %.1f s", len(program.operations), self.build_seconds)

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
        if self._network is None:
            raise BackendError("lava: the backend is closed")
        sent, cut = fixed.messages(self._program, inputs)
        samples = self._write(sent)
        try:
            self._execute(self._network)
        except BaseException:
            self.close()
            raise
        return fixed.told(self._program, self._read(samples), cut)

    def close(self) -> None:
        """End all processes; a second call does nothing."""
        network, self._network = self._network, None
        _open.discard(self)
        if network is not None and os.getpid() == self._pid:
            with interrupts_held():
                network.kill()

    def __enter__(self) -> LavaBackend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_network", None) is not None:
            self.close()

    def _write(self, inputs: Mapping[str, FloatArray]) -> int:
        """Write a batch where the sources read it; returns the number of samples."""
        count = check_inputs(self._program, inputs, self.batch)
        valid = np.full(count, self._program.steps)
        for source in self._program.of_type(Source):
            array, record = inputs[source.name], self._board.slots[source.name].record
            record[:, :count] = array
            record[:, count:] = 0
            if source.signal is Signal.CLOCK:
                valid = np.count_nonzero(array[..., 0], axis=0)
        self._board.valid[:] = 0
        self._board.valid[:count] = valid
        return count

    def _execute(self, network: Network) -> None:
        """Run one period; watch the processes meanwhile."""
        network.start(self._program.period)
        sentinels = {actor.sentinel: name for name, actor in network.actors.items()}
        done, since = -1, time.monotonic()
        while not network.finished():
            dead = connection.wait(list(sentinels), timeout=_POLL_SECONDS)
            if dead:
                raise self._died(network, [sentinels[sentinel] for sentinel in dead])
            total = int(self._board.done.sum())
            if total != done:
                done, since = total, time.monotonic()
            elif time.monotonic() - since > self._stall_seconds:
                name = self._latest()
                raise BackendError(
                    f"lava: {name} at step {self._step(name)}: no progress for {self._stall_seconds:g} s"
                )

    def _died(self, network: Network, names: list[str]) -> BackendError:
        """The error that tells why the processes `names` ended; the first that left a note is the reason."""
        for operation in self._program.operations:
            failure = self._board.slots[operation.name].failed()
            if failure is not None:
                error = BackendError(f"lava: {operation.name} at step {failure.step}: {failure.reason}")
                error.__cause__ = ModelError(failure.trace)
                return error
        name = names[0]
        code = _exit_code(network.actors[name])
        reason = f"killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with status {code}"
        where = name if name in self._board.slots else self._latest()
        return BackendError(f"lava: {name} at step {self._step(where)}: process {reason}")

    def _latest(self) -> str:
        """The first operation, in topological order, that has done the fewest steps: all others wait for it."""
        operation = self._program.operations[int(np.argmin(self._board.done))]
        return operation.name

    def _step(self, name: str) -> int:
        """The step of the batch that an operation is in."""
        return int(self._board.slots[name].done[0]) % self._program.period

    def _read(self, samples: int) -> Recording:
        """Copy what the models wrote for the first `samples` samples."""

        def copies(kind: type[Operation]) -> dict[str, NDArray[Any]]:
            names = [operation.name for operation in self._program.of_type(kind)]
            return {name: self._board.slots[name].record[:, :samples].copy() for name in names}

        membranes = {n: s.membrane[:, :samples].copy() for n, s in self._board.slots.items() if s.membrane is not None}
        names = tuple(operation.name for operation in self._program.operations)
        counts = Ledger(names, self._board.counts[..., :samples].copy())
        return Recording(copies(Neuron), membranes, copies(Sink), counts)


_open: weakref.WeakSet[LavaBackend] = weakref.WeakSet()


@atexit.register  # after multiprocessing registered its own, so it runs before that one waits for our children
def _close_all() -> None:
    for backend in list(_open):
        backend.close()


def _exit_code(actor: BaseProcess) -> int | None:
    """The exit code of a process whose end was announced; the system may tell it a moment later."""
    end = time.monotonic() + 1.0
    while actor.exitcode is None and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)
    return actor.exitcode


def _check(program: Program) -> None:
    """Refuse what would fail inside Lava with a message that names nothing."""
    check_program(program, "lava")
    for operation in program.operations:
        if operation.role is not Role.HOST and type(operation) not in STEPS:
            raise BackendError(f"lava: {operation.name}: no step for operations of type {type(operation).__name__}")
