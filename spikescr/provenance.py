"""What a result depends on, recorded beside it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python and of packages; one that is not installed is left out."""
    found = {package: installed_version(package) for package in packages}
    return {"python": platform.python_version()} | {name: own for name, own in found.items() if own is not None}


def installed_version(package: str) -> str | None:
    """The version of a package, None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
