"""From recordings to network input: data sets, log-mel or spike counts. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from spikescr.data.dataset import SPLITS, DataSet, Item
from spikescr.data.features import Features, fit_and_load, load
from spikescr.data.kinds import KINDS, find_kind
from spikescr.data.preprocessing import Preprocessing
from spikescr.data.spikes import SpikeBins

__all__ = [
    "KINDS",
    "SPLITS",
    "DataSet",
    "Features",
    "Item",
    "Preprocessing",
    "SpikeBins",
    "fit_and_load",
    "load",
    "open_data",
]


def open_data(spec: str, *, seed: int = 0, cache: Path | None = None, known: tuple[str, ...] = ()) -> DataSet:
    """Open a data set by its name on the command line.

    Args:
        spec: `digits`, the embedded spoken digits; or KIND:PATH with one of the kinds `folder` (a folder in the layout
            of Google Speech Commands), `gsc` (Speech Commands v2 itself), `shd`, `ssc` (folders with the HDF5 files of
            the Heidelberg data sets, compressed or not).
        seed: Draws the splits of a folder that has no lists.
        cache: Folder in which embedded and unpacked data sets are kept; default: the environment variable
            `SPIKESCR_CACHE`, else `spikescr` in `XDG_CACHE_HOME` or `~/.cache`.
        known: Classes of the trained network that the recordings are for, in its order: a folder may then lack words,
            and splits, and labels (see `folder.open_collection`).

    Raises:
        UsageError: There is no such data set.
        DataError: Its files cannot be used, or not be made.
    """
    kind, place = find_kind(spec, seed=seed, cache=cache, known=known)
    return kind.open(place)
