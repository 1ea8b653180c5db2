"""Downloads that continue where they were interrupted: a downloader for pooch, which checks and names the result."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from spikescr.data.archives import MOST_BYTES
from spikescr.data.transfer import Answer, BrokenError, TooSlowError, Transfer
from spikescr.errors import DataError
from spikescr.files import write_text
from spikescr.quantities import one_line

ATTEMPTS = 4
"""Connections that may break in one call before it gives up; one that brought nothing ends it at once."""
PAUSE_S = 0.5

_NUMBER = "[0-9]{1,18}"
_CONTENT_RANGE = re.compile(f"bytes ({_NUMBER})-({_NUMBER})/({_NUMBER}|\\*)")
_VALIDATOR = re.compile(r'"[!#-~]{0,200}"|[A-Z][A-Za-z0-9,: ]{10,60} GMT')
"""A strong ETag, or a date (RFC 9110, 8.8.3 and 5.6.7)."""


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
                "Try again, or another mirror (--mirror)"
            ) from error
        return path

    def __call__(self, url: str, output_file: Any, _pooch: object) -> None:
        """Fetch the file, or the rest of it, and move it to `output_file`."""
        for attempt in range(1, ATTEMPTS + 1):
            before = self._done
            try:
                self._continue(url)
                break
            except TooSlowError as error:
                raise DataError(self._failed(url, error)) from error
            except BrokenError as error:
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
        done, validator = self._done, self._validator(url)
        headers = {"Accept-Encoding": "identity"}  # the file's own bytes
        if done and validator:
            headers |= {"Range": f"bytes={done}-", "If-Range": validator}
        with Transfer(url, headers, timeout_s=self.timeout_s) as transfer:
            answer = transfer.answer()
            if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and done:
                self._part.unlink()  # longer than the file: begin again
                raise BrokenError("the part that was there is no part of this file")
            if answer.status not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
                raise DataError(f"{url}: the server answers {answer.status} {one_line(answer.reason)}".rstrip())
            begin, total = _range(answer)
            if begin not in {0, done}:
                raise DataError(f"{url}: the server sends from byte {begin}, asked was from byte {done}")
            if begin == 0:
                self._remember(url, answer)
            self._append(transfer, begin, total)

    def _append(self, transfer: Transfer, begin: int, total: int | None) -> None:
        done, most = begin, MOST_BYTES if total is None else total
        with self._part.open("ab" if begin else "wb") as file:
            for block in transfer.blocks():
                file.write(block)
                done += len(block)
                if done > most:
                    self._part.unlink()
                    raise DataError(f"{transfer.url}: sends more than {most:,} bytes; it is no published file")
                self.on_bytes(self._name, done, total)
        if total is not None and done < total:
            raise BrokenError(f"ended at byte {done} of {total}")

    def _validator(self, url: str) -> str | None:
        """What tells the server which version the part is of; None where that is not known."""
        try:
            state = json.loads(self._state.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError, RecursionError):
            return None
        validator = state.get("validator") if isinstance(state, dict) and state.get("url") == url else None
        return validator if isinstance(validator, str) and _VALIDATOR.fullmatch(validator) else None

    def _remember(self, url: str, answer: Answer) -> None:
        # A weak ETag (W/) does not tell versions apart, and neither what is none, but would be sent back as a header.
        told = (answer.headers.get(name, "") for name in ("ETag", "Last-Modified"))
        validator = next((value for value in told if _VALIDATOR.fullmatch(value)), None)
        self._part.unlink(missing_ok=True)
        write_text(self._state, json.dumps({"url": url, "validator": validator}) + "\n")

    def _failed(self, url: str, error: Exception) -> str:
        kept = f"{self._done:,} bytes are kept; the same command continues" if self._done else "nothing is kept yet"
        return f"{url}: {one_line(str(error))}; {kept}"


def _range(answer: Answer) -> tuple[int, int | None]:
    """First byte and total size of what an answer brings.

    Raises:
        DataError: A header is nonsense.
    """
    if answer.status == HTTPStatus.PARTIAL_CONTENT:
        told = answer.headers.get("Content-Range", "")
        match = _CONTENT_RANGE.fullmatch(told)
        if match is None:
            raise DataError(
                f"{answer.url}: the server answers 206 without saying which bytes it sends "
                f"(Content-Range: {one_line(told) or 'none'}); try another mirror (--mirror)"
            )
        begin, end = int(match[1]), int(match[2])
        total = None if match[3] == "*" else int(match[3])
        if end < begin or (total is not None and end >= total):
            raise DataError(
                f"{answer.url}: the server sends bytes that cannot be (Content-Range: {one_line(told)}); "
                "try another mirror (--mirror)"
            )
        return begin, total
    if "Content-Length" not in answer.headers:
        return 0, None
    told = answer.headers["Content-Length"]
    if not re.fullmatch(_NUMBER, told):
        raise DataError(
            f"{answer.url}: the server tells no size that can be (Content-Length: {one_line(told)}); "
            "try another mirror (--mirror)"
        )
    return 0, int(told)
