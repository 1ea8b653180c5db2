"""Sound that comes bit by bit: a file, a pipe (raw samples, or WAV as `arecord` writes it), the microphone."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from spikescr.data.audio import Waveform, read_rate, stream_recording
from spikescr.errors import DataError, UsageError
from spikescr.extras import naming_extras

PIPE = "-"
MICROPHONE = "mic"
FORMATS = {
    "u8": ("u1", 1),
    "s16le": ("<i2", 2),
    "s16be": (">i2", 2),
    "s24le": ("<i4", 3),
    "s32le": ("<i4", 4),
    "s32be": (">i4", 4),
    "f32le": ("<f4", 4),
    "f32be": (">f4", 4),
}
"""Raw samples, named as ffmpeg does -> their type in NumPy once they are as wide, and their bytes."""
_AT_ONCE = 2**16
"""Bytes of a pipe that are taken at once, if so many are there."""
_LARGEST_CHUNK = 2**20
"""Of a WAV's chunks before the sound; what claims more is none."""
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE


@dataclass(frozen=True)
class Stream:
    """Sound as it comes.

    Attributes:
        name: What it is, for people.
        rate: Hz.
        blocks: One channel, full scale = 1, in pieces of any length; ends with the stream.
        live: Whether it comes no faster than it is spoken.
        lost: Tells how often samples were lost because nobody fetched them in time.
    """

    name: str
    rate: int
    blocks: Iterator[Waveform]
    live: bool = False
    lost: Callable[[], int] = lambda: 0


def open_file(path: Path) -> Stream:
    """Open a recording, of any format that libsndfile reads.

    Raises:
        DataError: It is missing or no recording; of a damaged one when the damage is reached.
    """
    return Stream(str(path), read_rate(path), stream_recording(path))


def open_pipe(pipe: BinaryIO, *, rate: int, form: str = "s16le", channels: int = 1) -> Stream:
    """Take sound from a pipe; where it begins like a WAV file, that says what it holds.

    Args:
        pipe: Open for reading.
        rate: Of raw samples, Hz.
        form: Of raw samples, a name in `FORMATS`.
        channels: Of raw samples, one after the other at each time; they are averaged.

    Raises:
        DataError: A WAV header is damaged, or tells of samples that are none of `FORMATS`; while it is read: samples
            are NaN or infinite, or the stream ends within one.
    """
    if form not in FORMATS:
        raise UsageError(f"format {form!r} (--format): choose one of {', '.join(FORMATS)}")
    if rate < 1 or channels < 1:
        raise UsageError(f"rate and channels must be at least 1. Got {rate} and {channels}")
    head = _read(pipe, 4)
    if head == b"RIFF":
        rate, form, channels, head = *_read_header(pipe), b""
    name = f"standard input ({form}, {rate:,} Hz, {channels} channel{'s' * (channels > 1)})"
    return Stream(name, rate, _samples(pipe, head, form, channels), live=True)


def open_microphone(*, rate: int, device: str | None = None) -> Stream:
    """Listen to the microphone, through PortAudio.

    Args:
        rate: Hz; PortAudio resamples where the microphone has another.
        device: Number or part of the name of an input device; None: the system's default.

    Raises:
        UsageError: `sounddevice` is not installed, PortAudio is not, or there is no such microphone.
    """
    with naming_extras("the microphone"):
        try:
            import sounddevice
        except OSError as error:
            raise UsageError(
                f"the microphone needs PortAudio, which is not there ({error}): apt install libportaudio2, or the like"
            ) from error
    number = int(device) if device is not None and device.isdecimal() else device
    try:
        stream = sounddevice.InputStream(samplerate=rate, channels=1, device=number, dtype="float32")
    except (sounddevice.PortAudioError, ValueError) as error:
        raise UsageError(
            f"no microphone{'' if device is None else f' {device!r}'} to listen to ({error}); "
            "give a file, or a pipe: arecord -t raw -f S16_LE -r 16000 | spikescr listen RUN -"
        ) from error
    lost = 0

    def blocks() -> Iterator[Waveform]:
        nonlocal lost
        with stream:
            while True:
                block, overflowed = stream.read(max(1, rate // 20))
                lost += bool(overflowed)
                yield np.asarray(block[:, 0], dtype=np.float64)

    return Stream("the microphone" if device is None else device, rate, blocks(), live=True, lost=lambda: lost)


def _samples(pipe: BinaryIO, head: bytes, form: str, channels: int) -> Iterator[Waveform]:
    """Yield raw samples as they come."""
    kind, size = FORMATS[form]
    frame, rest, done = size * channels, head, 0
    read = getattr(pipe, "read1", pipe.read)  # read1 waits for something, read for all
    while new := read(_AT_ONCE):
        data = rest + new
        whole = len(data) // frame * frame
        data, rest = data[:whole], data[whole:]
        if not data:
            continue
        values = _decoded(data, form, kind).reshape(-1, channels)
        if not (np.abs(values) <= np.finfo(np.float32).max).all():
            raise DataError(f"standard input: NaN or infinite samples from sample {done:,} on; is it {form}?")
        done += len(values)
        yield values.mean(axis=1)
    if rest:
        raise DataError(
            f"standard input: ends within a sample ({len(rest)} of {frame} bytes after {done:,} samples); is it "
            f"{form}, {channels} channel(s)?"
        )


def _decoded(data: bytes, form: str, kind: str) -> Waveform:
    if form == "s24le":
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return wide.view(kind)[:, 0] / 2.0**31
    values = np.frombuffer(data, kind).astype(np.float64)
    if form == "u8":
        return (values - 128) / 128
    return values if form.startswith("f") else values / 2.0 ** (8 * int(kind[-1]) - 1)


def _read_header(pipe: BinaryIO) -> tuple[int, str, int]:
    """Read a WAV's header up to its first sample, sizes of a stream of unknown length included.

    Returns:
        Rate, name of the format, channels.
    """
    _, wave = struct.unpack("<I4s", _need(pipe, 8))
    told = None
    while wave == b"WAVE":
        name, size = struct.unpack("<4sI", _need(pipe, 8))
        if name == b"data":
            if told is None:
                break
            return told
        if size > _LARGEST_CHUNK:
            break
        content = _need(pipe, size + size % 2)
        if name == b"fmt ":
            told = _format(content)
    raise DataError("standard input: begins like a WAV file, but has no format and sound where they belong")


def _format(content: bytes) -> tuple[int, str, int]:
    if len(content) < 16:
        raise DataError(f"standard input: a WAV header whose format has {len(content)} bytes; expected 16 at least")
    tag, channels, rate, _, _, bits = struct.unpack("<HHIIHH", content[:16])
    if tag == _EXTENSIBLE and len(content) >= 26:
        tag = struct.unpack("<H", content[24:26])[0]
    form = {(_PCM, 8): "u8", (_PCM, 16): "s16le", (_PCM, 24): "s24le", (_PCM, 32): "s32le", (_FLOAT, 32): "f32le"}
    if (tag, bits) not in form or not channels or not rate:
        raise DataError(
            f"standard input: WAV with {bits} bits of format {tag}, {channels} channels, {rate} Hz; expected PCM of "
            "8, 16, 24 or 32 bits, or floating point of 32"
        )
    return rate, form[tag, bits], channels


def _need(pipe: BinaryIO, count: int) -> bytes:
    data = _read(pipe, count)
    if len(data) < count:
        raise DataError("standard input: ends within a WAV header")
    return data


def _read(pipe: BinaryIO, count: int) -> bytes:
    """Read so many bytes, fewer only at the end: a pipe may give them piece by piece."""
    data = b""
    while len(data) < count and (more := pipe.read(count - len(data))):
        data += more
    return data
