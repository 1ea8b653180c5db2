"""Processes on this machine that work through tasks; a task whose process dies or stands still is given to another."""

from __future__ import annotations

import functools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from time import monotonic
from typing import Any

from spikescr.errors import BackendError

CHUNKS = "choose fewer workers (--workers) or samples at once (--batch-size), and resume (--resume)"
TRIES = 3
"""How often a task is given to a process before it is taken for the cause of its end."""
_LOOK_SECONDS = 1.0

logger = logging.getLogger(__name__)


@dataclass
class _Worker:
    """A process, the pipe to it, its place, the number of the task that it has, and when it computed last."""

    process: subprocess.Popen[bytes]
    pipe: Connection
    place: int
    task: int | None = None
    ticks: int | None = None
    since: float = field(default_factory=monotonic)

    def fault(self, stall_seconds: float) -> str | None:
        """Why nothing is to be expected of it any more, None where something is."""
        code = self.process.poll()
        if code is not None:
            return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        ticks = _ticks(self.process.pid)
        if self.task is None or ticks is None or ticks != self.ticks:
            self.ticks, self.since = ticks, monotonic()
        return f"stood still for {stall_seconds:g} s" if monotonic() - self.since > stall_seconds else None

    def end(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.wait()
        self.pipe.close()


def spread(
    function: Callable[..., Any],
    tasks: Sequence[tuple[Any, ...]],
    *,
    workers: int,
    stall_seconds: float,
    environments: Sequence[Mapping[str, str]] = (),
    what: str = "chunk",
    remedy: str = CHUNKS,
) -> Iterator[Any]:
    """Calls a function with the arguments of each task in other processes; yields what it returns as it comes.

    Args:
        function: of a module; arguments and results are pickled.
        tasks: arguments of each call.
        workers: how many processes.
        stall_seconds: a process that has a task and does not compute for so long is ended (Linux).
        environments: variables of each process, besides this one's; none: those alone.
        what: a task is, for messages.
        remedy: what to do about tasks whose processes end, for messages.

    Raises:
        Exception: what the function raised.
        BackendError: a task was given to `TRIES` processes and all ended or stood still.
    """
    waiting, tries, done = deque(range(len(tasks))), [0] * len(tasks), 0
    crew: list[_Worker] = []
    try:
        while done < len(tasks):
            while len(crew) < min(workers, len(tasks) - done):
                place = min(set(range(workers)) - {worker.place for worker in crew})
                crew.append(_begin(function, place, environments[place] if environments else {}))
            for worker in crew:
                if worker.task is None and waiting:
                    worker.task = waiting.popleft()
                    tries[worker.task] += 1
                    with suppress(OSError):  # it has ended, as will be seen
                        worker.pipe.send(tasks[worker.task])
            wait([worker.pipe for worker in crew], timeout=_LOOK_SECONDS)
            for worker in list(crew):
                answer = _receive(worker)
                if answer is not None:
                    worker.task, done = None, done + 1
                    if isinstance(answer[1], Exception) and not answer[0]:
                        raise answer[1]
                    yield answer[1]
                    continue
                fault = worker.fault(stall_seconds)
                if fault is not None:
                    crew.remove(worker)
                    worker.end()
                    if worker.task is not None:
                        _try_again(f"{what} {worker.task}", tries[worker.task], fault, what, remedy)
                        waiting.append(worker.task)
    finally:
        for worker in crew:
            worker.end()


def _receive(worker: _Worker) -> tuple[bool, Any] | None:
    """Whether the function returned, and what it returned or raised; None where nothing has come."""
    try:
        answer: tuple[bool, Any] | None = worker.pipe.recv() if worker.pipe.poll() else None
    except (EOFError, OSError):
        with suppress(subprocess.TimeoutExpired):
            worker.process.wait(_LOOK_SECONDS)  # the pipe ends a moment before the process does
        return None
    return answer


def _try_again(task: str, tries: int, fault: str, what: str, remedy: str) -> None:
    if tries >= TRIES:
        raise BackendError(
            f"{task}: its worker {fault}, as did the {tries - 1} before it; finished {what}s are kept: look into "
            f"memory (dmesg), {remedy}"
        )
    logger.warning("a worker %s; its %s is done by another", fault, what)


def _begin(function: Callable[..., Any], place: int, environment: Mapping[str, str]) -> _Worker:
    """A new interpreter: Lava forks, which takes a process without threads. What runs here as `__main__` is not its."""
    mine, its = Pipe()
    with its:
        process = subprocess.Popen(
            [sys.executable, "-c", f"from spikescr.workflows.workers import work; work({its.fileno()})"],
            pass_fds=[its.fileno()],
            stdin=subprocess.DEVNULL,
            env={**os.environ, **environment},
            start_new_session=True,  # Ctrl-C in a terminal is for who began it
        )
    with suppress(OSError):  # it has ended, as will be seen
        mine.send(sys.path)
        mine.send(function)
    return _Worker(process, mine, place)


@functools.cache
def end_with(client: int | None) -> None:
    """Ends this worker when its client, of this process id, is gone; None: it serves a cluster."""
    if client is None or client == os.getpid():
        return

    def watch() -> None:
        while os.getppid() == client:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def work(descriptor: int) -> None:
    """A worker's life: it calls until the pipe is closed."""
    with suppress(EOFError, OSError), Connection(descriptor) as pipe:
        sys.path[:] = pipe.recv()
        function = pipe.recv()
        while True:
            arguments = pipe.recv()
            try:
                answer = True, function(*arguments)
            except Exception as error:
                answer = False, error
            pipe.send(answer)


def _ticks(pid: int | None) -> int | None:
    """CPU time of a process and of those that it began, in clock ticks; None where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        begun = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return None
    return int(fields[11]) + int(fields[12]) + sum(_ticks(int(child)) or 0 for child in begun)
