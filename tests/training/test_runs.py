from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from spikescr.errors import SpikescrError
from spikescr.files import replacing, sha256, write_text
from spikescr.runs import RunFolder


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("config", "train"),
        ("metrics", "train"),
        ("checkpoint", "train"),
        ("graph", "export --to nir"),
        ("simulation", "simulate"),
        ("verification", "verify"),
    ],
)
def test_a_missing_file_is_named_with_the_command_that_makes_it(tmp_path: Path, name: str, command: str) -> None:
    run = RunFolder(tmp_path)
    path: Path = getattr(run, name)
    with pytest.raises(
        SpikescrError, match=rf"^{path} does not exist; make it with: spikescr {command} --run {tmp_path}$"
    ):
        run.require(path)
    path.mkdir()
    assert run.require(path) == path


def test_default_folder_needs_no_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = RunFolder()
    message = r"^runs/latest/model.safetensors does not exist; make it with: spikescr train$"
    with pytest.raises(SpikescrError, match=message):
        run.require(run.checkpoint)
    with pytest.raises(SpikescrError, match=r"^runs/latest/simulation/summary.json .* with: spikescr simulate$"):
        run.require(run.simulation / "summary.json")


def test_replacing_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model.nir"
    write_text(path, "old\n")
    with replacing(path) as temporary:
        assert (temporary.parent, temporary.suffix) == (tmp_path, ".nir")
        temporary.write_text("new")
        assert path.read_text() == "old\n"
    assert path.read_text() == "new"

    def fail_half_way() -> None:
        with replacing(path) as temporary:
            temporary.write_text("broken")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way()
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_files_get_the_usual_permissions(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_text(tmp_path / "a", "")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_sha256(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "grün")
    assert sha256(tmp_path / "a") == hashlib.sha256("grün".encode()).hexdigest()
