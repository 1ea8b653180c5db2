import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from spikescr.data.audio import loudest_stretch, read_rate, read_recording
from spikescr.errors import DataError
from spikescr.sizes import memory_limited

NOISE = 0.1 * np.random.default_rng(0).standard_normal(4000)


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_reads_samples_and_rate(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / name, NOISE, 8000, subtype="PCM_16")
    waveform, rate = read_recording(tmp_path / name)
    assert rate == read_rate(tmp_path / name) == 8000
    np.testing.assert_allclose(waveform, NOISE, atol=1 / 32768)


def test_stereo_is_averaged(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack([NOISE, -0.5 * NOISE], axis=1), 8000, subtype="DOUBLE")
    waveform, _ = read_recording(tmp_path / "a.wav")
    np.testing.assert_allclose(waveform, 0.25 * NOISE, rtol=1e-12)  # (1 - 0.5) / 2


@pytest.mark.parametrize("lost", [1, 2, 4000, 7999])
def test_truncated_wav_is_refused(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, NOISE, 8000, subtype="PCM_16")
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(DataError, match=rf"a\.wav: truncated: .* 8000 bytes of audio, the file has {8000 - lost}$"):
        read_recording(path)


def test_chunk_behind_the_audio_does_not_hide_a_truncation(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, NOISE, 8000, subtype="PCM_16")
    whole = path.read_bytes()
    extra = b"LIST" + struct.pack("<I", 3) + b"abc\0"  # odd length: padded by a byte
    path.write_bytes(whole[:36] + extra + whole[36:])  # between fmt and data
    np.testing.assert_allclose(read_recording(path)[0], NOISE, atol=1 / 32768)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"a\.wav: truncated"):
        read_recording(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_flac_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, NOISE, 8000)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=r"a\.flac: (truncated|no readable)"):
        read_recording(path)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"RIFF\x24\0\0\0WAVEfmt ", b"these are words, not sounds" * 99])
def test_file_that_is_no_audio_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.wav: no readable recording: \S"):
        read_recording(path)
    with pytest.raises(DataError, match=r"a\.wav: no readable recording: \S"):
        read_rate(path)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.wav: cannot be read: No such file"):
        read_recording(tmp_path / "gone.wav")
    with pytest.raises(DataError, match=r"gone\.wav: cannot be read: No such file"):
        read_rate(tmp_path / "gone.wav")


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_empty_recording_is_refused(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / name, np.zeros(0), 8000)
    with pytest.raises(DataError, match=r"a\.(wav: empty recording \(0 samples\)|flac: )"):
        read_recording(tmp_path / name)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    samples = NOISE.copy()
    samples[1234] = value
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype="DOUBLE")
    with pytest.raises(DataError, match=r"a\.wav: holds NaN or infinite samples"):
        read_recording(tmp_path / "a.wav")


def test_one_sample_is_a_recording(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([0.5]), 8000)
    assert read_recording(tmp_path / "a.wav")[0].tolist() == [0.5]


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=30), st.integers(1, 30))
def test_loudest_stretch_has_most_energy_and_comes_first(values: list[int], length: int) -> None:
    waveform = np.array(values, dtype=np.float64)
    energies = [sum(v * v for v in values[i : i + length]) for i in range(max(1, len(values) - length + 1))]
    start = energies.index(max(energies))
    assert loudest_stretch(waveform, length).tolist() == values[start : start + length]


def samples_of(path: Path) -> np.ndarray:
    """What libsndfile decodes, asked for in one piece."""
    with soundfile.SoundFile(path) as sound:
        return sound.read(sound.frames, dtype="float64", always_2d=True).mean(axis=1)


EVERYTHING = [
    (kind, subtype)
    for kind in ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3", "NIST")
    for subtype in soundfile.available_subtypes(kind)
    if soundfile.check_format(kind, subtype) and not subtype.startswith("DWVW")  # libsndfile writes what it cannot read
]


@pytest.mark.parametrize(("kind", "subtype"), EVERYTHING)
def test_whatever_libsndfile_reads_is_read_whole(tmp_path: Path, kind: str, subtype: str) -> None:
    path = tmp_path / "a.wav"
    try:
        soundfile.write(path, NOISE, 8000, format=kind, subtype=subtype)
    except soundfile.LibsndfileError as error:
        pytest.skip(str(error))
    waveform, rate = read_recording(path)
    assert rate == read_rate(path) == 8000
    assert len(waveform) >= len(NOISE)
    np.testing.assert_array_equal(waveform, samples_of(path))


def wav(length: int, samples: bytes, *, riff: int | None = None, order: str = "<") -> bytes:
    """A WAV of 16-bit samples at 16 kHz whose header says that it has `length` bytes."""
    form = struct.pack(f"{order}4sIHHIIHH", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16)
    body = b"WAVE" + form + struct.pack(f"{order}4sI", b"data", length) + samples
    size = min(length + 36, 0xFFFFFFFF) if riff is None else riff
    return struct.pack(f"{order}4sI", b"RIFX" if order == ">" else b"RIFF", size) + body


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("riff", [None, 0, 0xFFFFFFFF])
@pytest.mark.parametrize("length", [0, 0x7F000000, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFDB, 0xFFFFFFFF])
def test_wav_without_a_length_is_read_to_its_end(tmp_path: Path, length: int, riff: int | None, order: str) -> None:
    samples = np.random.default_rng(1).integers(-3000, 3000, 8000).astype("<i2")
    (tmp_path / "a.wav").write_bytes(wav(length, samples.astype(f"{order}i2").tobytes(), riff=riff, order=order))
    waveform, rate = read_recording(tmp_path / "a.wav")
    assert rate == 16000
    np.testing.assert_array_equal(waveform, samples / 32768)


@pytest.mark.parametrize(
    ("kind", "name", "field", "sizes"),
    [
        ("CAF", b"data", slice(4, 12), b"\xff" * 8),  # "to the end of the file" (Apple)
        ("RF64", b"ds64", slice(8, 32), bytes(24)),  # of file, data and samples
        ("W64", b"data", slice(16, 24), b"\xff" * 8),
        ("W64", b"data", slice(16, 24), struct.pack("<Q", 24)),
        ("AU", b".snd", slice(8, 12), b"\xff" * 4),
        ("AIFF", b"SSND", slice(4, 8), bytes(4)),
        ("AIFF", b"SSND", slice(4, 8), b"\xff" * 4),
    ],
)
def test_other_containers_from_a_pipe_are_read_to_their_end(
    tmp_path: Path, kind: str, name: bytes, field: slice, sizes: bytes
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, NOISE, 8000, format=kind, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    begin = content.rindex(name) if name == b"data" else content.index(name)
    content[begin + field.start : begin + field.stop] = sizes
    path.write_bytes(content)
    waveform, rate = read_recording(path)
    assert rate == read_rate(path) == 8000
    np.testing.assert_allclose(waveform, NOISE, atol=1 / 32768)


def test_empty_wav_with_a_chunk_behind_it_has_no_audio(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(0, b"LIST" + struct.pack("<I", 3) + b"abc\0"))
    with pytest.raises(DataError, match=r"a\.wav: empty recording \(0 samples\)$"):
        read_recording(tmp_path / "a.wav")


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF"])
def test_truncation_is_told_whatever_the_container(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, NOISE, 8000, format=kind, subtype="PCM_16")
    path.write_bytes(path.read_bytes()[:-1001])
    with pytest.raises(DataError, match=r"a\.wav: (truncated: the header promises |no readable recording: )"):
        read_recording(path)


@pytest.mark.parametrize("place", range(0, 60, 3))
@pytest.mark.parametrize("kind", ["WAV", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG"])
def test_damaged_header_is_one_line_or_audio(tmp_path: Path, kind: str, place: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, NOISE, 8000, format=kind)
    whole = bytearray(path.read_bytes())
    whole[place : place + 8] = b"\xff" * 8
    path.write_bytes(whole)
    try:
        waveform, _ = read_recording(path)
    except DataError as error:
        said = str(error)
    else:
        said = f"{path}: {len(waveform)}"
    assert said.startswith(f"{path}: ")
    assert said.isprintable()
    assert "(" not in said or "Error(" not in said


def flac(frames: int, samples: int = 4000) -> bytes:
    """A FLAC whose header says that it has `frames` samples (36 bits, 0 for not known)."""
    buffer = io.BytesIO()
    soundfile.write(buffer, NOISE[:samples], 8000, format="FLAC")
    content = bytearray(buffer.getvalue())
    packed = int.from_bytes(content[18:26], "big")  # 8 bytes behind the marker, the block's head and 10 bytes of sizes
    content[18:26] = (packed >> 36 << 36 | frames).to_bytes(8, "big")
    return bytes(content)


def test_flac_that_promises_2_to_36_samples_takes_no_memory(tmp_path: Path) -> None:
    (tmp_path / "a.flac").write_bytes(flac(2**36 - 1))
    with (
        memory_limited(10**9),
        pytest.raises(DataError, match=r"a\.flac: .*takes 1.1 TB of memory, allowed are 1 GB; "),
    ):
        read_recording(tmp_path / "a.flac")
    with memory_limited(10**15), pytest.raises(DataError, match=r"a\.flac: (truncated|no readable)"):
        read_recording(tmp_path / "a.flac")


def test_streamed_flac_is_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "a.flac").write_bytes(flac(0))
    np.testing.assert_allclose(read_recording(tmp_path / "a.flac")[0], NOISE, atol=1 / 32768)


def test_recording_that_unpacks_to_more_than_the_memory_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.zeros(3_000_000), 8000)
    assert (tmp_path / "a.flac").stat().st_size < 100_000
    message = (
        r"a\.flac: a recording of 3,000,000 samples in 1 channel\(s\) takes .* of memory, allowed are 1 MB; cut it"
    )
    with memory_limited(10**6), pytest.raises(DataError, match=message):
        read_recording(tmp_path / "a.flac")


def test_fifo_in_place_of_a_recording_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    for read in (read_recording, read_rate):
        with pytest.raises(DataError, match=r"a\.wav: is a FIFO; expected a regular file$"):
            read(tmp_path / "a.wav")
