"""Tests end, whoever starts them: every wait for another process has a limit, and Ctrl-C arrives."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
WAITS = {"communicate", "wait"}
RUNS = {"run", "check_call", "check_output", "call"}


def unlimited(source: str) -> Iterator[int]:
    """Lines of calls that wait for a process without a limit: subprocess.run, and communicate or wait of a process."""
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        owner, name = node.func.value, node.func.attr
        runs = isinstance(owner, ast.Name) and owner.id == "subprocess" and name in RUNS
        waits = name in WAITS and isinstance(owner, ast.Name) and not node.args
        given = any(keyword.arg in ("timeout", None) for keyword in node.keywords)  # None: **options
        if (runs or waits) and not given:
            yield node.lineno


def test_every_wait_for_a_process_has_a_limit() -> None:
    files = sorted(TESTS.rglob("*.py"))
    assert len(files) > 90
    assert [f"{path.relative_to(TESTS)}:{line}" for path in files for line in unlimited(path.read_text())] == []


def test_a_wait_without_a_limit_is_found() -> None:
    assert list(unlimited("import subprocess\nsubprocess.run(['ls'])\nprocess.communicate()\n")) == [2, 3]
    assert list(unlimited("subprocess.run(['ls'], timeout=9)\nprocess.wait(timeout=1)\n")) == []


INTERRUPTED = """
import os, signal
def test_one():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        return
    raise AssertionError("nothing arrived")
"""


ENDLESS = """
import hypothesis, pytest
from hypothesis import strategies

@pytest.mark.timeout(2)
@hypothesis.given(strategies.lists(strategies.integers()))
def test_endless(values):
    while len(values) > 1:
        pass
"""


def test_a_limit_ends_a_test_of_properties(tmp_path: Path) -> None:
    """Hypothesis would go on and look for a smaller example that takes as long, and the limit is over by then."""
    (tmp_path / "conftest.py").write_text((TESTS / "conftest.py").read_text())
    (tmp_path / "test_endless.py").write_text(ENDLESS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", ".", "."]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 1, found.stdout
    assert "OutOfTime: Timeout (>2.0s) from pytest-timeout." in found.stdout
    assert "1 failed" in found.stdout


@pytest.mark.parametrize("start", ["shell", "ignoring"])
def test_ctrl_c_arrives_however_the_tests_were_started(tmp_path: Path, start: str) -> None:
    """A job runner, nohup and `&` in a script leave SIGINT ignored, which children inherit."""
    (tmp_path / "conftest.py").write_text((TESTS / "conftest.py").read_text())
    (tmp_path / "test_one.py").write_text(INTERRUPTED)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", ".", "."]
    prefix = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"] if start == "ignoring" else []
    found = subprocess.run(
        [*prefix, *command], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert found.returncode == 0, found.stdout
