"""Recordings: read a WAV or FLAC file, refuse a damaged one, find its loudest stretch."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from spikescr.errors import DataError

Waveform = npt.NDArray[np.float64]

SUFFIXES = (".wav", ".flac")


def is_recording(path: Path) -> bool:
    """Tell by its name whether a file is a recording: WAV or FLAC, and not hidden."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def read_recording(path: Path) -> tuple[Waveform, int]:
    """Read a recording as one channel.

    Several channels are averaged: stereo becomes mono without a word.

    Args:
        path: A WAV or FLAC file.

    Returns:
        The waveform, shape (n,) with n >= 1, full scale = 1; and its rate in Hz.

    Raises:
        DataError: The file is missing, no audio, shorter than its header says, empty, or holds values that are not
            finite (in float32).
    """
    import soundfile

    try:
        with path.open("rb") as file:
            _refuse_truncated_wav(file, path)
        with soundfile.SoundFile(path) as sound:
            promised, rate = sound.frames, int(sound.samplerate)
            channels = sound.read(dtype="float64", always_2d=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise DataError(f"{path}: no readable WAV or FLAC file: {_reason(error)}") from error
    if len(channels) < promised:
        raise DataError(f"{path}: truncated: the header promises {promised} samples, the file has {len(channels)}")
    if not len(channels):
        raise DataError(f"{path}: empty recording (0 samples)")
    # Written so that a NaN fails too. The bound keeps powers, squares of samples, finite.
    if not (np.abs(channels) <= np.finfo(np.float32).max).all():
        raise DataError(f"{path}: holds NaN or infinite samples")
    waveform: Waveform = channels.mean(axis=1)
    return waveform, rate


def read_rate(path: Path) -> int:
    """Read the sampling rate in Hz from the header of a recording.

    Raises:
        DataError: The file is missing or no audio.
    """
    import soundfile

    try:
        with path.open("rb"), soundfile.SoundFile(path) as sound:  # open() says why not; libsndfile does not
            return int(sound.samplerate)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise DataError(f"{path}: no readable WAV or FLAC file: {_reason(error)}") from error


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


def _refuse_truncated_wav(file: BinaryIO, path: Path) -> None:
    """Raise DataError where a RIFF file ends before its data chunk does.

    libsndfile shortens such a recording silently. Files that are not RIFF are left to it.
    """
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return
    while len(chunk := file.read(8)) == 8:
        name, promised = struct.unpack("<4sI", chunk)
        begin = file.tell()
        if name == b"data":
            if promised > size - begin:
                raise DataError(
                    f"{path}: truncated: the header promises {promised} bytes of audio, the file has {size - begin}"
                )
            return
        file.seek(begin + promised + promised % 2)  # chunks are padded to even lengths


def _reason(error: Exception) -> str:
    """Take the cause out of libsndfile's message, which otherwise names the file object."""
    text = getattr(error, "error_string", None) or str(error)
    return " ".join(str(text).split()).removeprefix("Error : ").rstrip(".")
