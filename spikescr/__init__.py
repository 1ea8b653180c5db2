"""spikescr: train spiking networks, export them to NIR, execute them in Lava, count every operation.

    import spikescr

    net = spikescr.load("runs/demo")  # a run folder or a checkpoint -> network with .info
    graph = spikescr.to_nir(net)
    run = spikescr.simulate(graph, x)  # x (T, B, C) -> outputs, spikes, counts, energy
    spikescr.verify(net, graph, x).differing  # 0
    spikescr.fit(graph, chip="loihi2").cores
    for word in spikescr.listen("runs/demo", "words.wav"):
        print(word)

Everything is imported when it is first used. docs/api.md tells more.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from spikescr.extras import naming_extras

# torch's OpenMP threads keep their cores for milliseconds after a product, spinning; the threads of `model.kernels`,
# whose turn it is then, would wait. libgomp reads this when torch is loaded: import spikescr before torch.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

if TYPE_CHECKING:
    from spikescr.workflows.fit import fit
    from spikescr.workflows.listen import listen
    from spikescr.workflows.networks import load, to_nir
    from spikescr.workflows.simulate import audit, simulate
    from spikescr.workflows.verify import verify

    __version__: str

__all__ = ["__version__", "audit", "fit", "listen", "load", "simulate", "to_nir", "verify"]

_HOMES = {
    "audit": "spikescr.workflows.simulate",
    "fit": "spikescr.workflows.fit",
    "listen": "spikescr.workflows.listen",
    "load": "spikescr.workflows.networks",
    "simulate": "spikescr.workflows.simulate",
    "to_nir": "spikescr.workflows.networks",
    "verify": "spikescr.workflows.verify",
}
"""Public name -> module that has it."""


def __getattr__(name: str) -> Any:
    """Imports what has the name."""
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("spikescr")
    elif name in _HOMES:
        with naming_extras(f"spikescr.{name}"):
            value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'spikescr' has no attribute {name!r}; it has {', '.join(__all__)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
