"""Downloads from a local server that breaks, lies and crawls; archives that want to get out of their folder."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import logging
import socket
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from spikescr.data import archives, download, transfer
from spikescr.data.archives import unpack_one, unpack_tree, unpacked
from spikescr.data.download import Downloader
from spikescr.data.kinds import KINDS
from spikescr.data.published import PublishedFile, PublishedSet, fetch
from spikescr.errors import DataError, UsageError

CONTENT = bytes(range(256)) * 4000  # about 1 MB, unlike itself when shifted
BLOCK = 2**14  # what is read at once
CHECKSUM = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


@dataclass
class Server:
    """What the server does, and what it was asked.

    files: path -> content. cut: after how many bytes of an answer it hangs up, one entry per request, then never.
    stall: seconds of silence after the first half of an answer. ranges: whether it knows Range. etag: of all files.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cut: list[int] = field(default_factory=list)
    stall: float = 0.0
    ranges: bool = True
    etag: str = '"1"'
    announced: int | None = None
    requests: list[tuple[str, str | None, int]] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        content = self.files.get(handler.path)
        asked = handler.headers["Range"] if self.ranges else None
        if content is None:
            self.requests.append((handler.path, asked, 404))
            handler.send_error(404)
            return
        begin = 0
        if asked and handler.headers["If-Range"] == self.etag:
            begin = int(asked.removeprefix("bytes=").removesuffix("-"))
        if begin >= len(content) and begin:
            self.requests.append((handler.path, asked, 416))
            handler.send_error(416)
            return
        status = 206 if begin else 200
        self.requests.append((handler.path, asked, status))
        body = content[begin:]
        handler.send_response(status)
        handler.send_header("Content-Length", str(self.announced or len(body)))
        handler.send_header("ETag", self.etag)
        if begin:
            handler.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        handler.end_headers()
        end = self.cut.pop(0) if self.cut else len(body)
        with contextlib.suppress(ConnectionError):  # the client may have had enough
            half = end // 2
            handler.wfile.write(body[:half])
            handler.wfile.flush()
            time.sleep(self.stall)
            handler.wfile.write(body[half:end])


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server(files={"/f.bin": CONTENT})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        found.url = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE_S", 0.0)


def get(server: Server, folder: Path, *, checksum: str = CHECKSUM, timeout_s: float = 10) -> Path:
    return Downloader(timeout_s, lambda *_: None).fetch(f"{server.url}/f.bin", checksum, folder / "f.bin")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_is_fetched_once_and_progress_is_told(server: Server, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    for _ in range(2):
        Downloader(10, lambda *now: told.append(now)).fetch(f"{server.url}/f.bin", CHECKSUM, tmp_path / "f.bin")
    assert (tmp_path / "f.bin").read_bytes() == CONTENT
    assert names(tmp_path) == ["f.bin"]
    assert len(server.requests) == 1
    assert told[-1] == ("f.bin", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in told] == sorted({done for _, done, _ in told})


def test_broken_connections_are_taken_up_where_they_ended(server: Server, tmp_path: Path) -> None:
    server.cut = [20 * BLOCK, 10 * BLOCK]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert [(asked, status) for _, asked, status in server.requests] == [
        (None, 200),
        (f"bytes={20 * BLOCK}-", 206),
        (f"bytes={30 * BLOCK}-", 206),
    ]


def test_next_call_continues_an_interrupted_download(server: Server, tmp_path: Path) -> None:
    server.cut = [5 * BLOCK] * download.ATTEMPTS
    with pytest.raises(
        DataError, match=r"f\.bin: the connection broke; 327,680 bytes are kept; the same command continues$"
    ):
        get(server, tmp_path)
    assert names(tmp_path) == ["f.bin.part", "f.bin.part.json"]
    server.requests.clear()
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.requests == [("/f.bin", "bytes=327680-", 206)]
    assert names(tmp_path) == ["f.bin"]


def test_parts_of_two_versions_are_not_put_together(server: Server, tmp_path: Path) -> None:
    server.files["/f.bin"] = b"old " * 100_000
    server.cut = [5 * BLOCK, 0]
    with pytest.raises(DataError, match="81,920 bytes are kept"):
        get(server, tmp_path)
    server.files["/f.bin"], server.etag = CONTENT, '"2"'
    server.requests.clear()
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.requests == [("/f.bin", "bytes=81920-", 200)]


def test_server_that_knows_no_ranges_sends_it_all_again(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.cut = [20 * BLOCK]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert [status for *_, status in server.requests] == [200, 200]


def test_part_that_is_longer_than_the_file_is_begun_again(server: Server, tmp_path: Path) -> None:
    server.cut = [20 * BLOCK, 0]
    with pytest.raises(DataError, match="327,680 bytes are kept"):
        get(server, tmp_path)
    with (tmp_path / "f.bin.part").open("ab") as part:
        part.write(bytes(len(CONTENT)))
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_part_that_was_damaged_is_found_by_the_checksum_and_removed(server: Server, tmp_path: Path) -> None:
    server.cut = [20 * BLOCK, 0]
    with pytest.raises(DataError, match="327,680 bytes are kept"):
        get(server, tmp_path)
    part = tmp_path / "f.bin.part"
    part.write_bytes(b"x" + part.read_bytes()[1:])
    with pytest.raises(DataError, match="is not the published file"):
        get(server, tmp_path)
    assert names(tmp_path) == []
    assert get(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("damage", [CONTENT[:-1] + b"?", CONTENT[:-1], CONTENT + b"x", b""])
def test_other_content_is_refused_and_removed(server: Server, tmp_path: Path, damage: bytes) -> None:
    server.files["/f.bin"] = damage
    with pytest.raises(DataError, match=rf"f\.bin: what came is not the published file .*{CHECKSUM}.* \(--mirror\)$"):
        get(server, tmp_path)
    assert names(tmp_path) == []


def test_file_cut_short_for_ever_is_no_endless_loop(server: Server, tmp_path: Path) -> None:
    server.files["/f.bin"], server.announced = CONTENT[: 4 * BLOCK], 20 * BLOCK
    with pytest.raises(DataError, match=r"f\.bin: .*kept"):
        get(server, tmp_path)
    assert len(server.requests) <= download.ATTEMPTS


def test_silent_server_is_given_up(server: Server, tmp_path: Path) -> None:
    server.stall, server.cut = 1.0, [0] * 10
    begin = time.monotonic()
    with pytest.raises(DataError, match=r"f\.bin: no byte for 0\.3 s; nothing is kept yet$"):
        get(server, tmp_path, timeout_s=0.3)
    assert time.monotonic() - begin < 5


def test_server_that_falls_silent_is_asked_for_the_rest(server: Server, tmp_path: Path) -> None:
    server.stall = 0.6
    with pytest.raises(DataError, match=r"f\.bin: no byte for 0\.3 s; [0-9,]+ bytes are kept"):
        get(server, tmp_path, timeout_s=0.3)
    server.stall = 0.0
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_missing_file_and_missing_server_are_one_line(server: Server, tmp_path: Path) -> None:
    server.files.clear()
    with pytest.raises(DataError, match=r"^http://127\S+/f\.bin: the server answers 404 Not Found$"):
        get(server, tmp_path)
    assert len(server.requests) == 1
    with pytest.raises(DataError, match=r"^http://127\.0\.0\.1:1/f: .*Connection refused; nothing is kept yet$"):
        Downloader(5, lambda *_: None).fetch("http://127.0.0.1:1/f", CHECKSUM, tmp_path / "f")


def test_more_than_any_data_set_is_refused(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_range", lambda response: (0, None))  # a server that tells no size
    monkeypatch.setattr(download, "MOST_BYTES", 500_000)
    with pytest.raises(DataError, match="sends more than 500,000 bytes"):
        get(server, tmp_path)
    assert "f.bin.part" not in names(tmp_path)


class Script(NamedTuple):
    """What a server of bytes says: a beginning, and then a piece of its own every `every_s` seconds."""

    beginning: bytes
    drip: bytes = b""
    every_s: float = 0.1


@pytest.fixture
def says() -> Iterator[Callable[..., str]]:
    """Start a server that answers every request with a script, or one script after the other; gives its address."""
    ended = threading.Event()
    running = []

    def start(*scripts: Script) -> str:
        left = list(scripts)
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(0.1)

        def answer(connection: socket.socket, script: Script) -> None:
            with connection, contextlib.suppress(OSError):
                connection.recv(2**16)
                connection.sendall(script.beginning)
                while script.drip and not ended.wait(script.every_s):
                    connection.sendall(script.drip)

        def serve() -> None:
            with listener:
                while not ended.is_set():
                    with contextlib.suppress(TimeoutError):
                        connection, _ = listener.accept()
                        script = left.pop(0) if len(left) > 1 else left[0]
                        threading.Thread(target=answer, args=(connection, script), daemon=True).start()

        thread = threading.Thread(target=serve)
        thread.start()
        running.append(thread)
        return f"http://127.0.0.1:{listener.getsockname()[1]}/f.bin"

    yield start
    ended.set()
    for thread in running:
        thread.join()


HEAD = b"HTTP/1.1 200 OK\r\n"
DRIPS = {
    "body": (
        Script(HEAD + b"Content-Length: 1000000\r\n\r\nabc", b"xy"),
        r"\d+ bytes in 0\.8 s; 1,000 a second are the",
    ),
    "length of a chunk": (
        Script(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
        r"0 bytes in 0\.8 s; 1,000 a second",
    ),
    "headers": (Script(HEAD + b"X: ", b"xy"), r"no whole answer for 1\.6 s; nothing is kept yet$"),
    "first line": (Script(b"HTTP/1.1 200 ", b"xy"), r"no whole answer for 1\.6 s; nothing is kept yet$"),
    "continue": (Script(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), r"no whole answer for 1\.6 s; nothing is kept yet$"),
}


@pytest.mark.parametrize("where", DRIPS)
def test_server_that_drips_is_given_up(says: Callable[..., str], tmp_path: Path, where: str) -> None:
    script, message = DRIPS[where]
    begin = time.monotonic()
    with pytest.raises(DataError, match=rf"^http://127\S+/f\.bin: {message}"):
        Downloader(0.4, lambda *_: None).fetch(says(script), CHECKSUM, tmp_path / "f.bin")
    assert time.monotonic() - begin < 10


def test_download_has_a_deadline(says: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "LONGEST_S", 1.8)
    url = says(Script(HEAD + b"Content-Length: 10000000\r\n\r\n", b"x" * 5000))
    with pytest.raises(DataError, match=r"f\.bin: not done after 0\.0005 h; [0-9,]+ bytes are kept; the same command"):
        Downloader(0.4, lambda *_: None).fetch(url, CHECKSUM, tmp_path / "f.bin")


NONSENSE = {
    "size in words": (HEAD + b"Content-Length: many\r\n\r\nx", r"tells no size that can be \(Content-Length: many\)"),
    "negative size": (HEAD + b"Content-Length: -5\r\n\r\nx", r"tells no size that can be \(Content-Length: -5\)"),
    "size of 5000 digits": (HEAD + b"Content-Length: %s\r\n\r\nx" % (b"9" * 5000), r"\(Content-Length: 9{200}\.\.\.\)"),
    "range in words": (
        b"HTTP/1.1 206 Partial\r\nContent-Range: bytes all\r\n\r\nx",
        r"206 without saying which bytes it sends \(Content-Range: bytes all\); try another mirror \(--mirror\)$",
    ),
    "no range": (b"HTTP/1.1 206 Partial\r\n\r\nx", r"without saying which bytes it sends \(Content-Range: none\)"),
    "range backwards": (
        b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-9/5\r\n\r\nx",
        r"sends bytes that cannot be \(Content-Range: bytes 0-9/5\)",
    ),
    "range of 5000 digits": (
        b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-%s/*\r\n\r\nx" % (b"9" * 5000),
        "without saying which bytes it sends",
    ),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", "the server answers 204 No Content"),
    "not changed": (b"HTTP/1.1 304 \x1b[31m\r\n\r\n", r"the server answers 304 '\\x1b\[31m'"),
    "status in words": (b"HTTP/1.1 fine OK\r\n\r\n", "nothing is kept yet"),
    "no HTTP": (b"220 ftp.example ready\r\n", "nothing is kept yet"),
    "redirected to a file": (b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n", "nothing is kept yet"),
    "redirected to nowhere": (b"HTTP/1.1 302 Found\r\nLocation: http://[\r\n\r\n", "nothing is kept yet"),
    "redirected to no host": (
        b"HTTP/1.1 302 Found\r\nLocation: http://*\xff.%s/\r\n\r\n" % (b"a" * 99),
        "nothing is kept",
    ),
    "redirected for ever": (b"HTTP/1.1 302 Found\r\nLocation: /again\r\n\r\n", "redirects; nothing is kept yet"),
    "chunk of no length": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc",
        "the connection broke; nothing is kept",
    ),
    "too long a header": (HEAD + b"X: %s\r\n\r\n" % (b"x" * 70_000), "nothing is kept yet"),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_in_an_answer_is_one_line(says: Callable[..., str], tmp_path: Path, what: str) -> None:
    answer, message = NONSENSE[what]
    url = says(Script(answer))
    with pytest.raises(DataError, match=message) as caught:
        Downloader(5, lambda *_: None).fetch(url, CHECKSUM, tmp_path / "f.bin")
    assert str(caught.value).startswith(f"{url}: ")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("tag", [b"\x1b[31m", b'W/"1"', b'"a\xffb"', b"x" * 2000, b'"a\tb"'])
def test_version_that_cannot_be_asked_for_is_not_kept(says: Callable[..., str], tmp_path: Path, tag: bytes) -> None:
    url = says(Script(HEAD + b"ETag: %s\r\nContent-Length: %d\r\n\r\n%s" % (tag, len(CONTENT), CONTENT[:50_000])))
    with pytest.raises(DataError, match=r"[0-9,]+ bytes are kept"):
        Downloader(5, lambda *_: None).fetch(url, CHECKSUM, tmp_path / "f.bin")
    assert json.loads((tmp_path / "f.bin.part.json").read_text()) == {"url": url, "validator": None}


@pytest.mark.parametrize("state", ["[" * 100_000, "{}", "5", '{"validator": "\\r\\nX: y"}', "\xff"])
def test_damaged_memory_of_a_download_begins_again(server: Server, tmp_path: Path, state: str) -> None:
    (tmp_path / "f.bin.part").write_bytes(b"old")
    (tmp_path / "f.bin.part.json").write_text(state, encoding="latin-1")
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked, _ in server.requests] == [None]


def zipped(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def tarred(*members: tarfile.TarInfo | tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member, io.BytesIO(bytes(member.size)))
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return buffer.getvalue()


def serve(server: Server, files: dict[str, bytes]) -> PublishedSet:
    """A published set of these files."""
    server.files = {f"/data/{name}": content for name, content in files.items()}
    listed = tuple(PublishedFile(name, f"md5:{hashlib.md5(content).hexdigest()}") for name, content in files.items())
    return PublishedSet(f"{server.url}/data", listed, {}, 2, 0.0, "CC0")


def test_zip_files_are_unpacked_side_by_side_and_nothing_is_left(server: Server, tmp_path: Path) -> None:
    published = serve(server, {f"shd_{s}.h5.zip": zipped(f"shd_{s}.h5", s.encode() * 1000) for s in ("train", "test")})
    fetch("shd", tmp_path / "a" / "shd", published)
    assert {p.name: p.read_bytes() for p in (tmp_path / "a" / "shd").iterdir()} == {
        "shd_train.h5": b"train" * 1000,
        "shd_test.h5": b"test" * 1000,
    }
    assert names(tmp_path / "a") == ["shd"]
    server.requests.clear()
    fetch("shd", tmp_path / "a" / "shd", published)
    assert server.requests == []


def test_interrupted_set_keeps_what_is_complete(server: Server, tmp_path: Path) -> None:
    published = serve(server, {f"shd_{s}.h5.zip": zipped(f"shd_{s}.h5", s.encode() * 1000) for s in ("train", "test")})
    kept = server.files.pop("/data/shd_test.h5.zip")
    with pytest.raises(DataError, match="404"):
        fetch("shd", tmp_path / "shd", published)
    server.files["/data/shd_test.h5.zip"] = kept
    server.requests.clear()
    fetch("shd", tmp_path / "shd", published)
    assert [path for path, *_ in server.requests] == ["/data/shd_test.h5.zip"]
    assert names(tmp_path) == ["shd"]


def test_mirror_takes_the_publishers_place(server: Server, tmp_path: Path) -> None:
    published = serve(server, {"shd_train.h5.zip": zipped("shd_train.h5", b"x")})
    away = PublishedSet("http://127.0.0.1:1", published.files, {}, 2, 0.0, "CC0")
    fetch("shd", tmp_path / "shd", away, mirror=f"{server.url}/data/")
    assert names(tmp_path / "shd") == ["shd_train.h5"]
    with pytest.raises(UsageError, match="must begin with https:// or http://"):
        fetch("shd", tmp_path / "shd", away, mirror="file:///etc")


def test_tree_appears_whole(server: Server, tmp_path: Path) -> None:
    published = serve(server, {"v.tar.gz": tarred(("./yes/1.wav", b"yes"), ("./testing_list.txt", b"yes/1.wav\n"))})
    (tmp_path / "gsc").mkdir()
    fetch("gsc", tmp_path / "gsc", published)
    assert (tmp_path / "gsc/yes/1.wav").read_bytes() == b"yes"
    assert names(tmp_path) == ["gsc"]
    fetch("gsc", tmp_path / "gsc", published)
    assert len(server.requests) == 1
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("")
    with pytest.raises(UsageError, match="full is not empty and holds no Speech Commands; choose another folder"):
        fetch("gsc", tmp_path / "full", published)


def test_little_space_is_told(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = serve(server, {"shd_train.h5.zip": zipped("shd_train.h5", b"x")})
    monkeypatch.setattr("spikescr.data.published.free_bytes", lambda _: -1e9)
    with caplog.at_level(logging.WARNING):
        fetch("shd", tmp_path / "shd", published)
    assert "-1.0 GB free; shd takes about 0 GB" in caplog.text


def test_folder_that_cannot_be_written_is_one_line(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file.*: cannot be written: "):
        fetch("shd", tmp_path / "file" / "shd", serve(server, {"shd_train.h5.zip": b""}))


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


HOSTILE = {
    "parent": (("../evil", b"x"), "leads out of the folder"),
    "parent inside": (("yes/../../evil", b"x"), "leads out of the folder"),
    "absolute": (("/tmp/evil", b"x"), "leads out of the folder"),
    "symbolic link": (special("yes/l", tarfile.SYMTYPE, "../../evil"), "is no file and no folder"),
    "link to a folder": (special("yes", tarfile.SYMTYPE, "/etc"), "is no file and no folder"),
    "hard link": (special("yes/l", tarfile.LNKTYPE, "/etc/passwd"), "is no file and no folder"),
    "device": (special("yes/d", tarfile.CHRTYPE), "is no file and no folder"),
    "fifo": (special("yes/f", tarfile.FIFOTYPE), "is no file and no folder"),
}


@pytest.mark.parametrize(("member", "message"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_members_are_refused_and_nothing_is_unpacked(
    tmp_path: Path, member: tarfile.TarInfo | tuple[str, bytes], message: str
) -> None:
    packed = tmp_path / "inner" / "v.tar.gz"
    packed.parent.mkdir()
    packed.write_bytes(tarred(("yes/1.wav", b"fine"), member))
    with pytest.raises(DataError, match=rf"v\.tar\.gz: .* {message}; nothing was unpacked$"):
        unpack_tree(packed, tmp_path / "inner" / "gsc")
    assert names(tmp_path / "inner") == ["v.tar.gz"]
    assert names(tmp_path) == ["inner"]


def test_bombs_are_stopped(tmp_path: Path) -> None:
    bomb = bytes(3_000_000)
    (tmp_path / "v.tar.gz").write_bytes(tarred(("yes/1.wav", bomb)))
    with pytest.raises(DataError, match="unpacks to more than"):
        unpack_tree(tmp_path / "v.tar.gz", tmp_path / "gsc", most=2_000_000)
    (tmp_path / "a.h5.zip").write_bytes(zipped("a.h5", bomb))
    (tmp_path / "a.h5.gz").write_bytes(gzip.compress(bomb))
    for suffix in ("zip", "gz"):
        with pytest.raises(DataError, match="unpacks to more than"):
            unpack_one(tmp_path / f"a.h5.{suffix}", tmp_path / "a.h5", most=2_000_000)
    assert names(tmp_path) == ["a.h5.gz", "a.h5.zip", "v.tar.gz"]


def header(kind: bytes, size: int) -> bytes:
    """A header of a tar file that promises so many bytes."""
    info = special("././@LongLink", kind)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_name_of_6_gigabytes_is_not_read(tmp_path: Path, kind: bytes) -> None:
    (tmp_path / "v.tar.gz").write_bytes(gzip.compress(header(kind, 6 * 10**9) + bytes(10**6)))
    message = (
        r"v\.tar\.gz: damaged or cut short \(a header that says it has 6,000,0\d\d,\d\d\d bytes\); download it again$"
    )
    with pytest.raises(DataError, match=message):
        unpack_tree(tmp_path / "v.tar.gz", tmp_path / "gsc")
    assert names(tmp_path) == ["v.tar.gz"]


def test_negative_size_does_not_buy_room_for_others(tmp_path: Path) -> None:
    negative = special("yes/0.wav", tarfile.REGTYPE)
    negative.size = -(10**12)
    content = negative.tobuf(tarfile.GNU_FORMAT) + tarred_plain("yes/1.wav", bytes(3_000_000))
    (tmp_path / "v.tar.gz").write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match=r"v\.tar\.gz: "):
        unpack_tree(tmp_path / "v.tar.gz", tmp_path / "gsc", most=2_000_000)
    assert names(tmp_path) == ["v.tar.gz"]


def tarred_plain(name: str, content: bytes) -> bytes:
    return gzip.decompress(tarred((name, content)))


def test_more_than_any_compression_of_data_is_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_SMALL", 100_000)
    bomb = bytes(3_000_000)
    (tmp_path / "v.tar.gz").write_bytes(tarred(("yes/1.wav", bomb)))
    (tmp_path / "a.h5.zip").write_bytes(zipped("a.h5", bomb))
    with pytest.raises(DataError, match="unpacks to more than"):
        unpack_tree(tmp_path / "v.tar.gz", tmp_path / "gsc")
    with pytest.raises(DataError, match="unpacks to more than"):
        unpack_one(tmp_path / "a.h5.zip", tmp_path / "a.h5")
    monkeypatch.setattr(archives, "_SMALL", 10**7)
    monkeypatch.setattr(archives, "free_bytes", lambda _: 2_000_000)
    with pytest.raises(DataError, match=r"unpacks to more than 0\.00186 GiB; .* or the disk is full"):
        unpack_one(tmp_path / "a.h5.zip", tmp_path / "a.h5")
    assert names(tmp_path) == ["a.h5.zip", "v.tar.gz"]


@pytest.mark.parametrize("inside", ["../a.h5", "/a.h5", "b.h5", "x/a.h5"])
def test_zip_with_another_file_is_refused(tmp_path: Path, inside: str) -> None:
    (tmp_path / "a.h5.zip").write_bytes(zipped(inside, b"x"))
    with pytest.raises(DataError, match=r"a\.h5\.zip: must hold a\.h5 alone, holds "):
        unpack_one(tmp_path / "a.h5.zip", tmp_path / "a.h5")
    assert names(tmp_path) == ["a.h5.zip"]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut short": lambda content: content[: len(content) // 2],
    "flipped": lambda content: content[:60] + bytes(byte ^ 0xFF for byte in content[60:90]) + content[90:],
    "empty": lambda _: b"",
    "something else": lambda _: b"<html>404</html>" * 100,
}


@pytest.mark.parametrize("kind", ["gz", "zip", "tar"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_archives_are_named_and_leave_nothing(tmp_path: Path, kind: str, damage: str) -> None:
    content = hashlib.sha512(b"0").digest() * 10 + bytes(i * i % 251 for i in range(20_000))
    packed = {"gz": gzip.compress(content), "zip": zipped("a.h5", content), "tar": tarred(("yes/1.wav", content))}[kind]
    path = tmp_path / {"gz": "a.h5.gz", "zip": "a.h5.zip", "tar": "v.tar.gz"}[kind]
    path.write_bytes(DAMAGES[damage](packed))
    with pytest.raises(DataError, match=rf"{path.name}: (damaged or cut short|must hold)"):
        unpack_tree(path, tmp_path / "gsc") if kind == "tar" else unpack_one(path, tmp_path / "a.h5")
    assert names(tmp_path) == [path.name]


def test_packed_file_is_unpacked_into_the_cache_once_and_again_when_it_changes(tmp_path: Path) -> None:
    packed = tmp_path / "a.h5.gz"
    packed.write_bytes(gzip.compress(b"one"))
    first = unpacked(packed, "a.h5", tmp_path / "cache")
    assert first.read_bytes() == b"one"
    stamp = first.stat().st_mtime_ns
    assert unpacked(packed, "a.h5", tmp_path / "cache").stat().st_mtime_ns == stamp
    packed.write_bytes(gzip.compress(b"other"))
    assert unpacked(packed, "a.h5", tmp_path / "cache").read_bytes() == b"other"


def test_what_is_known_of_the_published_sets() -> None:
    for name in ("shd", "ssc", "gsc"):
        published = KINDS[name].published
        assert published is not None
        assert published.base.startswith("https://")
        for file in published.files:
            algorithm, _, digest = file.checksum.partition(":")
            assert len(bytes.fromhex(digest)) == hashlib.new(algorithm).digest_size
        assert sum(published.recordings.values()) == {"shd": 10420, "ssc": 105829, "gsc": 105829}[name]
