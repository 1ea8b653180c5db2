"""Files that are no files, and HDF5 files that lead out of themselves."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest

from spikescr import dialect
from spikescr.data.spikes import SpikeBins
from spikescr.errors import DataError, GraphError
from spikescr.strangers import open_hdf5, open_regular, require_regular_file
from spikescr.workflows.deployed import open_deployed


@pytest.fixture(autouse=True)
def _never_waits() -> Iterator[None]:
    """A FIFO that is opened after all ends the test, not the day."""

    def stop(*_: object) -> None:
        raise AssertionError("waited for a FIFO")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_fifo_device_and_folder_are_no_regular_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "a FIFO"), (Path("/dev/zero"), "a device"), (tmp_path, "a folder")):
        for opener in (require_regular_file, open_regular, open_hdf5):
            with pytest.raises(GraphError, match=rf"^{path}: is {kind}; expected a regular file$"):
                opener(path, GraphError)


def test_regular_files_and_links_to_them_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").symlink_to("a")
    for name in "ab":
        with open_regular(tmp_path / name) as file:
            assert file.read() == b"abc"
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "c")


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("pipe", "x", (4,))
    file.create_virtual_dataset("g/way", layout)


def _cycle(file: h5py.File) -> None:
    file["g/way"] = file.create_group("g/other")
    file["g/other/again"] = file["g/other"]


WAYS: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "external link": (
        lambda file: file.update({"g/way": h5py.ExternalLink("pipe", "/x")}),
        "'g/way' is a link to '/x' in another file, 'pipe'",
    ),
    "soft link": (lambda file: file.update({"g/way": h5py.SoftLink("/gone")}), "'g/way' is a soft link to '/gone'"),
    "external storage": (
        lambda file: file.create_dataset("g/way", (4,), "f4", external=[("pipe", 0, 16)]),
        "'g/way' has its values in another file, 'pipe'",
    ),
    "virtual dataset": (_virtual, "'g/way' is a virtual dataset, whose values lie in other files"),
    "cycle": (_cycle, "'g/[a-z/]+' is a group with several names"),
}


@pytest.mark.parametrize("way", WAYS)
def test_hdf5_that_leads_out_of_itself_is_refused_and_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    make, message = WAYS[way]
    with h5py.File("a.h5", "w") as file:
        make(file)
    with pytest.raises(DataError, match=rf"^a\.h5: {message}; a file must hold all of its content itself$"):
        open_hdf5(Path("a.h5"))
    with h5py.File("a.h5", "r+"):
        pass  # nobody holds it open


def test_hdf5_of_hard_links_is_opened(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["g/x"] = np.arange(3)
        file["y"] = file["g/x"]
    with open_hdf5(tmp_path / "a.h5") as file:
        assert file["y"][()].tolist() == [0, 1, 2]


def test_what_is_no_hdf5_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"no")
    for name in ("a.h5", "gone.h5"):
        with pytest.raises(DataError, match=rf"{name}: no readable HDF5 file \(.+\)$"):
            open_hdf5(tmp_path / name)


def test_damage_anywhere_in_the_table_of_contents_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["g/x"] = np.arange(3)
    whole = path.read_bytes()
    messages = []
    for at in range(0, len(whole), 16):
        path.write_bytes(whole[:at] + bytes(b ^ 0xFF for b in whole[at : at + 8]) + whole[at + 8 :])
        try:
            open_hdf5(path).close()
        except DataError as error:
            messages.append(str(error))
    assert len(messages) > 20
    assert all(message.startswith(f"{path}: ") and message.isprintable() for message in messages)


DATA = '{"spec": "digits", "seed": SEED, "preprocessing": {"front_end": FRONT_END}}'


@pytest.mark.parametrize("seed", ["1e999", "-1e999", "NaN", '"many"', "[1]", "null"])
def test_a_seed_that_is_no_number_is_refused_naming_file_and_field(tmp_path: Path, seed: str) -> None:
    """JSON has no largest number: 1e999 is read as infinity, of which int() makes an OverflowError."""
    one = np.ones(2)
    nodes = [nir.Affine(np.ones((2, 10)), one), nir.LIF(2e-3 * one, one, 0 * one, one, 0 * one)]
    graph = nir.NIRGraph.from_list(*nodes)
    front_end = SpikeBins(units=10, bands=10, steps=20).model_dump_json()
    graph.metadata = {
        dialect.DT: 0.05,
        dialect.STEPS: 20,
        dialect.READOUT: "softmax_sum",
        dialect.CLASSES: '["a", "b"]',
        dialect.CHECKPOINT: "0" * 64,
        dialect.DATA: DATA.replace("SEED", seed).replace("FRONT_END", front_end),
    }
    nir.write(tmp_path / "model.nir", graph)
    with pytest.raises(GraphError, match=rf"^{tmp_path}/model.nir: metadata spikescr.data cannot be used"):
        open_deployed(tmp_path / "model.nir")
    graph.metadata[dialect.DATA] = graph.metadata[dialect.DATA].replace(seed, "7", 1)
    nir.write(tmp_path / "model.nir", graph)
    assert open_deployed(tmp_path / "model.nir").seed == 7
