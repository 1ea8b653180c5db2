"""The cache: a folder of what can be made again, each entry made as a whole or not at all, by one process at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from spikescr.files import expanded


def cache_folder() -> Path:
    """Return the cache: `SPIKESCR_CACHE`, else `spikescr` in `XDG_CACHE_HOME` or `~/.cache`."""
    if own := os.environ.get("SPIKESCR_CACHE"):
        return expanded(Path(own))
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else expanded(Path("~/.cache"))) / "spikescr"


@contextmanager
def workshop(root: Path) -> Iterator[Path]:
    """Give a temporary folder beside `root`, locked while in use; remove those that nobody uses any more.

    A folder is locked while still empty, and an empty one is never removed: so none is lost before its lock.
    """
    prefix = f".{root.name}-"
    for left in root.parent.glob(f"{prefix}*"):
        with suppress(OSError), _locked(left, fcntl.LOCK_EX | fcntl.LOCK_NB):
            if any(left.iterdir()):
                shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=root.parent) as name, ExitStack() as stack:
        with suppress(OSError):  # a file system without locks: there, no other process gets one to remove anything
            stack.enter_context(_locked(Path(name), fcntl.LOCK_EX))
        yield Path(name)


def publish(made: Path, root: Path) -> None:
    """Rename the finished folder to its place, unless another process was first."""
    try:
        made.rename(root)
    except OSError:
        if not root.is_dir():
            raise


@contextmanager
def one_at_a_time(root: Path) -> Iterator[None]:
    """Let one process after the other make `root`; the lock is a file beside it.

    Where the file system has no locks, several may make it at once, and `publish` keeps the first.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    with (root.parent / f"{root.name}.lock").open("w") as file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    """Hold an `flock` on a folder; it ends with the process, however that ends."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, how)
        yield
    finally:
        os.close(handle)
