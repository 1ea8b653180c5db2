from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from collections.abc import Callable
from importlib import import_module

import click
import pytest
from click.testing import CliRunner, Result

from spikescr import __version__
from spikescr.cli import COMMANDS, main
from spikescr.errors import DataError, UsageError


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `spikescr train` with another function in its place."""

    def run(function: Callable[[], object], *options: str) -> Result:
        command = click.Command("train", callback=function)
        monkeypatch.setattr("spikescr.cli.train.command", command)
        return CliRunner().invoke(main, [*options, "train"])

    return run


def raising(error: BaseException) -> Callable[[], None]:
    def function() -> None:
        raise error

    return function


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_help_needs_no_heavy_package(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom spikescr.cli import main\n"
        f"main({arguments}, standalone_mode=False)\n"
        "print('heavy:', {'torch', 'lava', 'librosa', 'numba', 'scipy', 'spikingjelly'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert found.stdout.endswith("heavy: set()\n"), found


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_an_example(name: str) -> None:
    found = CliRunner().invoke(main, [name, "-h"])
    assert found.exit_code == 0
    assert f"\n    spikescr {name}" in found.output or f"\n  spikescr {name}" in found.output
    assert "\nUsage: main" not in found.output


def test_group_help_lists_the_commands_in_order() -> None:
    text = CliRunner().invoke(main, ["--help"]).output
    places = [text.index(f"\n  {name} ") for name in COMMANDS]
    assert places == sorted(places)


def test_version() -> None:
    assert CliRunner().invoke(main, ["--version"]).output == f"spikescr, version {__version__}\n"


def test_unknown_command() -> None:
    found = CliRunner().invoke(main, ["trian"])
    assert found.exit_code == 2
    assert "No such command 'trian'" in found.output


def test_command_that_is_not_there_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "prune", ("spikescr.cli.prune", "Not yet."))
    found = CliRunner().invoke(main, ["prune"])
    assert (found.exit_code, found.stderr) == (2, "error: this version of spikescr has no command 'prune' yet\n")


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (DataError("a.wav: no audio"), 1, "error: a.wav: no audio\n"),
        (UsageError("not\n  like this"), 2, "error: not like this\n"),
        (PermissionError(13, "Permission denied", "runs/x"), 1, "error: runs/x: Permission denied\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (
            MemoryError("Unable to allocate 1. TiB"),
            1,
            "error: out of memory (Unable to allocate 1. TiB); choose a smaller batch_size or model.width, or fewer "
            "steps\n",
        ),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: tried 9 bytes\nException raised"),
            1,
            "error: out of memory ([enforce fail] DefaultCPUAllocator: can't allocate memory: tried 9 bytes); choose "
            "a smaller batch_size or model.width, or fewer steps\n",
        ),
        (
            ZeroDivisionError("by [bold]zero"),
            1,
            "error: ZeroDivisionError: by [bold]zero; run again with --debug for the whole story: "
            "spikescr --debug train ...\n",
        ),
    ],
)
def test_errors_are_one_line_and_a_status(
    run: Callable[..., Result], error: BaseException, status: int, message: str
) -> None:
    found = run(raising(error))
    assert (found.exit_code, found.stderr, found.stdout) == (status, message, "")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("simulate", "give less of --batch-size, --workers, --chunk-size, --limit, --steps"),
        ("evaluate", "give less of --batch-size, --limit"),
        ("inspect", "take a smaller file, or a machine with more memory"),
    ],
)
def test_out_of_memory_says_what_the_command_can_do(monkeypatch: pytest.MonkeyPatch, name: str, remedy: str) -> None:
    command = import_module(COMMANDS[name][0]).command
    monkeypatch.setattr(command, "invoke", lambda ctx: raising(MemoryError())())
    found = CliRunner().invoke(main, [name])
    assert (found.exit_code, found.stderr) == (1, f"error: out of memory; {remedy}\n")


@pytest.mark.parametrize(("error", "status"), [(UsageError("so not"), 2), (ZeroDivisionError("zero"), 1)])
def test_debug_shows_the_traceback(run: Callable[..., Result], error: Exception, status: int) -> None:
    found = run(raising(error), "--debug")
    assert found.exit_code == status
    assert found.stderr.startswith("Traceback (most recent call last)")
    assert f"{type(error).__name__}: {error}" in found.stderr


def test_warnings_are_one_line_on_stderr(run: Callable[..., Result]) -> None:
    long = "word " * 60

    def function() -> None:
        logging.getLogger("spikescr.data").warning("%s[dim]", long)
        logging.getLogger("spikescr.data").debug("not shown")
        click.echo("result")

    found = run(function)
    assert found.stdout == "result\n"
    assert found.stderr == f"warning: {long}[dim]\n"
    assert "debug: not shown\n" in run(function, "--debug").stderr


def test_only_future_changes_of_third_parties_are_hidden(run: Callable[..., Result]) -> None:
    def function() -> None:
        warnings.simplefilter("default", UserWarning)
        for module, category in (
            ("spikingjelly.activation_based", FutureWarning),
            ("spikingjelly.activation_based", UserWarning),
            ("mine", UserWarning),
        ):
            warnings.warn_explicit(f"{category.__name__} of {module}", category, "f.py", 3, module)

    assert run(function).stderr.splitlines() == [
        "warning: UserWarning: UserWarning of spikingjelly.activation_based (f.py:3)",
        "warning: UserWarning: UserWarning of mine (f.py:3)",
    ]


def test_reporting_ends_with_the_command(run: Callable[..., Result]) -> None:
    before, show = logging.getLogger().handlers[:], warnings.showwarning
    run(lambda: None)
    assert logging.getLogger().handlers == before
    assert warnings.showwarning is show
