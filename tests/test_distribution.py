"""What is packed: every package and every file beside the modules is named in pyproject.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = {"spikescr": "spikescr", "spikescr.export": "export", "spikescr.sim": "sim"}
LINTERS = {"ruff.toml"}
"""Of the repository, not of the package."""


def packages() -> dict[str, Path]:
    """Package -> its folder."""
    found = {}
    for package, folder in FOLDERS.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            found[".".join((package, *init.parent.relative_to(ROOT / folder).parts))] = init.parent
    return found


def test_every_package_is_packed() -> None:
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(packages())


def test_every_file_beside_the_modules_is_packed() -> None:
    data = PROJECT["tool"]["setuptools"]["package-data"]
    packed = {
        path for package, globs in data.items() for pattern in globs for path in packages()[package].glob(pattern)
    }
    there = {
        path
        for folder in FOLDERS.values()
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
        and path.suffix != ".py"
        and path.name not in LINTERS
        and not any(part == "__pycache__" or part.startswith(".") for part in path.relative_to(ROOT).parts)
    }
    assert packed == there


def test_supported_pythons_are_one_list() -> None:
    """The classifiers, the range and what continuous integration looks for are one list."""
    project = PROJECT["project"]
    named = [
        c.rpartition(" ")[2] for c in project["classifiers"] if c.startswith("Programming Language :: Python :: 3.")
    ]
    assert project["requires-python"] == f">={named[0]},<3.{int(named[-1].partition('.')[2]) + 1}"
    script = (ROOT / ".ci/run").read_text()
    assert f"for version in {' '.join(named[1:])}; do" in script
