"""Every command line in the README and under docs/ runs, on a small network in place of the one that it is told of."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import nir
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from helpers import write_tones

from spikescr.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = ("spikescr", "make", "pip", "python", "accelerate")
TINY = ["steps=20", "model.heads=2", "model.width=16", "batch_size=16", "threads=1", "epochs=1"]
ELSEWHERE = {
    "data get": "fetches gigabytes; tests/data fetches from a server of its own",
    "accelerate": "tests/training starts processes that train together",
}
"""Commands that are read here, options and all, but run elsewhere."""
WRITTEN_BY = {"docs/worked_file.py": "tests/test_docs.py runs it"}


@dataclass(frozen=True)
class Line:
    """A command line, and where it stands."""

    page: str
    number: int
    text: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text, comments=True)

    def __str__(self) -> str:
        return f"{self.page}:{self.number}: {self.text}"


def lines_of(page: Path) -> Iterator[Line]:
    """Command lines in the code blocks of a page: fenced, or indented; after a prompt, or alone."""
    fenced, above = False, ""
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
            transcript = fenced and line == "```text"
            continue
        text = line.strip()
        code = fenced or (line.startswith("    ") and (not above.strip() or above.startswith("    ")))
        above = line
        if fenced and transcript:
            code, text = text.startswith("$ "), text.removeprefix("$ ")
        if code and text.split(" ")[0] in PROGRAMS and " = " not in text:
            for each in re.split(r" && |; (?=spikescr)", text):
                yield Line(page.name, number, each)


LINES = [line for page in PAGES for line in lines_of(page)]
COMMANDS = [line for line in LINES if line.words[0] == "spikescr"]
DIFFERENT = [line for n, line in enumerate(COMMANDS) if line.words not in [earlier.words for earlier in COMMANDS[:n]]]
"""Each command once, however many pages have it, where it stands first."""


def test_pages_have_command_lines() -> None:
    assert len(COMMANDS) > 60
    assert {line.page for line in COMMANDS} >= {"README.md", "first-session.md", "any-file.md", "energy.md", "chip.md"}


@pytest.mark.parametrize("line", COMMANDS, ids=str)
def test_options_exist(line: Line) -> None:
    command: click.Command | None = main
    words, context = line.words[1:], click.Context(main, **main.context_settings)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        command = command.get_command(context, words.pop(0))
    assert command is not None, line
    if {"--list", "--help", "--version"}.isdisjoint(words):
        command.make_context("spikescr", words, parent=context)


def test_what_make_and_pip_are_told_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for line in LINES:
        if line.words[0] == "make":
            assert line.words[1] in targets, line
        for named in re.findall(r"spikescr\[([a-z,-]+)\]", line.text):
            assert set(named.split(",")) <= set(extras), line


def test_scripts_exist_with_their_options() -> None:
    for line in LINES:
        script = next((word for word in line.words[1:] if word.endswith(".py")), None)
        if line.words[0] == "python" and script is not None:
            source = (ROOT / script).read_text()
            assert all(f'"{word}"' in source for word in line.words if word.startswith("--")), line


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the pages speak of: data, trained runs, a graph of another origin, constants."""
    folder = tmp_path_factory.mktemp("pages")
    write_tones(folder / "words", takes=4)
    spoken = [soundfile.read(path)[0] for path in sorted((folder / "words").glob("*/*_0.wav"))]
    soundfile.write(folder / "talk.flac", np.concatenate(spoken), 8000)
    one = np.ones(10)
    graph = nir.NIRGraph.from_list(
        nir.Affine(np.ones((10, 40)) / 9, 0 * one), nir.LIF(0.02 * one, one, 0 * one, 0.2 * one)
    )
    for name in ("network.nir", "other.nir", "tiny.nir"):
        nir.write(folder / name, graph)
    (folder / "examples").symlink_to(ROOT / "examples")
    np.save(folder / "x.npy", (np.random.default_rng(0).random((30, 2, 40)) < 0.3).astype(float))
    text = re.search(r"    \[cost\.my-chip\]\n(?:    .*\n)+", (ROOT / "docs/energy.md").read_text())
    assert text is not None
    (folder / "mine.toml").write_text(text[0].replace("    ", ""))
    recipe = re.search(r"```toml\n# words\.toml\n(.*?)```", (ROOT / "docs/recipes.md").read_text(), re.DOTALL)
    assert recipe is not None
    (folder / "words.toml").write_text(recipe[1])
    tables = re.search(r"```toml\n# tables\.toml\n(.*?)```", (ROOT / "docs/reproduce.md").read_text(), re.DOTALL)
    assert tables is not None
    (folder / "tables.toml").write_text(tables[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for words in (
            ["train", "--data", "folder:words", *TINY],
            ["export"],
            ["early-exit"],
            ["quantize", "--recordings", "8"],
            ["simulate"],
            ["simulate", "--precision", "loihi2"],
            ["simulate", "network.nir", "--input", "x.npy", "--dt", "1e-3"],
        ):
            found = CliRunner().invoke(main, words)
            assert found.exit_code == 0, found.output
    for name in ("demo", "steps100", "steps40"):
        shutil.copytree(folder / "runs/latest", folder / "runs" / name)
    return folder


def adapted(words: list[str]) -> list[str]:
    """The same command on the sandbox's network and data: trainings of a moment, its steps per second."""
    if words[0] in {"train", "distill"} and {"--list", "--dry-run", "--resume"}.isdisjoint(words):
        words = [*words, "--dry-run"]
    if words[0] == "reproduce" and "--list" not in words:
        words = [*words, "--rows", "1L-40"]
    if "--steps" in words:
        words[words.index("--steps") + 1] = "20"
    if "--finetune" in words:
        words[words.index("--finetune") + 1] = "1"
    return words


@pytest.mark.slow
@pytest.mark.lava
@pytest.mark.parametrize("line", DIFFERENT, ids=str)
def test_command_lines_run(line: Line, sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = line.words[1:]
    if line.page == "own-network.md":
        pytest.skip("tests/zoo/test_own_network.py types the whole page")
    if " ".join(words[:2]) in ELSEWHERE:
        pytest.skip(ELSEWHERE[" ".join(words[:2])])
    monkeypatch.chdir(sandbox)
    found = CliRunner().invoke(main, adapted(words), env={"COLUMNS": os.environ.get("COLUMNS", "80")})
    assert found.exit_code == 0, found.output


def test_the_pages_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/any-file.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert len(nir.read(tmp_path / "network.nir").nodes) == 6
    assert np.load(tmp_path / "x.npy").shape == (100, 8, 40)
