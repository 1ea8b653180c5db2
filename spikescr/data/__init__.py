"""From recordings to network input: data sets, log-mel or spike counts. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from spikescr.data.dataset import SPLITS, DataSet, Item
from spikescr.data.features import Features, fit_and_load, load
from spikescr.data.frontend import Preprocessing
from spikescr.data.kinds import KINDS, find_kind
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


def open_data(spec: str, *, seed: int = 0, cache: Path | None = None) -> DataSet:
    """Open a data set by its name on the command line.

    Args:
        spec: `digits`, the embedded spoken digits; or KIND:PATH with one of the kinds `folder` (a folder in the layout
            of Google Speech Commands), `gsc` (Speech Commands v2 itself), `shd`, `ssc` (folders with the HDF5 files of
            the Heidelberg data sets, compressed or not).
        seed: Draws the splits of a folder that has no lists.
        cache: Folder in which embedded and unpacked data sets are kept; default: the environment variable
            `SPIKESCR_CACHE`, else `spikescr` in `XDG_CACHE_HOME` or `~/.cache`.

    Raises:
        UsageError: There is no such data set.
        DataError: Its files cannot be used, or not be made.
    """
    kind, place = find_kind(spec, seed=seed, cache=cache)
    return kind.open(place)
