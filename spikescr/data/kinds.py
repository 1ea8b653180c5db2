"""The data sets that there are. A new one is a reader, an entry here and recipes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from spikescr.data.dataset import SPLITS, DataSet
from spikescr.data.digits import open_digits
from spikescr.data.folder import SPEECH_COMMANDS, open_collection, open_folder, open_speech_commands
from spikescr.data.heidelberg import open_heidelberg
from spikescr.data.published import PublishedFile, PublishedSet
from spikescr.errors import UsageError
from spikescr.files import expanded

ZENKE_LAB = "https://zenkelab.org/datasets"
GOOGLE = "https://storage.googleapis.com/download.tensorflow.org/data"


@dataclass(frozen=True)
class Place:
    """Where a data set is, as `open_data` was told.

    Attributes:
        kind: Its key in `KINDS`.
        root: The folder; of an embedded data set the current one.
        spec: What the user called it.
        seed: Draws splits.
        cache: Folder of the cache; default: see `cache_folder`.
        known: Classes of the network that the recordings are for, in its order; empty: none is trained yet.
    """

    kind: str
    root: Path
    spec: str
    seed: int = 0
    cache: Path | None = None
    known: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kind:
    """A kind of data set.

    Attributes:
        open: The reader; it may leave recordings unread until they are asked for.
        signal: "values" for recordings of sound, which the network is given as log-mel spectrograms; "spikes" for
            recordings of spikes, which it is given as counts.
        embedded: Made here, so that it has no path.
        splits: What is on the disk; of spikes a file each.
        words: Class folders that must be there; empty where any will do.
        published: Where it can be downloaded, and what is there.
    """

    open: Callable[[Place], DataSet]
    signal: Literal["values", "spikes"] = "values"
    embedded: bool = False
    splits: tuple[str, ...] = SPLITS
    words: tuple[str, ...] = ()
    published: PublishedSet | None = None


def _folder(place: Place) -> DataSet:
    if place.known:
        return open_collection(place.root, place.spec, place.known, seed=place.seed)
    return open_folder(place.root, place.spec, seed=place.seed)


def _heidelberg(place: Place) -> DataSet:
    return open_heidelberg(place.kind, KINDS[place.kind].splits, place.root, place.spec, cache=place.cache)


# Checksums: SHD as in SpikingJelly 2.0.0 (datasets/shd.py) and tonic, SSC as in tonic (datasets/hsd.py), Speech
# Commands as in torchaudio (datasets/speechcommands.py). Numbers of recordings: arXiv 2412.12858, table 1.
KINDS = {
    "digits": Kind(open=lambda place: open_digits(place.cache), embedded=True),
    "folder": Kind(open=_folder),
    "gsc": Kind(
        open=lambda place: open_speech_commands(place.root, place.spec),
        words=SPEECH_COMMANDS,
        published=PublishedSet(
            base=GOOGLE,
            files=(
                PublishedFile(
                    "speech_commands_v0.02.tar.gz",
                    "sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
                ),
            ),
            recordings={"train": 84843, "valid": 9981, "test": 11005},
            classes=35,
            gigabytes=6,
            licence="CC BY 4.0",
        ),
    ),
    "shd": Kind(
        open=_heidelberg,
        signal="spikes",
        splits=("train", "test"),
        published=PublishedSet(
            base=ZENKE_LAB,
            files=(
                PublishedFile("shd_train.h5.zip", "md5:f3252aeb598ac776c1b526422d90eecb"),
                PublishedFile("shd_test.h5.zip", "md5:1503a5064faa34311c398fb0a1ed0a6f"),
            ),
            recordings={"train": 8156, "test": 2264},
            classes=20,
            gigabytes=0.6,
            licence="CC BY 4.0",
        ),
    ),
    "ssc": Kind(
        open=_heidelberg,
        signal="spikes",
        published=PublishedSet(
            base=ZENKE_LAB,
            files=(
                PublishedFile("ssc_train.h5.zip", "md5:d102be95e7144fcc0553d1f45ba94170"),
                PublishedFile("ssc_valid.h5.zip", "md5:b4eee3516a4a90dd0c71a6ac23a8ae43"),
                PublishedFile("ssc_test.h5.zip", "md5:a35ff1e9cffdd02a20eb850c17c37748"),
            ),
            recordings={"train": 75466, "valid": 9981, "test": 20382},
            classes=35,
            gigabytes=6,
            licence="CC BY 4.0",
        ),
    ),
}


def find_kind(
    spec: str, *, seed: int = 0, cache: Path | None = None, known: tuple[str, ...] = ()
) -> tuple[Kind, Place]:
    """Understand the name of a data set; nothing is opened.

    Args:
        spec: As `open_data` takes it.
        seed: Draws splits.
        cache: Folder of the cache; default: see `cache_folder`.
        known: Classes of the network that the recordings are for.

    Raises:
        UsageError: There is no such data set.
    """
    name, colon, place = spec.partition(":")
    kind = KINDS.get(name)
    if kind is not None and (not colon if kind.embedded else bool(place)):
        return kind, Place(name, expanded(Path(place)), spec, seed, cache, known)
    *some, last = (f"'{name}'" if kind.embedded else f"'{name}:PATH'" for name, kind in KINDS.items())
    hint = f"; did you mean 'folder:{spec}'?" if spec and Path(spec).is_dir() else ""
    raise UsageError(f"unknown data set '{spec}': choose {', '.join(some)} or {last}{hint}")
