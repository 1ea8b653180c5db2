"""The light installation: what is an extra, that the rest does without, and what is said where one is missing."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nir
import numpy as np
import pytest
from click.testing import CliRunner
from test_structure import imports, modules

import spikescr
from spikescr import extras
from spikescr.cli import main
from spikescr.extras import PACKAGES, MissingExtraError, naming_extras, remedy, require
from spikescr.workflows import lava

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names(requirements: list[str]) -> set[str]:
    """Packages of requirements."""
    return {re.match(r"[A-Za-z0-9._-]+", line)[0] for line in requirements} - {"spikescr"}  # type: ignore[index]


CORE = names(PROJECT["dependencies"])


def test_each_package_is_in_the_extra_that_the_message_names() -> None:
    extra_of = PROJECT["optional-dependencies"]
    for package, extra in PACKAGES.values():
        if package not in {"lava-nc", "lava-dl"}:  # pip takes them past their metadata alone: no extra can hold them
            assert package in names(extra_of[extra])
            assert package not in CORE


def test_lavas_versions_are_those_of_the_makefile() -> None:
    text = (ROOT / "Makefile").read_text()
    assert f"lava-nc=={extras.LAVA_VERSION}\n" in text
    assert f"lava-dl=={extras.LAVA_DL_VERSION} " in text


def test_every_import_is_of_the_core_or_of_an_extra() -> None:
    known = set(sys.stdlib_module_names) | CORE | {name.partition(".")[0] for name in PACKAGES} | {"spikescr"}
    unknown = {(m, name) for m in modules() for name in imports(m) if name.partition(".")[0] not in known}
    assert not unknown


def write_network(folder: Path) -> None:
    """network.nir, a layer of neurons, and x.npy, its input."""
    one = np.ones(4)
    lif = nir.LIF(tau=2e-3 * one, r=2 * one, v_leak=0 * one, v_threshold=one)
    nir.write(folder / "network.nir", nir.NIRGraph.from_list(nir.Affine(np.ones((4, 3)), 0.1 * one), lif))
    np.save(folder / "x.npy", np.eye(3)[np.arange(6) % 3][:, None])


BLOCKED = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from spikescr.cli import main
for words in {commands}:
    if status := main(words, standalone_mode=False):
        sys.exit(status)
"""
RUN = ["simulate", "network.nir", "--input", "x.npy", "--dt", "1e-3"]


def blocked(folder: Path, *commands: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs commands where none of PACKAGES can be imported, as after `pip install spikescr`."""
    absent = {name.partition(".")[0] for name in PACKAGES}
    code = BLOCKED.format(absent=absent, commands=list(commands))
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )


def test_any_graph_needs_no_extra(tmp_path: Path) -> None:
    write_network(tmp_path)
    found = blocked(
        tmp_path,
        ["inspect", "network.nir", "--svg", "network.svg"],
        RUN,
        ["energy", "network-simulation"],
        ["report", "network-simulation"],
        ["fit", "network.nir"],
        ["export", "--to", "netx", "--graph", "network.nir", "--dt", "1e-3"],
        ["train", "--list"],
    )
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "network.net").stat().st_size
    assert (tmp_path / "network-simulation/report.html").stat().st_size


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["train", "--data", "folder:x"], "spikescr train needs torch, which is not installed"),
        (["evaluate"], "spikescr evaluate needs "),
        (["verify"], "spikescr verify needs "),
        ([*RUN, "--backend", "lava"], "backend 'lava' needs lava-nc, which is not installed: "),
        (["data", "get", "shd"], "spikescr data needs "),
    ],
    ids=lambda words: words[0] if isinstance(words, list) else "",
)
def test_what_is_missing_is_one_line_with_what_brings_it(tmp_path: Path, command: list[str], told: str) -> None:
    write_network(tmp_path)
    found = blocked(tmp_path, command)
    assert (found.returncode, found.stderr.count("\n")) == (2, 1), found.stderr
    assert found.stderr.startswith(f"error: {told}")
    assert "pip install" in found.stderr
    assert not (tmp_path / "runs").exists()


def test_names_of_the_package_say_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name={"spikescr.workflows.networks": "torch"}.get(name))

    monkeypatch.setattr(spikescr, "import_module", absent)
    for name in ("load", "fit"):
        monkeypatch.delitem(vars(spikescr), name, raising=False)
    with pytest.raises(MissingExtraError, match=r"^spikescr\.load needs torch, .*'spikescr\[train\]'$"):
        _ = spikescr.load
    with pytest.raises(ModuleNotFoundError, match=r"workflows\.fit"):  # a fault of ours stays one
        _ = spikescr.fit


def test_an_absent_package_is_an_import_error_and_bad_usage() -> None:
    line = r"^a picture needs matplotlib, which is not installed: pip install 'spikescr\[plots\]'$"
    with pytest.raises(MissingExtraError, match=line), naming_extras("a picture"):
        raise ModuleNotFoundError("No module named 'matplotlib.figure'", name="matplotlib.figure")
    assert issubclass(MissingExtraError, ImportError)
    assert MissingExtraError.exit_status == 2


def test_lava_dl_is_told_apart_from_lava(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, package in (("lava.lib", "lava-dl"), ("lava.lib.dl.netx", "lava-dl"), ("lava.magma.core", "lava-nc")):
        with pytest.raises(MissingExtraError, match=f"needs {package}, "), naming_extras("this"):
            raise ModuleNotFoundError(module, name=module)
    assert remedy("netx").endswith("lava-nc==0.10.0 lava-dl==0.6.0")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"^x needs torch"):
        require("torch", "x")


@pytest.mark.lava
def test_lava_that_runs_is_shown_to_run() -> None:
    found = CliRunner().invoke(main, ["lava"])
    assert found.exit_code == 0
    assert re.search(r"20 steps, [1-9]\d* spikes; 0 spikes and counts differ", found.output)
    assert "pip install --no-deps --ignore-requires-python lava-nc==0.10.0" in found.output


@pytest.mark.parametrize(
    ("package", "told"), [("lava-nc", "not installed"), ("networkx", "not installed"), ("lava-nc", "0.9.0; ")]
)
def test_lava_that_does_not_run_says_why(monkeypatch: pytest.MonkeyPatch, package: str, told: str) -> None:
    version = None if told == "not installed" else "0.9.0"
    own = lava.installed_version
    monkeypatch.setattr(lava, "installed_version", lambda name: version if name == package else own(name))
    monkeypatch.setattr(lava, "import_module", lambda name: (_ for _ in ()).throw(RuntimeError("not with this")))
    found = CliRunner().invoke(main, ["lava"])
    assert found.exit_code == 1
    assert told in found.output
    assert found.stderr.startswith(f"error: Lava does not run here: {package}")
    if version is not None:
        assert "RuntimeError: not with this" in found.output


def test_versions_leave_out_what_is_not_installed() -> None:
    from spikescr.provenance import versions

    assert versions("numpy", "no-such-package").keys() == {"python", "numpy"}


def test_no_module_of_tests_is_skipped_whole_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest asks every name in a module whether it is a test; only what a test asks may skip, and that test alone."""
    there = importlib.util.find_spec
    spec = importlib.util.spec_from_file_location("from_torch_without", ROOT / "tests/from_torch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else there(name))
    spec.loader.exec_module(module)
    for name in module.__all__:
        try:
            assert getattr(getattr(module, name), "__test__", None) is None
        except pytest.skip.Exception:  # else the fault would skip this test as well
            pytest.fail(f"a module that imports {name} would be skipped")
    for asked in (lambda: module.torch.nn, lambda: module.SMALL.classes, module.calibrated_model):
        with pytest.raises(pytest.skip.Exception, match="torch is not installed"):
            asked()
