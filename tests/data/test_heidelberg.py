from __future__ import annotations

import gzip
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import write_heidelberg, write_heidelberg_file

from spikescr.data import Item, Preprocessing, SpikeBins, fit_and_load, load, open_data
from spikescr.data.binned import Binned
from spikescr.data.spike_file import opened
from spikescr.errors import DataError, UsageError
from spikescr.sizes import memory_limited

from .conftest import Maker
from .test_spikes import plain

CLASSES = ("null", "fünf")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKESCR_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_heidelberg(tmp_path_factory.mktemp("published"), "shd", {"train": 26, "test": 10})


@pytest.fixture
def shd(published: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(published, tmp_path / "shd"))


@pytest.fixture
def opened_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the HDF5 files that were opened."""
    names: list[str] = []

    class Watched(h5py.File):
        def __init__(self, path: Path, *args: object) -> None:
            names.append(Path(path).name)
            super().__init__(path, *args)

    monkeypatch.setattr(h5py, "File", Watched)
    return names


def test_shd_holds_the_last_two_training_speakers_out_for_validation(shd: Path) -> None:
    dataset = open_data(f"shd:{shd}")
    assert dataset.classes == CLASSES
    assert dataset.signal == "spikes"
    assert {item.speaker for item in dataset.split("train")} == {"0", "1", "2", "3"}
    assert {item.speaker for item in dataset.split("valid")} == {"4", "5"}
    assert {item.speaker for item in dataset.split("test")} == {"4", "5", "6", "7"}
    both = [*dataset.split("train"), *dataset.split("valid")]
    assert sorted(item.index for item in both if item.index is not None) == list(range(26))
    for item in both:
        assert item == Item(shd / "shd_train.h5", f"train/{item.index:06d}", item.index % 2, item.speaker, item.index)


def test_speakers_are_ordered_as_numbers(tmp_path: Path) -> None:
    root = tmp_path / "shd"
    root.mkdir()
    speakers = np.array([2, 10, 9, 11, 1, 0])
    empty = [np.zeros(1)] * 6
    write_heidelberg_file(root / "shd_train.h5", empty, empty, np.arange(6) % 2, CLASSES, speakers)
    assert {item.speaker for item in open_data(f"shd:{root}").split("valid")} == {"10", "11"}


def test_one_speaker_cannot_be_held_out(tmp_path: Path) -> None:
    root = tmp_path / "shd"
    root.mkdir()
    empty = [np.zeros(1)] * 2
    write_heidelberg_file(root / "shd_train.h5", empty, empty, np.arange(2), CLASSES, np.zeros(2))
    with pytest.raises(DataError, match="the training file has one speaker; none can be held out"):
        open_data(f"shd:{root}").split("valid")


def test_ssc_has_its_own_validation_file(tmp_path: Path, opened_files: list[str]) -> None:
    root = write_heidelberg(tmp_path / "ssc", "ssc", {"train": 8, "valid": 4, "test": 6})
    opened_files.clear()
    dataset = open_data(f"ssc:{root}")
    assert [len(dataset.split(split)) for split in ("train", "valid")] == [8, 4]
    assert set(opened_files) == {"ssc_train.h5", "ssc_valid.h5"}
    assert [item.name for item in dataset.split("test")] == [f"test/{i:06d}" for i in range(6)]
    assert dataset.split("valid")[1].speaker is None


def test_training_needs_no_test_file_and_never_opens_one(shd: Path, opened_files: list[str]) -> None:
    opened_files.clear()
    preprocessing, features = fit_and_load(open_data(f"shd:{shd}"), steps=40, window_s=0.7)
    load(open_data(f"shd:{shd}").split("valid"), preprocessing)
    assert set(opened_files) == {"shd_train.h5"}
    (shd / "shd_test.h5").unlink()
    dataset = open_data(f"shd:{shd}")
    np.testing.assert_array_equal(fit_and_load(dataset, steps=40, window_s=0.7)[1].values, features.values)
    with pytest.raises(DataError, match=r"has no shd_test\.h5 \(nor .*gz nor .*zip\); download it with: spikescr data"):
        dataset.split("test")


@pytest.mark.parametrize("suffix", ["gz", "zip"])
def test_files_may_still_be_compressed(shd: Path, suffix: str) -> None:
    expected = fit_and_load(open_data(f"shd:{shd}"), steps=50, window_s=0.7)[1]
    for path in list(shd.iterdir()):
        packed = path.with_name(f"{path.name}.{suffix}")
        if suffix == "gz":
            packed.write_bytes(gzip.compress(path.read_bytes()))
        else:
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.write(path, path.name)
        path.unlink()
    dataset = open_data(f"shd:{shd}")
    found = fit_and_load(dataset, steps=50, window_s=0.7)[1]
    np.testing.assert_array_equal(found.values, expected.values)
    assert found.names == expected.names
    assert len(dataset.split("test")) == 10


def replace(path: Path, field: str, content: object) -> None:
    with h5py.File(path, "r+") as file:
        del file[field]
        if content is not None:
            file[field] = content


def put_vlen(path: Path, field: str, dtype: object, arrays: list[np.ndarray]) -> None:
    with h5py.File(path, "r+") as file:
        del file[field]
        dataset = file.create_dataset(field, (len(arrays),), h5py.vlen_dtype(dtype))
        for index, array in enumerate(arrays):
            dataset[index] = array


def put_vlen_new(path: Path, field: str) -> None:
    with h5py.File(path, "r+") as file:
        file[field] = np.zeros(1)


def put_references(path: Path, field: str) -> None:
    with h5py.File(path, "r+") as file:
        del file[field]
        file.create_dataset(field, (26,), h5py.ref_dtype)[:] = [file["spikes"].ref] * 26


def put_huge(path: Path, field: str, dtype: object) -> None:
    """As many values as no disk holds: only what is written takes space."""
    with h5py.File(path, "r+") as file:
        del file[field]
        file.create_dataset(field, (2**50,), dtype, chunks=(1024,))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no times": (lambda p: replace(p, "spikes/times", None), "has no field 'spikes/times'"),
    "no labels": (lambda p: replace(p, "labels", None), "has no field 'labels'"),
    "no keys": (lambda p: replace(p, "extra/keys", None), "has no field 'extra/keys' with the names of the classes"),
    "no speakers": (lambda p: replace(p, "extra/speaker", None), "has no 'extra/speaker' with a number for each"),
    "speakers too few": (lambda p: replace(p, "extra/speaker", np.zeros(3)), "has no 'extra/speaker'"),
    "flat times": (
        lambda p: replace(p, "spikes/times", np.zeros(26)),
        r"'spikes/times' must hold times in floating point, an array for each recording, holds float64, shape \(26,\)",
    ),
    "times are whole numbers": (
        lambda p: put_vlen(p, "spikes/times", np.int32, [np.zeros(1)] * 26),
        r"'spikes/times' must hold times .*, holds variable length of int32, shape \(26,\); download it again, or",
    ),
    "times of another byte order": (
        lambda p: put_vlen(p, "spikes/times", np.dtype(">f4"), [np.zeros(1)] * 26),
        r"holds variable length of >f4, shape \(26,\), whose byte order h5py ignores; download it again, or lay it out",
    ),
    "times are text": (
        lambda p: replace(p, "spikes/times", ["0.1"] * 26),
        r"'spikes/times' must hold times .*, holds text, shape \(26,\)",
    ),
    "units in floating point": (
        lambda p: put_vlen(p, "spikes/units", np.float32, [np.zeros(1)] * 26),
        "'spikes/units' must hold whole numbers, an array for each recording, holds variable length of float32",
    ),
    "units are a group": (
        lambda p: (replace(p, "spikes/units", None), put_vlen_new(p, "spikes/units/x")),
        "'spikes/units' must hold whole numbers, an array for each recording, holds a group",
    ),
    "labels are text": (
        lambda p: replace(p, "labels", ["null"] * 26),
        r"'labels' must hold whole numbers, holds text, shape \(26,\)",
    ),
    "labels are null": (
        lambda p: replace(p, "labels", h5py.Empty("i4")),
        r"'labels' must hold whole numbers, holds nothing \(null\)",
    ),
    "labels are one number": (lambda p: replace(p, "labels", 1), r"'labels' must hold .*, holds int64, shape \(\)"),
    "labels are a matrix": (
        lambda p: replace(p, "labels", np.zeros((26, 2), int)),
        r"'labels' must hold whole numbers, holds int64, shape \(26, 2\)",
    ),
    "labels are references": (lambda p: put_references(p, "labels"), "'labels' must hold whole .*, holds references"),
    "labels are records": (
        lambda p: replace(p, "labels", np.zeros(26, [("a", "i4"), ("b", "f4")])),
        "'labels' must hold whole numbers, holds records of a, b",
    ),
    "labels are no whole numbers": (
        lambda p: replace(p, "labels", np.full(26, 0.5)),
        "'labels' has 0.5 for recording 0; expected a whole number",
    ),
    "labels are NaN": (lambda p: replace(p, "labels", np.full(26, np.nan)), "'labels' has nan for recording 0; expec"),
    "labels of which there are 2^50": (
        lambda p: (
            put_huge(p, "labels", np.uint16),
            put_huge(p, "spikes/times", h5py.vlen_dtype(np.float16)),
            put_huge(p, "spikes/units", h5py.vlen_dtype(np.uint16)),
        ),
        "a file that promises 1,125,899,906,842,624 recordings takes .*TB of memory, allowed are .*; divide it",
    ),
    "keys are null": (
        lambda p: replace(p, "extra/keys", h5py.Empty("S4")),
        r"'extra/keys' must hold names of classes, holds nothing \(null\)",
    ),
    "keys are a matrix": (
        lambda p: replace(p, "extra/keys", np.array([[b"a", b"b"]])),
        r"'extra/keys' must hold names of classes, holds text, shape \(1, 2\)",
    ),
    "keys are references": (lambda p: put_references(p, "extra/keys"), "'extra/keys' must hold names .* references"),
    "keys are real numbers": (lambda p: replace(p, "extra/keys", np.zeros(2)), "'extra/keys' must hold names of class"),
    "a key is empty": (lambda p: replace(p, "extra/keys", ["", "x"]), "'extra/keys' has '' as name of class 0"),
    "a key is two lines": (
        lambda p: replace(p, "extra/keys", ["x", "y\nz"]),
        r"'extra/keys' has 'y\\nz' as name of class 1",
    ),
    "keys are a group": (
        lambda p: (replace(p, "extra/keys", None), put_vlen_new(p, "extra/keys/x")),
        "'extra/keys' must hold names of classes, holds a group",
    ),
    "speakers are text": (
        lambda p: replace(p, "extra/speaker", ["anna"] * 26),
        "'extra/speaker' must hold whole numbers, holds text",
    ),
    "speakers are no whole numbers": (
        lambda p: replace(p, "extra/speaker", np.full(26, 1.5)),
        "'extra/speaker' has 1.5 for recording 0; expected a whole number",
    ),
    "speakers are null": (lambda p: replace(p, "extra/speaker", h5py.Empty("i4")), "'extra/speaker' must hold whole"),
    "labels in another file": (
        lambda p: replace(p, "labels", h5py.ExternalLink("elsewhere.h5", "/labels")),
        "'labels' is a link to '/labels' in another file, 'elsewhere.h5'; a file must hold all of its content itself",
    ),
    "labels under another name": (
        lambda p: replace(p, "labels", h5py.SoftLink("/gone")),
        "'labels' is a soft link to '/gone'",
    ),
    "labels too few": (lambda p: replace(p, "labels", np.zeros(25)), "has 26 recordings, 'labels' has 25"),
    "label too high": (
        lambda p: replace(p, "labels", np.array([0] * 20 + [2] + [1] * 5)),
        "recording 20 has label 2; there are 2 classes",
    ),
    "a class twice": (lambda p: replace(p, "extra/keys", [b"x", b"x"]), "must name different classes, has x, x"),
    "keys of which there are 2^50": (
        lambda p: put_huge(p, "extra/keys", "S4"),
        "'extra/keys' takes .* of memory",
    ),
    "one class": (lambda p: replace(p, "extra/keys", np.array([b"x"])), "must name different classes, has x"),
    "classes not UTF-8": (lambda p: replace(p, "extra/keys", np.array([b"f\xfcnf", b"x"])), "is not UTF-8"),
    "no HDF5": (lambda p: p.write_bytes(b"<html>"), "no readable HDF5 file"),
    "cut short": (lambda p: p.write_bytes(p.read_bytes()[:5000]), "no readable HDF5 file"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_file_that_is_not_as_published_is_refused(shd: Path, fault: str) -> None:
    spoil, message = FAULTS[fault]
    spoil(shd / "shd_train.h5")
    with pytest.raises(DataError, match=rf"shd_train\.h5: .*{message}"):
        open_data(f"shd:{shd}").split("train")


def test_damaged_values_are_named_by_file_and_field(shd: Path) -> None:
    path = shd / "shd_train.h5"
    with h5py.File(path, "r+") as file:
        for field in ("labels", "extra/keys", "extra/speaker"):
            values = file[field][()]
            del file[field]
            file.create_dataset(field, data=values, chunks=values.shape, compression="gzip", fletcher32=True)
        places = {field: file[field].id.get_chunk_info(0) for field in ("labels", "extra/keys", "extra/speaker")}
    whole = path.read_bytes()
    for field, place in places.items():
        end = place.byte_offset + place.size
        path.write_bytes(whole[: end - 8] + bytes(b ^ 0xFF for b in whole[end - 8 : end]) + whole[end:])
        with pytest.raises(DataError, match=rf"shd_train\.h5: '{field}' is damaged \(.+\); download it again$"):
            open_data(f"shd:{shd}").split("train")


@pytest.mark.parametrize("chunks", [None, (7,)])
def test_a_length_beyond_the_file_is_told_before_its_memory_is_taken(tmp_path: Path, chunks: tuple[int] | None) -> None:
    """HDF5 allocates 8 GB for a length of 2^32 - 1, and zeroes them, before it finds that there are no such values."""
    path = write_heidelberg(tmp_path / "shd", "shd", {"train": 26}) / "shd_train.h5"
    with h5py.File(path, "r+") as file:
        values = [*file["spikes/units"]]
        del file["spikes/units"]
        field = file.create_dataset("spikes/units", (26,), h5py.vlen_dtype(np.uint16), chunks=chunks)
        for index, units in enumerate(values):
            field[index] = units
        file.flush()
        at = field.id.get_offset() if chunks is None else field.id.get_chunk_info_by_coord((14,)).byte_offset
        place = at + (15 if chunks is None else 1) * 16
    with path.open("r+b") as raw:
        raw.seek(place)
        raw.write(b"\xff" * 4)
    with opened(path) as file:
        told = {n: str(found) for n, found in enumerate(file.recordings()) if isinstance(found, DataError)}
        with pytest.raises(DataError, match=r"damaged \(4,294,967,295 values are promised, more than the file"):
            file.spikes(15)
    assert list(told) == [15]
    assert "4,294,967,295 values are promised" in told[15]


def test_damage_anywhere_is_one_line(shd: Path) -> None:
    path = shd / "shd_train.h5"
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    told = []
    for at in [*range(0, 4000, 250), *rng.integers(4000, len(whole) - 300, 15)]:
        path.write_bytes(whole[:at] + rng.bytes(250) + whole[at + 250 :])
        try:
            load(open_data(f"shd:{shd}").split("train"), Preprocessing(front_end=SpikeBins(steps=5)))
        except DataError as error:
            told.append(str(error))
    assert len(told) > 5
    assert all(str(path) in said and said.isprintable() for said in told)


KINDS = [
    (np.float16, False),
    (np.float32, False),
    (np.float64, False),
    (">f2", True),
    (np.float16, True),
    ("<f4", True),
]


@pytest.mark.parametrize(("kind", "flat"), KINDS)
@pytest.mark.parametrize("of_units", [np.uint16, np.int64])
def test_other_types_and_arrays_of_one_length_are_read(
    tmp_path: Path, kind: object, flat: bool, of_units: object
) -> None:
    rng = np.random.default_rng(0)
    times = np.sort(rng.random((8, 100)), axis=1).astype(np.float16)  # so that every type holds the same numbers
    units = rng.integers(0, 700, (8, 100))
    labels = np.arange(8) % 2
    (tmp_path / "shd").mkdir()
    path = write_heidelberg_file(tmp_path / "shd/shd_train.h5", [*times], [*units], labels, CLASSES, np.arange(8) % 4)
    expected = fit_and_load(open_data(f"shd:{tmp_path / 'shd'}"), steps=40)[1]
    for field, values, dtype in (("spikes/times", times, kind), ("spikes/units", units, of_units)):
        if flat:
            replace(path, field, values.astype(dtype))
        else:
            put_vlen(path, field, dtype, [*values.astype(dtype)])
    found = fit_and_load(open_data(f"shd:{tmp_path / 'shd'}"), steps=40)[1]
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(found.steps, expected.steps)


def test_test_file_with_other_classes_is_refused(shd: Path) -> None:
    replace(shd / "shd_test.h5", "extra/keys", np.array([b"null", b"eins"]))
    with pytest.raises(DataError, match=r"shd_test\.h5: its classes are null, eins, the training file's null, fünf"):
        open_data(f"shd:{shd}").split("test")


def test_missing_folder_says_where_to_look_and_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        open_data("ssc:data/ssc")
    assert str(caught.value) == (
        f"data/ssc: no such folder; a relative path starts at the current folder, {tmp_path}: "
        "say where the data set is: ssc:PATH (--data); download it with: spikescr data get ssc --to data/ssc"
    )


def read(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    with h5py.File(path) as file:
        return [(file["spikes/times"][i], file["spikes/units"][i]) for i in range(len(file["labels"]))]


@pytest.mark.parametrize("steps", [40, 500])
def test_loaded_counts_are_those_of_a_plain_loop(shd: Path, steps: int) -> None:
    dataset = open_data(f"shd:{shd}")
    preprocessing, features = fit_and_load(dataset, steps=steps, window_s=0.7)
    assert preprocessing == Preprocessing(front_end=SpikeBins(steps=steps, window_s=0.7))
    assert preprocessing.signal == "spikes"
    assert features.values.shape == (len(dataset.split("train")), preprocessing.front_end.window_steps, 140)
    assert features.values.dtype == np.uint8
    raw = read(shd / "shd_train.h5")
    assert len(set(features.steps.tolist())) > 3
    for row, item in enumerate(dataset.split("train")):
        assert item.index is not None
        expected = plain(*raw[item.index], steps, 140)
        assert features.steps[row] == len(expected)
        np.testing.assert_array_equal(features.values[row, : len(expected)], expected)
        assert not features.values[row, len(expected) :].any()
        assert features.labels[row] == item.label == item.index % 2


def test_all_of_a_file_is_mapped_and_not_copied(tmp_path: Path) -> None:
    root = write_heidelberg(tmp_path / "ssc", "ssc", {"train": 8, "valid": 4})
    dataset = open_data(f"ssc:{root}")
    preprocessing, features = fit_and_load(dataset, steps=40)
    assert isinstance(features.values, np.memmap)
    some = [*dataset.split("valid")[::-1], dataset.split("train")[3]]
    loaded = load(some, preprocessing)
    assert loaded.names == ("valid/000003", "valid/000002", "valid/000001", "valid/000000", "train/000003")
    np.testing.assert_array_equal(loaded.values[4], features.values[3])
    assert len(load([], preprocessing)) == 0


def test_second_loading_bins_nothing(shd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_data(f"shd:{shd}")
    first = fit_and_load(dataset, steps=40)[1].values
    monkeypatch.setattr(SpikeBins, "count", None)
    np.testing.assert_array_equal(fit_and_load(dataset, steps=40)[1].values, first)
    for other in ({"steps": 50}, {"steps": 40, "bands": 70}, {"steps": 40, "window_s": 0.5}):
        with pytest.raises(TypeError):  # other parameters, another entry
            fit_and_load(dataset, **other)


def test_changed_file_is_binned_anew(shd: Path) -> None:
    fit_and_load(open_data(f"shd:{shd}"), steps=40)
    path = shd / "shd_train.h5"
    put_vlen(path, "spikes/units", np.uint16, [np.full_like(units, 5) for _, units in read(path)])
    values = fit_and_load(open_data(f"shd:{shd}"), steps=40)[1].values
    assert values[..., 1].any()
    assert not np.delete(values, 1, axis=2).any()


def one_recording(tmp_path: Path, times: np.ndarray, units: np.ndarray) -> Path:
    fine = np.zeros(1)
    return write_heidelberg_file(tmp_path / "x.h5", [fine, times], [fine, units], np.arange(2), CLASSES, np.arange(2))


@pytest.mark.parametrize(("spikes", "dtype"), [(255, np.uint8), (256, np.uint16), (65_535, np.uint16)])
def test_counts_are_as_wide_as_they_must_be(tmp_path: Path, spikes: int, dtype: type) -> None:
    path = one_recording(tmp_path, np.full(spikes, 0.5), np.full(spikes, 3))
    binned = Binned.from_file(path, SpikeBins(steps=40), cache=tmp_path / "cache")
    assert binned.counts.dtype == dtype
    assert binned.counts[1, 20, 0] == binned.counts[1].sum() == spikes


def test_count_that_fits_no_type_is_refused(tmp_path: Path) -> None:
    path = one_recording(tmp_path, np.full(65_536, 0.5), np.full(65_536, 3))
    with pytest.raises(DataError, match=r"x\.h5: more than 65535 spikes in one bin; choose more steps"):
        Binned.from_file(path, SpikeBins(steps=40), cache=tmp_path / "cache")
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.suffix != ".lock" and p.is_file()]


def spoil_recordings(path: Path) -> dict[int, str]:
    """Makes three recordings unreadable, each in another way; what is to be told of them."""
    with h5py.File(path, "r+") as file:
        file["spikes/units"][1] = np.full(len(file["spikes/times"][1]), 700)
        file["spikes/times"][2] = np.zeros(2)
        units = len(file["spikes/units"][2])
        place = file["spikes/times"].id.get_offset() + 4 * 16 + 4  # of recording 4: length, address, number in a heap
    with path.open("r+b") as raw:
        raw.seek(place)
        raw.write(b"\x55" * 8)
    return {
        1: r"spike 0 is of unit 700; there are 700",
        2: rf"2 times, but {units} units",
        4: r"its spikes are damaged \(.+\)",
    }


def test_recordings_that_cannot_be_read_are_named_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clean = write_heidelberg(tmp_path / "clean", "shd", {"train": 24, "test": 4})
    spoilt = write_heidelberg(tmp_path / "spoilt", "shd", {"train": 24, "test": 4})
    faults = spoil_recordings(spoilt / "shd_train.h5")
    expected = fit_and_load(open_data(f"shd:{clean}"), steps=40)[1]
    caplog.clear()
    found = fit_and_load(open_data(f"shd:{spoilt}"), steps=40)[1]
    lost = set(found.left_out)
    assert lost == {f"train/{index:06d}" for index in faults}
    for index, told in faults.items():
        name = f"train/{index:06d}"
        assert re.fullmatch(rf"{spoilt}/shd_train\.h5: recording {index}: {told}", found.left_out[name])
        assert f"left out: {found.left_out[name]}" in caplog.messages
    kept = np.array([name not in lost for name in expected.names])
    assert found.names == tuple(np.array(expected.names)[kept])
    for one, other in ((found.values, expected.values), (found.steps, expected.steps), (found.labels, expected.labels)):
        np.testing.assert_array_equal(one, other[kept])
    again = load(open_data(f"shd:{spoilt}").split("train"), Preprocessing(front_end=SpikeBins(steps=40)))
    assert again.left_out == found.left_out  # of the cache


def test_a_recording_of_spikes_that_was_asked_for_is_refused(tmp_path: Path) -> None:
    path = one_recording(tmp_path, np.array([0.1, 0.2]), np.array([0, 700]))
    binned = Binned.from_file(path, SpikeBins(steps=40), cache=tmp_path / "cache")
    assert binned.faults == {1: "spike 1 is of unit 700; there are 700"}
    items = [Item(path, f"x/{index}", 0, None, index) for index in range(2)]
    bins = Preprocessing(front_end=SpikeBins(steps=40))
    with pytest.raises(DataError, match=r"x\.h5: recording 1: spike 1 is of unit 700; there are 700$"):
        load(items[1:], bins)
    assert load(items[1:], bins, is_part=True).names == ()
    assert load(items, bins).names == ("x/0",)


def test_long_recordings_are_cut_and_silent_ones_accepted_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    times = np.array([0.0, 0.5, 0.75, 0.75, 1.0, 1.25])
    path = write_heidelberg_file(
        tmp_path / "x.h5", [np.zeros(0), times], [np.zeros(0), np.zeros(6)], np.arange(2), CLASSES, np.arange(2)
    )
    items = [Item(path, f"train/{i}", i, "0", i) for i in range(2)]
    features = load(items, Preprocessing(front_end=SpikeBins(steps=4, window_s=0.75)))
    assert features.steps.tolist() == [1, 3]
    assert features.values[0].sum() == 0
    assert features.values[1, :, 0].tolist() == [1, 2, 1]
    assert [record.getMessage() for record in caplog.records] == [
        "1 silent recording(s): train/0",
        "1 recording(s) cut to their stretch of most spikes, 0.75 s; the longest, train/1, lasts 1.50 s",
    ]


@pytest.mark.parametrize("damage", [lambda p: p.write_bytes(p.read_bytes()[:-1000]), lambda p: p.unlink()])
def test_damaged_cache_is_refused_with_what_to_delete(
    shd: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    dataset = open_data(f"shd:{shd}")
    fit_and_load(dataset, steps=40)
    (counts,) = (tmp_path / "cache").rglob("counts.npy")
    damage(counts)
    with pytest.raises(DataError, match=rf"{counts.parent}: damaged .*; delete this folder, it is made again"):
        fit_and_load(dataset, steps=40)


def test_processes_at_once_make_one_entry(shd: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from spikescr.data.binned import Binned; "
        "from spikescr.data.spikes import SpikeBins; "
        "print(Binned.from_file(Path(sys.argv[1]), SpikeBins(steps=40), cache=Path(sys.argv[2])).counts.sum())"
    )
    command = [sys.executable, "-c", code, str(shd / "shd_train.h5"), str(tmp_path / "many")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    found = [process.communicate(timeout=60)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert int(found[0]) == sum(len(times) for times, _ in read(shd / "shd_train.h5"))
    assert len(set(found)) == 1
    assert len(list((tmp_path / "many" / "binned").glob("[!.]*/counts.npy"))) == 1
    assert not list((tmp_path / "many" / "binned").glob(".*"))


def test_cache_that_cannot_be_written_is_one_line(shd: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file.*: the cache cannot be used: "):
        Binned.from_file(shd / "shd_train.h5", SpikeBins(steps=40), cache=tmp_path / "file")


def test_sound_for_spikes_and_spikes_for_sound_are_refused(shd: Path, make_folder: Maker) -> None:
    sound = open_data(f"folder:{make_folder([f'{w}/{n}.wav' for w in ('no', 'yes') for n in range(3)])}")
    spikes = open_data(f"shd:{shd}")
    for trained, given, takes in ((sound, spikes, "sound"), (spikes, sound, "spikes")):
        preprocessing, _ = fit_and_load(trained, steps=40, window_s=0.7)
        with pytest.raises(UsageError, match=f"the network takes recordings of {takes}, "):
            load(given.split("train"), preprocessing)


def test_limits_of_memory_and_disk_hold_for_spikes(shd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_data(f"shd:{shd}")
    with pytest.raises(UsageError, match=r"^steps must be at most 16,777,216 per second\. Got 100000000$"):
        fit_and_load(dataset, steps=100_000_000)
    with pytest.raises(
        UsageError, match=r"^a window of 600,000,000 steps and 140 channels takes 1\.68 TB of memory, allow"
    ):
        fit_and_load(dataset, steps=10_000_000, window_s=60)
    fit_and_load(dataset, steps=500)
    with (
        memory_limited(10**6),
        pytest.raises(UsageError, match=r"^a split of \d+ recordings, 500 steps and 140 channels"),
    ):
        fit_and_load(dataset, steps=500)
    monkeypatch.setattr("spikescr.data.binned.free_bytes", lambda _: 10**6)
    with pytest.raises(UsageError, match=r"shd_train\.h5: binned, it takes 1\.82 MB of disk, .* has 1 MB; choose"):
        fit_and_load(dataset, steps=501)


def test_channels_must_divide_the_units(shd: Path) -> None:
    with pytest.raises(UsageError, match=r"bands must divide the 700 units into equal groups\. Got 120"):
        fit_and_load(open_data(f"shd:{shd}"), steps=40, bands=120)
