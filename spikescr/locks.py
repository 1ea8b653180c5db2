"""Locks on folders: one process writes to a folder and all inside it, or several read it.

A lock is an `flock` on the folder itself, so that it ends with the process, however that ends; what is forked from it
meanwhile has no part in it. Who writes to a folder holds it alone, and those that it is a part of together with others;
who reads holds all of them together with others. So no one writes to a folder while another works anywhere inside it,
and two may work in two stages of a job.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from spikescr.errors import SpikescrError

_NONE = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF}
"""What file systems without locks say; EBADF: NFS, of exclusive ones on directories."""

logger = logging.getLogger(__name__)
_mine = threading.local()
_handles: set[int] = set()


def _let_go() -> None:
    """Closes the parent's handles in a process forked from it: an `flock` lasts as long as any handle of it is open."""
    while _handles:
        os.close(_handles.pop())


os.register_at_fork(after_in_child=_let_go)


@contextmanager
def hold(folder: Path, wholes: Sequence[Path], *, exclusive: bool) -> Iterator[None]:
    """Holds a folder while the block lasts; a thread that holds one already may hold it, and what is inside, again.

    A file system without locks (some network homes) gets a warning, and no protection.

    Args:
        folder: which must exist.
        wholes: the folders that it is a part of, the outermost first.
        exclusive: to write; otherwise to read.

    Raises:
        SpikescrError: another process holds one of them in a way that excludes this.
    """
    with ExitStack() as stack:
        try:
            for whole in wholes:
                if stack.enter_context(_one(whole, exclusive=False)):
                    break  # all inside is this thread's
            else:
                stack.enter_context(_one(folder, exclusive=exclusive))
        except OSError as error:
            if error.errno not in _NONE:
                raise
            logger.warning(
                "%s: this file system gives no locks (%s); see to it that no other spikescr command works in it "
                "meanwhile", _shown(folder), error.strerror,
            )  # fmt: skip
        yield


@contextmanager
def _one(folder: Path, *, exclusive: bool) -> Iterator[bool]:
    """Holds one folder; gives whether this thread holds it alone."""
    held: dict[tuple[int, int], bool] = vars(_mine).setdefault("held", {})
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    _handles.add(handle)
    try:
        status = os.fstat(handle)
        key = status.st_dev, status.st_ino
        if key in held and held[key] >= exclusive:
            yield held[key]
            return
        _flock(folder, handle, exclusive)
        held[key] = exclusive
        try:
            yield exclusive
        finally:
            del held[key]
    finally:
        if handle in _handles:
            _handles.remove(handle)
            os.close(handle)


def _flock(folder: Path, handle: int, exclusive: bool) -> None:
    try:
        fcntl.flock(handle, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SpikescrError(
            f"{_shown(folder)}: another spikescr command is at work here; wait for it or choose another folder (--run)"
        ) from error


def _shown(folder: Path) -> Path:
    """As one would type it: relative where it is inside the working directory."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
