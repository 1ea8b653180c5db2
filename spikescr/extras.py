"""Packages that `pip install spikescr` leaves out, and what brings them.

The light installation simulates, counts, audits, inspects, fits and reports any NIR file. Code that needs more imports
it where it is used, as if it were there; at the borders (the public functions, the command line) one line says what
brings a package that is not. Where work would be lost, `require` asks before it begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module

from spikescr.errors import UsageError

LAVA_VERSION = "0.10.0"
LAVA_DL_VERSION = "0.6.0"

_PAST_ITS_METADATA = "pip install --no-deps --ignore-requires-python"
"""Lava is archived and declares Python < 3.11 and NumPy < 2, which pip takes at its word; it runs on newer ones."""

PACKAGES: Mapping[str, tuple[str, str]] = {
    "torch": ("torch", "train"),
    "spikingjelly": ("spikingjelly", "train"),
    "accelerate": ("accelerate", "train"),
    "einops": ("einops", "train"),
    "safetensors": ("safetensors", "train"),
    "librosa": ("librosa", "audio"),
    "soundfile": ("soundfile", "audio"),
    "sounddevice": ("sounddevice", "microphone"),
    "pooch": ("pooch", "download"),
    "requests": ("requests", "download"),
    "urllib3": ("urllib3", "download"),
    "espeakng_loader": ("espeakng-loader", "digits"),
    "distributed": ("distributed", "cluster"),
    "joblib": ("joblib", "cluster"),
    "tensorboard": ("tensorboard", "tensorboard"),
    "matplotlib": ("matplotlib", "plots"),
    "asteval": ("asteval", "lava"),
    "networkx": ("networkx", "lava"),
    "scipy": ("scipy", "lava"),
    "lava": ("lava-nc", "lava"),
    "lava.lib": ("lava-dl", "netx"),
}
"""Module -> package that holds it, and the extra that brings it."""

REMEDIES: Mapping[str, str] = {
    "lava": f"pip install 'spikescr[lava]' && {_PAST_ITS_METADATA} lava-nc=={LAVA_VERSION}",
    "netx": f"pip install 'spikescr[netx]' && {_PAST_ITS_METADATA} lava-nc=={LAVA_VERSION} lava-dl=={LAVA_DL_VERSION}",
}
"""Extra -> what to type, where that is more than `pip install 'spikescr[EXTRA]'`."""


class MissingExtraError(UsageError, ImportError):
    """A package that is not installed; the message says for what it is needed and what brings it."""


def remedy(extra: str) -> str:
    """The line that installs an extra."""
    return REMEDIES.get(extra, f"pip install 'spikescr[{extra}]'")


def require(module: str, purpose: str) -> None:
    """Imports a module of `PACKAGES` before work is done that would be lost without it.

    Args:
        module: its name in `PACKAGES`.
        purpose: what needs it, for the message.

    Raises:
        MissingExtraError: it is not installed, or something that it needs is not.
    """
    with naming_extras(purpose):
        import_module(module)


@contextmanager
def naming_extras(purpose: str) -> Iterator[None]:
    """Turns the absence of a package of `PACKAGES` into one line; for a block, or as a decorator for a function.

    Args:
        purpose: what needs it, for the message.

    Raises:
        MissingExtraError: a module of `PACKAGES` was imported that is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise named(error, purpose) from error


def named(error: ModuleNotFoundError, purpose: str) -> ModuleNotFoundError | MissingExtraError:
    """The error that says what brings the missing module; the one given where it is none of `PACKAGES`."""
    module = error.name or ""
    while module and module not in PACKAGES:
        module = module.rpartition(".")[0]
    if not module:
        return error
    package, extra = PACKAGES[module]
    return MissingExtraError(f"{purpose} needs {package}, which is not installed: {remedy(extra)}")
