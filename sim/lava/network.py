"""Builds the Lava network of a Program: processes, connections, compilation, start."""

from __future__ import annotations

import logging
import queue
import resource
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import threadpoolctl
from lava.magma.compiler.compiler import Compiler
from lava.magma.compiler.executable import Executable
from lava.magma.core.process.message_interface_enum import ActorType
from lava.magma.core.process.process import AbstractProcess, ProcessParameters, ProcessServer
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import RunConfig
from lava.magma.runtime.message_infrastructure.multiprocessing import SystemProcess
from lava.magma.runtime.runtime import Runtime

from spikescr.errors import BackendError
from spikescr.sim import program as ops
from spikescr.sim.lava import processes
from spikescr.sim.lava.base import OperationModel
from spikescr.sim.lava.infrastructure import Infrastructure
from spikescr.sim.lava.models import pair_for
from spikescr.sim.lava.shared import Slot

_ANSWER_SECONDS = 0.2

# Pipes and sentinels: 4 for each operation were counted on a network of 43, more while it is built.
_FILES_PER_OPERATION = 12

# Processes run in lockstep: a channel never holds more than the message of the step.
_COMPILE_CONFIG = {"pypy_channel_size": 2}


class _RunConfig(RunConfig):
    """Names the model of every process, which spares Lava the search through all modules of the folder."""

    def __init__(self, chosen: Mapping[AbstractProcess, type[OperationModel]]) -> None:
        super().__init__()
        self.exception_proc_model_map = chosen


class _Runtime(Runtime):
    """Lava's runtime on our infrastructure; starts without printing and does not wait for a child that is gone."""

    def _build_message_infrastructure(self) -> None:
        self._messaging_infrastructure = Infrastructure()
        self._messaging_infrastructure.start()

    def initialize(self, node_cfg_idx: int = 0) -> None:
        """Start all processes and wait until each is built."""
        self._build_watchdog_manager()
        self._build_message_infrastructure()
        self._build_channels()
        self._build_sync_channels()
        with threadpoolctl.threadpool_limits(1):  # the children inherit it; there are more of them than cores
            self._build_processes()
            self._build_runtime_services()
        self._start_ports()
        for (name, actor), answers in zip(self.actors().items(), self.exception_q, strict=True):
            error = _answer(answers, name, actor)
            if error is not None:
                raise BackendError(f"lava: {name}: could not be built: {type(error).__name__}: {error}") from error
        self.exception_q: list[queue.Queue[Exception | None]] = []
        self._is_initialized = True

    def kill(self) -> None:
        """End all processes without the handshake of `stop`, which hangs if one of them is gone."""
        self._is_started = self._is_running = False  # or Lava calls `stop` when it collects this object
        threads = [port.thread for port in self._open_ports if port.thread is not None]
        self.join()  # tells the ports' threads to end, and does not wait for them
        if self._messaging_infrastructure is not None:
            self._messaging_infrastructure.kill()
        for thread in threads:  # each holds its channel's memory
            thread.join()

    def actors(self) -> dict[str, SystemProcess]:
        """The processes of the operations by name, and of the runtime service."""
        names = [process.name for process in self._executable.proc_builders]
        return dict(zip([*names, "runtime service"], self._messaging_infrastructure.actors, strict=True))


def _answer(answers: queue.Queue[Exception | None], name: str, actor: SystemProcess) -> Exception | None:
    """What a child says when it is built: None, or the exception that stopped it."""
    while True:
        try:
            return answers.get(timeout=_ANSWER_SECONDS)
        except queue.Empty:
            if not actor.is_alive():
                raise BackendError(f"lava: {name}: process died while it was built") from None


class Network:
    """A running Lava network of a Program.

    Attributes:
        actors: every child by name: operations and the runtime service.
    """

    def __init__(self, program: ops.Program, batch: int, slots: Mapping[str, Slot]) -> None:
        self._processes: dict[str, processes.OperationProcess] = {}
        try:
            self._runtime = _Runtime(self._compile(program, batch, slots), ActorType.MultiProcessing)
        except BaseException:
            self._forget()
            raise
        try:
            _allow_open_files(_FILES_PER_OPERATION * len(program.operations))
            self._runtime.initialize()
        except BaseException:
            self.kill()
            raise
        self.actors = self._runtime.actors()

    def _compile(self, program: ops.Program, batch: int, slots: Mapping[str, Slot]) -> Executable:
        with _unchanged_logging(), warnings.catch_warnings():
            warnings.simplefilter("ignore", ImportWarning)  # networkx 2.8 tells that pandas is not there
            chosen: dict[AbstractProcess, type[OperationModel]] = {}
            for operation in program.operations:
                process_class, model = pair_for(operation)
                process = process_class(operation, slots[operation.name], batch=batch, period=program.period)
                self._processes[operation.name] = process
                chosen[process] = model
            self._connect(program)
            return Compiler(dict(_COMPILE_CONFIG)).compile(next(iter(chosen)), _RunConfig(chosen))

    def _connect(self, program: ops.Program) -> None:
        for operation in program.operations:
            for name, port in operation.ports.items():
                for source in port.sources:
                    self._processes[source].y.connect(getattr(self._processes[operation.name], name))
        for one, other in pairwise(program.of_type(ops.Source)):
            self._processes[one.name].link_out.connect(self._processes[other.name].link_in)

    def start(self, steps: int) -> None:
        """Set the network running for `steps` steps; returns at once."""
        self._runtime.start(RunSteps(steps, blocking=False))

    def finished(self) -> bool:
        """Whether the steps of the last `start` are done; to be asked until it says yes."""
        if not self._runtime.service_to_runtime[0].probe():
            return False
        self._runtime.wait()
        return True

    def kill(self) -> None:
        """End all processes. They hold nothing worth a handshake: all results are in the shared memory."""
        self._runtime.kill()
        self._forget()

    def _forget(self) -> None:
        """Let go of the weights and of the shared memory.

        Lava keeps every process of the session, and processes and ports refer to each other.
        """
        registered = ProcessServer().processes
        for process in self._processes.values():
            process.runtime = None
            process.proc_params = ProcessParameters({})
            registered.remove(process)
        self._processes = {}


def _allow_open_files(more: int) -> None:
    """Raise the soft limit of open files, often 1024, where the network needs it and the hard limit lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = len(list(Path("/dev/fd").iterdir())) + more
    if soft != resource.RLIM_INFINITY and soft < needed:
        needed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


@contextmanager
def _unchanged_logging() -> Iterator[None]:
    """Take off the handlers that every Process adds to the root logger and every Compiler to its own."""
    loggers = [logging.getLogger(), logging.getLogger("lava.magma.compiler.compiler")]
    before = [list(logger.handlers) for logger in loggers]
    try:
        yield
    finally:
        for logger, handlers in zip(loggers, before, strict=True):
            logger.handlers[:] = handlers
