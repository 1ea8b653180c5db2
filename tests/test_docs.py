"""The pages under docs/ say what the code does: printed examples are what the commands print, no key is left out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from spikescr import dialect
from spikescr.readouts import READOUTS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "nir.md").read_text()


def test_printed_commands_print_this_today(tmp_path: Path) -> None:
    blocks = re.findall(r"```text\n\$ (.*)\n((?:.*\n)*?)```", PAGE)
    assert [command for command, _ in blocks] == [
        "python docs/worked_file.py tiny.nir",
        "spikescr inspect tiny.nir --values",
    ]
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command, text in blocks:
        run = subprocess.run(
            command.split(),
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert (run.returncode, run.stderr) == (0, "")
        assert run.stdout == text


@pytest.mark.parametrize("name", [n for n in vars(dialect) if n.isupper() and isinstance(vars(dialect)[n], str)])
def test_every_key_and_value_of_the_dialect_is_documented(name: str) -> None:
    value = vars(dialect)[name]
    assert f"`{value}`" in PAGE or f'"{value}"' in PAGE


@pytest.mark.parametrize("readout", READOUTS)
def test_every_readout_is_documented(readout: str) -> None:
    (row,) = (line for line in PAGE.splitlines() if line.startswith(f"| `{dialect.READOUT}` |"))
    assert f'"{readout}"' in row


@pytest.mark.parametrize("op", dialect.PACKED_OPERATIONS)
def test_every_packed_operation_is_documented_with_its_metadata(op: str) -> None:
    (row,) = (line for line in PAGE.splitlines() if line.startswith(f"| `{op}` |"))
    for key in dialect.PACKED_OPERATIONS[op].parameters:
        assert f"`{key}`" in row


def test_version_of_the_page_is_the_version_of_the_dialect() -> None:
    assert f"version of the dialect, {dialect.FORMAT} |" in PAGE
