"""Unpacking what others packed: files and folders alone, all of them inside the target, no more than a bound."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, cast

from spikescr.data.cache import cache_folder, one_at_a_time, publish, workshop
from spikescr.errors import DataError
from spikescr.files import replacing
from spikescr.strangers import require_regular_file

PACKED = (".gz", ".zip")
"""Suffixes under which a single file is published, packed."""
MOST_BYTES = 32 * 2**30
"""More than ten times the largest file of the published sets: what wants more is no copy of them."""
MOST_FILES = 1_000_000
MOST_RATIO = 200
"""More bytes come out than went in: of the published files 2 to 4 times; of zeros 1000 times."""
_SMALL = 2**26
"""Bytes that may come out of any packed file."""
_LONGEST_READ = 2**20
"""tarfile reads members in pieces, but a name or a comment, however long it says it is, at once."""
_BLOCK = 2**20


def unpacked(packed: Path, name: str, cache: Path | None = None) -> Path:
    """Return the file in a `.gz` or `.zip` file, unpacked into the cache the first time.

    Args:
        packed: The packed file.
        name: Of the file in it.
        cache: Folder of the cache; default: see `cache_folder`.

    Raises:
        DataError: The packed file is damaged, or holds something else.
    """
    status = packed.stat()
    key = hashlib.sha256(f"{packed.resolve()}\0{status.st_size}\0{status.st_mtime_ns}".encode()).hexdigest()[:16]
    root = (cache or cache_folder()) / "unpacked" / key
    if not root.exists():
        try:
            with one_at_a_time(root):
                if not root.exists():
                    with workshop(root) as temporary:
                        (temporary / key).mkdir()
                        unpack_one(packed, temporary / key / name)
                        publish(temporary / key, root)
        except OSError as error:
            raise DataError(f"{error.filename or root}: {packed} cannot be unpacked there: {error.strerror}") from error
    return root / name


def unpack_one(packed: Path, target: Path, most: int = MOST_BYTES) -> None:
    """Unpack the one file in a `.gz` or `.zip` file; the target appears whole or not at all.

    Args:
        packed: The packed file.
        target: What to make; a zip must hold one file of this name.
        most: Bytes that may come out.

    Raises:
        DataError: The packed file is damaged, holds something else, or more than `most` bytes, `MOST_RATIO` of its own
            or the disk.
    """
    require_regular_file(packed)
    most = _most(packed, target.parent, most)
    with replacing(target) as temporary, _reader(packed, target.name) as source, temporary.open("wb") as file:
        written = 0
        while block := source.read(_BLOCK):
            written += len(block)
            if written > most:
                raise DataError(
                    f"{packed}: unpacks to more than {most / 2**30:.3g} GiB; no published file, or the disk is full"
                )
            file.write(block)
        if not written:
            raise DataError(f"{packed}: damaged or cut short (there is nothing in it); download it again")


def unpack_tree(packed: Path, target: Path, most: int = MOST_BYTES) -> None:
    """Unpack a `.tar.gz` file into the folder `target`, which must not exist or be empty, as a whole or not at all.

    Args:
        packed: The archive. It may hold files and folders, all of them inside; links, devices and the like, which no
            data set needs, are refused.
        target: The folder.
        most: Bytes that may come out.

    Raises:
        DataError: The archive is damaged, or holds what it may not, or more than `most` bytes, `MOST_RATIO` of its own,
            the disk or `MOST_FILES` files.
    """
    require_regular_file(packed)
    target.parent.mkdir(parents=True, exist_ok=True)
    with workshop(target) as temporary:
        made = temporary / target.name
        made.mkdir()
        most = _most(packed, made, most)
        size = 0
        with (
            _told(packed),
            gzip.open(packed) as stream,
            tarfile.open(fileobj=cast(IO[bytes], _InPieces(stream)), mode="r:") as archive,
        ):
            for count, member in enumerate(archive, 1):
                if not (member.isreg() or member.isdir()):
                    raise DataError(f"{packed}: {member.name!r} is no file and no folder; nothing was unpacked")
                parts = PurePosixPath(member.name)
                if parts.is_absolute() or ".." in parts.parts:
                    raise DataError(f"{packed}: {member.name!r} leads out of the folder; nothing was unpacked")
                if member.size < 0:  # tarfile would go back, and round and round
                    raise DataError(f"{packed}: damaged ({member.name!r} has {member.size:,} bytes); download it again")
                size += member.size
                if size > most or count > MOST_FILES:
                    raise DataError(
                        f"{packed}: unpacks to more than {most / 2**30:.3g} GiB or {MOST_FILES:,} files; "
                        "no published file, or the disk is full"
                    )
                archive.extract(member, made, filter="data")
        if target.is_dir():
            target.rmdir()
        made.rename(target)


class _InPieces(io.BufferedReader):
    """A file that is read in small pieces alone."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as files do.

        Raises:
            tarfile.ReadError: So much is asked for that only a header can have said so.
        """
        if size is None or not 0 <= size <= _LONGEST_READ:
            raise tarfile.ReadError(f"a header that says it has {size:,} bytes")
        return super().read(size)


def _most(packed: Path, folder: Path, most: int) -> int:
    """Return how many bytes may come out of a packed file into a folder."""
    return min(most, max(_SMALL, MOST_RATIO * packed.stat().st_size), free_bytes(folder))


@contextmanager
def _reader(packed: Path, name: str) -> Iterator[IO[bytes]]:
    """Open the one file in a `.gz` or `.zip` file."""
    with _told(packed):
        if packed.suffix == ".gz":
            with gzip.open(packed) as source:
                yield cast(IO[bytes], source)
            return
        with zipfile.ZipFile(packed) as archive:
            inside = archive.namelist()
            if inside != [name]:
                raise DataError(f"{packed}: must hold {name} alone, holds {', '.join(inside[:3]) or 'nothing'}")
            with archive.open(name) as source:
                yield source


@contextmanager
def _told(packed: Path) -> Iterator[None]:
    """Turn what the unpackers raise into one line."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, zipfile.BadZipFile, tarfile.TarError) as error:
        raise DataError(f"{packed}: damaged or cut short ({error}); download it again") from error
    except (NotImplementedError, RuntimeError) as error:  # zipfile: a method it does not know, a password
        raise DataError(f"{packed}: cannot be unpacked ({error})") from error


def free_bytes(folder: Path) -> int:
    """Return the free space in bytes on the disk of a folder that may still have to be made."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
