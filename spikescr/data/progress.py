"""A progress bar for work of more than a moment, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def track(sequence: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yield the elements of `sequence` and show how many of `total` are done; silent when stderr is no terminal."""
    from rich.console import Console
    from rich.progress import track as rich_track

    quiet = not sys.stderr.isatty()
    yield from rich_track(
        sequence, description, total=total, console=Console(stderr=True), disable=quiet, transient=True
    )
