"""Sound as it comes: raw samples and WAV through a pipe, against libsndfile; the microphone where there is none."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from spikescr.data.audio import read_recording
from spikescr.data.streams import FORMATS, Stream, open_file, open_microphone, open_pipe
from spikescr.errors import DataError, UsageError
from spikescr.extras import MissingExtraError

WAVE = 0.6 * np.sin(np.arange(3000) / 7)


class Dripping(io.RawIOBase):
    """A pipe that gives one to seven bytes at a time."""

    def __init__(self, content: bytes) -> None:
        self._file, self._turn = io.BytesIO(content), 0

    def read(self, size: int = -1, /) -> bytes:
        self._turn += 1
        most = 1 + self._turn % 7
        return self._file.read(most if size < 0 else min(size, most))


def heard(stream: Stream) -> np.ndarray:
    return np.concatenate([*stream.blocks, np.zeros(0)])


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT"])
@pytest.mark.parametrize("form", ["WAV", "WAVEX"])
@pytest.mark.parametrize("channels", [1, 2])
def test_wav_through_a_pipe_is_what_libsndfile_reads(tmp_path: Path, subtype: str, form: str, channels: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([WAVE, 0.3 * WAVE][:channels], axis=1), 11025, subtype=subtype, format=form)
    expected, _ = read_recording(path)
    stream = open_pipe(Dripping(path.read_bytes()), rate=8000)
    assert stream.rate == 11025
    np.testing.assert_array_equal(heard(stream), expected)


@pytest.mark.parametrize("form", FORMATS)
def test_raw_samples_are_what_libsndfile_reads(tmp_path: Path, form: str) -> None:
    kind, bits, endian = form[0], form.strip("usfleb"), "BIG" if form.endswith("be") else "LITTLE"
    subtype = {"u": "PCM_U8", "s": f"PCM_{bits}", "f": "FLOAT"}[kind]
    path = tmp_path / "a.raw"
    soundfile.write(path, WAVE, 8000, subtype=subtype, format="RAW", endian=endian)
    expected, _ = soundfile.read(path, samplerate=8000, channels=1, subtype=subtype, format="RAW", endian=endian)
    np.testing.assert_array_equal(heard(open_pipe(Dripping(path.read_bytes()), rate=8000, form=form)), expected)


def test_a_wav_of_unknown_length_is_heard_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, WAVE, 8000)
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    np.testing.assert_array_equal(heard(open_pipe(io.BytesIO(content), rate=1)), read_recording(path)[0])


def test_a_file_in_blocks_is_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.tile(WAVE, 200), 8000)
    stream = open_file(path)
    blocks = list(stream.blocks)
    assert len(blocks) > 1
    assert stream.rate == 8000
    np.testing.assert_array_equal(np.concatenate(blocks), read_recording(path)[0])


def wav(head: bytes) -> bytes:
    return b"RIFF\0\0\0\0WAVE" + head


@pytest.mark.parametrize(
    ("content", "form", "told"),
    [
        (bytes(7), "s16le", r"ends within a sample \(1 of 2 bytes after 3 samples\)"),
        (np.array([0, np.nan], "<f4").tobytes(), "f32le", "NaN or infinite samples from sample 0 on; is it f32le"),
        (wav(b"fmt "), "u8", "ends within a WAV header"),
        (wav(b"data\0\0\0\0"), "u8", "begins like a WAV file, but has no format"),
        (b"RIFF\0\0\0\0AVI ", "u8", "begins like a WAV file, but has no format"),
        (wav(b"junk\0\0\0\x7f"), "u8", "begins like a WAV file, but has no format"),
        (wav(b"fmt \4\0\0\0abcd"), "u8", "a WAV header whose format has 4 bytes"),
        (wav(b"fmt \x10\0\0\0\x11\0\1\0@\x1f\0\0\0\0\0\0\0\0\4\0"), "u8", "WAV with 4 bits of format 17, 1 channels"),
    ],
)
def test_damage_is_told_in_one_line(content: bytes, form: str, told: str) -> None:
    with pytest.raises(DataError, match=f"^standard input: .*{told}"):
        heard(open_pipe(io.BytesIO(content), rate=8000, form=form))


def test_no_package_no_portaudio_and_no_microphone_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingExtraError, match=r"^the microphone needs sounddevice, .*'spikescr\[microphone\]'$"):
        open_microphone(rate=8000)

    class WithoutPortAudio:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice")
    monkeypatch.setattr(sys, "meta_path", [WithoutPortAudio(), *sys.meta_path])
    with pytest.raises(UsageError, match=r"^the microphone needs PortAudio, .*\(PortAudio library not found\): apt"):
        open_microphone(rate=8000)

    def absent(**_options: object) -> None:
        raise ValueError("No input device matching 'deck'")

    monkeypatch.setitem(sys.modules, "sounddevice", SimpleNamespace(InputStream=absent, PortAudioError=RuntimeError))
    with pytest.raises(
        UsageError, match=r"^no microphone 'deck' to listen to \(No input device matching 'deck'\); give"
    ):
        open_microphone(rate=8000, device="deck")


def test_a_microphone_is_heard_and_what_it_loses_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Microphone:
        def __init__(self, **options: object) -> None:
            assert options == {"samplerate": 8000, "channels": 1, "device": 3, "dtype": "float32"}
            self.reads = 0

        def __enter__(self) -> Microphone:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def read(self, frames: int) -> tuple[np.ndarray, bool]:
            self.reads += 1
            return np.full((frames, 1), self.reads, np.float32), self.reads == 2

    fake = SimpleNamespace(InputStream=Microphone, PortAudioError=RuntimeError)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    stream = open_microphone(rate=8000, device="3")
    blocks = [next(stream.blocks) for _ in range(3)]
    assert [len(block) for block in blocks] == [400] * 3
    assert [block[0] for block in blocks] == [1, 2, 3]
    assert stream.live
    assert stream.lost() == 1
