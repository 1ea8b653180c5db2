"""A headless Chromium, driven over a pipe by its own protocol (DevTools): no port, no driver, no package.

https://chromedevtools.github.io/devtools-protocol/; messages are JSON, each ended by a zero byte.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
)  # fmt: skip
SECONDS = 60.0


def executable() -> str | None:
    """Chromium on this machine, if any."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """One page of a running Chromium. events: all that it reported, method and parameters."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, read
        self._buffer, self._number, self._session = b"", 0, ""
        self.events: list[tuple[str, dict[str, Any]]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command and waits for its answer."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session and not method.startswith(("Target.", "Browser.")):
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._number:
            self.events.append((answer["method"], answer["params"]))
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return dict(answer["result"])

    def _receive(self) -> dict[str, Any]:
        until = time.monotonic() + SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, until - time.monotonic()))
            content = os.read(self._read, 1 << 20) if ready else b""
            if not content:
                raise RuntimeError("Chromium has ended" if ready else f"no answer within {SECONDS:g} s")
            self._buffer += content
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))

    def open(self, path: Path, *, width: int = 1280, dark: bool = False, script: bool = True) -> None:
        """Loads a file at a width in CSS pixels; returns when it has loaded."""
        self.events.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.media("screen", dark=dark)
        self.call("Emulation.setScriptExecutionDisabled", value=not script)
        self.call("Page.navigate", url=path.as_uri())
        while not any(method == "Page.loadEventFired" for method, _ in self.events):
            answer = self._receive()
            self.events.append((answer["method"], answer["params"]))

    def media(self, kind: str, *, dark: bool = False) -> None:
        """Shows the page as on screen or as in print, in the light or the dark scheme."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=kind, features=[scheme])

    def run(self, script: str) -> Any:
        """The value of an expression in the page, as JSON carries it."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Presses and releases a key where the focus is."""
        known = {"Enter": (13, "\r"), "Space": (32, " "), "Tab": (9, "")}
        code, text = known[key]
        name = {"Space": " "}.get(key, key)
        common = {"key": name, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def picture(self, path: Path) -> None:
        """Writes a PNG of the whole page."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(found["data"]))

    def print_to(self, path: Path) -> None:
        """Writes the page as PDF, A4."""
        found = self.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, preferCSSPageSize=True)
        path.write_bytes(base64.b64decode(found["data"]))


@contextmanager
def chromium(path: str, profile: Path) -> Iterator[Browser]:
    """Starts Chromium with a new profile folder, and ends it."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    quiet = os.open(os.devnull, os.O_RDWR)
    actions = [
        *((os.POSIX_SPAWN_DUP2, quiet, stream) for stream in (0, 1, 2)),
        # Away from 3 and 4 first: one of them may be what the other is to be copied from.
        (os.POSIX_SPAWN_DUP2, theirs_in, 103),
        (os.POSIX_SPAWN_DUP2, theirs_out, 104),
        (os.POSIX_SPAWN_DUP2, 103, 3),
        (os.POSIX_SPAWN_DUP2, 104, 4),
        (os.POSIX_SPAWN_CLOSE, 103),
        (os.POSIX_SPAWN_CLOSE, 104),
    ]
    arguments = [path, *FLAGS, f"--user-data-dir={profile}"]
    process = os.posix_spawn(path, arguments, os.environ, file_actions=actions, setpgroup=0)
    for handle in (theirs_in, theirs_out, quiet):
        os.close(handle)
    try:
        yield Browser(ours_out, ours_in)
    finally:
        os.close(ours_out)
        os.close(ours_in)
        os.killpg(process, signal.SIGKILL)
        os.waitpid(process, 0)
