"""Data sets on disk in the layout of Google Speech Commands.

A folder per word with recordings in it (WAV, FLAC, whatever libsndfile reads); `validation_list.txt` and
`testing_list.txt` at the top name the recordings of these splits, one relative path per line; what they do not name is
for training. Source of the layout: P. Warden, Speech Commands, arXiv 1804.03209.
"""

from __future__ import annotations

import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from spikescr.data.audio import is_recording
from spikescr.data.dataset import NO_LABEL, SPLITS, DataSet, Item
from spikescr.errors import DataError, UsageError
from spikescr.quantities import one_line
from spikescr.sizes import require_memory
from spikescr.strangers import open_regular

logger = logging.getLogger(__name__)

LISTS = {"valid": "validation_list.txt", "test": "testing_list.txt"}
HELD_OUT = 0.1
"""Share of the recordings that a split gets which no list names."""

SPEECH_COMMANDS = (
    *("backward", "bed", "bird", "cat", "dog", "down", "eight", "five", "follow", "forward", "four", "go", "happy"),
    *("house", "learn", "left", "marvin", "nine", "no", "off", "on", "one", "right", "seven", "sheila", "six", "stop"),
    *("three", "tree", "two", "up", "visual", "wow", "yes", "zero"),
)
"""The words of version 2, sorted; `_background_noise_` is no word."""

_SPEAKER = re.compile(r"(?P<speaker>.+)_nohash_\d+$")


def open_folder(root: Path, spec: str, *, seed: int = 0, classes: Sequence[str] | None = None) -> DataSet:
    """Open a folder of recordings; no recording is read.

    A split without a list gets `HELD_OUT` of all recordings, drawn with `seed` from what the lists leave: whole
    speakers where every name tells its speaker and they are enough for that, else files, word by word. The draw depends
    on the names and the seed only.

    Args:
        root: The folder.
        spec: What the user called it.
        seed: Of the draw.
        classes: Class folders in order; default: all, sorted, except those beginning with `_` or `.`.

    Raises:
        DataError: A folder is missing, unreadable or without recordings; there is one class only; a name is not UTF-8;
            a list is no text or names what is not there; a split is empty.
    """
    _refuse_odd_name(spec, root)
    try:
        for list_name in LISTS.values():
            if (root / list_name).is_dir():
                raise DataError(f"{root / list_name}: is a folder; expected a text file with one recording per line")
        words = tuple(classes) if classes is not None else _class_folders(root)
        items = [item for label, word in enumerate(words) for item in _recordings(root, word, label)]
    except OSError as error:
        raise DataError(f"{error.filename or root}: cannot be read: {error.strerror}") from error
    items.sort(key=lambda item: item.name)
    splits = _split(root, items, np.random.default_rng(seed))
    for name in SPLITS:
        if not splits[name]:
            source = root / LISTS[name] if name in LISTS and (root / LISTS[name]).exists() else root
            raise DataError(f"{source}: leaves no recording for the split '{name}' ({len(items)} recordings in all)")
    unheard = sorted(set(range(len(words))) - {item.label for item in splits["train"]})
    if unheard:
        logger.warning("%s: no training recording of: %s", root, ", ".join(words[label] for label in unheard))
    return DataSet(spec=spec, classes=words, root=root, items=splits)


def open_collection(root: Path, spec: str, known: Sequence[str], *, seed: int = 0) -> DataSet:
    """Open recordings for a network that is trained already; no recording is read.

    A folder need not have all that one to train on must: words may be missing, and splits may be empty. Splits are
    those of `open_folder`. Recordings that lie in the folder itself, where there are no class folders, have no labels;
    they are all in the split `test`.

    Args:
        root: The folder.
        spec: What the user called it.
        known: Names of the classes that the network tells apart, in its order.
        seed: Of the draw.

    Raises:
        DataError: As `open_folder`, splits and missing words aside; or there is no recording at all.
        UsageError: A word is none of the network's.
    """
    _refuse_odd_name(spec, root)
    if not root.is_dir():
        raise DataError(f"{root}: not a folder" if root.exists() else missing(root, "folder"))
    try:
        words = _words(root)
        items = [
            replace(item, label=known.index(word) if word in known else NO_LABEL)
            for word in words
            for item in _recordings(root, word, NO_LABEL, required=False)
        ]
        loose = [] if items else _recordings(root, "", NO_LABEL, required=False)
    except OSError as error:
        raise DataError(f"{error.filename or root}: cannot be read: {error.strerror}") from error
    if any(item.label == NO_LABEL for item in items):
        raise UsageError(
            f"{spec} has the classes {_few(words)}, the network was trained on {_few(known)}; choose a data set with "
            "the same classes, or some of them"
        )
    if not items and not loose:
        raise DataError(f"{root}: no recordings (.wav, .flac and the like) in it, or in a folder for each word")
    items.sort(key=lambda item: item.name)
    splits = _split(root, items, np.random.default_rng(seed))
    if loose:
        splits["test"] = tuple(sorted(loose, key=lambda item: item.name))
    return DataSet(spec=spec, classes=tuple(known), root=root, items=splits)


def open_speech_commands(root: Path, spec: str) -> DataSet:
    """Open Speech Commands v2 as published: 35 words, both lists; no recording is read.

    Raises:
        DataError: As `open_folder`; or a list is missing.
    """
    if root.is_dir():
        for list_name in LISTS.values():
            if not (root / list_name).exists():
                raise DataError(
                    f"{root}: has no {list_name}, so it is not Speech Commands v2 as published; download that with "
                    f"'spikescr data get gsc --to {root}', or open a folder of your own with folder:PATH"
                )
    else:
        raise DataError(f"{missing(root, 'gsc')}; download it with: spikescr data get gsc --to {root}")
    return open_folder(root, spec, classes=SPEECH_COMMANDS)


def layout_faults(root: Path, words: Sequence[str] = ()) -> list[str]:
    """Return all that keeps a folder from being opened: class folders that are missing or empty, entries of lists.

    Args:
        root: The folder.
        words: Class folders that must be there; default: those that are.
    """
    faults = []
    if root.is_dir():
        for word in words or [
            path.name for path in sorted(root.iterdir()) if path.is_dir() and path.name[0] not in "_."
        ]:
            folder = root / word
            if not folder.is_dir():
                faults.append(f"{folder}: no such class folder")
            elif not any(is_recording(path) for path in folder.iterdir()):
                faults.append(f"{folder}: no recordings (.wav, .flac and the like) of this class")
        for path in (root / name for name in LISTS.values()):
            if path.is_file():
                entries = [(number, name) for number, name in _entries(path) if not _there(root / name)]
                faults += [f"{path}: line {number}: {one_line(name)} does not exist" for number, name in entries]
            elif words:
                faults.append(f"{path}: no such list")
    return faults


def _class_folders(root: Path) -> tuple[str, ...]:
    """Return the sorted names of the class folders in `root`."""
    if not root.is_dir():
        if root.exists():
            raise DataError(f"{root}: not a folder")
        raise DataError(missing(root, "folder"))
    words = _words(root)
    if not words:
        raise DataError(f"{root}: no class folders in it (expected one folder per word)")
    if len(words) == 1:
        raise DataError(f"{root}: has one class folder, '{words[0]}'; at least two are needed")
    return tuple(words)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f", ... ({len(names)})" if len(names) > 4 else "")


def _words(root: Path) -> list[str]:
    """Return the sorted names of the folders in `root`, except those beginning with `_` or `.`."""
    words = sorted(path.name for path in root.iterdir() if path.is_dir() and path.name[0] not in "_.")
    for word in words:
        _refuse_odd_name(word, root / word)
    return words


def _recordings(root: Path, word: str, label: int, *, required: bool = True) -> list[Item]:
    """Return the recordings in one class folder, or with the empty word those in `root` itself."""
    items = []
    for path in (root / word).iterdir():
        if is_recording(path) and path.is_file():
            _refuse_odd_name(path.name, path)
            match = _SPEAKER.match(path.stem)
            name = f"{word}/{path.name}" if word else path.name
            items.append(Item(path, name, label, match["speaker"] if match else None))
    if required and not items:
        raise DataError(f"{root / word}: no recordings (.wav, .flac and the like) of this class")
    return items


def _refuse_odd_name(name: str, path: Path) -> None:
    """Raise DataError where a name from the file system is not UTF-8: no results file could hold it."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{_shown(path)}: the name is not UTF-8; rename it") from error


def missing(root: Path, kind: str) -> str:
    """Say that a data set's folder is not there; for a relative path, from where it was looked for."""
    if root.is_absolute():
        return f"{root}: no such folder"
    return (
        f"{root}: no such folder; a relative path starts at the current folder, {_shown(Path.cwd())}: "
        f"say where the data set is: {kind}:PATH (--data)"
    )


def _shown(path: Path) -> str:
    """Return a path as text that can be printed: bytes that are not UTF-8 appear as escapes."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _split(root: Path, items: list[Item], rng: np.random.Generator) -> dict[str, tuple[Item, ...]]:
    """Divide the sorted `items` by the lists in `root`; draw where there is no list."""
    by_name = {item.name: item for item in items}
    split_of: dict[str, str] = {}
    drawn = []
    for split, list_name in LISTS.items():
        path = root / list_name
        if not path.exists():
            drawn.append(split)
            continue
        for number, name in _entries(path):
            if name not in by_name:
                there = "is not a recording in a class folder" if _there(root / name) else "does not exist"
                raise DataError(f"{path}: line {number}: {one_line(name)} {there}")
            if split_of.setdefault(name, split) != split:
                raise DataError(f"{path}: line {number}: {name} is in {LISTS[split_of[name]]} too")
    quota = round(HELD_OUT * len(items))
    rest = [item for item in items if item.name not in split_of]
    split_of |= _draw_speakers(rest, drawn, quota, rng) or _draw_files(rest, drawn, rng)
    return {split: tuple(item for item in items if split_of.get(item.name, "train") == split) for split in SPLITS}


def _entries(path: Path) -> Iterable[tuple[int, str]]:
    """Yield line number and relative path of each entry of a list file."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            require_memory(5 * size, f"{path}: a list of {size:,} bytes", "is it a list of recordings?", DataError)
            text = file.read().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file in UTF-8: {error.reason} at byte {error.start}") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if name := line.strip():
            yield number, name.replace("\\", "/").removeprefix("./")


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name longer than any
        return False


def _draw_speakers(items: list[Item], splits: list[str], quota: int, rng: np.random.Generator) -> dict[str, str]:
    """Give each split whole speakers of at most `quota` recordings together.

    Returns:
        Name -> split of what was drawn; empty where a name tells no speaker or a split would stay empty.
    """
    by_speaker: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        if item.speaker is None:
            return {}
        by_speaker[item.speaker].append(item)
    free = dict.fromkeys(splits, quota)
    split_of: dict[str, str] = {}
    speakers = sorted(by_speaker)
    for index in rng.permutation(len(speakers)):
        spoken = by_speaker[speakers[index]]
        split = next((name for name in splits if len(spoken) <= free[name]), None)
        if split is not None:
            free[split] -= len(spoken)
            split_of |= {item.name: split for item in spoken}
    return split_of if set(split_of.values()) == set(splits) else {}


def _draw_files(items: list[Item], splits: list[str], rng: np.random.Generator) -> dict[str, str]:
    """Give each split `HELD_OUT` of each word's recordings, at least one of a word that leaves one for training."""
    by_label: dict[int, list[Item]] = defaultdict(list)
    for item in items:
        by_label[item.label].append(item)
    split_of: dict[str, str] = {}
    for label in sorted(by_label):
        spoken = by_label[label]
        share = max(1, round(HELD_OUT * len(spoken))) if len(spoken) > len(splits) else 0
        order = rng.permutation(len(spoken))
        for rank, split in enumerate(splits):
            split_of |= {spoken[index].name: split for index in order[rank * share : (rank + 1) * share]}
    return split_of
