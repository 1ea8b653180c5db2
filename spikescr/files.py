"""Writing files so that a reader never meets half of one, and telling files apart by content."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from spikescr.errors import SpikescrError, UsageError

_STAGED, _REMOVED = ".staged", ".removed"
_UNFINISHED = ".unfinished"
_PLAN, _OLD = ".plan.json", ".old"


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


@contextmanager
def replacing_together(folder: Path, names: Collection[str]) -> Iterator[Path]:
    """A temporary folder whose content takes its places in `folder` at the end, all of it or nothing.

    First everything is written and safe on the disk; then, in this order: the folder gets a name by which `finish`
    knows it, what stands in the places is taken away, what was made is put there. So whoever looks in between, after a
    kill or with a full disk, sees what was there before, or what was made, or that something is missing; never some of
    the one beside some of the other. When the block raises, all stays as it was.

    One process at a time may do this in a folder: see `locks`.

    Args:
        folder: which must exist.
        names: of all that belongs together, files or folders, relative to `folder`. What is not made is removed.

    Raises:
        OSError: something cannot be written, to a full disk for instance; it names the file.
    """
    finish(folder)
    for left in folder.glob(f".*{_STAGED}"):  # by kills
        shutil.rmtree(left, ignore_errors=True)
    stage = folder / f".{secrets.token_hex(4)}{_STAGED}"
    try:
        stage.mkdir()
        yield stage
        made = [name for name in names if (stage / name).exists()]
        _sync(stage)
        write_bytes(stage / _PLAN, json.dumps({"made": made, "gone": sorted({*names} - {*made})}).encode())
        stage.rename(folder / _UNFINISHED)
        _sync_folder(folder)
    except OSError as error:
        if error.filename is None or str(error.filename).startswith(str(stage)):
            shown = str(folder) + str(error.filename or "").removeprefix(str(stage))
            error.filename, error.filename2 = shown, None
        raise
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    finish(folder)


def finish(folder: Path) -> None:
    """Puts in its places what `replacing_together` had ready when it was killed; nothing where nothing is left.

    The caller sees to it that no other process works in the folder.

    Raises:
        SpikescrError: what says what was ready is damaged, or names something outside the folder.
    """
    unfinished = folder / _UNFINISHED
    plan = unfinished / _PLAN
    if plan.exists():
        made, gone = _read_plan(plan)
        waiting = [name for name in made if (unfinished / name).exists()]
        (unfinished / _OLD).mkdir(exist_ok=True)
        for name in (*gone, *waiting):
            if os.path.lexists(folder / name):
                shutil.move(folder / name, unfinished / _OLD / secrets.token_hex(8))
        for name in waiting:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(unfinished / name, folder / name)
        _sync_folder(folder)
        plan.unlink()
    if unfinished.exists():
        shutil.rmtree(unfinished)


def _read_plan(path: Path) -> tuple[list[str], list[str]]:
    """Names of what was made, and of what goes; folders come from strangers too, so none may lead out of this one."""
    try:
        plan = json.loads(path.read_bytes())
        made, gone = ([str(name) for name in plan[key]] for key in ("made", "gone"))
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise SpikescrError(f"{path}: damaged ({error!r}); remove {path.parent} to stay with what was there") from error
    for name in (*made, *gone):
        if not name or Path(name).is_absolute() or {"..", "."} & set(name.split("/")):
            raise SpikescrError(f"{path}: {name!r} leads out of the folder; remove {path.parent}")
    return made, gone


def is_unfinished(folder: Path) -> bool:
    """Whether `finish` has something to do."""
    return (folder / _UNFINISHED / _PLAN).exists()


def link_folder(source: Path, target: Path) -> None:
    """A second folder with the same files, which take no room where the file system has hard links."""

    def link(one: str, other: str) -> None:
        try:
            os.link(one, other)
        except OSError:
            shutil.copy2(one, other)

    shutil.copytree(source, target, copy_function=link, ignore=shutil.ignore_patterns(".*"))


def remove_folder(folder: Path) -> None:
    """Removes a folder, where there is one; under its own name it is there as a whole or not at all."""
    for left in folder.parent.glob(f".*.{folder.name}{_REMOVED}"):  # by kills
        shutil.rmtree(left, ignore_errors=True)
    if folder.exists():
        away = folder.with_name(f".{secrets.token_hex(4)}.{folder.name}{_REMOVED}")
        folder.rename(away)
        shutil.rmtree(away)


def _sync(folder: Path) -> None:
    """Sees to it that a power cut leaves no file in a folder without its content."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file as a whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def expanded(path: Path) -> Path:
    """A path with `~` and `~user` replaced by home folders.

    Raises:
        UsageError: there is no such user, or nothing says where home is.
    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        who = path.parts[0].removeprefix("~")
        why = f"there is no user {who} here" if who else "nothing says where your home is (HOME)"
        raise UsageError(f"{path}: {why}; write the folder out") from error


def in_memory(write: Callable[[io.BytesIO], object]) -> bytes:
    """What a function writes to a file.

    For HDF5: its library ends the process with signal 11 when it cannot write to a disk, because that is full say.
    """
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def write_csv(path: Path, fields: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Writes a table with a line of field names as a whole or not at all."""
    write_text(path, as_csv(fields, rows))


def as_csv(fields: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A table with a line of field names."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(fields)
    writer.writerows(rows)
    return text.getvalue()


def write_text(path: Path, content: str) -> None:
    """Writes a text file (UTF-8, line ends as given) as a whole or not at all."""
    write_bytes(path, content.encode())


def write_texts(files: Mapping[Path, str]) -> None:
    """Writes text files, in whatever folders: none takes its place before all are written, or where one cannot be.

    A kill may come between two of them, so they are no transaction: what belongs to a run folder is written by
    `replacing_together`.
    """
    with ExitStack() as stack:
        for path, content in files.items():
            stack.enter_context(replacing(path)).write_bytes(content.encode())


@contextmanager
def unchanged(*paths: Path) -> Iterator[dict[str, str]]:
    """SHA-256 by name, there at the end, of files that the block reads.

    Raises:
        SpikescrError: one was changed or replaced before it was hashed, so that what was read is not what is told.
    """
    before = [_stamp(path) for path in paths]
    digests: dict[str, str] = {}
    yield digests
    for path, stamp in zip(paths, before, strict=True):
        digests[path.name] = sha256(path)
        if _stamp(path) != stamp:
            raise SpikescrError(f"{path}: was changed while it was read; run again")


def _stamp(path: Path) -> tuple[int, ...]:
    """What tells versions of a file apart; nothing of one that is not there, which its reader will say."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
