"""From recordings to network input: data sets, log-mel or spike counts. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from spikescr.data.dataset import SPLITS, DataSet, Item
from spikescr.data.digits import open_digits
from spikescr.data.features import Features, fit_and_load, load
from spikescr.data.folder import open_folder, open_speech_commands
from spikescr.data.frontend import Preprocessing
from spikescr.data.heidelberg import HEIDELBERG, open_heidelberg
from spikescr.data.spikes import SpikeBins
from spikescr.errors import UsageError
from spikescr.files import expanded

__all__ = [
    "CHOICES",
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

CHOICES = "'digits', 'folder:PATH', 'gsc:PATH', 'shd:PATH' or 'ssc:PATH'"


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
    kind, _, place = spec.partition(":")
    root = expanded(Path(place))
    if spec == "digits":
        return open_digits(cache)
    if kind == "folder" and place:
        return open_folder(root, spec, seed=seed)
    if kind == "gsc" and place:
        return open_speech_commands(root, spec)
    if kind in HEIDELBERG and place:
        return open_heidelberg(kind, root, spec, cache=cache)
    hint = f"; did you mean 'folder:{spec}'?" if spec and Path(spec).is_dir() else ""
    raise UsageError(f"unknown data set '{spec}': choose {CHOICES}{hint}")
