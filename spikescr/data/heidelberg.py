"""The Heidelberg data sets of spikes, SHD and SSC, as published: an HDF5 file per split.

How a file is laid out is told in `spikescr.data.spike_file`. It may still be compressed as published (`.h5.gz`,
`.h5.zip`).

SSC comes with a validation split. SHD does not: of its training speakers, the two with the highest numbers are held
out. This is how its authors made the test split, in which two of the twelve speakers appear alone; validation by
speaker left out is also the protocol of T. Nowotny et al., arXiv 2212.01232.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from spikescr.data.archives import PACKED, unpacked
from spikescr.data.dataset import SPLITS, DataSet, Item
from spikescr.data.folder import missing
from spikescr.data.spike_file import opened
from spikescr.errors import DataError

logger = logging.getLogger(__name__)

HELD_OUT_SPEAKERS = 2


def open_heidelberg(name: str, splits: tuple[str, ...], root: Path, spec: str, *, cache: Path | None = None) -> DataSet:
    """Open a folder with the published files; each is opened when its split is asked for, the test file never before.

    Args:
        name: First part of the files' names.
        splits: Of which there is a file; without one for validation, speakers are held out of the training file.
        root: The folder.
        spec: What the user called it.
        cache: Where a compressed file is unpacked to; default: see `cache_folder`.

    Raises:
        DataError: The training file is missing or not as published.
    """
    classes = read_classes(find_file(name, root, "train", cache))
    return DataSet(
        spec=spec, classes=classes, root=root, items=_Splits(name, splits, root, classes, cache), signal="spikes"
    )


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


def read_classes(path: Path) -> tuple[str, ...]:
    """Return the names of the classes, in the order of the labels.

    Raises:
        DataError: The file is not as published.
    """
    with opened(path) as file:
        return file.classes()


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
    with opened(path) as file:
        own_classes = file.classes()
        if own_classes != classes:
            raise DataError(
                f"{path}: its classes are {', '.join(own_classes)}, the training file's {', '.join(classes)}"
            )
        labels = file.labels()
        who: list[str | None] = [None] * len(labels)
        if speakers:
            who = [str(number) for number in file.speakers()]
    wrong = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if len(wrong):
        raise DataError(f"{path}: recording {wrong[0]} has label {labels[wrong[0]]}; there are {len(classes)} classes")
    return tuple(
        Item(path, f"{prefix}/{index:06d}", int(label), speaker, index)
        for index, (label, speaker) in enumerate(zip(labels, who, strict=True))
    )


class _Splits(Mapping[str, tuple[Item, ...]]):
    """The recordings of each split, read when asked for."""

    def __init__(
        self, name: str, splits: tuple[str, ...], root: Path, classes: tuple[str, ...], folder: Path | None
    ) -> None:
        self.name = name
        self.splits = splits
        self.root = root
        self.classes = classes
        self.folder = folder
        self._read: Callable[[str], tuple[Item, ...]] = functools.cache(self._read_file)

    def __getitem__(self, split: str) -> tuple[Item, ...]:
        if split not in SPLITS:
            raise KeyError(split)
        if "valid" in self.splits or split == "test":
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
        return read_items(path, self.classes, prefix=split, speakers="valid" not in self.splits)


def _held_out(items: tuple[Item, ...]) -> frozenset[str]:
    """Return the `HELD_OUT_SPEAKERS` highest numbers, fewer where that would leave nobody to train on."""
    numbers = sorted({int(item.speaker) for item in items if item.speaker is not None})
    count = min(HELD_OUT_SPEAKERS, len(numbers) - 1)
    return frozenset(str(number) for number in numbers[len(numbers) - count :])
