"""How much audio a file's header promises: libsndfile shortens a recording that was cut off without a word.

Sources: RIFF, RIFX (IBM and Microsoft, Multimedia Programming Interface 1.0), RF64 (EBU Tech 3306), Wave64 (Sony),
AIFF and AIFF-C (Apple), CAF (Apple, Core Audio Format 1.0), AU (Sun).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from spikescr.errors import DataError
from spikescr.sizes import require_memory

UNKNOWN = 0x7F00_0000
"""From here on a size that the file does not have means "not known": who writes into a pipe cannot go back to fill it
in and puts 0xFFFFFFFF (ffmpeg), 0x7FFFF000 (SoX, espeak), 0x7FFFFFFF, 0x80000000 (arecord), 0x7F000000 (SoX's AIFF) or
0 there. Meant as sizes of words they would be hours."""

_TO_THE_END = 2**64 - 1
"""The size of a CAF's last chunk, -1, where who wrote it could not go back."""

_WAVE64 = bytes.fromhex("f3acd3118cd100c04f8edb8a")
"""Follows the four letters of a chunk's name in Wave64."""


class Audio(NamedTuple):
    """Where a file's audio lies.

    Attributes:
        begin: Its first byte.
        promised: Bytes that the header promises.
        there: Bytes from `begin` to the end of the file.
    """

    begin: int
    promised: int
    there: int

    @property
    def cut_off(self) -> bool:
        """Whether the file ends before its audio does."""
        return self.there < self.promised < UNKNOWN


class _Chunk(NamedTuple):
    name: bytes
    begin: int
    size: int


def find_audio(file: BinaryIO) -> Audio | None:
    """Find the audio in a file of chunks, or an AU file; None in any other, which libsndfile is left to judge."""
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(40).ljust(40, b"\0")
    match head[:4], head[8:12]:
        case (b".snd" | b"dns.") as group, _:
            begin, promised = struct.unpack(">II" if group == b".snd" else "<II", head[4:12])
            return Audio(begin, promised, max(0, size - begin))
        case b"RIFF", b"WAVE":
            chunks = _chunks(file, 12, "<4sI")
        case (b"RIFX", b"WAVE") | (b"FORM", b"AIFF" | b"AIFC"):
            chunks = _chunks(file, 12, ">4sI")
        case b"RF64", b"WAVE":  # the chunk's own size is 0xFFFFFFFF
            chunks = (
                chunk._replace(size=struct.unpack("<Q", head[28:36])[0]) if chunk.name == b"data" else chunk
                for chunk in _chunks(file, 12, "<4sI")
            )
        case b"caff", _:
            chunks = _chunks(file, 8, ">4sQ", pad=1)
        case b"riff", _:
            chunks = _wave64_chunks(file)
        case _:
            return None
    for chunk in chunks:
        if chunk.name in {b"data", b"SSND"}:
            return Audio(chunk.begin, chunk.size, size - chunk.begin)
    return None


def with_length(file: BinaryIO, audio: Audio, path: Path) -> BinaryIO:
    """Give a WAV (or RF64) whose header says 0, as some speech services stream it, the length that it has.

    So too a CAF whose header says -1, "to the end of the file", which libsndfile takes for damage. What follows the
    header may also be chunks of text: then the recording is empty, and the file comes back.

    Args:
        file: Open for reading.
        audio: What `find_audio` found in it.
        path: Its name, for messages.

    Raises:
        DataError: It does not fit the memory.
    """
    file.seek(0)
    group = file.read(4)
    endless = group == b"caff" and audio.promised == _TO_THE_END
    if not endless and (audio.promised or not audio.there or group not in {b"RIFF", b"RIFX", b"RF64"}):
        return file
    require_memory(
        2 * audio.there, f"{path}: a recording without a length", "let 'ffmpeg -i in out.wav' give it one", DataError
    )
    if endless:
        content = _content(file)
        content[audio.begin - 8 : audio.begin] = struct.pack(">q", audio.there)
        return io.BytesIO(content)
    order = ">" if group == b"RIFX" else "<"
    end = audio.begin
    for chunk in _chunks(file, audio.begin, f"{order}4sI"):
        end = chunk.begin + chunk.size
        if not chunk.name.isascii() or end > audio.begin + audio.there:
            break
    if audio.begin < end <= audio.begin + audio.there <= end + 1:
        return file
    content = _content(file)
    if group == b"RF64":
        content[20:36] = struct.pack("<QQ", len(content) - 8, audio.there)
        return io.BytesIO(content)
    content[4:8] = struct.pack(f"{order}I", min(len(content) - 8, 2**32 - 1))
    content[audio.begin - 4 : audio.begin] = struct.pack(f"{order}I", min(audio.there, 2**32 - 1))
    return io.BytesIO(content)


def _content(file: BinaryIO) -> bytearray:
    file.seek(0)
    return bytearray(file.read())


def _chunks(file: BinaryIO, begin: int, form: str, *, pad: int = 2) -> Iterator[_Chunk]:
    file.seek(begin)
    length = struct.calcsize(form)
    while len(head := file.read(length)) == length:
        name, size = struct.unpack(form, head)
        begin = file.tell()
        yield _Chunk(name, begin, size)
        if size >= UNKNOWN and size > file.seek(0, 2):
            return
        file.seek(begin + size + size % pad)


def _wave64_chunks(file: BinaryIO) -> Iterator[_Chunk]:
    """Yield the chunks of Wave64: sizes count name and size too, and chunks are padded to 8 bytes."""
    begin = 40
    file.seek(begin)
    while len(head := file.read(24)) == 24 and head[4:16] == _WAVE64:
        (size,) = struct.unpack("<Q", head[16:])
        if size < 24:
            return
        yield _Chunk(head[:4], begin + 24, size - 24)
        if size > file.seek(0, 2):
            return
        begin += size + -size % 8
        file.seek(begin)
