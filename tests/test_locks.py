"""Who writes holds the whole, who reads sees one state: two processes in a run folder and in everything inside it."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from spikescr.errors import SpikescrError
from spikescr.runs import JobFolder, RunFolder

HOLDER = """
import sys
from pathlib import Path
from spikescr.runs import JobFolder, RunFolder
kind, how, path = sys.argv[1:]
folder = (JobFolder if kind == "job" else RunFolder)(Path(path))
with getattr(folder, how)():
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def held(kind: str, how: str, path: Path) -> Iterator[None]:
    """Another process that holds a folder, `locked` or `reading`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, kind, how, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
    finally:
        process.communicate("\n", timeout=30)
    assert process.returncode == 0


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """The folder of a curriculum with two stages, one of them quantized."""
    for name in ("stage-040/loihi2", "stage-100"):
        (tmp_path / "job" / name).mkdir(parents=True)
    return tmp_path / "job"


REFUSED = {
    "two that write": (("run", "locked", "stage-040"), ("locked", "stage-040")),
    "write while one reads": (("run", "reading", "stage-040"), ("locked", "stage-040")),
    "read while one writes": (("run", "locked", "stage-040"), ("reading", "stage-040")),
    "a stage while its job is at work": (("job", "locked", "."), ("locked", "stage-040")),
    "read a stage while its job is at work": (("job", "locked", "."), ("reading", "stage-040")),
    "integers of a stage while its job is at work": (("job", "locked", "."), ("locked", "stage-040/loihi2")),
    "a run while one is at work in its integers": (("run", "locked", "stage-040/loihi2"), ("locked", "stage-040")),
    "a run while one reads its integers": (("run", "reading", "stage-040/loihi2"), ("locked", "stage-040")),
    "integers while their run is at work": (("run", "locked", "stage-040"), ("locked", "stage-040/loihi2")),
    "read integers while their run is at work": (("run", "locked", "stage-040"), ("reading", "stage-040/loihi2")),
}
ALLOWED = {
    "two that read": (("run", "reading", "stage-040"), ("reading", "stage-040")),
    "two stages": (("run", "locked", "stage-040"), ("locked", "stage-100")),
    "read a run while its integers are made": (
        ("run", "locked", "stage-040/loihi2"),
        ("reading", "stage-040"),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_is_kept_out(job: Path, case: str) -> None:
    (kind, how, where), (wanted, place) = REFUSED[case]
    with (
        held(kind, how, job / where),
        pytest.raises(SpikescrError, match=r"another spikescr command is at work here"),
        getattr(RunFolder(job / place), wanted)(),
    ):
        pass
    with getattr(RunFolder(job / place), wanted)():  # and let in when the other has ended
        pass


@pytest.mark.parametrize("case", ALLOWED)
def test_is_let_in(job: Path, case: str) -> None:
    (kind, how, where), (wanted, place) = ALLOWED[case]
    with held(kind, how, job / where), getattr(RunFolder(job / place), wanted)():
        pass


def test_a_job_is_kept_out_while_one_is_at_work_in_a_stage(job: Path) -> None:
    with (
        held("run", "locked", job / "stage-040" / "loihi2"),
        pytest.raises(SpikescrError, match=rf"^{job}: another spikescr command"),
        JobFolder(job).locked(),
    ):
        pass


def test_links_and_relative_names_are_the_same_folder(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (job.parent / "link").symlink_to(job / "stage-040")
    monkeypatch.chdir(job / "stage-040")
    with held("job", "locked", job):
        for path in (job.parent / "link", Path(), Path("loihi2")):
            with pytest.raises(SpikescrError, match="at work"), RunFolder(path).locked():
                pass


def test_who_holds_a_folder_may_hold_what_is_inside(job: Path) -> None:
    with JobFolder(job).locked(), RunFolder(job / "stage-040").reading(), RunFolder(job / "stage-040").locked():
        pass


def test_a_folder_that_was_made_and_stayed_empty_goes(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "new").locked():
        assert (tmp_path / "new").is_dir()
    assert not (tmp_path / "new").exists()
    with RunFolder(tmp_path / "new").locked():
        (tmp_path / "new" / "file").touch()
    assert (tmp_path / "new").exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EBADF])
def test_without_locks_a_warning_is_given_and_work_goes_on(
    job: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    """ENOLCK, ENOSYS: none at all; EBADF: NFS gives directories no exclusive ones."""

    def flock(handle: int, how: int) -> None:
        raise OSError(number, "no locks")

    monkeypatch.setattr(fcntl, "flock", flock)
    with caplog.at_level(logging.WARNING), RunFolder(job / "stage-040").locked():
        pass
    (record,) = caplog.records
    assert f"{job / 'stage-040'}: this file system gives no locks (no locks); " in record.getMessage()


SAYS = 'print("held", flush=True)'
FORKING = HOLDER.replace(SAYS, f"import os, time\n    if not os.fork():\n        {SAYS}\n        time.sleep(60)")


def test_a_lock_ends_with_its_process_though_a_process_forked_from_it_lives(tmp_path: Path) -> None:
    """As Lava's processes do, for a moment, when the command that they work for is killed."""
    holder = [sys.executable, "-c", FORKING, "run", "locked", tmp_path]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            with pytest.raises(SpikescrError, match="at work here"), RunFolder(tmp_path).locked():
                pass
            process.kill()
            process.wait(timeout=30)
            with RunFolder(tmp_path).locked():
                os.killpg(process.pid, 0)  # the other one lives
        finally:
            os.killpg(process.pid, signal.SIGKILL)
