"""Whether Lava runs here: its packages, its import, and a network that the fast backend executes too."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module

from spikescr.errors import SpikescrError
from spikescr.extras import LAVA_DL_VERSION, LAVA_VERSION, PACKAGES
from spikescr.provenance import installed_version, versions

NEEDS = tuple(package for module, (package, extra) in PACKAGES.items() if extra == "lava" and module != "lava")
"""What Lava imports."""
_STEPS, _NEURONS = 20, 4


@dataclass(frozen=True)
class Finding:
    """What was looked at, what was found, and whether Lava can run with it (None: it can without)."""

    what: str
    found: str
    good: bool | None


def check_lava() -> Iterator[Finding]:
    """Looks at one thing after the other, as far as Lava can be looked at; each is given as soon as it is known.

    Lava runs where no finding is false.
    """
    lava = installed_version("lava-nc")
    yield Finding("lava-nc", _told(lava, LAVA_VERSION), lava == LAVA_VERSION)
    needs = {package: installed_version(package) for package in NEEDS}
    for package, own in needs.items():
        yield Finding(package, own or "not installed", own is not None)
    lava_dl = installed_version("lava-dl")
    yield Finding(
        "lava-dl (reads what `spikescr export --to netx` writes)",
        _told(lava_dl, LAVA_DL_VERSION),
        None if lava_dl is None else lava_dl == LAVA_DL_VERSION,
    )
    forks = "fork" in multiprocessing.get_all_start_methods()
    yield Finding("processes", "fork" if forks else "this system cannot fork, which Lava needs", forks)
    if lava is None or not forks or None in needs.values():
        return
    try:
        import_module("spikescr.sim.lava.backend")
    except Exception as error:  # whatever an archived package raises on a Python that it does not know
        yield Finding("import", f"{type(error).__name__}: {error}", False)
        return
    beside = versions("numpy", "networkx", "scipy")
    yield Finding("import", ", ".join(f"{name} {own}" for name, own in beside.items()), True)
    yield _executed()


def _told(own: str | None, tested: str) -> str:
    return "not installed" if own is None else own if own == tested else f"{own}; spikescr was tested with {tested}"


def _executed() -> Finding:
    """A layer of neurons that drive themselves, in Lava and in the fast backend."""
    import nir
    import numpy as np

    from spikescr.workflows.simulate import simulate

    rng = np.random.default_rng(0)
    ones = np.ones(_NEURONS)
    nodes = {
        "input": nir.Input(np.array([_NEURONS])),
        "synapses": nir.Affine(rng.normal(size=(_NEURONS, _NEURONS)), 0.5 * ones),
        "neurons": nir.LIF(tau=2e-3 * ones, r=2 * ones, v_leak=0 * ones, v_threshold=ones),
        "recurrent": nir.Linear(rng.normal(size=(_NEURONS, _NEURONS))),
        "output": nir.Output(np.array([_NEURONS])),
    }
    edges = [
        ("input", "synapses"), ("synapses", "neurons"), ("neurons", "recurrent"), ("recurrent", "neurons"),
        ("neurons", "output"),
    ]  # fmt: skip
    x = rng.normal(size=(_STEPS, 1, _NEURONS))
    try:
        run = simulate(nir.NIRGraph(nodes, edges), x, dt=1e-3, backend="both")
    except SpikescrError as error:
        return Finding("a network", str(error), False)
    fired = int(run.spikes["neurons"].sum())
    told = f"{_STEPS} steps, {fired} spikes; {run.differing.sum()} spikes and counts differ from the fast backend's"
    return Finding("a network", told, fired > 0 and not run.differing.any())
