"""Downloads that continue where they were interrupted: a downloader for pooch, which checks and names the result."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikescr.data.archives import MOST_BYTES
from spikescr.errors import DataError
from spikescr.files import write_text

if TYPE_CHECKING:
    from requests import Response

ATTEMPTS = 4
"""Connections that may break in one call before it gives up; one that brought nothing ends it at once."""
PAUSE_S = 0.5
_BLOCK = 2**14
"""Bytes read at once, and lost when a connection breaks in them."""


class Downloader:
    """Fetches one file over HTTP; pooch calls it with the address and a temporary name.

    What has come is kept beside the result as `NAME.part`, with the validators of the server (ETag, Last-Modified) in
    `NAME.part.json`. The next call asks for the rest with Range and If-Range, so that the parts of two versions of a
    file are never put together. A file that turns out not to be the published one is removed.
    """

    def __init__(self, timeout_s: float, on_bytes: Callable[[str, int, int | None], None]) -> None:
        """Args: timeout_s, seconds without a byte; on_bytes, called with name, bytes so far, size where known."""
        self.timeout_s = timeout_s
        self.on_bytes = on_bytes

    def fetch(self, url: str, checksum: str, path: Path) -> Path:
        """Return `path`, downloaded and checked, or found there with the right checksum.

        Args:
            url: Address.
            checksum: ALGORITHM:DIGEST, as pooch takes it.
            path: Where it shall be.

        Raises:
            DataError: It cannot be had, or is another file.
        """
        import pooch

        pooch.get_logger().setLevel(logging.WARNING)
        self._part = path.with_name(f"{path.name}.part")
        self._state = path.with_name(f"{path.name}.part.json")
        self._name = path.name
        try:
            pooch.retrieve(url, checksum, fname=path.name, path=path.parent, downloader=self)
        except ValueError as error:  # pooch: another hash
            if "does not match the known hash" not in str(error):
                raise
            raise DataError(
                f"{url}: what came is not the published file (its checksum is not {checksum}); it was removed. "
                "Try again, or another source with --mirror"
            ) from error
        return path

    def __call__(self, url: str, output_file: Any, _pooch: object) -> None:
        """Fetch the file, or the rest of it, and move it to `output_file`."""
        import requests

        for attempt in range(1, ATTEMPTS + 1):
            before = self._done
            try:
                self._continue(url)
                break
            except requests.RequestException as error:
                if self._done == before or attempt == ATTEMPTS:
                    raise DataError(self._failed(url, error)) from error
            time.sleep(PAUSE_S)
        self._state.unlink(missing_ok=True)
        self._part.replace(output_file)

    @property
    def _done(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _continue(self, url: str) -> None:
        """Ask for what is missing and append it."""
        import requests

        done, validator = self._done, self._validator(url)
        headers = {"Accept-Encoding": "identity"}  # the file's own bytes
        if done and validator:
            headers |= {"Range": f"bytes={done}-", "If-Range": validator}
        with requests.get(url, headers=headers, stream=True, timeout=self.timeout_s) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable and done:
                self._part.unlink()  # longer than the file: begin again
                raise requests.ConnectionError("the part that was there is no part of this file")
            if not response.ok:
                raise DataError(f"{url}: the server answers {response.status_code} {response.reason}")
            begin, total = _range(response)
            if begin not in {0, done}:
                raise DataError(f"{url}: the server sends from byte {begin}, asked was from byte {done}")
            if begin == 0:
                self._remember(url, response)
            self._append(response, begin, total)

    def _append(self, response: Response, begin: int, total: int | None) -> None:
        import requests

        done, most = begin, MOST_BYTES if total is None else total
        with self._part.open("ab" if begin else "wb") as file:
            for block in response.iter_content(_BLOCK):
                file.write(block)
                done += len(block)
                if done > most:
                    self._part.unlink()
                    raise DataError(f"{response.url}: sends more than {most:,} bytes; it is no published file")
                self.on_bytes(self._name, done, total)
        if total is not None and done < total:
            raise requests.ConnectionError(f"ended at byte {done} of {total}")

    def _validator(self, url: str) -> str | None:
        """What tells the server which version the part is of; None where that is not known."""
        try:
            state = json.loads(self._state.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        found = state.get("validator") if isinstance(state, dict) and state.get("url") == url else None
        return found if isinstance(found, str) else None

    def _remember(self, url: str, response: Response) -> None:
        etag, modified = response.headers.get("ETag"), response.headers.get("Last-Modified")
        strong = etag if etag and not etag.startswith("W/") else None
        self._part.unlink(missing_ok=True)
        write_text(self._state, json.dumps({"url": url, "validator": strong or modified}) + "\n")

    def _failed(self, url: str, error: Exception) -> str:
        import requests

        cause = getattr(error.args[0], "reason", error) if error.args else error
        if isinstance(error, requests.Timeout) or "timed out" in str(cause):
            reason = f"no byte for {self.timeout_s:g} s"
        elif isinstance(error, requests.exceptions.ChunkedEncodingError):
            reason = "the connection broke"
        else:
            reason = str(cause).rpartition(">: ")[2].rstrip(".")  # urllib3 names its object first
        kept = f"{self._done:,} bytes are kept; the same command continues" if self._done else "nothing is kept yet"
        return f"{url}: {reason}; {kept}"


def _range(response: Response) -> tuple[int, int | None]:
    """First byte and total size of what a response brings."""
    length = response.headers.get("Content-Length")
    if response.status_code == 206:
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", ""))
        if found is None:
            raise DataError(f"{response.url}: the server answers 206 without saying which bytes it sends")
        return int(found[1]), None if found[3] == "*" else int(found[3])
    return 0, None if length is None else int(length)
