"""Published files of data sets, and fetching them: checked against their checksums, unpacked, put in place."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spikescr.data.archives import free_bytes, unpack_one, unpack_tree
from spikescr.data.download import Downloader
from spikescr.errors import DataError, UsageError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PublishedFile:
    """A file on its publisher's server.

    Attributes:
        name: Its name there.
        checksum: ALGORITHM:DIGEST.
    """

    name: str
    checksum: str


@dataclass(frozen=True)
class PublishedSet:
    """A data set on its publisher's server.

    Attributes:
        base: Address of the folder of the files.
        files: Either one `.zip` for each HDF5 file, or one `.tar.gz` with all.
        recordings: Split -> how many there are.
        classes: How many there are.
        gigabytes: Disk space that it takes, packed and unpacked together, about.
        licence: Of the data.
    """

    base: str
    files: tuple[PublishedFile, ...]
    recordings: dict[str, int]
    classes: int
    gigabytes: float
    licence: str


def fetch(
    name: str,
    folder: Path,
    published: PublishedSet,
    *,
    mirror: str | None = None,
    timeout_s: float = 30,
    on_bytes: Callable[[str, int, int | None], None] = lambda name, done, total: None,
) -> None:
    """Download a data set, check it and unpack it; what is there already is not fetched again.

    Packed files are kept in a folder beside the target, named after it with `.download`, until all is done, so that an
    interrupted download is continued by the same call.

    Args:
        name: Of the data set, for messages.
        folder: Where the data set shall be.
        published: Where it is.
        mirror: Address of a folder with the same files, instead of the publisher's; the checksums are the same.
        timeout_s: Seconds without a byte after which a server is given up.
        on_bytes: Called with a file's name, its bytes so far, and its size where the server tells.

    Raises:
        UsageError: The mirror is no http or https address, or the folder holds something else.
        DataError: A file cannot be had or is not the published one; what was complete is kept.
    """
    base = (mirror or published.base).rstrip("/")
    if not base.startswith(("https://", "http://")):
        raise UsageError(f"mirror (--mirror) {mirror}: must begin with https:// or http://")
    tree = published.files[0].name.endswith(".tar.gz")
    if tree and folder.is_dir() and any(folder.iterdir()):
        if (folder / "testing_list.txt").is_file():
            return
        raise UsageError(f"{folder} is not empty and holds no Speech Commands; choose another folder (--to)")
    packed = folder.with_name(f"{folder.name}.download")
    try:
        free = free_bytes(folder) / 1e9
        if free < published.gigabytes:
            logger.warning(
                "%s: %.1f GB free; %s takes about %g GB while unpacking", folder, free, name, published.gigabytes
            )
        packed.mkdir(parents=True, exist_ok=True)
        for file in published.files:
            target = folder / file.name.removesuffix(".zip")
            if not tree and target.exists():
                continue
            archive = Downloader(timeout_s, on_bytes).fetch(f"{base}/{file.name}", file.checksum, packed / file.name)
            if tree:
                unpack_tree(archive, folder)
            else:
                folder.mkdir(parents=True, exist_ok=True)
                unpack_one(archive, target)
            archive.unlink()
        packed.rmdir()
    except OSError as error:
        raise DataError(f"{error.filename or folder}: cannot be written: {error.strerror or error}") from error
