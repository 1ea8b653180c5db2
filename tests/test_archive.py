"""Archives of arrays: what is declared is checked once, sizes before anything is unpacked."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikescr.archive import Field, read_archive
from spikescr.errors import SpikescrError, UsageError
from spikescr.sizes import memory_limited

FIELDS = {
    "counts": Field("i", ("operations", 2), lowest=0),
    "energy": Field("f", ("operations",)),
    "share": Field("f", lowest=0, highest=1),
    "name": Field("U"),
}
GOOD: dict[str, Any] = {"counts": np.ones((3, 2), np.uint8), "energy": np.ones(3), "share": 0.5, "name": "a", "more": 1}


def write(path: Path, **changed: Any) -> Path:
    arrays = {key: value for key, value in (GOOD | changed).items() if value is not None}
    np.savez(path, **arrays)
    return path


def test_what_is_as_declared_is_read_and_what_is_not_declared_left_alone(tmp_path: Path) -> None:
    found = read_archive(write(tmp_path / "a.npz"), FIELDS, "make it again")
    assert set(found) == set(FIELDS)
    assert found["counts"].tolist() == [[1, 1]] * 3


def test_whole_numbers_of_any_type_can_be_added_to_sums(tmp_path: Path) -> None:
    found = read_archive(write(tmp_path / "a.npz", counts=np.full((3, 2), 7, np.uint64)), FIELDS, "make it again")
    total = np.zeros((3, 2), np.int64)
    total += found["counts"]
    assert total.tolist() == [[7, 7]] * 3


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"counts": None}, "counts is missing"),
        ({"counts": np.full((3, 2), 0.5)}, "counts must be whole numbers, is float64"),
        ({"counts": np.full((3, 2), "x")}, "counts must be whole numbers, is <U1"),
        ({"counts": -np.ones((3, 2), int)}, "counts must be 0 or more, holds -1"),
        ({"counts": np.ones((3, 3), int)}, r"counts must have the shape (operations = 3, 2), has (3, 3)"),
        ({"counts": np.ones(3, int)}, "counts must have the shape (operations = 3, 2), has (3,)"),
        ({"energy": np.ones(4)}, "energy must have the shape (operations = 3), has (4,)"),
        ({"energy": np.array([1, np.nan, 1])}, "energy holds nan, which is no number that can be used"),
        ({"energy": np.array([1, np.inf, 1])}, "energy holds inf, which is no number that can be used"),
        ({"energy": np.array([1j, 1, 1])}, "energy must be numbers, is complex128"),
        ({"counts": np.full((3, 2), 2**63, np.uint64)}, f"counts holds {2**63}, which is no count"),
        ({"counts": np.full((3, 2), -(2**63))}, f"counts holds {-(2**63)}, which is no count"),
        ({"share": 2.0}, "share must be 1 or less, holds 2.0"),
        ({"name": 3}, "name must be text, is int64"),
    ],
)
def test_what_is_not_is_named(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "a.npz", **changed)
    with pytest.raises(SpikescrError) as found:
        read_archive(path, FIELDS, "make it again")
    assert str(found.value) == f"{path}: {message}; make it again"


def test_what_is_no_array_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz", counts=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("counts.npy", b"no array")
    with pytest.raises(SpikescrError) as found:
        read_archive(path, FIELDS, "make it again")
    assert str(found.value) == f"{path}: counts must be whole numbers, is no array; make it again"


def _pickled(path: Path) -> None:
    np.savez(path, **GOOD | {"counts": np.array([print], object)})


def _of_later_zip(path: Path) -> None:
    """An entry that asks for a version of the format that is not there yet."""
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 6 : at + 8] = (200).to_bytes(2, "little")
    path.write_bytes(bytes(content))


def _strange(path: Path) -> None:
    """An entry that says it is compressed in a way that nobody knows."""
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 10 : at + 12] = (99).to_bytes(2, "little")
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("no archive"),
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        lambda path: path.write_bytes(path.read_bytes().replace(b"NUMPY", b"NAMPY")),
        _pickled,
        _strange,
        _of_later_zip,
    ],
)
def test_damage_is_told_in_one_line(tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    path = write(tmp_path / "a.npz")
    damage(path)
    with pytest.raises(SpikescrError, match=rf"^{path}: damaged \(.*; make it again$") as found:
        read_archive(path, FIELDS, "make it again")
    assert "\n" not in str(found.value)


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npz")
    with pytest.raises(SpikescrError, match=r"a\.npz: is a FIFO; expected a regular file"):
        read_archive(tmp_path / "a.npz", FIELDS, "make it again")


def test_what_unpacks_to_more_than_is_allowed_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("counts.npy", bytes(50_000_000))
    assert path.stat().st_size < 100_000
    with (
        memory_limited(10_000_000),
        pytest.raises(UsageError, match=rf"^{path}, unpacked, takes 50(\.0)? MB of memory"),
    ):
        read_archive(path, FIELDS, "make it again")


@pytest.mark.parametrize("shape", ["(2, 3", "(1000000000000,)"], ids=["not closed", "endless"])
def test_headers_of_nonsense_are_told(tmp_path: Path, shape: str) -> None:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(SpikescrError, match=r"a\.npz: damaged .*; make it again"):
        read_archive(tmp_path / "a.npz", {"x": Field("f", ("n",))}, "make it again")
