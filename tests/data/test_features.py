import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sklearn.linear_model import LogisticRegression

from spikescr.data import Item, fit_and_load, load, open_data
from spikescr.data.audio import read_recording
from spikescr.data.digits import ENGLISH
from spikescr.errors import DataError, UsageError
from spikescr.sizes import memory_limited

from .conftest import Maker, pooled

SPEECH = Path(__file__).parents[3] / "shared" / "speech_digits"
NAMES = [f"{word}/{n}.wav" for word in ("no", "yes") for n in range(10)]


def test_load_gives_what_the_preprocessing_gives_one_by_one(make_folder: Maker) -> None:
    dataset = open_data(f"folder:{make_folder(NAMES)}")
    preprocessing, _ = fit_and_load(dataset, steps=50, window_s=0.8, bands=20)
    items = dataset.split("test")[::-1] + dataset.split("train")[3:5]
    features = load(items, preprocessing)
    assert features.values.shape == (4, 40, 20)
    assert features.values.dtype == np.float32
    assert (features.steps.dtype, features.labels.dtype) == (np.int64, np.int64)
    assert features.names == tuple(item.name for item in items)
    assert features.labels.tolist() == [item.label for item in items]
    for index, item in enumerate(items):
        values, steps = preprocessing(*read_recording(item.path))
        np.testing.assert_array_equal(features.values[index], values)
        assert features.steps[index] == steps


def test_fit_and_load_gives_what_load_gives(make_folder: Maker) -> None:
    dataset = open_data(f"folder:{make_folder(NAMES)}")
    preprocessing, features = fit_and_load(dataset, steps=40)
    np.testing.assert_array_equal(load(dataset.split("train"), preprocessing).values, features.values)
    assert preprocessing.front_end.sample_rate == 8000


def test_training_frames_are_normalised(make_folder: Maker) -> None:
    _, features = fit_and_load(open_data(f"folder:{make_folder(NAMES)}"), steps=40)
    frames = np.concatenate([v[:s] for v, s in zip(features.values, features.steps, strict=True)]).astype(np.float64)
    np.testing.assert_allclose(frames.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(frames.std(axis=0), 1, atol=1e-6)


def test_fitting_reads_the_training_split_only(make_folder: Maker) -> None:
    root = make_folder(NAMES, lists={"validation_list.txt": ["no/0.wav"], "testing_list.txt": ["no/1.wav"]})
    expected, _ = fit_and_load(open_data(f"folder:{root}"), steps=40)
    for name in ("no/0.wav", "no/1.wav"):
        (root / name).write_bytes(b"spoilt")
    dataset = open_data(f"folder:{root}")
    assert fit_and_load(dataset, steps=40)[0] == expected
    with pytest.raises(DataError, match=r"no/1\.wav: no readable"):
        load(dataset.split("test"), expected)


def test_each_training_recording_is_read_once(make_folder: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: Counter[Path] = Counter()

    def counting(path: Path) -> tuple[np.ndarray, int]:
        reads[path] += 1
        return read_recording(path)

    monkeypatch.setattr("spikescr.data.sounds.read_recording", counting)
    dataset = open_data(f"folder:{make_folder(NAMES)}")
    fit_and_load(dataset, steps=40)
    assert reads == Counter(item.path for item in dataset.split("train"))


def test_damaged_training_recording_is_named_and_left_out(make_folder: Maker, caplog: pytest.LogCaptureFixture) -> None:
    lists = {"validation_list.txt": ["no/0.wav"], "testing_list.txt": ["no/1.wav"]}
    root = make_folder(NAMES, lists=lists)
    path = root / "yes" / "7.wav"
    whole = path.read_bytes()
    path.unlink()
    expected = fit_and_load(open_data(f"folder:{root}"), steps=40)
    assert caplog.records == []
    for damage in (whole[:-1], b"spoilt"):
        path.write_bytes(damage)
        preprocessing, features = fit_and_load(open_data(f"folder:{root}"), steps=40)
        assert preprocessing == expected[0]
        for name in ("values", "steps", "labels", "names"):
            np.testing.assert_array_equal(getattr(features, name), getattr(expected[1], name))
        assert list(features.left_out) == ["yes/7.wav"]
        count, told = (record.getMessage() for record in caplog.records)
        assert count == "1 of 18 recordings cannot be read and are left out:"
        assert told.startswith(f"left out: {path}: ")
        caplog.clear()


def test_more_than_half_damaged_is_refused(make_folder: Maker) -> None:
    lists = {"validation_list.txt": ["no/0.wav"], "testing_list.txt": ["no/1.wav"]}
    root = make_folder(NAMES, lists=lists)
    for number in range(10):
        (root / f"yes/{number}.wav").write_bytes(b"spoilt")
    with pytest.raises(DataError, match=rf"^10 of 18 recordings cannot be read, the first: {root}/yes/0\.wav: no read"):
        fit_and_load(open_data(f"folder:{root}"), steps=40)
    for number in range(2, 10):
        (root / f"no/{number}.wav").write_bytes(b"spoilt")
    with pytest.raises(DataError, match=r"^18 of 18 recordings cannot be read, the first: \S+no/2\.wav: no readable"):
        fit_and_load(open_data(f"folder:{root}"), steps=40)


def test_a_class_that_loses_all_its_recordings_is_told(make_folder: Maker, caplog: pytest.LogCaptureFixture) -> None:
    names = [*NAMES, "maybe/0.wav"]
    root = make_folder(names, lists={"validation_list.txt": ["no/0.wav"], "testing_list.txt": ["no/1.wav"]})
    (root / "maybe/0.wav").write_bytes(b"spoilt")
    fit_and_load(open_data(f"folder:{root}"), steps=40)
    assert caplog.records[-1].getMessage() == "no training recording can be read of: maybe"


def test_silence_is_accepted_with_a_warning(make_folder: Maker, caplog: pytest.LogCaptureFixture) -> None:
    dataset = open_data(f"folder:{make_folder(NAMES)}")
    preprocessing, _ = fit_and_load(dataset, steps=40)
    item = dataset.split("test")[0]
    soundfile.write(item.path, np.zeros(4000), 8000)
    features = load(dataset.split("test"), preprocessing)
    floor = preprocessing.normaliser(np.full((20, 140), -100, np.float32))
    np.testing.assert_array_equal(features.values[0, :20], floor)
    assert np.isfinite(features.values).all()
    assert [record.getMessage() for record in caplog.records] == [f"1 silent recording(s): {item.name}"]


def test_long_recordings_are_cut_with_one_warning(make_folder: Maker, caplog: pytest.LogCaptureFixture) -> None:
    dataset = open_data(f"folder:{make_folder(NAMES)}")
    preprocessing, _ = fit_and_load(dataset, steps=40)
    for seconds, item in zip((1.5, 2.25), dataset.split("test"), strict=True):
        soundfile.write(item.path, np.random.default_rng(0).uniform(-0.1, 0.1, int(8000 * seconds)), 8000)
    assert load(dataset.split("test"), preprocessing).steps.tolist() == [40, 40]
    longest = dataset.split("test")[1].name
    assert [record.getMessage() for record in caplog.records] == [
        f"2 recording(s) cut to their loudest 1 s; the longest, {longest}, lasts 2.25 s"
    ]


def test_recordings_of_other_rates_are_resampled(make_folder: Maker) -> None:
    dataset = open_data(f"folder:{make_folder(NAMES)}")
    preprocessing, _ = fit_and_load(dataset, steps=40)
    item = dataset.split("test")[0]
    tone = 0.3 * np.sin(2 * np.pi * 1000 * np.arange(4000) / 8000)
    soundfile.write(item.path, tone, 8000)
    expected = load([item], preprocessing)
    soundfile.write(item.path, 0.3 * np.sin(2 * np.pi * 1000 * np.arange(22050) / 44100), 44100)
    resampled = load([item], preprocessing)
    assert resampled.steps == expected.steps == [20]
    peak = expected.values[0, 10].argmax()
    np.testing.assert_allclose(resampled.values[0, 2:18, peak], expected.values[0, 2:18, peak], atol=0.05)


def test_no_recordings_make_no_features(make_folder: Maker) -> None:
    preprocessing, _ = fit_and_load(open_data(f"folder:{make_folder(NAMES)}"), steps=40)
    features = load([], preprocessing)
    assert (len(features), features.values.shape) == (0, (0, 40, 140))


def test_more_than_fits_the_memory_is_refused(make_folder: Maker) -> None:
    preprocessing, _ = fit_and_load(open_data(f"folder:{make_folder(NAMES)}"), steps=40)
    message = (
        r"^a split of 10,000,000,000,000 recordings, 40 steps and 140 channels takes .* TB of memory, allowed are .*; "
        r"choose fewer steps per second \(--steps\) or a shorter window, or allow more \(--max-memory\)$"
    )
    with pytest.raises(UsageError, match=message):
        load(range(10**13), preprocessing)


def test_limit_of_memory_holds_for_sound(make_folder: Maker) -> None:
    dataset = open_data(f"folder:{make_folder(NAMES)}")
    with memory_limited(40 * 10**6):
        fit_and_load(dataset, steps=40)
        with pytest.raises(
            UsageError,
            match=r"^a split of 16 recordings, 60,000 steps .* takes 538 MB of memory, allowed are 40 MB; ch",
        ):
            fit_and_load(dataset, steps=1000, window_s=60)
        with pytest.raises(
            UsageError, match=r"^a split of .* takes .*, allowed are 40 MB; choose fewer steps per second"
        ):
            load(dataset.split("train") * 2000, fit_and_load(dataset, steps=40)[0])


def test_item_of_any_path_loads(make_folder: Maker, tmp_path: Path) -> None:
    preprocessing, _ = fit_and_load(open_data(f"folder:{make_folder(NAMES)}"), steps=40)
    soundfile.write(tmp_path / "own.flac", np.array([0.25]), 48000)
    features = load([Item(tmp_path / "own.flac", "own.flac", label=0)], preprocessing)
    assert features.steps.tolist() == [1]
    assert not features.values[0, 1:].any()


def test_importing_the_data_package_is_quick_and_needs_no_torch() -> None:
    heavy = "{'torch', 'librosa', 'soundfile', 'scipy', 'numba', 'rich'} & set(sys.modules)"
    code = f"import sys, spikescr.data; assert not ({heavy}), {heavy}"
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
    assert time.perf_counter() - start < 3  # 0.2 s on an idle machine


@pytest.mark.slow
def test_words_spoken_by_people_can_be_told_apart() -> None:
    if not SPEECH.is_dir():
        pytest.skip(f"{SPEECH} is not there")
    dataset = open_data(f"folder:{SPEECH}")
    assert dataset.rate == 8000
    assert dataset.classes == tuple(sorted(ENGLISH))
    preprocessing, train = fit_and_load(dataset, steps=40)
    test = load(dataset.split("test"), preprocessing)
    classifier = LogisticRegression(C=0.01, max_iter=300).fit(pooled(train), train.labels)
    assert classifier.score(pooled(test), test.labels) > 0.9
