"""Archives of arrays (.npz) as files may hold them: what is in one is declared, and checked once when it is read.

Nothing is unpickled, and sizes are looked at before anything is unpacked: 5 MB can unpack to 5 GB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from spikescr.errors import SpikescrError
from spikescr.sizes import require_memory
from spikescr.strangers import DAMAGE, require_regular_file

_KINDS = {"i": "whole numbers", "f": "numbers", "b": "true or false", "U": "text"}
_FITS = {"i": "iub", "f": "fiu", "b": "b", "U": "U"}
LARGEST = 2**60
"""The largest whole number, of either sign: no count comes near, and a few of them can be added in 64 bits."""


@dataclass(frozen=True)
class Field:
    """What an array of an archive must be.

    Attributes:
        kind: "i" for integers, "f" for finite numbers, "b" for bool, "U" for text.
        shape: sizes of the axes; a name stands for a size that is the same wherever it stands.
        lowest: the least value; None for any.
        highest: the largest; None for any.
        needed: whether it must be there.
    """

    kind: str
    shape: tuple[int | str, ...] = ()
    lowest: float | None = None
    highest: float | None = None
    needed: bool = True

    @staticmethod
    def like(array: NDArray[Any], name: str) -> Field:
        """What an array must be that is to be added to another; where that has no entries, any number of them."""
        kind = {"u": "i"}.get(array.dtype.kind, array.dtype.kind)
        return Field(kind, tuple(size or f"{name}.{axis}" for axis, size in enumerate(array.shape)))

    def fault(self, array: NDArray[Any] | bytes, sizes: dict[str, int]) -> str | None:
        """What is wrong with an array, None where nothing is; sizes that have a name are looked up or added."""
        # NumPy gives the bytes of a member that is not in its format.
        if not isinstance(array, np.ndarray) or array.dtype.kind not in _FITS[self.kind]:
            return f"must be {_KINDS[self.kind]}, is {getattr(array, 'dtype', 'no array')}"
        named = zip(self.shape, array.shape, strict=False)
        expected = tuple(sizes.setdefault(n, size) if isinstance(n, str) else n for n, size in named)
        if len(array.shape) != len(self.shape) or array.shape != expected:
            axes = ", ".join(f"{n} = {sizes[n]}" if n in sizes else str(n) for n in map(str, self.shape))
            return f"must have the shape ({axes}), has {array.shape}"
        return self._values_fault(array) if array.size and array.dtype.kind in "iuf" else None

    def _values_fault(self, array: NDArray[Any]) -> str | None:
        least, most = array.min(), array.max()
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return f"holds {array[~np.isfinite(array)].flat[0]}, which is no number that can be used"
        if array.dtype.kind != "f" and not -LARGEST <= int(least) <= int(most) <= LARGEST:
            return f"holds {max(least, most, key=lambda value: abs(int(value)))}, which is no count"
        if self.lowest is not None and least < self.lowest:
            return f"must be {self.lowest:g} or more, holds {least}"
        if self.highest is not None and most > self.highest:
            return f"must be {self.highest:g} or less, holds {most}"
        return None


def read_archive(
    path: Path, fields: Mapping[str, Field], remedy: str, sizes: Mapping[str, int] | None = None
) -> dict[str, NDArray[Any]]:
    """The arrays of an archive that are declared, each as declared; others are left alone.

    Args:
        path: the file.
        fields: what must be in it.
        remedy: what to do about a file that is not so, as an imperative.
        sizes: of axes by name, those that are known.

    Raises:
        SpikescrError: the file is no archive, damaged, or something in it is missing or not as declared; the message
            names file, array and value.
        UsageError: unpacked, it would take more memory than is allowed.
        OSError: it cannot be read.
    """
    require_regular_file(path, SpikescrError)
    try:
        with ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            names = [name.removesuffix(".npy") for name in archive.namelist()]
    except OSError:
        raise
    except DAMAGE as error:  # also what asks for a later version of the format, or says it lies on several disks
        raise SpikescrError(f"{path}: damaged ({error}); {remedy}") from error
    require_memory(size, f"{path}, unpacked,", remedy)
    values, known = dict[str, NDArray[Any]](), dict(sizes or {})
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for name, field in fields.items():
                if name not in names and not field.needed:
                    continue
                if name not in names:
                    raise SpikescrError(f"{path}: {name} is missing; {remedy}")
                values[name] = arrays[name]
                fault = field.fault(values[name], known)
                if fault is not None:
                    raise SpikescrError(f"{path}: {name} {fault}; {remedy}")
                if values[name].dtype == np.uint64:  # which cannot be added to the int64 of every sum
                    values[name] = values[name].astype(np.int64)
    except DAMAGE as error:
        raise SpikescrError(f"{path}: damaged ({error}); {remedy}") from error
    return values
