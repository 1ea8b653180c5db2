"""Writing files so that a reader never meets half of one, and telling files apart by content."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name in the same folder, with the same suffix, that takes the place of `path` at the end.

    When the block raises, the temporary file is removed and `path` stays as it was. The block must close the file.

    Raises:
        OSError: the file cannot be written, to a full disk for instance; it names `path`.
    """
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # or a power cut could leave the new name with no content
        temporary.replace(path)
    except OSError as error:
        if error.filename in {None, str(temporary)}:
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file as a whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_csv(path: Path, fields: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Writes a table with a line of field names as a whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(fields)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_text(path: Path, content: str) -> None:
    """Writes a text file (UTF-8, line ends as given) as a whole or not at all."""
    write_bytes(path, content.encode())


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
