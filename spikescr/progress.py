"""Progress of work of more than a moment: told to a callback, to nobody where none listens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

T = TypeVar("T")

Notify = Callable[[str], None]
"""Takes a notice, one line: something that a user should know and that is no fault."""


class Progress(Protocol):
    """What is told of a task: its name, how much of it is done, of how much if known, and figures of the moment.

    A task ends with as much done as there is.
    """

    def __call__(self, task: str, done: float, total: float | None, detail: str = "", /) -> None: ...  # noqa: D102


def silent(*_told: object) -> None:
    """Nobody listens: of progress and of notices."""


_listener: ContextVar[Progress] = ContextVar("progress", default=silent)


@contextmanager
def listening(progress: Progress) -> Iterator[None]:
    """Everything that `track` follows while the block lasts is told to `progress`, however deep it is called."""
    token = _listener.set(progress)
    try:
        yield
    finally:
        _listener.reset(token)


def track(sequence: Iterable[T], task: str, total: int) -> Iterator[T]:
    """Yields the elements of `sequence` and tells how many of `total` are done."""
    progress = _listener.get()
    progress(task, 0, total)
    try:
        for done, element in enumerate(sequence, start=1):
            yield element
            progress(task, done, total)
    finally:
        progress(task, total, total)


@contextmanager
def advancing(task: str, total: float) -> Iterator[Callable[[float], None]]:
    """A task that is no loop; gives a function to be told how much more of `total` was done."""
    progress, done = _listener.get(), 0.0

    def advance(more: float) -> None:
        nonlocal done
        done += more
        progress(task, done, total)

    progress(task, 0, total)
    try:
        yield advance
    finally:
        progress(task, total, total)


def tell(task: str, done: float, total: float | None, detail: str = "") -> None:
    """Tells of a task by hand."""
    _listener.get()(task, done, total, detail)
