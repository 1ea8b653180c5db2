"""Freed memory is used again without a page fault."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from spikescr.errors import UsageError
from spikescr.model.config import ModelConfig
from spikescr.training.memory import require_room

FAULTS = """
import resource, numpy as np
from spikescr.training.memory import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        np.ones(20_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults())
assert keep_freed_memory()
np.ones(20_000_000)
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_is_kept() -> None:
    small_pages = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    run = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True, timeout=300, env=small_pages
    )
    default, kept = map(int, run.stdout.split())
    assert kept < 1000
    assert default > 1000  # else the setting does nothing, and can go


def test_openmp_threads_do_not_spin_for_long() -> None:
    source = "import os, spikescr; print(os.environ['GOMP_SPINCOUNT'])"
    run = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True, timeout=300)
    assert run.stdout.strip().isdigit()


def test_a_network_that_no_machine_holds_is_refused_before_it_is_made() -> None:
    with pytest.raises(UsageError, match=r"^training a network of [\d,]{18,} parameters takes .*B of memory, "):
        require_room(ModelConfig(width=2**20, layers=100))
    require_room(ModelConfig())
