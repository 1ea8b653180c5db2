import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from spikescr.data.audio import loudest_stretch, read_rate, read_recording
from spikescr.errors import DataError

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
    with pytest.raises(DataError, match=r"a\.wav: no readable WAV or FLAC file: \S"):
        read_recording(path)
    with pytest.raises(DataError, match=r"a\.wav: no readable WAV or FLAC file: \S"):
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
