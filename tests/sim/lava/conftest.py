"""What the tests of the Lava backend share: backends that are closed, and no process that outlives a test."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spikescr.sim.lava.backend import LavaBackend
from spikescr.sim.program import Program


def children(parent: int) -> set[int]:
    """Process ids of the children of `parent` that still run (zombies do not), the resource tracker left out."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, ppid = (folder / "stat").read_text().rsplit(") ", 1)[1].split()[:2]
            command = (folder / "cmdline").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        if int(ppid) == parent and state != "Z" and "resource_tracker" not in command:
            found.add(int(folder.name))
    return found


def running(pids: set[int]) -> set[int]:
    """Those of `pids` that still run."""
    found = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            found.add(pid)
    return found


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """After each test: no child process that was not there before."""
    before = children(os.getpid())
    yield
    assert children(os.getpid()) <= before


@pytest.fixture
def gone() -> Callable[[set[int]], bool]:
    """Tells whether processes end within a few seconds."""

    def wait(pids: set[int], seconds: float = 10.0) -> bool:
        end = time.monotonic() + seconds
        while running(pids) and time.monotonic() < end:
            time.sleep(0.02)
        return not running(pids)

    return wait


@pytest.fixture
def build() -> Iterator[Callable[..., LavaBackend]]:
    """Builds backends and closes them after the test."""
    made: list[LavaBackend] = []

    def make(program: Program, batch: int, **options: Any) -> LavaBackend:
        made.append(LavaBackend(program, batch, **options))
        return made[-1]

    yield make
    for backend in made:
        backend.close()
