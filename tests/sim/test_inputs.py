"""Inputs from files of anyone: what is read, and what is refused with file and input before it takes memory."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest

from spikescr.errors import DataError
from spikescr.sim.inputs import read_inputs

DT = 0.1


def graph(width: int = 2, *names: str) -> nir.NIRGraph:
    inputs = {name: nir.Input(np.array([width])) for name in names or ("input",)}
    edges = [(name, "output") for name in inputs]
    return nir.NIRGraph({**inputs, "output": nir.Output(np.array([width]))}, edges)


def record(path: Path, data: object) -> None:
    nir.write_data(path, nir.NIRGraphData({"input": nir.NIRNodeData({"spikes": data})}))


@pytest.mark.parametrize("samples", [False, True])
@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_events_of_one_sample_with_and_without_its_axis(tmp_path: Path, samples: bool, dtype: type) -> None:
    idx, time = np.array([0, 1, 0, -1], dtype), np.array([0.1, 0.2, 0.3, np.inf])
    record(tmp_path / "a.h5", nir.EventData(*((x[None] if samples else x) for x in (idx, time)), 2, 0.5))
    expected = np.zeros((5, 1, 2))
    expected[[1, 3], 0, 0] = expected[2, 0, 1] = 1
    np.testing.assert_array_equal(read_inputs(tmp_path / "a.h5", graph(), DT)["input"], expected)


def test_recorded_grid_of_one_sample_without_its_axis(tmp_path: Path) -> None:
    grid = np.arange(6.0).reshape(3, 2)
    record(tmp_path / "a.h5", nir.TimeGriddedData(grid[None], DT))
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        data = file["nodes/input/observables/spikes"]
        del data["data"]
        data["data"] = grid
    np.testing.assert_array_equal(read_inputs(tmp_path / "a.h5", graph(), DT)["input"], grid[:, None])


def test_an_input_that_is_held_may_be_given_once(tmp_path: Path) -> None:
    held = nir.Input(np.array([2, 3]), metadata={"spikescr.held": 1})
    end = {"output": nir.Output(np.array([2, 3]))}
    once = nir.NIRGraph({"input": held, **end}, [("input", "output")], metadata={"spikescr.steps": 4})
    frames = np.arange(30.0).reshape(5, 2, 3)
    np.save(tmp_path / "a.npy", frames)
    expected = np.repeat(frames.reshape(1, 5, 6), 4, axis=0)
    np.testing.assert_array_equal(read_inputs(tmp_path / "a.npy", once, DT)["input"], expected)
    np.save(tmp_path / "a.npy", np.repeat(frames[None], 4, axis=0))
    np.testing.assert_array_equal(read_inputs(tmp_path / "a.npy", once, DT)["input"], expected)
    np.save(tmp_path / "a.npy", frames[:, :1])
    with pytest.raises(DataError, match=r"must have \(samples, 2, 3\) or \(T, samples, 2, 3\)"):
        read_inputs(tmp_path / "a.npy", once, DT)


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_both_orders_and_all_number_types(tmp_path: Path, order: str) -> None:
    x = np.asarray(np.arange(12).reshape(3, 2, 2), order=order)
    for dtype in (bool, np.uint8, ">i4", np.float16, float):
        np.save(tmp_path / "a.npy", x.astype(dtype, order="K"))
        np.savez_compressed(tmp_path / "a.npz", input=x.astype(dtype, order="K"))
        for name in ("a.npy", "a.npz"):
            found = read_inputs(tmp_path / name, graph(), DT)["input"]
            np.testing.assert_array_equal(found, x.astype(dtype).astype(float))


def header(shape: tuple[int, ...], descr: str = "<f8") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


def npz(path: Path, content: bytes, *, flags: int = 0, method: int = 0) -> None:
    """An archive of one member, its flags and compression as told."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("input.npy", content)
    raw = bytearray(path.read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = raw.index(mark) + at
        found = struct.unpack_from("<HH", raw, start)
        struct.pack_into("<HH", raw, start, found[0] | flags, method or found[1])
    path.write_bytes(raw)


def damaged(path: Path) -> None:
    np.savez_compressed(path, input=np.random.default_rng(0).normal(size=(50, 2)))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 255
    path.write_bytes(raw)


def saved() -> bytes:
    file = io.BytesIO()
    np.save(file, np.ones((3, 2)))
    return file.getvalue()


def hdf5(path: Path, fill: Callable[[h5py.File], None]) -> None:
    with h5py.File(path, "w") as file:
        fill(file)


def data_file(path: Path, **attributes: object) -> None:
    """Events whose attributes are as told; None: it is not there."""
    record(path, nir.EventData(np.array([[0]]), np.array([[0.1]]), 2, 1.0))
    with h5py.File(path, "r+") as file:
        for key, value in attributes.items():
            del file["nodes/input/observables/spikes"].attrs[key]
            if value is not None:
                file["nodes/input/observables/spikes"].attrs[key] = value


REFUSED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "0 bytes": ("a.npy", lambda p: p.write_bytes(b""), "cannot be read as .npy: "),
    "no array": ("a.npy", lambda p: p.write_bytes(b"text of more than six bytes"), "cannot be read as .npy: "),
    "cut": (
        "a.npy", lambda p: p.write_bytes(saved()[:-5]), "is cut: an array of shape (3, 2) takes 48 bytes, it has 43",
    ),
    "terabytes promised": (
        "a.npy", lambda p: p.write_bytes(header((10**9, 10**4))), "is cut: an array of shape (1000000000, 10000) takes",
    ),
    "shape of text": (
        "a.npy",
        lambda p: p.write_bytes(header((3, 2)).replace(b"(3, 2)", b"'3 2' ")), "cannot be read as .npy: shape is not",
    ),
    "below 0": ("a.npy", lambda p: p.write_bytes(header((-3, 2)).ljust(500)), "its header says the shape (-3, 2)"),
    "objects": ("a.npy", lambda p: p.write_bytes(header((3, 2), "|O")), "Object arrays cannot be loaded: they may"),
    "a fifo": ("a.npy", os.mkfifo, "is a FIFO; expected a regular file"),
    "a fifo of HDF5": ("a.h5", os.mkfifo, "is a FIFO; expected a regular file"),
    "a folder": ("a.npz", lambda p: p.mkdir(), "is a folder; expected a regular file"),
    "encrypted": ("a.npz", lambda p: npz(p, saved(), flags=1), "input.npy is encrypted; save it without a password"),
    "unknown compression": ("a.npz", lambda p: npz(p, saved(), method=97), "cannot be read as .npz: "),
    "damaged": ("a.npz", damaged, "cannot be read as .npz: "),
    "no archive": ("a.npz", lambda p: p.write_bytes(saved()), "cannot be read as .npz: File is not a zip file"),
    "empty member": ("a.npz", lambda p: npz(p, b""), "cannot be read as .npz: "),
    "an archive that promises": (
        "a.npz", lambda p: npz(p, header((10**9, 10**4))), "input.npy: is cut: an array of shape",
    ),
    "no shape": ("a.h5", lambda p: hdf5(p, lambda f: f.update(input=h5py.Empty("f8"))), "'input' is empty"),
    "compounds": (
        "a.h5", lambda p: hdf5(p, lambda f: f.update(input=np.zeros(3, [("x", float)]))), "'input' must hold real",
    ),
    "a soft link": ("a.h5", lambda p: hdf5(p, lambda f: f.update(input=h5py.SoftLink("/x"))), "'input' is a soft"),
    "terabytes of HDF5": (
        "a.h5",
        lambda p: hdf5(p, lambda f: f.create_dataset("input", (10**9, 1000, 2), float, chunks=(1000, 10, 2))),
        "'input' of the shape (1000000000, 1000, 2) takes 32 TB of memory, allowed are ",
    ),
    "events late": (
        "a.h5", lambda p: record(p, nir.EventData(np.array([[0]]), np.array([[1e12]]), 2, 1e13)),
        "'input' of the shape (100000000000000, 1, 2) takes 3.2e+03 TB of memory, allowed are ",
    ),
    "half an index": (
        "a.h5", lambda p: record(p, nir.EventData(np.array([[0.5]]), np.array([[0.1]]), 2, 1.0)),
        "idx of 'input' must be whole numbers, found 0.5",
    ),
    "index of nothing": (
        "a.h5", lambda p: record(p, nir.EventData(np.array([[np.nan]]), np.array([[0.1]]), 2, 1.0)),
        "idx of 'input' must be whole numbers, found nan",
    ),
    "no end": ("a.h5", lambda p: data_file(p, t_max=None), "t_max of 'input' must be a number above 0, is None"),
    "endless": ("a.h5", lambda p: data_file(p, t_max=np.inf), "t_max of 'input' must be a number above 0, is "),
    "neurons of text": ("a.h5", lambda p: data_file(p, n_neurons="2"), "n_neurons of 'input' must be a number above 0"),
    "unknown data": ("a.h5", lambda p: data_file(p, __type__="Spikes"), "'input' has data of the type 'Spikes', which"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "make", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_an_input_is_told_with_file_and_input(
    tmp_path: Path, name: str, make: Callable[[Path], object], message: str
) -> None:
    make(tmp_path / name)
    with pytest.raises(DataError) as told:
        read_inputs(tmp_path / name, graph(), DT)
    assert str(told.value).startswith(f"{tmp_path / name}: {message}")


def test_an_archive_that_unpacks_to_more_than_memory_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "a.npz", input=np.zeros((10**6, 2)))
    assert (tmp_path / "a.npz").stat().st_size < 10**5
    monkeypatch.setenv("SPIKESCR_MAX_MEMORY", "31M")
    monkeypatch.setattr(np, "frombuffer", None)
    with pytest.raises(DataError, match=r"a.npz: 'input' of the shape \(1000000, 1, 2\) takes 32 MB"):
        read_inputs(tmp_path / "a.npz", graph(), DT)


def test_what_is_no_input_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "a.npz", input=np.ones((3, 2)), more=np.ones((3, 2)))
    monkeypatch.setattr(np, "frombuffer", None)
    with pytest.raises(DataError, match="'more' is no input of the graph; these are: input"):
        read_inputs(tmp_path / "a.npz", graph(), DT)


@pytest.mark.parametrize("name", ["nodes", "nodes/input", "nodes/input/observables", "nodes/input/observables/spikes"])
def test_an_array_in_the_place_of_a_group_is_told(tmp_path: Path, name: str) -> None:
    record(tmp_path / "a.h5", nir.TimeGriddedData(np.ones((1, 4, 2)), DT))
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file[name]
        file[name] = np.ones(3)
    with pytest.raises(DataError, match=r"a\.h5: '.*' is an array, must be a group"):
        read_inputs(tmp_path / "a.h5", graph(), DT)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (
            b"\x01\x00" + struct.pack("<H", 56) + b"{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3, ",
            "cannot be read",
        ),
        (b"\x02\x00" + struct.pack("<I", 2**31) + b"{'descr'", "is cut: a header of 2,147,483,648 bytes"),
    ],
    ids=["not closed", "endless"],
)
def test_headers_of_nonsense_are_told_before_they_take_memory(tmp_path: Path, header: bytes, words: str) -> None:
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY" + header)
    with pytest.raises(DataError, match=rf"a\.npy: .*{words}"):
        read_inputs(tmp_path / "a.npy", graph(), DT)


def test_a_group_in_the_place_of_an_array_is_told(tmp_path: Path) -> None:
    record(tmp_path / "a.h5", nir.TimeGriddedData(np.ones((1, 4, 2)), DT))
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["nodes/input/observables/spikes/data"]
        file.create_group("nodes/input/observables/spikes/data")
    with pytest.raises(DataError, match=r"a\.h5: 'input' is a group, must be an array"):
        read_inputs(tmp_path / "a.h5", graph(), DT)
