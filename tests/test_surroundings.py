"""What a command does where it is run: full disks, closed outputs, other locales. One line, and nothing left behind."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import SMALL, calibrated_model, write_tones

from spikescr.checkpoint import CheckpointInfo, save_checkpoint
from spikescr.data.frontend import FrontEnd
from spikescr.data.preprocessing import Normaliser, Preprocessing
from spikescr.training import TrainConfig

SCRIPT = Path(sys.executable).with_name("spikescr")


def spikescr(
    *arguments: str,
    cwd: Path,
    before: Callable[[], None] | None = None,
    stdout: Any = subprocess.PIPE,
    **variables: str,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *arguments],
        cwd=cwd,
        env=os.environ | variables,
        stdout=stdout,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        timeout=120,
        check=False,
        preexec_fn=before,
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with a network."""
    model, _, _ = calibrated_model(SMALL, 4, dtype=torch.float32)
    front_end = FrontEnd.design(8000, steps=40, bands=SMALL.inputs)
    normaliser = Normaliser(mean=(-40.1,) * SMALL.inputs, std=(1 / 3,) * SMALL.inputs)
    info = CheckpointInfo(
        model=SMALL,
        classes=("yes", "no", "grün", "up", "down"),
        preprocessing=Preprocessing(front_end=front_end, normaliser=normaliser),
        training=TrainConfig(seed=7),
        epoch=3,
        valid_loss=0.5,
        valid_accuracy=0.5,
    )
    (tmp_path / "run").mkdir()
    save_checkpoint(tmp_path / "run/model.safetensors", model, info)
    return tmp_path / "run"


def test_a_limit_of_file_size_while_a_graph_is_written(run: Path) -> None:
    """HDF5 ends with signal 11 where a disk is full or a file may not grow: it never writes to one itself."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    found = spikescr("export", "--run", "run", cwd=run.parent, before=limit)
    assert (found.returncode, found.stderr) == (1, "error: run/model.nir: File too large\n")
    assert [path.name for path in run.iterdir()] == ["model.safetensors"]


@pytest.mark.slow
def test_a_limit_of_file_size_while_spikes_of_recordings_are_written(tmp_path: Path) -> None:
    """Likewise, of a file that grows with a data set; Numba's cache has room."""
    write_tones(tmp_path / "tones", takes=2)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    found = spikescr("data", "spikes", "folder:tones", "--out", "spikes.h5", cwd=tmp_path, before=limit)
    assert (found.returncode, found.stderr) == (1, "error: spikes.h5: File too large\n")
    assert [path.name for path in tmp_path.iterdir()] == ["tones"]


@pytest.mark.parametrize("words", [["--help"], ["train", "--list"], ["energy", "--help"]], ids=" ".join)
def test_a_full_standard_output(tmp_path: Path, words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        found = spikescr(*words, cwd=tmp_path, stdout=full)
    assert (found.returncode, found.stderr) == (1, "error: standard output: No space left on device\n")


@pytest.mark.parametrize("words", [["--help"], ["train", "--list"]], ids=" ".join)
def test_a_closed_standard_output(tmp_path: Path, words: list[str]) -> None:
    found = spikescr(*words, cwd=tmp_path, before=lambda: os.close(1))
    assert (found.returncode, found.stderr.count("\n")) == (1, 1)
    assert found.stderr.startswith("error: standard output: closed")


def test_a_closed_standard_error(tmp_path: Path) -> None:
    found = spikescr("train", "nothing-of-that-name", cwd=tmp_path, before=lambda: os.close(2))
    assert (found.returncode, found.stdout) == (2, "")


def test_a_reader_that_has_gone_is_no_error(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    found = spikescr("train", "--list", cwd=tmp_path, stdout=writing)
    os.close(writing)
    assert found.stderr == ""


def test_a_locale_without_our_characters(tmp_path: Path) -> None:
    variables = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    code = (
        "from spikescr.cli.console import output, standard_streams\n"
        "with standard_streams():\n    output().print('3 \\xb1 1 \\xb5J, gr\\xfcn, a \\udcff b')"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, "3 +- 1 uJ, gr?n, a ? b\n", "")


def test_a_home_of_nobody(tmp_path: Path) -> None:
    found = spikescr("data", "check", "folder:~nobody-at-all/x", cwd=tmp_path)
    assert (found.returncode, found.stderr) == (
        2, "error: ~nobody-at-all/x: there is no user nobody-at-all here; write the folder out\n",
    )  # fmt: skip
    found = spikescr("data", "check", "digits", cwd=tmp_path, SPIKESCR_CACHE="~nobody-at-all/x")
    assert (found.returncode, found.stderr.count("\n")) == (2, 1)
    assert "there is no user nobody-at-all here" in found.stderr
