"""What the command line says: results on standard output, the rest on standard error.

Of several processes that train together, only the first gives notices and warnings; errors come from all.
"""

from __future__ import annotations

import codecs
import errno
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from spikescr.progress import listening

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

_OUTPUT = "standard output"
_ASCII = {"±": "+-", "µ": "u", "…": "...", "\u00d7": "x", "\u2013": "-", "→": "->", "²": "2"}
WIDE = 160  # of output that no terminal shows; a log is not to be wrapped at 80


@contextmanager
def standard_streams() -> Iterator[None]:
    """Makes standard output and error fit for any locale while the block lasts, and sees to it that all is written.

    Raises:
        OSError: standard output is closed or cannot take what is written, being on a full disk for instance; it says
            so in its `filename`. What is still to be written is dropped then.
    """
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 (as long as the process)
    if sys.stdout is None:
        raise OSError(errno.EBADF, "closed; send it somewhere, > /dev/null say", _OUTPUT)
    codecs.register_error("spikescr", _spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="spikescr")
    named = _Named(sys.stdout, _OUTPUT)
    with redirect_stdout(cast(TextIO, named)):
        try:
            yield
        finally:
            try:
                if not named.failed:  # or it was told already
                    named.flush()
            finally:
                if named.failed:
                    _drop(sys.stdout)


class _Named:
    """A stream whose errors say which one it is."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name, self.failed = stream, name, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._naming():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._naming():
            self._stream.flush()

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error.filename, self.failed = self._name, True
            raise


def _drop(stream: TextIO) -> None:
    """What is still to be written goes nowhere: Python would try again when it ends, and fail."""
    with suppress(OSError):  # it is no file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """Characters that the locale lacks, in ASCII."""
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    return "".join(_ASCII.get(c, "?") for c in lacking), error.end


def output() -> Console:
    """Where results go: standard output."""
    return _console(sys.stdout)


def notices() -> Console:
    """Where everything else goes: standard error."""
    return _console(sys.stderr)


def report_error(message: str) -> None:
    """Prints `error: …` in one line."""
    _say("error", "bold red", message)


def notify(message: str) -> None:
    """Prints a notice in one line."""
    if _speaks():
        _say("note", "cyan", message)


@contextmanager
def reporting(debug: bool) -> Iterator[None]:
    """Shows logged warnings in one line each while the block lasts; with `debug`, everything that spikescr logs."""
    root, own, handler = logging.getLogger(), logging.getLogger("spikescr"), _LineHandler()
    level = own.level
    root.addHandler(handler)
    own.setLevel(logging.DEBUG if debug else logging.WARNING)
    with warnings.catch_warnings():
        warnings.showwarning = _log_warning
        # Of interest to those who write these libraries' next version, not to those who run this one.
        for category in (FutureWarning, DeprecationWarning, PendingDeprecationWarning):
            warnings.filterwarnings(
                "ignore", category=category, module=r"(accelerate|torch|spikingjelly|librosa|nir|lava)\b"
            )
        try:
            yield
        finally:
            root.removeHandler(handler)
            own.setLevel(level)


class Bars:
    """A progress bar on standard error for every task that is told of, while it is not done; quiet where no terminal.

    The one way in which the command line shows progress: `main` lets it listen to everything.
    """

    def __init__(self) -> None:
        self._display: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, task: str, done: float, total: float | None, detail: str = "", /) -> None:
        """Shows how much of a task is done, as `spikescr.progress.Progress` has it."""
        if not (sys.stderr.isatty() and _speaks()):
            return
        finished = total is not None and done >= total
        if finished and task not in self._tasks:
            return
        display = self._display or self._started()
        if task not in self._tasks:
            self._tasks[task] = display.add_task(task, total=total, detail=detail)
        display.update(self._tasks[task], completed=done, total=total, detail=detail)
        if finished:
            display.remove_task(self._tasks.pop(task))
            if not self._tasks:
                self.close()

    def close(self) -> None:
        """Takes all bars off the terminal."""
        if self._display is not None:
            self._display.stop()
            self._display = None
            self._tasks.clear()

    def _started(self) -> Progress:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        self._display = Progress(*columns, TextColumn("{task.fields[detail]}"), console=notices(), transient=True)
        self._display.start()
        return self._display


@contextmanager
def bars() -> Iterator[None]:
    """Progress is shown while the block lasts."""
    shown = Bars()
    with closing(shown), listening(shown):
        yield


class _LineHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.ERROR and not _speaks():
            return
        style = "yellow" if record.levelno >= logging.WARNING else "dim"
        _say(record.levelname.lower(), style, record.getMessage())


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    logging.getLogger("spikescr").warning("%s: %s (%s:%d)", category.__name__, message, filename, lineno)


def _speaks() -> bool:
    return os.environ.get("RANK", "0") == "0"  # torch's launchers number their processes so


def _say(kind: str, style: str, message: str) -> None:
    from rich.text import Text

    one_line = " ".join(message.split())
    notices().print(Text.assemble((f"{kind}: ", style), one_line), soft_wrap=True)


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    # No markup: a path with brackets is a path.
    return Console(file=stream, width=None if stream.isatty() else WIDE, highlight=False, markup=False)
