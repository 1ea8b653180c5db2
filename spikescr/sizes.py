"""Sizes before allocation: what needs more memory than is allowed is refused before anything is reserved.

The limit is a share of the machine's memory, or what `SPIKESCR_MAX_MEMORY` says ("8G", "512Mi", bytes), which processes
that are started inherit and which the option --max-memory sets.
"""

from __future__ import annotations

import functools
import math
import os
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spikescr.errors import SpikescrError, UsageError
from spikescr.quantities import si

SHARE = 0.8
"""Of the machine's memory; the rest is for what estimates leave out, and for others."""
VARIABLE = "SPIKESCR_MAX_MEMORY"

_PREFIXES = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


def require_memory(needed: float, what: str, remedy: str, error: type[SpikescrError] = UsageError) -> None:
    """Refuse what would need more memory than is allowed.

    Args:
        needed: Bytes, estimated.
        what: What needs them, as the subject of a sentence in the singular: "a window of 10^9 steps".
        remedy: How to need less, as an imperative: "choose fewer steps (--steps)".
        error: What to raise.

    Raises:
        SpikescrError: As `error`: it is more than `memory_limit`.
        UsageError: The limit in the environment is no number.
    """
    limit = memory_limit()
    if needed > limit:
        share = "" if os.environ.get(VARIABLE) else f" ({SHARE:.0%} of this machine's memory)"
        takes = si(float(min(needed, 10**300)), "B")
        raise error(
            f"{what} takes {takes} of memory, allowed are {si(limit, 'B')}{share}; {remedy}, "
            "or allow more (--max-memory)"
        )


def memory_limit() -> int:
    """Return the bytes that one command may take: `SPIKESCR_MAX_MEMORY`, else `SHARE` of the machine's memory.

    Raises:
        UsageError: The variable is no size.
    """
    own = os.environ.get(VARIABLE)
    if not own:
        return int(SHARE * machine_memory())
    try:
        return parse_bytes(own)
    except ValueError as error:
        raise UsageError(f"{VARIABLE}: {error}") from error


@contextmanager
def memory_limited(limit: int) -> Iterator[None]:
    """Allow `limit` bytes while the block lasts, also in processes that it starts."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(limit)
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def parse_bytes(text: str) -> int:
    """Read a size: bytes, or a number with K, M, G, T, P (powers of 1000) or Ki, Mi, ... (of 1024), B behind or not.

    Raises:
        ValueError: It is none, or less than a byte.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGTP]?)(i?)B?\s*", text, re.IGNORECASE | re.ASCII)
    size = 0
    if match and (match[2] or not match[3]):
        size = int(float(match[1]) * (1024 if match[3] else 1000) ** _PREFIXES[match[2].upper()])
    if size < 1:
        raise ValueError(f"expected a size like 8G or 512Mi. Got {text!r}")
    return size


@functools.cache
def machine_memory() -> int:
    """Return the bytes that this process can have: physical memory, or less where a limit (cgroup, ulimit) is set.

    Asked for once: recordings by the thousand are each held against it.
    """
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    allowed = resource.getrlimit(resource.RLIMIT_AS)[0]
    return int(min(physical, _cgroup_limit(), math.inf if allowed == resource.RLIM_INFINITY else allowed))


def _cgroup_limit() -> float:
    """Return the lowest memory limit of the control groups that this process is in (Linux, version 2 and 1)."""
    try:
        lines = _OWN_CGROUP.read_text().splitlines()
    except OSError:
        return math.inf
    files = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            base, name = _CGROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            base, name = _CGROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        own = base / path.lstrip("/")
        # In a container the path may be one of the host; the group itself is mounted at the base then.
        files += [folder / name for folder in (own, *own.parents) if folder.is_relative_to(base)]
    limits = [math.inf]
    for file in files:
        try:
            limits.append(float(file.read_text()))  # "max" is no limit
        except (OSError, ValueError):
            continue
    return min(limits)
