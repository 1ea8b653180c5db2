"""The limit of memory: where it comes from, and what is said when it is exceeded."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from spikescr import sizes
from spikescr.cli import main
from spikescr.cli.options import max_memory
from spikescr.errors import DataError, UsageError
from spikescr.sizes import SHARE, machine_memory, memory_limit, memory_limited, parse_bytes, require_memory
from spikescr.training.config import TrainConfig


@pytest.fixture(autouse=True)
def _no_limit_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("SPIKESCR_MAX_MEMORY", raising=False)
    machine_memory.cache_clear()
    yield
    machine_memory.cache_clear()


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("8G", 8_000_000_000), ("8 gb", 8_000_000_000), ("512Mi", 2**29), ("1.5KiB", 1536), ("2T", 2 * 10**12)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "0", "1i", "nan", "inf", "8 gigabytes", "1e9", "0.1"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a size like 8G or 512Mi"):
        parse_bytes(text)


def test_limit_is_a_share_of_the_machine_or_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory_limit() == int(SHARE * machine_memory())
    with memory_limited(1000):
        assert memory_limit() == 1000
        with memory_limited(10):
            assert memory_limit() == 10
        assert memory_limit() == 1000
    assert memory_limit() == int(SHARE * machine_memory())
    monkeypatch.setenv("SPIKESCR_MAX_MEMORY", "much")
    with pytest.raises(UsageError, match=r"^SPIKESCR_MAX_MEMORY: expected a size like 8G or 512Mi\. Got 'much'$"):
        memory_limit()


def test_more_than_the_limit_is_refused_with_what_it_takes_and_what_to_do() -> None:
    with memory_limited(10**9):
        require_memory(1e9, "a window", "make it shorter")
        with pytest.raises(DataError) as caught:
            require_memory(2.5e12, "a window", "make it shorter", DataError)
    assert str(caught.value) == (
        "a window takes 2.5 TB of memory, allowed are 1 GB; make it shorter, or allow more (--max-memory)"
    )
    with pytest.raises(UsageError, match=r"allowed are \S+ .?B \(80% of this machine's memory\); less"):
        require_memory(1e18, "it", "less")
    with pytest.raises(UsageError, match=r"it takes .* of memory"):
        require_memory(10**400, "it", "less")


def test_limits_of_the_process_count() -> None:
    code = "from spikescr.sizes import machine_memory; print(machine_memory())"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (10**9, 10**9))

    found = subprocess.run(
        [sys.executable, "-c", code], preexec_fn=limit, capture_output=True, text=True, check=True, timeout=60
    )
    assert int(found.stdout) == 10**9


def test_limits_of_the_container_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cgroup").write_text("3:cpu,memory:/job\n0::/a/b\n")
    for name, text in {
        "a/memory.max": "5000",
        "a/b/memory.max": "max",
        "memory/job/memory.limit_in_bytes": "4000",
    }.items():
        path = tmp_path / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    monkeypatch.setattr(sizes, "_OWN_CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(sizes, "_CGROUPS", tmp_path / "fs")
    assert machine_memory() == 4000
    machine_memory.cache_clear()
    (tmp_path / "fs/memory/job/memory.limit_in_bytes").unlink()
    assert machine_memory() == 5000


def test_option_holds_while_its_command_runs() -> None:
    seen: list[int] = []

    @click.command()
    @max_memory
    def command() -> None:
        seen.append(memory_limit())

    assert CliRunner().invoke(command, ["--max-memory", "3Mi"]).exit_code == 0
    assert CliRunner().invoke(command, []).exit_code == 0
    assert seen == [3 * 2**20, int(SHARE * machine_memory())]
    with pytest.raises(UsageError, match=r"--max-memory: expected a size like 8G or 512Mi\. Got 'lots'"):
        command.main(["--max-memory", "lots"], standalone_mode=False)


OUT_OF_BOUNDS = {
    "threads=1000000": 1024,
    "threads=1000000000000": 1024,
    "lr=1e300": 1000000,
    "weight_decay=1e300": 1000000,
    "surrogate_alpha=1e300": 1000000,
    "augmentation.time_shift_s=1e12": 60,
    "augmentation.gain_db=1e9": 120,
    "augmentation.noise_snr=[0,1e9]": 120,
    "augmentation.noise_snr=[-1e9,0]": -120,
    "model.inputs=1000000000000": 2**20,
    "model.layers=1000000": 1000,
}


@pytest.mark.parametrize("change", OUT_OF_BOUNDS)
def test_numbers_that_only_a_slip_explains_are_refused_naming_field_and_bound(change: str) -> None:
    """A million threads ended in a library that could not be loaded, 10^12 s of silence in 16.7 PiB."""
    found = CliRunner().invoke(main, ["train", "--data", "folder:absent", change])
    field = change.partition("=")[0]
    assert found.exit_code == 2
    assert re.fullmatch(
        rf"error: {re.escape(field)}=.*: .*should be (less|greater) than or equal to {OUT_OF_BOUNDS[change]} .*\n",
        found.stderr,
    ), found.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["listen", "runs/absent", "-", "--channels", "1000000000"],
        ["listen", "runs/absent", "-", "--rate", "1000000000000"],
        ["reproduce", "shd", "--dry-run", "--seeds", "1000000000"],
        ["reproduce", "shd", "--dry-run", "--threads", "1000000"],
        ["distill", "--dry-run", "--sweep", "20,10;10", "--seeds", "1000000000"],
    ],
    ids=" ".join,
)
def test_options_that_only_a_slip_explains_are_refused_naming_option_and_bound(words: list[str]) -> None:
    found = CliRunner().invoke(main, words)
    assert found.exit_code == 2
    assert re.search(rf"{words[-2]}.*{words[-1]} is not in the range 1<=x<=\d+", found.stderr), found.stderr


def test_more_seeds_or_recordings_at_once_than_there_are_is_no_slip() -> None:
    """What takes no more than there is stays: a batch of all recordings, a training until it is stopped."""
    config = TrainConfig(epochs=10**12, batch_size=10**13, seed=2**63 - 1)
    assert config.epochs == 10**12
