import importlib.util
import json
import shutil
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from spikescr.data import digits, fit_and_load, load, open_data
from spikescr.data.audio import read_recording
from spikescr.errors import DataError

from .conftest import pooled

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="espeakng-loader (extra 'digits') is not installed"
)


def small_script() -> list[digits.Take]:
    """One take by one voice of each split: 60 recordings."""
    cast = {voice.split: voice for voice in digits.voices()}
    return digits.takes(list(cast.values()), count=1)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> list[digits.Take]:
    script = small_script()
    monkeypatch.setattr(digits, "takes", lambda _cast: script)
    return script


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache folder with all recordings."""
    cache = tmp_path_factory.mktemp("cache")
    digits.open_digits(cache)
    return cache


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_classes_are_those_of_shd() -> None:
    assert len(digits.CLASSES) == len(set(digits.CLASSES)) == 20
    assert digits.CLASSES[:2] == ("en_zero", "en_one")
    assert digits.CLASSES[10:16] == ("de_null", "de_eins", "de_zwei", "de_drei", "de_vier", "de_fuenf")


def test_no_variant_is_heard_in_two_splits() -> None:
    cast = digits.voices()
    assert len(cast) == len({voice.name for voice in cast}) == 56
    heard = [{voice.variant for voice in cast if voice.split == split} for split in ("train", "valid", "test")]
    assert [len(variants) for variants in heard] == [18, 4, 6]
    assert len(set.union(*heard)) == 28


def test_script_is_the_same_each_time() -> None:
    assert digits.takes(digits.voices()) == digits.takes(digits.voices())


@needs_espeak
def test_recordings_are_the_same_each_time(tmp_path: Path) -> None:
    script = small_script()
    digits.make_digits(tmp_path / "a", script)
    digits.make_digits(tmp_path / "b", script)
    made = files(tmp_path / "a")
    assert made == files(tmp_path / "b")
    assert set(made) == {take.name for take in script} | {"validation_list.txt", "testing_list.txt"}
    assert len({made[take.name] for take in script}) == 60
    assert made["testing_list.txt"].decode().split() == sorted(t.name for t in script if t.split == "test")
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}


@needs_espeak
def test_recordings_are_wav_of_16_khz_and_16_bit_with_room_in_a_second(tmp_path: Path) -> None:
    script = small_script()
    digits.make_digits(tmp_path / "a", script)
    for take in script:
        with wave.open(str(tmp_path / "a" / take.name)) as wav:
            assert (wav.getframerate(), wav.getsampwidth(), wav.getnchannels()) == (16000, 2, 1)
            assert 0.2 < wav.getnframes() / 16000 <= 1.0
        waveform, _ = read_recording(tmp_path / "a" / take.name)
        assert np.abs(waveform).max() == pytest.approx(take.peak, abs=1e-4)


@needs_espeak
def test_second_opening_speaks_nothing(
    tmp_path: Path, small: list[digits.Take], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_data("digits", cache=tmp_path)
    monkeypatch.setattr(subprocess, "Popen", None)
    again = open_data("digits", cache=tmp_path)
    assert again == first
    assert again.classes == digits.CLASSES
    assert again.root == tmp_path / digits.folder_name(small)
    assert [len(again.split(split)) for split in ("train", "valid", "test")] == [20, 20, 20]


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "recording added": (
        lambda root: shutil.copy(next(root.glob("en_one/*.wav")), root / "en_one" / "more.wav"),
        "60 of 60 recordings are in their places, 1 other",
    ),
    "recording removed": (
        lambda root: next(root.glob("en_one/sandro-*.wav")).unlink(),
        "59 of 60 recordings are in their places, 0 others",
    ),
    "listed recording removed": (
        lambda root: next(root.glob("en_one/marcelo-*.wav")).unlink(),
        "testing_list.txt: line .* does not exist",
    ),
    "class emptied": (lambda root: [path.unlink() for path in root.glob("en_one/*")], "en_one: no recordings"),
    "class removed": (lambda root: shutil.rmtree(root / "en_one"), "en_one: cannot be read: No such file"),
    "list removed": (lambda root: (root / "testing_list.txt").unlink(), "recordings are in their places"),
    "everything removed": (
        lambda root: [shutil.rmtree(path) if path.is_dir() else path.unlink() for path in root.iterdir()],
        "en_zero: cannot be read: No such file",
    ),
}


@needs_espeak
@pytest.mark.parametrize("damage", DAMAGES)
def test_folder_that_is_not_as_it_was_made_is_refused(tmp_path: Path, small: list[digits.Take], damage: str) -> None:
    root = open_data("digits", cache=tmp_path).root
    spoil, reason = DAMAGES[damage]
    spoil(root)
    message = rf"^{root} is not as it was made \(.*{reason}.*\); delete this folder so that it is made again$"
    with pytest.raises(DataError, match=message):
        open_data("digits", cache=tmp_path)
    shutil.rmtree(root)
    assert len(open_data("digits", cache=tmp_path).split("test")) == 20


@needs_espeak
def test_interrupted_generation_leaves_nothing(
    tmp_path: Path, small: list[digits.Take], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = digits._record
    seen: list[str] = []

    def interrupted(samples: np.ndarray, rate: int, take: digits.Take) -> np.ndarray:
        seen.append(take.name)
        if len(seen) == 20:
            raise KeyboardInterrupt
        return record(samples, rate, take)

    monkeypatch.setattr(digits, "_record", interrupted)
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        open_data("digits", cache=tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(digits, "_record", record)
    assert len(open_data("digits", cache=tmp_path).split("train")) == 20


SPEAKERS = {
    "is silent": ("time.sleep(600)", r"espeak-ng does not say 'zero' with the voice '.*' within 3 s"),
    "stops in a word": (
        "out.write(struct.pack('<II', 22050, 9) + b'ab'); out.flush(); time.sleep(600)",
        r"espeak-ng does not say 'zero' with the voice '.*' within 3 s",
    ),
    "promises 8 GB": ("out.write(struct.pack('<II', 22050, 2**32 - 1)); out.flush(); time.sleep(600)", "is no word"),
    "tells no rate": ("out.write(struct.pack('<II', 0, 9) + bytes(18)); out.flush(); time.sleep(600)", "is no word"),
    "says nothing of length": ("out.write(struct.pack('<II', 22050, 0)); out.flush(); time.sleep(600)", "is no word"),
    "fails": ("sys.exit('no voice')", "espeak-ng failed with status 1: no voice"),
    "ends in a word": ("out.write(struct.pack('<II', 22050, 9) + b'ab'); sys.exit(3)", "failed with status 3"),
    "ends too early": ("pass", "espeak-ng ended before its last word"),
    "does not end": (
        "[out.write(struct.pack('<II', 22050, 9000) + bytes(range(250)) * 72) for _ in sys.stdin]; out.flush(); "
        "time.sleep(600)",
        "espeak-ng does not end within 3 s",
    ),
}


@needs_espeak
@pytest.mark.parametrize("speaker", SPEAKERS)
def test_a_speaker_that_fails_hangs_or_says_too_much_is_ended(
    speaker: str, tmp_path: Path, small: list[digits.Take], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, message = SPEAKERS[speaker]
    command = (sys.executable, "-c", f"import struct, sys, time; out = sys.stdout.buffer; {code}")
    monkeypatch.setattr(digits, "SPEAKER", command)
    monkeypatch.setattr(digits, "SPEAKER_SECONDS", 3 if "within" in message else 60)
    begin = time.monotonic()
    with pytest.raises(DataError, match=message):
        open_data("digits", cache=tmp_path)
    assert time.monotonic() - begin < 60
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def other_maker(tmp_path: Path, small: list[digits.Take]) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that makes digits in `tmp_path` and never gets beyond the first word."""
    code = (
        "import sys, time; from pathlib import Path; from spikescr.data import digits; "
        "digits._record = lambda *_: time.sleep(600); "
        "digits.make_digits(Path(sys.argv[1]), digits.takes(digits.voices()))"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / digits.folder_name(small))]) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".digits-*/utterances.jsonl")) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield process
        process.kill()


@needs_espeak
def test_what_a_killed_maker_left_is_removed(
    tmp_path: Path, small: list[digits.Take], other_maker: subprocess.Popen[bytes]
) -> None:
    other_maker.kill()
    other_maker.wait(timeout=300)
    assert len(list(tmp_path.glob(".digits-*"))) == 1
    open_data("digits", cache=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [digits.folder_name(small)]


@needs_espeak
def test_what_a_living_maker_works_on_stays(
    tmp_path: Path, small: list[digits.Take], other_maker: subprocess.Popen[bytes]
) -> None:
    before = {path for path in tmp_path.rglob("*") if path.suffix != ".wav"}
    assert len(before) > 20
    open_data("digits", cache=tmp_path)
    assert other_maker.poll() is None
    assert before <= set(tmp_path.rglob("*"))
    assert len(list(tmp_path.iterdir())) == 2


@needs_espeak
def test_two_makers_at_once_agree(tmp_path: Path, small: list[digits.Take]) -> None:
    failures: list[BaseException] = []

    def make() -> None:
        try:
            digits.make_digits(tmp_path / "digits-v1", small)
        except BaseException as error:
            failures.append(error)

    makers = [threading.Thread(target=make) for _ in range(3)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert failures == []
    assert [path.name for path in tmp_path.iterdir()] == ["digits-v1"]
    digits.make_digits(tmp_path / "alone", small)
    assert files(tmp_path / "digits-v1") == files(tmp_path / "alone")


def test_missing_espeak_is_answered_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(DataError, match=r"not installed: pip install espeakng-loader \(or 'spikescr\[digits\]'\)$"):
        open_data("digits", cache=tmp_path)


@needs_espeak
def test_failing_espeak_is_reported(tmp_path: Path, small: list[digits.Take]) -> None:
    spoilt = [
        digits.Take(t.name, t.split, digits.Utterance("x", "en-us+nobody", 150, 50, 50), 0.1, 0, 0) for t in small
    ]
    with pytest.raises(DataError, match=r"espeak-ng failed with status 1: .* no variant for the voice 'en-us\+nobody'"):
        digits.make_digits(tmp_path / "digits-v1", spoilt)
    assert list(tmp_path.iterdir()) == []


@needs_espeak
def test_cache_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file.*: data set 'digits' cannot be written: "):
        open_data("digits", cache=tmp_path / "file")


@needs_espeak
def test_espeak_finds_its_voices_behind_a_long_path(tmp_path: Path) -> None:
    import espeakng_loader

    far = tmp_path / ("x" * 100) / ("y" * 100)
    far.mkdir(parents=True)
    (far / "espeak-ng-data").symlink_to(espeakng_loader.get_data_path(), target_is_directory=True)
    (far / "espeakng_loader.py").write_text(
        f"def get_data_path(): return {str(far / 'espeak-ng-data')!r}\n"
        f"def get_library_path(): return {str(espeakng_loader.get_library_path())!r}\n"
    )
    line = json.dumps({"text": "one", "voice": "en-us+m1", "speed": 150, "pitch": 50, "pitch_range": 50})
    code = f"import sys; sys.path.insert(0, {str(far)!r}); from spikescr.data.espeak import main; main()"
    spoken = subprocess.run(
        [sys.executable, "-c", code], input=line.encode(), capture_output=True, check=True, timeout=300
    ).stdout
    assert len(spoken) > 8 + 2 * 22050 * 0.2


def test_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    for name in ("SPIKESCR_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert digits.cache_folder() == Path("/home/someone/.cache/spikescr")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/invalid")
    assert digits.cache_folder() == Path("/home/someone/.cache/spikescr")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/xdg")
    assert digits.cache_folder() == Path("/var/xdg/spikescr")
    monkeypatch.setenv("SPIKESCR_CACHE", str(tmp_path))
    assert digits.cache_folder() == tmp_path


@pytest.mark.slow
@needs_espeak
def test_held_out_voices_are_understood(whole: Path) -> None:
    dataset = open_data("digits", cache=whole)
    assert dataset.rate == 16000
    assert [len(dataset.split(split)) for split in ("train", "valid", "test")] == [2160, 480, 720]
    preprocessing, train = fit_and_load(dataset, steps=40)
    test = load(dataset.split("test"), preprocessing)
    classifier = LogisticRegression(C=0.01, max_iter=300).fit(pooled(train), train.labels)
    assert classifier.score(pooled(test), test.labels) > 0.9


@pytest.mark.slow
@needs_espeak
def test_no_two_recordings_are_equal(whole: Path) -> None:
    recordings = [path.read_bytes() for path in open_data("digits", cache=whole).root.glob("*/*.wav")]
    assert len(set(recordings)) == len(recordings) == 3360
