"""What test_workers has other processes do; a module of its own, for they import it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from spikescr.errors import UsageError


def square(number: int, folder: Path, fate: str) -> int:
    """Squares, and notes that it began; meets its fate the first so many times."""
    name, _, times = fate.partition(" ")
    begun = len(list(folder.glob(f"{number}-*")))
    (folder / f"{number}-{begun}").touch()
    if name and begun < int(times):
        if name == "raise":
            raise UsageError(f"{number} cannot be")
        os.kill(os.getpid(), signal.SIGKILL if name == "die" else signal.SIGSTOP)
    return number * number
