"""The Heidelberg data sets of spikes, SHD and SSC, as published: an HDF5 file per split.

`spikes/times` (float16, seconds) and `spikes/units` (uint16) have an array of variable length per recording; `labels`
its class; `extra/keys` the names of the classes; SHD also has `extra/speaker` per recording. A file may still be
compressed as published (`.h5.gz`, `.h5.zip`). Source: B. Cramer et al., IEEE Transactions on Neural Networks and
Learning Systems 33, 2744 (2022), https://zenkelab.org/resources/spiking-heidelberg-datasets-shd/.

SSC comes with a validation split. SHD does not: of its training speakers, the two with the highest numbers are held
out. This is how its authors made the test split, in which two of the twelve speakers appear alone; validation by
speaker left out is also the protocol of T. Nowotny et al., arXiv 2212.01232.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from spikescr.data.archives import PACKED, unpacked
from spikescr.data.dataset import SPLITS, DataSet, Item
from spikescr.data.folder import missing
from spikescr.errors import DataError

logger = logging.getLogger(__name__)

HEIDELBERG = {"shd": ("train", "test"), "ssc": ("train", "valid", "test")}
"""The data sets and the splits that are published of each."""
HELD_OUT_SPEAKERS = 2


def open_heidelberg(name: str, root: Path, spec: str, *, cache: Path | None = None) -> DataSet:
    """Open a folder with the published files; each is opened when its split is asked for, the test file never before.

    Args:
        name: Which of the two.
        root: The folder.
        spec: What the user called it.
        cache: Where a compressed file is unpacked to; default: see `cache_folder`.

    Raises:
        DataError: The training file is missing or not as published.
    """
    classes = read_classes(find_file(name, root, "train", cache))
    return DataSet(spec=spec, classes=classes, root=root, items=_Splits(name, root, classes, cache), signal="spikes")


def find_file(name: str, root: Path, split: str, cache: Path | None = None) -> Path:
    """Return the HDF5 file of a split, unpacked into the cache where it is still compressed.

    Raises:
        DataError: There is none.
    """
    path = root / f"{name}_{split}.h5"
    if path.is_file():
        return path
    for suffix in PACKED:
        packed = path.with_name(path.name + suffix)
        if packed.is_file():
            return unpacked(packed, path.name, cache)
    if not root.is_dir():
        raise DataError(f"{missing(root, name)}; download it with: spikescr data get {name} --to {root}")
    raise DataError(
        f"{root}: has no {path.name} (nor {' nor '.join(path.name + suffix for suffix in PACKED)}); "
        f"download it with: spikescr data get {name} --to {root}"
    )


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open an HDF5 file and refuse one that is not laid out as published.

    Raises:
        DataError: It cannot be read, or a field is missing, of another type or of another length.
    """
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path}: no readable HDF5 file ({error}); download it again") from error
    with file:
        fields = {"labels": None, "spikes/times": np.dtype(np.float16), "spikes/units": np.dtype(np.uint16)}
        for field, base in fields.items():
            if field not in file or not isinstance(file[field], h5py.Dataset):
                raise DataError(f"{path}: has no field '{field}'")
            kind = h5py.check_vlen_dtype(file[field].dtype)
            if base is not None and kind != base:
                raise DataError(f"{path}: '{field}' must hold {base} of variable length, is {file[field].dtype}")
            if len(file[field]) != len(file["labels"]):
                raise DataError(
                    f"{path}: '{field}' has {len(file[field])} recordings, 'labels' has {len(file['labels'])}"
                )
        if not len(file["labels"]):
            raise DataError(f"{path}: has no recordings")
        try:
            yield file
        except OSError as error:  # a damaged chunk shows when it is read
            if error.errno is not None:  # not HDF5's: what the block itself could not read or write
                raise
            raise DataError(f"{path}: cannot be read ({error}); download it again") from error


def read_classes(path: Path) -> tuple[str, ...]:
    """Return the names of the classes, in the order of the labels.

    Raises:
        DataError: The file is not as published.
    """
    with opened(path) as file:
        if "extra/keys" not in file:
            raise DataError(f"{path}: has no field 'extra/keys' with the names of the classes")
        try:
            names = tuple(key.decode() if isinstance(key, bytes) else str(key) for key in file["extra/keys"][()])
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: 'extra/keys' is not UTF-8") from error
    if len(set(names)) != len(names) or len(names) < 2:
        raise DataError(f"{path}: 'extra/keys' must name different classes, has {', '.join(names) or 'none'}")
    return names


def read_items(path: Path, classes: tuple[str, ...], *, prefix: str, speakers: bool) -> tuple[Item, ...]:
    """Return the recordings of a file.

    Args:
        path: The HDF5 file.
        classes: The training file's classes.
        prefix: First part of the recordings' names.
        speakers: Whether the file tells speakers.

    Raises:
        DataError: Other classes, labels without a class, or no speakers.
    """
    found = read_classes(path)
    if found != classes:
        raise DataError(f"{path}: its classes are {', '.join(found)}, the training file's {', '.join(classes)}")
    with opened(path) as file:
        labels = np.asarray(file["labels"][()])
        who: list[str | None] = [None] * len(labels)
        if speakers:
            if "extra/speaker" not in file or len(file["extra/speaker"]) != len(labels):
                raise DataError(f"{path}: has no 'extra/speaker' with a number for each recording")
            who = [str(number) for number in file["extra/speaker"][()]]
    wrong = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if len(wrong):
        raise DataError(f"{path}: recording {wrong[0]} has label {labels[wrong[0]]}; there are {len(classes)} classes")
    return tuple(
        Item(path, f"{prefix}/{index:06d}", int(label), speaker, index)
        for index, (label, speaker) in enumerate(zip(labels, who, strict=True))
    )


class _Splits(Mapping[str, tuple[Item, ...]]):
    """The recordings of each split, read when asked for."""

    def __init__(self, name: str, root: Path, classes: tuple[str, ...], folder: Path | None) -> None:
        self.name = name
        self.root = root
        self.classes = classes
        self.folder = folder
        self._read: Callable[[str], tuple[Item, ...]] = functools.cache(self._read_file)

    def __getitem__(self, split: str) -> tuple[Item, ...]:
        if split not in SPLITS:
            raise KeyError(split)
        if self.name == "ssc" or split == "test":
            return self._read(split)
        items = self._read("train")
        held_out = _held_out(items)
        if not held_out:
            raise DataError(f"{self.root}: the training file has one speaker; none can be held out for validation")
        return tuple(item for item in items if (item.speaker in held_out) == (split == "valid"))

    def __iter__(self) -> Iterator[str]:
        return iter(SPLITS)

    def __len__(self) -> int:
        return len(SPLITS)

    def _read_file(self, split: str) -> tuple[Item, ...]:
        path = find_file(self.name, self.root, split, self.folder)
        return read_items(path, self.classes, prefix=split, speakers=self.name == "shd")


def _held_out(items: tuple[Item, ...]) -> frozenset[str]:
    """Return the `HELD_OUT_SPEAKERS` highest numbers, fewer where that would leave nobody to train on."""
    numbers = sorted({int(item.speaker) for item in items if item.speaker is not None})
    count = min(HELD_OUT_SPEAKERS, len(numbers) - 1)
    return frozenset(str(number) for number in numbers[len(numbers) - count :])
