"""The layers: who imports whom, read from the import statements; independent of the linter's walls."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LAYERS = (
    {"errors", "quantities", "provenance", "progress", "tables", "dialect", "readouts", "schemas", "signals", "stages"},
    {"files", "locks", "strangers", "sizes", "extras"},
    {"tensors", "archive", "documents"},
    {"runs", "data", "model"},
    {"training", "checkpoint"},
    {"quantization"},
    {"export", "sim"},
    {"workflows"},
    {"", "cli"},
    {"__main__"},
)
"""Rooms of `spikescr`, from below: each knows those below it alone. "": `spikescr` itself; it names workflows."""

SIM = (
    {"operations"},
    {"program"},
    {"recording"},
    {"lowering", "counting", "backends", "compare"},
    {"steps"},
    {"fast", "lava", "inputs", "feed", "inspection"},
    {"labels"},
    {"run"},
    {"chunks", "chip"},
    {"report"},
)
"""Rooms of `spikescr.sim`, likewise."""

BELOW_SIM = LAYERS[0] | {"files", "strangers", "sizes", "archive", "documents", "extras"}
"""All that the simulator knows of the rest."""

TOGETHER = {("training", "checkpoint"), ("checkpoint", "training")}
"""A checkpoint holds the training's configuration, and training writes checkpoints."""
REGISTRY = {("backends", "fast"), ("backends", "lava")}
"""The registry names what it builds; it is imported when it is built."""


def modules() -> dict[str, Path]:
    """Every module of the package, by name."""
    found = {}
    for folder, package in (("spikescr", "spikescr"), ("export", "spikescr.export"), ("sim", "spikescr.sim")):
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """What a module imports anywhere in it, for types alone too: full names."""
    known, found = modules(), set[str]()
    for node in ast.walk(ast.parse(known[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            assert node.module is not None
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in names}
    return frozenset(found)


def room(module: str, package: str) -> str | None:
    """The part of a package in which a module lies, None where it is of another package."""
    if module == package:
        return ""
    return module.removeprefix(f"{package}.").partition(".")[0] if module.startswith(f"{package}.") else None


def arrows(package: str) -> Iterator[tuple[str, str, str]]:
    """Importing room, imported room, and the module that imports, of all imports between rooms of a package."""
    for module in sorted(modules()):
        start = room(module, package)
        for imported in sorted(imports(module)):
            end = room(imported, package)
            if start is not None and end is not None and start != end:
                yield start, end, module


def heights(layers: tuple[set[str], ...]) -> dict[str, int]:
    return {name: height for height, layer in enumerate(layers) for name in layer}


@pytest.mark.parametrize(
    ("package", "layers", "excepted"), [("spikescr", LAYERS, TOGETHER), ("spikescr.sim", SIM, REGISTRY)]
)
def test_arrows_point_down(package: str, layers: tuple[set[str], ...], excepted: set[tuple[str, str]]) -> None:
    height = heights(layers)
    rooms = {room(module, package) for module in modules()} - {None}
    if package == "spikescr.sim":
        rooms.discard("")
    assert rooms == set(height), "every room has its place in the layers, and no other"
    wrong = [
        f"{module} ({start}) imports {end}"
        for start, end, module in arrows(package)
        if (start, end) not in excepted and end != "" and height[start] <= height[end]
    ]
    assert not wrong


def test_the_simulator_and_the_exporter_know_little() -> None:
    beyond = {(start, end) for start, end, _ in arrows("spikescr") if start == "sim" and end not in BELOW_SIM}
    assert not beyond
    known = BELOW_SIM | {"model", "quantization", "checkpoint"}
    assert not {(start, end) for start, end, _ in arrows("spikescr") if start == "export" and end not in known}


WALLS = {
    "click": {"cli"},
    "rich": {"cli"},
    "lava": {"sim"},
    "nir": {"dialect", "export", "sim", "workflows", "cli"},
    "torch": {"tensors", "model", "training", "checkpoint", "quantization", "export", "workflows", "cli"},
    "spikingjelly": {"model", "training", "checkpoint", "quantization", "export"},
}
"""Packages, and the only rooms that import them."""


@pytest.mark.parametrize("package", WALLS)
def test_packages_stay_in_their_rooms(package: str) -> None:
    users = {module for module in modules() if any(name.partition(".")[0] == package for name in imports(module))}
    assert users
    outside = {module for module in users if room(module, "spikescr") not in WALLS[package]}
    assert not outside


def test_only_the_command_line_prints() -> None:
    printing = {
        module
        for module, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert not {module for module in printing if room(module, "spikescr") != "cli"}


def test_an_arrow_that_points_up_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The test of the test: one module each that breaks a rule."""
    (tmp_path / "bad.py").write_text("def f():\n    from spikescr.cli.console import notify\n    import rich.table\n")
    broken = {**modules(), "spikescr.data.bad": tmp_path / "bad.py"}
    monkeypatch.setattr(f"{__name__}.modules", lambda: broken)
    with pytest.raises(AssertionError, match=r"spikescr\.data\.bad \(data\) imports cli"):
        test_arrows_point_down("spikescr", LAYERS, TOGETHER)
    with pytest.raises(AssertionError):
        test_packages_stay_in_their_rooms("rich")


COMMAND = re.compile(r"(spikescr|accelerate|pip) [a-z{].*")
FLAG = re.compile(r"(?<!\()--[a-z][a-z-]*(?!\))")


def flags_alone(path: Path) -> list[str]:
    """Texts in a module that name a flag neither in parentheses, (--dt), nor as part of a command to be typed."""
    tree = ast.parse(path.read_text())
    documented = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    formatted = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    documented |= {part for node in formatted for part in node.values}
    texts = ["".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values) for node in formatted]
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documented:
            texts.append(node.value)
    found = []
    for text in texts:
        if FLAG.search(COMMAND.sub("", text)):
            found.append(text)
    return found


COMMANDS_ARE_MADE_IN = {"spikescr.runs", "spikescr.training.keeper", "spikescr.workflows.report"}


def test_library_messages_name_no_flag_alone() -> None:
    """A caller from Python has no --dt to give: "give dt (--dt)"."""
    library = {m: p for m, p in modules().items() if room(m, "spikescr") != "cli" and m not in COMMANDS_ARE_MADE_IN}
    alone = {module: texts for module, path in library.items() if (texts := flags_alone(path))}
    assert not alone
