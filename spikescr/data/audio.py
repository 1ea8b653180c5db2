"""Recordings: read a file of sound, refuse a damaged one, find its loudest stretch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spikescr.data.containers import find_audio, with_length
from spikescr.errors import DataError
from spikescr.sizes import require_memory
from spikescr.strangers import open_regular

if TYPE_CHECKING:
    import soundfile

Waveform = npt.NDArray[np.floating]

SUFFIXES = (
    *(
        ".wav",
        ".flac",
        ".ogg",
        ".oga",
        ".opus",
        ".mp3",
        ".aif",
        ".aiff",
        ".aifc",
        ".au",
        ".snd",
        ".caf",
        ".w64",
        ".rf64",
    ),
    *(".wave", ".sph"),
)
"""Of what libsndfile reads and people keep speech in."""
_BLOCK = 2**18
"""Samples that are decoded at once."""
_NOT_KNOWN = 2**62
"""From here on libsndfile's number of samples means that the header does not tell."""


def is_recording(path: Path) -> bool:
    """Tell by its name whether a file is a recording, and not hidden."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def read_recording(path: Path) -> tuple[Waveform, int]:
    """Read a recording as one channel.

    Several channels are averaged: stereo becomes mono without a word. A header that does not know the length, as of a
    file that was written into a pipe, is no fault: such a file is read to its end.

    Args:
        path: A file of any format that libsndfile reads, whatever its suffix says.

    Returns:
        The waveform, shape (n,) with n >= 1, full scale = 1; and its rate in Hz.

    Raises:
        DataError: The file is missing, no audio, shorter than its header says, empty, larger than the memory, or holds
            values that are not finite (in float32).
    """
    with _opened(path) as sound:
        rate = int(sound.samplerate)
        blocks: list[Waveform] = []
        _require_memory(_promised(sound) or 0, sound.channels, path)
        for block in _blocks(sound, path):
            blocks.append(block)
            _require_memory(sum(map(len, blocks)) + _BLOCK, sound.channels, path)
    if not blocks:
        raise DataError(f"{path}: empty recording (0 samples)")
    return np.concatenate(blocks), rate


def stream_recording(path: Path) -> Iterator[Waveform]:
    """Yield what `read_recording` gives, block by block: a recording of hours takes no more memory than one of seconds.

    Raises:
        DataError: As there; what comes before a fault is yielded.
    """
    empty = True
    with _opened(path) as sound:
        for block in _blocks(sound, path):
            empty = False
            yield block
    if empty:
        raise DataError(f"{path}: empty recording (0 samples)")


def read_rate(path: Path) -> int:
    """Read the sampling rate in Hz from the header of a recording.

    Raises:
        DataError: The file is missing or no audio.
    """
    with _opened(path, whole=False) as sound:
        return int(sound.samplerate)


def loudest_stretch(waveform: Waveform, length: int) -> Waveform:
    """Cut a waveform to the `length` successive samples of most energy, the first such stretch of several.

    Args:
        waveform: Shape (n,).
        length: Samples to keep, at least 1; a waveform that is not longer comes back whole.

    Returns:
        Shape (min(n, length),), a view.
    """
    if len(waveform) <= length:
        return waveform
    energy = np.concatenate(([0.0], np.cumsum(waveform**2)))
    start = int(np.argmax(energy[length:] - energy[:-length]))
    return waveform[start : start + length]


@contextmanager
def _opened(path: Path, *, whole: bool = True) -> Iterator[soundfile.SoundFile]:
    """Open a recording; where all of it is to be read, one that was cut off is refused."""
    import soundfile

    with _told(path), open_regular(path) as file:  # open says why not; libsndfile does not
        audio = find_audio(file)
        if whole and audio and audio.cut_off:
            raise DataError(
                f"{path}: truncated: the header promises {audio.promised} bytes of audio, the file has {audio.there}"
            )
        content = with_length(file, audio, path) if audio else file
        with soundfile.SoundFile(path if content is file else content) as sound:
            yield sound


def _promised(sound: soundfile.SoundFile) -> int | None:
    return sound.frames if sound.frames < _NOT_KNOWN else None


def _blocks(sound: soundfile.SoundFile, path: Path) -> Iterator[Waveform]:
    """Yield averages over channels: telephone codecs cannot be asked for all, and a header may promise anything."""
    promised = _promised(sound)
    sound.seekable = lambda: False  # else soundfile seeks behind each block, which fails in a FLAC without a length
    count = 0
    while len(block := sound.read(_BLOCK, dtype="float64", always_2d=True)):
        # Written so that a NaN fails too. The bound keeps powers, squares of samples, finite.
        if not (np.abs(block) <= np.finfo(np.float32).max).all():
            raise DataError(f"{path}: holds NaN or infinite samples")
        count += len(block)
        yield block.mean(axis=1)
    if promised is not None and count < promised:
        raise DataError(f"{path}: truncated: the header promises {promised} samples, the file has {count}")


def _require_memory(samples: int, channels: int, path: Path) -> None:
    """Refuse what does not fit: twice 8 bytes for each sample, in blocks and put together, and one block as it is."""
    require_memory(
        16 * samples + 16 * channels * _BLOCK,
        f"{path}: a recording of {samples:,} samples in {channels} channel(s)",
        "cut it into pieces, if its header tells the truth",
        DataError,
    )


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what libsndfile and the file system raise into one line."""
    import soundfile

    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (soundfile.SoundFileError, RuntimeError, ValueError, TypeError) as error:
        raise DataError(f"{path}: no readable recording: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Take the cause out of libsndfile's message, which otherwise names the file object."""
    text = " ".join(str(getattr(error, "error_string", None) or error).split())
    return text.removeprefix("Error : ").rstrip(".") or f"libsndfile's error {getattr(error, 'code', '?')}"
