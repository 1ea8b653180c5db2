"""Two runs by the real commands, in a data set whose names would break a careless page; a browser to look with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
from browser import Browser, chromium, executable
from helpers import write_tones
from reporting import HOSTILE, command

TRAIN = ("steps=20", "model.heads=2", "model.width=16", "batch_size=16", "threads=1")


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the commands run: data in tones, runs one and two, reports in out."""
    root = tmp_path_factory.mktemp("work")
    data = write_tones(root / "tones", takes=3)
    (data / "low").rename(data / HOSTILE)
    for name in ("validation_list.txt", "testing_list.txt"):
        lines = (data / name).read_text()
        (data / name).write_text(lines.replace("low/", f"{HOSTILE}/"))
    with chdir(root):
        for run, more in (("one", ("epochs=10",)), ("two", ("epochs=2", "lr=0.02"))):
            for arguments in (("train", "--data", "folder:tones", *TRAIN, *more), ("export",), ("simulate",)):
                found = command(*arguments, "--run", run)
                assert found.exit_code == 0, found.output
        found = command("report", "one", "two", "--out", "out", "--recording", f"{HOSTILE}/00000000_nohash_1.wav")
        assert found.exit_code == 0, found.output
    return root


@pytest.fixture(scope="session")
def page(workplace: Path) -> Path:
    """The report of the first run beside the second."""
    return workplace / "out" / "report.html"


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser for all tests that look at pages."""
    path = executable()
    if path is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with chromium(path, tmp_path_factory.mktemp("profile")) as started:
        yield started
