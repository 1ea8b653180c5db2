"""What a data set is to the rest of the toolkit: classes, and recordings in three splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from spikescr.data.audio import read_rate
from spikescr.data.left_out import require_enough
from spikescr.errors import DataError, UsageError
from spikescr.progress import track

SPLITS = ("train", "valid", "test")
ALL = "all"
"""The splits together."""
NO_LABEL = -1
"""Label of a recording of which nobody says what it is."""


@dataclass(frozen=True)
class Item:
    """One recording.

    Attributes:
        path: The file; of a recording of spikes the HDF5 file in which it is one of many.
        name: Its path relative to the data set's root, with forward slashes, or file and index; unique in the data set.
        label: Index of its class, `NO_LABEL` where nobody tells.
        speaker: Who speaks, where the data set tells.
        index: Which of an HDF5 file's recordings it is; None for a recording of sound.
    """

    path: Path
    name: str
    label: int
    speaker: str | None = None
    index: int | None = None


@dataclass(frozen=True)
class DataSet:
    """Recordings of words, split for training, validation and test; each split is sorted by name.

    Attributes:
        spec: What `open_data` was given.
        classes: Names of the classes; a label is an index into them.
        root: The folder of the recordings.
        items: The recordings of each of `SPLITS`; a split may be read when it is asked for.
        signal: "values" for recordings of sound, "spikes" for recordings of spikes.
    """

    spec: str
    classes: tuple[str, ...]
    root: Path
    items: Mapping[str, tuple[Item, ...]] = field(repr=False)
    signal: Literal["values", "spikes"] = "values"

    def split(self, name: str) -> tuple[Item, ...]:
        """Return the recordings of the split `train`, `valid` or `test`, or of `all` three one after the other.

        Raises:
            UsageError: There is no split of that name.
        """
        if name == ALL:
            return tuple(item for split in SPLITS for item in self.items[split])
        if name not in SPLITS:
            raise UsageError(f"unknown split '{name}': choose from {', '.join(SPLITS)} or {ALL}")
        return self.items[name]

    @cached_property
    def rate(self) -> int:
        """The most frequent sampling rate in Hz among the training recordings, the highest of several.

        Reads the header of each training recording, once; those that cannot be read do not count.

        Raises:
            DataError: None of them can be read.
        """
        train = self.split("train")
        counts: Counter[int] = Counter()
        damaged: dict[str, str] = {}
        for item in track(train, "Reading headers", len(train)):
            try:
                counts[read_rate(item.path)] += 1
            except DataError as error:
                damaged[item.name] = str(error)
        if not counts:
            require_enough(damaged, len(train))
        return max(counts, key=lambda rate: (counts[rate], rate))
