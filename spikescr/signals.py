"""Ctrl-C in moments that must not be cut in two."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Lets Ctrl-C wait until the block is over: processes are being started or ended, all of them or none.

    A terminal sends SIGINT to all processes of a command. A fork that has only just begun has this handler too, and so
    tells of it with no traceback of its own.
    """
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return
    waiting = False

    def note(_number: int, _frame: FrameType | None) -> None:
        nonlocal waiting
        waiting = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if waiting:
            signal.raise_signal(signal.SIGINT)
