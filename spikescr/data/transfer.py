"""One HTTP request that ends in time, whatever the server does.

A time-out of a socket begins anew with each byte: a server that sends two bytes a second, in its headers or between the
lines that say how long the next chunk is, would be waited for for ever. So a thread of its own reads, and who waits for
it gives up where the answer does not begin in time, too little comes, or all of it takes too long.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

LEAST_RATE = 1000
"""Bytes per second, averaged over twice the time-out; a telephone modem has five times as many."""
ANSWER = 4
"""Time-outs after which an answer must have begun: its address looked up, connected, redirected, headers read."""
LONGEST_S = 24 * 3600.0
"""Deadline of the whole."""
_BLOCK = 2**16
"""Bytes read at once, at most; what has come is handed on at once."""


class BrokenError(Exception):
    """The connection was not made, or broke; asking again may help."""


class TooSlowError(Exception):
    """The server was given up; asking again at once would not help."""


@dataclass(frozen=True)
class Answer:
    """The head of an answer.

    Attributes:
        url: Where it came from in the end.
        status: HTTP's number.
        reason: HTTP's words.
        headers: Names are found in any case.
    """

    url: str
    status: int
    reason: str
    headers: Mapping[str, str]


class Transfer:
    """A GET request; a context manager."""

    def __init__(self, url: str, headers: Mapping[str, str], *, timeout_s: float) -> None:
        """Ask.

        Args:
            url: Address.
            headers: Of the request.
            timeout_s: Seconds without a byte.
        """
        self.url = url
        self.timeout_s = timeout_s
        self._headers = dict(headers)
        self._arrived: queue.Queue[Answer | bytes | Exception | None] = queue.Queue(maxsize=64)
        self._given_up = threading.Event()
        self._begin = time.monotonic()
        # A daemon: where a server drips for ever, the thread that waits for it must not keep the process alive.
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._given_up.set()

    def answer(self) -> Answer:
        """Wait for the head of the answer.

        Raises:
            BrokenError: There is no connection.
            TooSlowError: It does not come in time.
        """
        seconds = ANSWER * self.timeout_s
        try:
            first = self._arrived.get(timeout=seconds)
        except queue.Empty as error:
            raise TooSlowError(f"no whole answer for {seconds:g} s") from error
        if isinstance(first, Exception):
            raise first
        assert isinstance(first, Answer)
        return first

    def blocks(self) -> Iterator[bytes]:
        """Yield the content as it comes.

        Raises:
            BrokenError: The connection broke.
            TooSlowError: Less than `LEAST_RATE` came, or it is not done after `LONGEST_S`.
        """
        window_s = 2 * self.timeout_s
        begin, came = time.monotonic(), 0
        while True:
            now = time.monotonic()
            if now - self._begin > LONGEST_S:
                raise TooSlowError(f"not done after {LONGEST_S / 3600:g} h")
            if now - begin >= window_s:
                if came < LEAST_RATE * window_s:
                    raise TooSlowError(f"{came:,} bytes in {window_s:g} s; {LEAST_RATE:,} a second are the least")
                begin, came = now, 0
            try:
                block = self._arrived.get(timeout=max(0.0, begin + window_s - now))
            except queue.Empty:
                continue
            if block is None:
                return
            if isinstance(block, Exception):
                raise block
            assert isinstance(block, bytes)
            came += len(block)
            yield block

    def _read(self) -> None:
        """Run in the thread."""
        import http.client

        import requests
        import urllib3

        # UnicodeError, ValueError: a redirection to what is no address, headers that are no text.
        expected = (
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            http.client.HTTPException,
            OSError,
            ValueError,
        )
        try:
            with requests.get(self.url, headers=self._headers, stream=True, timeout=self.timeout_s) as response:
                self._hand_on(Answer(response.url, response.status_code, response.reason or "", response.headers))
                while not self._given_up.is_set() and (block := response.raw.read1(_BLOCK, decode_content=False)):
                    self._hand_on(block)
        except expected as error:
            self._hand_on(BrokenError(self._reason(error)))
        except Exception as error:  # a fault of ours: who waits shall hear of it
            self._hand_on(error)
        else:
            self._hand_on(None)

    def _hand_on(self, arrived: Answer | bytes | Exception | None) -> None:
        while not self._given_up.is_set():
            try:
                self._arrived.put(arrived, timeout=0.2)
                return
            except queue.Full:
                continue

    def _reason(self, error: Exception) -> str:
        import requests
        import urllib3

        cause = getattr(error.args[0], "reason", error) if error.args else error
        if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError) or "timed out" in str(cause):
            return f"no byte for {self.timeout_s:g} s"
        if isinstance(error, urllib3.exceptions.ProtocolError | requests.exceptions.ChunkedEncodingError):
            return "the connection broke"
        text = str(cause).rpartition(">: ")[2]  # urllib3 names its object first
        return " ".join(text.split()).rstrip(".") or type(cause).__name__
