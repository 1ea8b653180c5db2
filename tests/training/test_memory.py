"""Freed memory is used again without a page fault."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from spikescr.errors import UsageError
from spikescr.model.config import ModelConfig
from spikescr.training.memory import require_room

FAULTS = """
import resource, sys, numpy as np
from spikescr.training.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(20_000_000)
before = faults()
for _ in range(5):
    np.ones(20_000_000)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_is_kept() -> None:
    def faults(how: str) -> int:
        run = subprocess.run(
            [sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True, timeout=300
        )
        return int(run.stdout)

    assert faults("keep") < 1000
    assert faults("default") > 1000  # else the setting does nothing, and can go


def test_openmp_threads_do_not_spin_for_long() -> None:
    source = "import os, spikescr; print(os.environ['GOMP_SPINCOUNT'])"
    run = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True, timeout=300)
    assert run.stdout.strip().isdigit()


def test_a_network_that_no_machine_holds_is_refused_before_it_is_made() -> None:
    with pytest.raises(UsageError, match=r"^training a network of [\d,]{18,} parameters takes .*B of memory, "):
        require_room(ModelConfig(width=2**20, layers=100))
    require_room(ModelConfig())
