"""docs/own-network.md is a session: typed in its order, it prints what stands there, but for numbers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Command, spikescr

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/own-network.md").read_text()
BLOCKS = re.findall(r"```text\n\$ (.*)\n((?:.*\n)*?)```", PAGE)
QUICK = ("--epochs", "1")


def masked(line: str) -> str:
    """Without numbers, their prefixes and the widths of columns."""
    line = re.sub(r"\b[0-9a-f]{16}\b", "#", line.rstrip())
    line = re.sub(r"[-+±]?\d[\d,.]*(?:e[-+]?\d+)?", "#", line)
    return re.sub(r"[\s─]+|# ?[kMGpnµm]?(?=[ J]|$)", lambda m: "#" if "#" in m[0] else " ", line).strip()


def expected(text: str) -> re.Pattern[str]:
    """A line of dots stands for any lines."""
    lines = [line for line in text.splitlines() if line.strip()]
    parts = [r"(?:.*\n)*?" if line.strip() == "..." else re.escape(masked(line)) + r"\n" for line in lines]
    return re.compile("".join(parts))


@pytest.mark.slow
@pytest.mark.lava
def test_the_session_prints_this(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.setenv("COLUMNS", "110")
    assert [command.split()[1] for command, _ in BLOCKS][-1] == "fit"
    for command, text in BLOCKS:
        words = command.split()
        run: Command | subprocess.CompletedProcess[str]
        if words[0] == "spikescr":
            run = spikescr(*words[1:], cwd=tmp_path)
        else:
            words = [sys.executable, *words[1:], *QUICK]
            run = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
        assert run.returncode == 0, (command, run.stderr)
        printed = "".join(f"{masked(line)}\n" for line in run.stdout.splitlines() if line.strip())
        assert expected(text).fullmatch(printed), (command, run.stdout, text)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    env = {**os.environ, "PYTHONPATH": str(ROOT / "examples")}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=300
    )
    assert run.returncode == 0, run.stderr
    accuracy, energy = map(float, run.stdout.split())
    assert 0 <= accuracy <= 1
    assert energy > 0


def test_the_training_script_knows_nothing_of_spikescr() -> None:
    source = (ROOT / "examples/digits.py").read_text()
    assert not re.search(r"^\s*(import|from) spikescr", source, re.MULTILINE)
