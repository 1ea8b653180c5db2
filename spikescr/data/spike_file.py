"""An HDF5 file of recordings of spikes, laid out as SHD and SSC are published.

`spikes/times` (seconds, floating point; published as float16) and `spikes/units` (integers; uint16) have an array per
recording, of variable length or, as rows of a matrix, of one length; `labels` its class; `extra/keys` the names of the
classes; SHD also has `extra/speaker` per recording. Source: B. Cramer et al., IEEE Transactions on Neural Networks and
Learning Systems 33, 2744 (2022), https://zenkelab.org/resources/spiking-heidelberg-datasets-shd/.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spikescr.data.spikes import Times, Units
from spikescr.data.variable_length import require_possible_lengths
from spikescr.errors import DataError
from spikescr.sizes import require_memory
from spikescr.strangers import open_hdf5

TIMES, UNITS, LABELS, KEYS, SPEAKERS = "spikes/times", "spikes/units", "labels", "extra/keys", "extra/speaker"
REMEDY = "download it again, or lay it out as SHD is published"
BLOCK = 256
"""Recordings read at once."""
_BYTES = 500
"""Memory that a recording takes as an item of a data set, about."""
DAMAGE = (OSError, RuntimeError, ValueError, TypeError, KeyError, MemoryError)
"""What h5py raises of a damaged field."""


class SpikeFile:
    """An open file; every error names file and field.

    Attributes:
        path: The file.
    """

    def __init__(self, file: Any, path: Path) -> None:
        """Check the fields that every file has, by type and shape; no values are read.

        Raises:
            DataError: A field is missing, of another type or another length.
        """
        self.path = path
        self._file = file
        self._count = count = len(self._field(LABELS, "iuf", "whole numbers"))
        row_bytes = 0
        for name, kinds, what in ((TIMES, "f", "times in floating point"), (UNITS, "iu", "whole numbers")):
            field = self._field(name, kinds, f"{what}, an array for each recording", axes=2)
            if len(field) != count:
                raise DataError(f"{path}: '{name}' has {len(field)} recordings, '{LABELS}' has {count}; {REMEDY}")
            row_bytes += field.dtype.itemsize * math.prod(field.shape[1:])
        if not count:
            raise DataError(f"{path}: has no recordings; {REMEDY}")
        require_memory(
            count * _BYTES + min(count, BLOCK) * row_bytes,
            f"{path}: a file that promises {count:,} recordings",
            "divide it, if its header tells the truth",
            DataError,
        )

    def __len__(self) -> int:
        return self._count

    def labels(self) -> npt.NDArray[np.int64]:
        """Return the label of each recording.

        Raises:
            DataError: One is no whole number, or the field is damaged.
        """
        return self._integers(LABELS)

    def speakers(self) -> npt.NDArray[np.int64]:
        """Return the number of each recording's speaker.

        Raises:
            DataError: There is none for each, one is no whole number, or the field is damaged.
        """
        count = len(self._field(SPEAKERS, "iuf", "whole numbers")) if SPEAKERS in self._file else 0
        if count != len(self):
            raise DataError(
                f"{self.path}: has no '{SPEAKERS}' with a number for each recording ({count} of {len(self)}); {REMEDY}"
            )
        return self._integers(SPEAKERS)

    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes, in the order of the labels.

        Raises:
            DataError: They are no names, not different, or fewer than two.
        """
        if KEYS not in self._file:
            raise DataError(f"{self.path}: has no field '{KEYS}' with the names of the classes; {REMEDY}")
        self._field(KEYS, "SiuT", "names of classes")
        keys = self._whole_field(KEYS).tolist()
        try:
            names = tuple(key.decode() if isinstance(key, bytes) else str(key) for key in keys)
        except UnicodeDecodeError as error:
            raise DataError(f"{self.path}: '{KEYS}' is not UTF-8 ({error.object!r}); {REMEDY}") from error
        for index, name in enumerate(names):
            if not name or not name.isprintable():
                raise DataError(f"{self.path}: '{KEYS}' has {name!r} as name of class {index}; {REMEDY}")
        if len(set(names)) != len(names) or len(names) < 2:
            raise DataError(
                f"{self.path}: '{KEYS}' must name different classes, has {', '.join(names) or 'none'}; {REMEDY}"
            )
        return names

    def spikes(self, index: int) -> tuple[Times, Units]:
        """Return times in seconds and units of one recording's spikes.

        Raises:
            DataError: They are damaged; the message tells the field, not where.
        """
        try:
            self._require_possible_lengths(index, index + 1)
            return self._file[TIMES][index], self._file[UNITS][index]
        except DAMAGE as error:
            raise DataError(f"its spikes are damaged ({_reason(error)})") from error

    def recordings(self) -> Iterator[tuple[Times, Units] | DataError]:
        """Yield times and units of every recording, read in blocks, or of one that is damaged the error of `spikes`."""
        for begin in range(0, len(self), BLOCK):
            block = slice(begin, begin + BLOCK)
            try:
                self._require_possible_lengths(begin, min(begin + BLOCK, len(self)))
                read: list[tuple[Times, Units] | DataError] = [
                    *zip(self._file[TIMES][block], self._file[UNITS][block], strict=True)
                ]
            except DAMAGE:
                read = [self._spikes_or_error(index) for index in range(*block.indices(len(self)))]
            yield from read

    def _require_possible_lengths(self, begin: int, end: int) -> None:
        for name in (TIMES, UNITS):
            require_possible_lengths(self._file[name], begin, end)

    def _spikes_or_error(self, index: int) -> tuple[Times, Units] | DataError:
        try:
            return self.spikes(index)
        except DataError as error:
            return error

    def _field(self, name: str, kinds: str, what: str, *, axes: int = 1) -> Any:
        """Return a field whose values are of one of the `kinds` of NumPy ("T": text), one axis per dimension.

        A variable length counts as an axis.
        """
        import h5py

        if name not in self._file:
            raise DataError(f"{self.path}: has no field '{name}'; {REMEDY}")
        with self._told(name):
            field = self._file[name]
            if not isinstance(field, h5py.Dataset):
                found = "a group"
            elif field.shape is None:
                found = "nothing (null)"
            else:
                kind, variable = _kind(field.dtype)
                if kind not in kinds or field.ndim + variable != axes:
                    found = _described(field)
                elif variable and not np.dtype(h5py.check_vlen_dtype(field.dtype)).isnative:
                    found = f"{_described(field)}, whose byte order h5py ignores"
                else:
                    return field
        raise DataError(f"{self.path}: '{name}' must hold {what}, holds {found}; {REMEDY}")

    def _integers(self, name: str) -> npt.NDArray[np.int64]:
        values = self._whole_field(name)
        with np.errstate(invalid="ignore"):
            whole = values.astype(np.int64)
        wrong = np.flatnonzero(whole != values)
        if len(wrong):
            raise DataError(
                f"{self.path}: '{name}' has {values[wrong[0]]} for recording {wrong[0]}; expected a whole number"
            )
        return whole

    def _whole_field(self, name: str) -> npt.NDArray[Any]:
        require_memory(2 * self._file[name].nbytes, f"{self.path}: '{name}'", REMEDY, DataError)
        with self._told(name):
            return np.asarray(self._file[name][:])

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        """Turn what h5py raises of a damaged field into one line."""
        try:
            yield
        except DAMAGE as error:
            raise DataError(f"{self.path}: '{name}' is damaged ({_reason(error)}); download it again") from error


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _kind(dtype: np.dtype[Any]) -> tuple[str, bool]:
    """Return NumPy's kind of the values, "T" for text of variable length, and whether a value is an array of them."""
    import h5py

    if dtype.kind == "O" and h5py.check_string_dtype(dtype) is not None:
        return "T", False
    if (element := h5py.check_vlen_dtype(dtype)) is not None:
        return _kind(np.dtype(element))[0], True
    return dtype.kind, False


def _described(field: Any) -> str:
    """Say what a field holds."""
    import h5py

    kind, variable = _kind(field.dtype)
    base = np.dtype(h5py.check_vlen_dtype(field.dtype)) if variable else field.dtype
    if h5py.check_ref_dtype(base) is not None:
        held = "references"
    elif kind in "ST":
        held = "text"
    elif base.names is not None:
        held = f"records of {', '.join(base.names)}"
    else:
        held = str(base)
    return f"{'variable length of ' * variable}{held}, shape {field.shape}"


@contextmanager
def opened(path: Path) -> Iterator[SpikeFile]:
    """Open a file of spikes and refuse one that is not laid out as published.

    Raises:
        DataError: It cannot be read, or a field is missing, of another type or of another length.
    """
    with open_hdf5(path) as file:
        yield SpikeFile(file, path)
