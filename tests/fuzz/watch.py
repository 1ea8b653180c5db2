"""How long a process takes, whatever else the machine does meanwhile, and its end when that is too long."""

from __future__ import annotations

import os
import select
import signal
import time
from dataclasses import dataclass
from pathlib import Path

POLL = 0.1
"""Seconds between two looks."""
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class End:
    """How a process ended: its status as of os.waitpid, its seconds on a machine of its own, whether too many."""

    status: int
    seconds: float
    too_long: bool


def watch(pid: int, limit: float) -> End:
    """Waits for a child that leads a process group; ends the group where it takes longer than the limit.

    What counts is the time of the CPU that the child and its descendants use, and the time in which none of them runs
    or could run: one that hangs is found, one that others keep from the CPU is not taken for it.
    """
    used, idle, last = 0.0, 0.0, time.monotonic()
    handle = os.pidfd_open(pid)
    try:
        while not select.select([handle], [], [], POLL)[0]:
            now = time.monotonic()
            found, runs = _tree(pid)
            used = max(used, found)
            idle += 0 if runs else min(now - last, 1)  # this process may have been kept from the CPU as well
            last = now
            if used + idle > limit:
                return End(_ended(pid), used + idle, too_long=True)
        _, status, usage = os.wait4(pid, 0)
        return End(status, max(used, usage.ru_utime + usage.ru_stime) + idle, too_long=False)
    except KeyboardInterrupt:
        _ended(pid)
        raise
    finally:
        os.close(handle)


def _ended(pid: int) -> int:
    os.killpg(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def _tree(pid: int) -> tuple[float, bool]:
    """Seconds of the CPU that a process and its descendants have used, and whether one of them runs or waits for it."""
    used, runs = 0.0, False
    try:
        fields = _fields(Path(f"/proc/{pid}/stat"))
        used = sum(map(int, fields[11:15])) / TICKS  # its threads' and those of children that have ended
        for task in Path(f"/proc/{pid}/task").iterdir():
            runs |= _fields(task / "stat")[0] == "R"
            for child in (task / "children").read_text().split():
                below, also = _tree(int(child))
                used, runs = used + below, runs or also
    except OSError:  # it, or a thread, ended meanwhile: it ran
        runs = True
    return used, runs


def _fields(stat: Path) -> list[str]:
    """Of proc(5), from the state on."""
    return stat.read_text().rpartition(")")[2].split()
