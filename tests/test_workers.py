"""Processes that work through tasks: one that dies or stands still loses its task to another."""

from __future__ import annotations

import logging
import os
import re
import time
from pathlib import Path

import pytest
from tasks import square

from spikescr.errors import BackendError, UsageError
from spikescr.workflows.workers import TRIES, spread


def tasks(folder: Path, **fates: str) -> list[tuple[int, Path, str]]:
    return [(number, folder, fates.get(f"at{number}", "")) for number in range(5)]


def test_every_task_is_done_once(tmp_path: Path) -> None:
    assert sorted(spread(square, tasks(tmp_path), workers=2, stall_seconds=60)) == [0, 1, 4, 9, 16]
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize("fate", ["die", "stop"])
def test_a_task_whose_worker_is_lost_is_done_by_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fate: str
) -> None:
    """`stop` is a worker that stands still: it has its task, and computes no more."""
    with caplog.at_level(logging.WARNING):
        found = list(spread(square, tasks(tmp_path, at3=f"{fate} {TRIES - 1}"), workers=2, stall_seconds=2))
    assert sorted(found) == [0, 1, 4, 9, 16]
    assert len(list(tmp_path.glob("3-*"))) == TRIES
    assert len(list(tmp_path.iterdir())) == 4 + TRIES
    told = [record.getMessage() for record in caplog.records]
    why = "was killed by SIGKILL" if fate == "die" else "stood still for 2 s"
    assert told == [f"a worker {why}; its chunk is done by another"] * (TRIES - 1)


def test_a_task_that_kills_every_worker_ends_it_and_is_named(tmp_path: Path) -> None:
    done = []
    with pytest.raises(BackendError, match=r"^chunk 3: its worker was killed by SIGKILL, as did the 2 before it"):
        done += spread(square, tasks(tmp_path, at3=f"die {TRIES}"), workers=2, stall_seconds=60)
    assert len(list(tmp_path.glob("3-*"))) == TRIES


def test_what_a_task_raises_is_raised_and_no_worker_is_left(tmp_path: Path) -> None:
    before = {path.name for path in Path("/proc").glob("[0-9]*")}
    with pytest.raises(UsageError, match=re.escape("3 cannot be")):
        list(spread(square, tasks(tmp_path, at3="raise 1"), workers=2, stall_seconds=60))
    time.sleep(0.1)
    mine = [
        path
        for path in Path("/proc").glob("[0-9]*")
        if path.name not in before and f"PPid:\t{os.getpid()}\n" in _read(path / "status")
    ]
    assert [path for path in mine if "workflows.workers" in _read(path / "cmdline")] == []


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
