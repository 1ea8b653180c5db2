"""Binned recordings of spikes: made once per file and bins, kept in the cache, mapped into memory from there.

An entry is a folder: `counts.npy` (n, T, C), zeros in padded steps; `lengths.npy` (n,), the recordings' own steps,
beyond the window too; `faults.json`, what is wrong with recordings that cannot be read, by number, of which counts and
lengths are 0; `header.json`, what it was made from. Counts are bytes, or 16-bit numbers where a bin needs them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from spikescr.data.archives import free_bytes
from spikescr.data.cache import cache_folder, one_at_a_time, publish, workshop
from spikescr.data.spike_file import opened
from spikescr.data.spikes import SpikeBins, densest_stretch
from spikescr.errors import DataError, UsageError
from spikescr.files import write_text
from spikescr.progress import track
from spikescr.quantities import si
from spikescr.sizes import require_memory

FORMAT = 2
"""Raised when the same file and bins would give other counts."""

_Faults = TypeAdapter(dict[int, str])

Counts: TypeAlias = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Binned:
    """All recordings of a file, in bins.

    Attributes:
        counts: Shape (n, T, C), uint8 or uint16; of a file, mapped into memory: changes stay in this process.
        lengths: Steps of each recording, shape (n,), int64; 0 without a spike, more than T where it was cut.
        faults: What is wrong with each recording that cannot be read, by its number.
    """

    counts: Counts
    lengths: npt.NDArray[np.int64]
    faults: Mapping[int, str]

    @classmethod
    def from_file(cls, path: Path, bins: SpikeBins, *, cache: Path | None = None) -> Self:
        """Bin a file, or find it in the cache.

        Args:
            path: The HDF5 file, as published.
            bins: How.
            cache: Folder of the cache; default: see `cache_folder`.

        Raises:
            UsageError: So many steps fit neither memory nor disk.
            DataError: A bin has too many spikes, or the cache cannot be written or is damaged.
        """
        status = path.stat()
        source = {"path": str(path.resolve()), "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
        header = json.dumps({"format": FORMAT, "source": source, "bins": bins.model_dump()}, indent=1) + "\n"
        key = hashlib.sha256(header.encode()).hexdigest()[:24]
        root = (cache or cache_folder()) / "binned" / key
        try:
            if not root.exists():
                with one_at_a_time(root):
                    if not root.exists():
                        _make(root, path, bins, header)
            return cls._read(root, header)
        except OSError as error:
            raise DataError(f"{error.filename or root}: the cache cannot be used: {error.strerror}") from error

    @classmethod
    def _read(cls, root: Path, header: str) -> Self:
        try:
            counts = np.load(root / "counts.npy", mmap_mode="c")
            lengths = np.load(root / "lengths.npy")
            whole = (root / "header.json").read_text(encoding="utf-8") == header and len(counts) == len(lengths)
            faults = _Faults.validate_json((root / "faults.json").read_bytes())
        except (ValueError, EOFError, FileNotFoundError) as error:
            raise DataError(f"{root}: damaged ({error}); delete this folder, it is made again") from error
        if not whole:
            raise DataError(f"{root}: does not fit its header; delete this folder, it is made again")
        return cls(counts, lengths, faults)


def _make(root: Path, path: Path, bins: SpikeBins, header: str) -> None:
    with workshop(root) as temporary:
        made = temporary / root.name
        made.mkdir()
        _require_space(made, path, bins)
        for dtype in (np.uint8, np.uint16):
            if _bin(made, path, bins, np.dtype(dtype)):
                break
        else:
            raise DataError(f"{path}: more than {np.iinfo(np.uint16).max} spikes in one bin; choose more steps")
        write_text(made / "header.json", header)
        publish(made, root)


def _require_space(made: Path, path: Path, bins: SpikeBins) -> None:
    """Refuse what does not fit the disk before hours go into it; one recording must fit the memory."""
    one = bins.window_steps * bins.bands
    what = f"a window of {bins.window_steps:,} steps and {bins.bands} channels"
    require_memory(20 * one, what, "choose fewer steps per second (--steps) or a shorter window")
    with opened(path) as file:
        needed, free = one * len(file), free_bytes(made)
    if needed > free:
        raise UsageError(
            f"{path}: binned, it takes {si(needed, 'B')} of disk, {made.parent.parent} has {si(free, 'B')}; "
            "choose fewer steps per second (--steps), or another disk (SPIKESCR_CACHE)"
        )


def _bin(made: Path, path: Path, bins: SpikeBins, dtype: np.dtype[Any]) -> bool:
    """Write counts and lengths; False where a count does not fit the type."""
    with opened(path) as file, (made / "counts.npy").open("wb") as target:
        total = len(file)
        shape = (total, bins.window_steps, bins.bands)
        lengths = np.zeros(total, dtype=np.int64)
        # Written, not mapped: a full disk is an error then, not the end of the process.
        description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(target, description)
        faults: dict[int, str] = {}
        for index, spikes in enumerate(track(file.recordings(), f"Binning {path.name}", total)):
            try:
                if isinstance(spikes, DataError):
                    raise spikes
                counts = bins.count(*spikes)
            except DataError as error:
                faults[index] = str(error)
                counts = np.zeros((0, bins.bands), np.intp)
            lengths[index] = len(counts)
            counts = densest_stretch(counts, bins.window_steps)
            if counts.size and counts.max() > np.iinfo(dtype).max:
                return False
            frames = np.zeros(shape[1:], dtype)
            frames[: len(counts)] = counts
            target.write(frames.data)
    np.save(made / "lengths.npy", lengths)
    write_text(made / "faults.json", json.dumps(faults) + "\n")
    return True
