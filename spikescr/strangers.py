"""Opening files from strangers: regular files alone, and nothing that leads out of them is followed.

A FIFO or a device in a file's place would be waited for without end. An HDF5 file can name others: external links,
soft links (through an external one), data kept in other files ("external storage") and virtual datasets, which HDF5
opens silently when they are read (HDF5 specification 3.0, IV.A.2.g, h, i).
"""

from __future__ import annotations

import lzma
import os
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from spikescr.errors import DataError, SpikescrError

if TYPE_CHECKING:
    import h5py

DAMAGE = (OSError, EOFError, ValueError, LookupError, TypeError, RuntimeError, OverflowError, MemoryError, SyntaxError,
          tokenize.TokenError, struct.error, zipfile.BadZipFile, zlib.error, lzma.LZMAError)  # fmt: skip
"""What NumPy, zipfile and h5py raise on damaged files; MemoryError where a header promises what nothing holds."""
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}


def require_regular_file(path: Path, error: type[SpikescrError] = DataError) -> None:
    """Refuse what is no regular file (a symbolic link to one is); a missing one is left to who opens it.

    Args:
        path: The file.
        error: What to raise.

    Raises:
        SpikescrError: As `error`: it is a FIFO, device, socket or folder.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "no file")
        raise error(f"{path}: is {kind}; expected a regular file")


def open_regular(path: Path, error: type[SpikescrError] = DataError) -> BinaryIO:
    """Open a regular file for reading, in bytes.

    Args:
        path: The file.
        error: What to raise.

    Raises:
        SpikescrError: As `error`: it is no regular file.
        OSError: It cannot be opened.
    """
    require_regular_file(path, error)
    # Not blocking: should a FIFO have come into its place meanwhile, opening it does not wait for a writer.
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise error(f"{path}: is no regular file any more")
    return cast(BinaryIO, file)


def open_hdf5(path: Path, error: type[SpikescrError] = DataError) -> h5py.File:
    """Open an HDF5 file for reading that holds all of its content itself; a context manager.

    Args:
        path: The file.
        error: What to raise.

    Raises:
        SpikescrError: As `error`: it is no regular file or no HDF5, its table of contents is damaged, or something in
            it leads elsewhere: a link that is not hard, external storage, a virtual dataset, a group with two names
            (who walks through those may never come to an end).
    """
    import h5py

    require_regular_file(path, error)
    try:
        file = h5py.File(path, "r")
    except OSError as cause:
        raise error(f"{path}: no readable HDF5 file ({_plain(cause)})") from cause
    try:
        for name, fault in _ways_out(file):
            raise error(f"{path}: {name} {fault}; a file must hold all of its content itself")
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as cause:  # h5py tells damage by any of these
        file.close()
        raise error(f"{path}: damaged HDF5 file ({_plain(cause)})") from cause
    except BaseException:
        file.close()
        raise
    return file


def _ways_out(file: Any) -> Iterator[tuple[str, str]]:
    """Yield name and kind of all that leads out of an open HDF5 file; nothing is followed, no values are read."""
    import h5py

    links: list[tuple[bytes, int]] = []
    file.id.links.visit(lambda name, info: links.append((name, info.type)), info=True)
    for raw, kind in links:
        name = _text(raw)
        if kind == h5py.h5l.TYPE_EXTERNAL:
            target, inside = file.id.links.get_val(raw)
            yield name, f"is a link to {_text(inside)} in another file, {_text(target)}"
        elif kind == h5py.h5l.TYPE_SOFT:
            yield name, f"is a soft link to {_text(file.id.links.get_val(raw))}"
        elif kind != h5py.h5l.TYPE_HARD:
            yield name, f"is a link of unknown kind ({kind})"
        else:
            details = h5py.h5o.get_info(file.id, raw)
            if details.type == h5py.h5o.TYPE_GROUP and details.rc != 1:
                yield name, "is a group with several names"
            elif details.type == h5py.h5o.TYPE_DATASET:
                stored = h5py.h5d.open(file.id, raw).get_create_plist()
                if stored.get_layout() == h5py.h5d.VIRTUAL:
                    yield name, "is a virtual dataset, whose values lie in other files"
                elif stored.get_external_count():
                    yield name, f"has its values in another file, {_text(stored.get_external(0)[0])}"


def _text(name: bytes) -> str:
    """Return a name out of a file so that it can be printed."""
    return repr(name.decode(errors="backslashreplace"))


def _plain(cause: BaseException) -> str:
    """Return an error's text in one line."""
    return " ".join(str(cause).split()) or type(cause).__name__
