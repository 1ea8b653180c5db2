"""From recordings to network input: data sets, log-mel front end, normalisation. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from spikescr.data.dataset import SPLITS, DataSet, Item
from spikescr.data.digits import open_digits
from spikescr.data.features import Features, fit_and_load, load
from spikescr.data.folder import open_folder
from spikescr.data.frontend import Preprocessing
from spikescr.errors import UsageError

__all__ = [
    "SPLITS",
    "DataSet",
    "Features",
    "Item",
    "Preprocessing",
    "fit_and_load",
    "load",
    "open_data",
]


def open_data(spec: str, *, seed: int = 0, cache: Path | None = None) -> DataSet:
    """Open a data set by its name on the command line.

    Args:
        spec: `digits`, the embedded spoken digits; or `folder:PATH`, a folder in the layout of Google Speech Commands.
        seed: Draws the splits of a folder that has no lists.
        cache: Folder in which embedded data sets are kept; default: the environment variable `SPIKESCR_CACHE`, else
            `spikescr` in `XDG_CACHE_HOME` or `~/.cache`.

    Raises:
        UsageError: There is no such data set.
        DataError: Its files cannot be used, or not be made.
    """
    kind, _, place = spec.partition(":")
    if spec == "digits":
        return open_digits(cache)
    if kind == "folder" and place:
        return open_folder(Path(place).expanduser(), spec, seed=seed)
    hint = f"; did you mean 'folder:{spec}'?" if spec and Path(spec).is_dir() else ""
    raise UsageError(f"unknown data set '{spec}': choose 'digits' or 'folder:PATH'{hint}")
