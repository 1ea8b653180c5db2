"""Lava imports on this Python, passes its own tests, and nothing else of the process is changed."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.lava


def python(code):
    """Run a piece of Python with all warnings as errors; returns what it did."""
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)


def test_dataclass_and_start_method_are_left_as_they_were():
    code = """
import dataclasses, multiprocessing, importlib
original, setter = dataclasses.dataclass, multiprocessing.set_start_method
import spikescr.sim.lava.compat as compat
assert dataclasses.dataclass is original
assert multiprocessing.set_start_method == setter
assert multiprocessing.get_start_method() == "fork"
importlib.reload(compat)
assert dataclasses.dataclass is original
import lava.magma.compiler.compiler
@dataclasses.dataclass
class Plain:
    x: int = 1
assert Plain.__hash__ is None
"""
    result = python(code)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_fork_set_before_is_accepted():
    result = python("import multiprocessing as m; m.set_start_method('fork'); import spikescr.sim.lava.compat")
    assert (result.returncode, result.stderr) == (0, "")


def test_another_start_method_set_before_is_refused():
    result = python("import multiprocessing as m; m.set_start_method('spawn'); import spikescr.sim.lava.compat")
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last == "RuntimeError: Lava needs multiprocessing's start method 'fork', but it was already set to 'spawn'"


def test_neither_torch_nor_the_training_packages_are_imported():
    code = "import sys, spikescr.sim.lava.backend; print(sorted({'torch', 'spikescr.model'} & set(sys.modules)))"
    result = python(code)
    assert (result.returncode, result.stdout, result.stderr) == (0, "[]\n", "")


def test_lava_dl_reads_networks_without_torchvision_and_opencv():
    code = "import sys, spikescr.sim.lava.netx as n; print(n.hdf5.Network, {'torchvision', 'cv2'} & set(sys.modules))"
    result = python(code)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "<class 'lava.lib.dl.netx.hdf5.Network'> set()\n"


@pytest.mark.slow
def test_lavas_own_tests_pass():
    site = Path(importlib.import_module("lava.magma").__path__[0]).parents[1]
    folders = [f"tests/lava/proc/{name}" for name in ("lif", "dense", "io")]
    assert all((site / folder).is_dir() for folder in folders)
    command = [sys.executable, "-m", "pytest", "-p", "spikescr.sim.lava.compat", "-p", "no:cacheprovider", "-q"]
    # Those trust that a thread has done its part within a fraction of a second, which fails on a busy machine.
    command += ["-k", "not receive_not_empty"]
    # Run there, without our configuration: our `tests` must not hide theirs.
    result = subprocess.run(
        [*command, "--rootdir", ".", "-c", "/dev/null", *folders], cwd=site, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-3000:]
    passed = re.search(r"(\d+) passed", result.stdout)
    assert passed is not None
    assert int(passed.group(1)) > 50
    assert re.search(r"\d+ (failed|error|skipped)", result.stdout) is None
