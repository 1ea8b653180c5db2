import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from spikescr.data import Item, open_data
from spikescr.data.dataset import NO_LABEL, SPLITS, DataSet
from spikescr.data.folder import layout_faults, open_folder
from spikescr.data.inspection import inspect
from spikescr.data.kinds import KINDS, Kind
from spikescr.errors import DataError, UsageError

from .conftest import Maker

SPEAKERS = [f"s{n:02}" for n in range(12)]
SPOKEN = [f"{word}/{speaker}_nohash_{n}.wav" for word in ("no", "yes") for speaker in SPEAKERS for n in range(2)]
UNNAMED = [f"{word}/{n}.wav" for word in ("no", "yes") for n in range(20)]
LISTS = {"validation_list.txt": ["no/s00_nohash_0.wav"], "testing_list.txt": ["yes/s01_nohash_1.wav"]}


def names(dataset: DataSet) -> dict[str, list[str]]:
    return {split: [item.name for item in dataset.split(split)] for split in SPLITS}


def speakers(dataset: DataSet, split: str) -> set[str | None]:
    return {item.speaker for item in dataset.split(split)}


def test_lists_decide(make_folder: Maker) -> None:
    root = make_folder(SPOKEN, lists=LISTS)
    dataset = open_data(f"folder:{root}")
    assert dataset.classes == ("no", "yes")
    assert dataset.root == root
    listed = ("no/s00_nohash_0.wav", "yes/s01_nohash_1.wav")
    assert names(dataset) == {
        "train": sorted(set(SPOKEN) - set(listed)),
        "valid": [listed[0]],
        "test": [listed[1]],
    }
    assert dataset.split("test") == (Item(root / listed[1], listed[1], label=1, speaker="s01"),)


def test_only_recordings_in_class_folders_count(make_folder: Maker) -> None:
    root = make_folder(
        [*SPOKEN, "_background_noise_/hum.wav", ".hidden/x.wav", "loose.wav", "no/.x.wav", "no/deep/y.wav"]
    )
    (root / "no" / "notes.txt").write_text("not a recording")
    (root / "no" / "s00_nohash_0.wav").rename(root / "no" / "s00_nohash_0.WAV")
    dataset = open_data(f"folder:{root}")
    assert dataset.classes == ("no", "yes")
    found = {name for split in names(dataset).values() for name in split}
    assert found == set(SPOKEN) - {"no/s00_nohash_0.wav"} | {"no/s00_nohash_0.WAV"}


@pytest.mark.parametrize("suffix", [".FLAC", ".ogg", ".mp3", ".aiff", ".au", ".caf", ".w64"])
def test_other_formats_count(make_folder: Maker, suffix: str) -> None:
    dataset = open_data(f"folder:{make_folder([name.replace('.wav', suffix) for name in SPOKEN])}")
    assert sum(map(len, dataset.items.values())) == len(SPOKEN)


def test_split_by_speaker_keeps_speakers_apart(make_folder: Maker) -> None:
    dataset = open_data(f"folder:{make_folder(SPOKEN)}", seed=3)
    heard = [speakers(dataset, split) for split in SPLITS]
    assert sum(map(len, heard)) == len(set.union(*heard)) == 12
    assert {split: len(dataset.split(split)) for split in SPLITS} == {"train": 40, "valid": 4, "test": 4}


def test_split_by_file_takes_a_tenth_of_each_word(make_folder: Maker) -> None:
    dataset = open_data(f"folder:{make_folder(UNNAMED)}")
    for split, count in {"train": 16, "valid": 2, "test": 2}.items():
        assert Counter(item.label for item in dataset.split(split)) == {0: count, 1: count}
    assert dataset.split("train")[0].speaker is None


def test_few_speakers_are_split_by_file(make_folder: Maker) -> None:
    few = [f"{word}/s{s}_nohash_{n}.wav" for word in ("no", "yes") for s in range(3) for n in range(10)]
    dataset = open_data(f"folder:{make_folder(few)}")
    assert {split: len(dataset.split(split)) for split in SPLITS} == {"train": 48, "valid": 6, "test": 6}


@pytest.mark.parametrize("files", [SPOKEN, UNNAMED])
def test_split_depends_on_the_seed_and_not_on_the_file_system(
    make_folder: Maker, monkeypatch: pytest.MonkeyPatch, files: list[str]
) -> None:
    spec = f"folder:{make_folder(files)}"
    first = names(open_data(spec, seed=1))
    assert names(open_data(spec, seed=2)) != first
    listing = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: random.Random(5).sample(found := list(listing(path)), len(found)))
    assert names(open_data(spec, seed=1)) == first


def test_missing_list_is_drawn_from_what_the_other_leaves(make_folder: Maker) -> None:
    entries = [name for name in SPOKEN if "/s00" in name or "/s01" in name]
    root = make_folder(SPOKEN, lists={"testing_list.txt": entries})
    dataset = open_data(f"folder:{root}")
    assert names(dataset)["test"] == entries
    assert len(dataset.split("valid")) == 4
    assert not speakers(dataset, "valid") & (speakers(dataset, "train") | {"s00", "s01"})


def test_list_may_have_blank_lines_backslashes_and_a_byte_order_mark(make_folder: Maker) -> None:
    root = make_folder(SPOKEN, lists=LISTS)
    (root / "testing_list.txt").write_bytes(b"\xef\xbb\xbf./no/s05_nohash_1.wav\r\n\r\n yes\\s01_nohash_1.wav \r\n")
    assert names(open_data(f"folder:{root}"))["test"] == ["no/s05_nohash_1.wav", "yes/s01_nohash_1.wav"]


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone: no such folder$"):
        open_data(f"folder:{tmp_path / 'gone'}")


def test_missing_folder_of_a_relative_path_is_answered_with_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        open_data("folder:data/words")
    assert str(caught.value) == (
        f"data/words: no such folder; a relative path starts at the current folder, {tmp_path}: "
        "say where the data set is: folder:PATH (--data)"
    )


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file: not a folder$"):
        open_data(f"folder:{tmp_path / 'file'}")


def test_folder_without_classes_is_refused(make_folder: Maker) -> None:
    root = make_folder(["_background_noise_/hum.wav", "loose.wav"])
    with pytest.raises(DataError, match=r"words: no class folders in it"):
        open_data(f"folder:{root}")


def test_empty_class_is_refused(make_folder: Maker) -> None:
    root = make_folder(SPOKEN)
    (root / "maybe").mkdir()
    with pytest.raises(DataError, match=r"words/maybe: no recordings \(\.wav, \.flac and the like\) of this class"):
        open_data(f"folder:{root}")


def test_single_class_is_refused(make_folder: Maker) -> None:
    root = make_folder([name for name in SPOKEN if name.startswith("no/")] + ["_background_noise_/hum.wav"])
    with pytest.raises(DataError, match=r"words: has one class folder, 'no'; at least two are needed$"):
        open_data(f"folder:{root}")


@pytest.mark.parametrize("name", [b"z\xffro/1.wav", b"no/\xff_nohash_0.wav"])
def test_name_that_is_not_utf_8_is_refused(make_folder: Maker, name: bytes) -> None:
    root = make_folder(SPOKEN, lists=LISTS)
    path = root / os.fsdecode(name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((root / SPOKEN[0]).read_bytes())
    with pytest.raises(DataError) as caught:
        open_data(f"folder:{root}")
    shown = name.decode(errors="backslashreplace").removesuffix("/1.wav")
    assert str(caught.value) == f"{root}/{shown}: the name is not UTF-8; rename it"
    assert str(caught.value).isprintable()


def test_folder_whose_path_is_not_utf_8_is_refused(make_folder: Maker) -> None:
    root = make_folder(SPOKEN)
    moved = root.rename(root.with_name(os.fsdecode(b"w\xe4ter")))
    with pytest.raises(DataError, match=r"^\S+/w\\xe4ter: the name is not UTF-8; rename it$"):
        open_data(f"folder:{moved}")


def test_other_names_need_not_be_utf_8(make_folder: Maker) -> None:
    root = make_folder(SPOKEN)
    (root / os.fsdecode(b"_\xff")).mkdir()
    (root / os.fsdecode(b"no/\xff.txt")).write_text("not a recording")
    assert open_data(f"folder:{root}").classes == ("no", "yes")


@pytest.mark.parametrize("name", ["validation_list.txt", "testing_list.txt"])
@pytest.mark.parametrize("within", ["", "x.wav"])
def test_folder_in_place_of_a_list_is_refused(make_folder: Maker, name: str, within: str) -> None:
    root = make_folder([*SPOKEN, f"{name}/{within}"] if within else SPOKEN)
    (root / name).mkdir(exist_ok=True)
    with pytest.raises(
        DataError, match=rf"words/{name}: is a folder; expected a text file with one recording per line"
    ):
        open_data(f"folder:{root}")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("no/gone.wav", "no/gone.wav does not exist"),
        ("_noise/hum.wav", "_noise/hum.wav is not a recording in a class folder"),
        ("no/s00_nohash_0.wav", r"no/s00_nohash_0.wav is in validation_list.txt too"),
    ],
)
def test_bad_list_entry_is_refused(make_folder: Maker, entry: str, message: str) -> None:
    root = make_folder(
        [*SPOKEN, "_noise/hum.wav"], lists=LISTS | {"testing_list.txt": ["yes/s01_nohash_1.wav", "", entry]}
    )
    with pytest.raises(DataError, match=rf"words/testing_list\.txt: line 3: {message}$"):
        open_data(f"folder:{root}")


def test_list_that_is_no_text_is_refused(make_folder: Maker) -> None:
    root = make_folder(SPOKEN, lists=LISTS)
    (root / "testing_list.txt").write_bytes(b"no/\xff\xfe")
    with pytest.raises(DataError, match=r"testing_list\.txt: not a text file in UTF-8: .* at byte 3"):
        open_data(f"folder:{root}")


@pytest.mark.parametrize("name", ["validation_list.txt", "testing_list.txt"])
def test_fifo_or_device_in_place_of_a_list_is_refused(make_folder: Maker, name: str) -> None:
    root = make_folder(SPOKEN, lists=LISTS)
    (root / name).unlink()
    for make, kind in ((os.mkfifo, "a FIFO"), (lambda path: path.symlink_to("/dev/zero"), "a device")):
        make(root / name)
        begin = subprocess.run(
            [sys.executable, "-c", f"from spikescr.data import open_data; open_data({f'folder:{root}'!r})"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert f"DataError: {root / name}: is {kind}; expected a regular file" in begin.stderr
        (root / name).unlink()


def test_entry_of_a_list_that_is_no_name_is_one_line(make_folder: Maker) -> None:
    root = make_folder(SPOKEN, lists=LISTS)
    for entry, shown in (
        ("x" * 100_000, "x" * 200 + r"\.\.\."),
        ("no/\x1b[31m.wav", r"'no/\\x1b\[31m\.wav'"),
        ("a\0b", ".*"),
    ):
        (root / "testing_list.txt").write_text(f"{entry}\n")
        with pytest.raises(DataError, match=rf"testing_list\.txt: line 1: {shown} does not exist$") as caught:
            open_data(f"folder:{root}")
        assert str(caught.value).isprintable()
        assert layout_faults(root) == [str(caught.value)]


def test_split_that_stays_empty_is_refused(make_folder: Maker) -> None:
    root = make_folder(SPOKEN, lists=LISTS | {"testing_list.txt": []})
    with pytest.raises(DataError, match=r"testing_list\.txt: leaves no recording for the split 'test' \(48 rec"):
        open_data(f"folder:{root}")


def test_too_few_recordings_to_split_are_refused(make_folder: Maker) -> None:
    root = make_folder(["no/1.wav", "no/2.wav", "yes/1.wav"])
    with pytest.raises(DataError, match=r"words: leaves no recording for the split 'valid' \(3 recordings in all\)"):
        open_data(f"folder:{root}")


def test_three_recordings_of_a_word_can_be_split(make_folder: Maker) -> None:
    dataset = open_data(f"folder:{make_folder([f'{word}/{n}.wav' for word in ('no', 'yes') for n in range(3)])}")
    assert [len(dataset.split(split)) for split in SPLITS] == [2, 2, 2]


def test_word_without_training_recordings_is_reported(make_folder: Maker, caplog: pytest.LogCaptureFixture) -> None:
    root = make_folder(
        [*SPOKEN, "zero/s01_nohash_0.wav"], lists=LISTS | {"testing_list.txt": ["zero/s01_nohash_0.wav"]}
    )
    open_data(f"folder:{root}")
    assert [record.getMessage() for record in caplog.records] == [f"{root}: no training recording of: zero"]


def test_rate_is_that_of_most_training_recordings(make_folder: Maker) -> None:
    make_folder(SPOKEN[:20], rate=8000)
    root = make_folder(SPOKEN[20:], rate=16000, lists=LISTS)
    assert open_data(f"folder:{root}").rate == 16000


def test_unknown_split_is_refused(make_folder: Maker) -> None:
    dataset = open_data(f"folder:{make_folder(SPOKEN)}")
    with pytest.raises(UsageError, match="unknown split 'dev': choose from train, valid, test"):
        dataset.split("dev")


@pytest.mark.parametrize("spec", ["", "digit", "folder", "folder:", "digits:", "shd", "ssc:", "gsc:", "SHD:x"])
def test_unknown_data_set_is_refused(spec: str) -> None:
    with pytest.raises(UsageError, match=f"unknown data set '{spec}': choose 'digits', 'folder:PATH', .* 'ssc:PATH'$"):
        open_data(spec)


def test_new_kind_is_an_entry(make_folder: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_folder(UNNAMED)
    mine = Kind(open=lambda place: open_folder(place.root, place.spec), words=("no", "yes"))
    monkeypatch.setitem(KINDS, "mine", mine)
    assert names(open_data(f"mine:{root}")) == names(open_data(f"folder:{root}"))
    assert inspect(f"mine:{root}").problems == []
    (root / "no").rename(root / "_no")
    assert f"{root / 'no'}: no such class folder" in inspect(f"mine:{root}").problems
    with pytest.raises(UsageError, match=r"choose 'digits', .* or 'mine:PATH'$"):
        open_data("other:x")


def test_bare_path_is_answered_with_the_right_spelling(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"did you mean 'folder:{tmp_path}'"):
        open_data(str(tmp_path))


def test_a_trained_network_finds_the_splits_that_it_was_trained_with(make_folder: Maker) -> None:
    for recordings, lists in ((SPOKEN, LISTS), (SPOKEN, {}), (UNNAMED, {})):
        root = make_folder(recordings, lists=lists)
        expected = open_data(f"folder:{root}", seed=3)
        assert open_data(f"folder:{root}", seed=3, known=("no", "yes")) == expected
        shutil.rmtree(root)


def test_all_recordings_are_the_three_splits(make_folder: Maker) -> None:
    dataset = open_data(f"folder:{make_folder(SPOKEN, lists=LISTS)}")
    assert sorted(item.name for item in dataset.split("all")) == sorted(SPOKEN)


def test_a_trained_network_takes_what_there_is(make_folder: Maker) -> None:
    """Test recordings alone, one word alone: labels are those of the network."""
    root = make_folder(["yes/a.wav", "yes/b.wav"], lists={"testing_list.txt": ["yes/a.wav", "yes/b.wav"]})
    (root / "no").mkdir()
    with pytest.raises(DataError, match=r"no recordings .* of this class"):
        open_data(f"folder:{root}")
    dataset = open_data(f"folder:{root}", known=("go", "no", "yes"))
    assert dataset.classes == ("go", "no", "yes")
    assert names(dataset) == {"train": [], "valid": [], "test": ["yes/a.wav", "yes/b.wav"]}
    assert {item.label for item in dataset.split("all")} == {2}


def test_recordings_without_a_word_have_no_label(make_folder: Maker) -> None:
    root = make_folder(["b.wav", "s00_nohash_1.wav", "_background_noise_/hum.wav"])
    dataset = open_data(f"folder:{root}", known=("no", "yes"))
    assert names(dataset) == {"train": [], "valid": [], "test": ["b.wav", "s00_nohash_1.wav"]}
    assert [(item.label, item.speaker) for item in dataset.split("all")] == [(NO_LABEL, None), (NO_LABEL, "s00")]


def test_words_that_a_network_does_not_know_are_refused(make_folder: Maker) -> None:
    root = make_folder(["no/1.wav", "maybe/1.wav"])
    with pytest.raises(
        UsageError,
        match="has the classes maybe, no, the network was trained on no, yes; choose a data set with the same",
    ):
        open_data(f"folder:{root}", known=("no", "yes"))


def test_a_folder_with_nothing_to_classify_is_refused(make_folder: Maker, tmp_path: Path) -> None:
    (tmp_path / "empty" / "no").mkdir(parents=True)
    with pytest.raises(DataError, match=r"empty: no recordings \(.wav, .flac and the like\) in it, or in a folder"):
        open_data(f"folder:{tmp_path / 'empty'}", known=("no", "yes"))
    with pytest.raises(DataError, match="no such folder"):
        open_data(f"folder:{tmp_path / 'none'}", known=("no", "yes"))
