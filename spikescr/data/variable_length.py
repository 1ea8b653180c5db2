"""Lengths that an HDF5 field of variable length promises: HDF5 believes them, and allocates before it reads a value.

In the file a value is a length (4 bytes), an address and a number in a heap (4 bytes): HDF5 file format specification
3.0, VIII.B. Its elements stand in the heap, uncompressed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np


def require_possible_lengths(field: Any, begin: int, end: int) -> None:
    """Refuses rows that promise more elements than the whole file has room for.

    Lengths that are themselves compressed are not seen.

    Args:
        field: A field (h5py.Dataset) of one axis, of a file opened by name; one of values of a fixed length passes.
        begin: First row.
        end: The row after the last.

    Raises:
        ValueError: They promise more; each row alone may still be good.
        OSError, RuntimeError: The table of chunks is damaged.
    """
    import h5py

    element = h5py.check_vlen_dtype(field.dtype)
    if element is None or field.file.userblock_size or field.id.get_create_plist().get_nfilters():
        return
    handle = field.file.id.get_vfd_handle()
    address_bytes, _ = field.file.id.get_create_plist().get_sizes()
    row = np.dtype([("length", "<u4"), ("place", f"V{address_bytes + 4}")])
    promised = sum(
        int(np.frombuffer(stored[: len(stored) // row.itemsize * row.itemsize], row)["length"].sum(dtype=np.int64))
        for stored in (os.pread(handle, count * row.itemsize, at) for at, count in _places(field, row, begin, end))
    )
    if promised * np.dtype(element).itemsize > os.fstat(handle).st_size:
        raise ValueError(f"{promised:,} values are promised, more than the file has room for")


def _places(field: Any, row: np.dtype[Any], begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield place in the file and number of each stretch of rows that is stored in one piece."""
    if field.chunks is None:
        offset = field.id.get_offset()
        if offset is not None:  # else nothing was written, or the header holds the rows
            yield offset + begin * row.itemsize, end - begin
        return
    (chunk,) = field.chunks
    while begin < end:
        first = begin // chunk * chunk
        stop = min(end, first + chunk)
        offset = field.id.get_chunk_info_by_coord((first,)).byte_offset
        if offset is not None:
            yield offset + (begin - first) * row.itemsize, stop - begin
        begin = stop
