"""All cases by name, those of a framework that is not installed with the reason why they cannot be run."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from frameworks.comparison import Case

MODULES = {
    "snntorch": ("frameworks.snntorch_peer", ("snntorch", "nirtorch")),
    "norse": ("frameworks.norse_peer", ("norse", "nirtorch")),
    "spikingjelly": ("frameworks.spikingjelly_peer", ("spikingjelly", "nirtorch")),
    "ours": ("frameworks.ours", ("snntorch", "norse", "spikingjelly", "nirtorch")),
}


def missing(peer: str) -> list[str]:
    """Packages that a group of cases needs and that are not installed."""
    return [package for package in MODULES[peer][1] if importlib.util.find_spec(package) is None]


def cases(peer: str) -> dict[str, Callable[[int, int], Case]]:
    """The cases of a group: name -> what makes it of a number of steps and samples.

    Raises:
        ImportError: a package of `missing(peer)` is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Norse compiles with torch.jit when it is imported
        found: dict[str, Callable[[int, int], Case]] = importlib.import_module(MODULES[peer][0]).CASES
    return found
