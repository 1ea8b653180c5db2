"""Whether a graph fits a neuromorphic chip."""

from __future__ import annotations

from pathlib import Path

import nir

from spikescr.errors import GraphError
from spikescr.files import sha256
from spikescr.progress import Notify, silent
from spikescr.runs import RunFolder
from spikescr.sim.chip.fit import Fit, fit_graph
from spikescr.sim.chip.limits import chip_named
from spikescr.sim.counting.saved import Audit
from spikescr.sim.lowering.graph_file import read_graph
from spikescr.workflows.deployed import current_graph


def fit(
    graph: nir.NIRGraph | Path | str,
    chip: str = "loihi2",
    *,
    bits: int | None = None,
    audit: Audit | None = None,
    notify: Notify = silent,
) -> Fit:
    """Places a graph on the cores of a neuromorphic chip.

    What a core holds depends on the sizes of layers, the bits of their weights and where their neurons send to; limits
    of the chips, and where they are published, are in docs/chip.md.

    Args:
        graph: a NIR graph or the path of a NIR file, of any origin that `simulate` can run.
        chip: "loihi2" or "loihi1".
        bits: of all weights, 1 to 32; None: what the graph's metadata tells, else 8.
        audit: of a run of this graph; its spikes then replace the bound that every neuron fires at every step, and
            `estimate` is there, in joules and seconds.
        notify: called with notices, a line each.

    Returns:
        `cores` and `chips` that it takes, `fits`, `violations` (limits exceeded, each with a remedy), `rows()` with
        neurons, memory in bytes and axons of each layer, `estimate`.

    Raises:
        UsageError: there is no such chip.
        GraphError: the file cannot be read, the graph cannot be run, or it has nothing to be placed.

    Example:
        >>> import nir, numpy, spikescr
        >>> leaky = dict(tau=numpy.full(64, 2e-3), r=numpy.ones(64), v_leak=numpy.zeros(64))
        >>> neurons = nir.LIF(**leaky, v_threshold=numpy.ones(64))
        >>> graph = nir.NIRGraph.from_list(nir.Affine(weight=numpy.eye(64), bias=numpy.ones(64)), neurons)
        >>> graph.metadata["dt"] = 1e-3
        >>> spikescr.fit(graph, chip="loihi2").cores
        1
    """
    chip_named(chip)
    if isinstance(graph, nir.NIRGraph):
        return fit_graph(graph, chip, bits=bits, audit=audit, notify=notify)
    path = Path(graph)
    read = read_graph(path, type_check=False)  # nir refuses grouped convolutions; lowering checks shapes
    try:
        return fit_graph(read, chip, bits=bits, audit=audit, notify=notify)
    except GraphError as error:
        raise GraphError(f"{path}: {error}") from error


def fit_run(run: RunFolder, chip: str = "loihi2", *, bits: int | None = None, notify: Notify = silent) -> Fit:
    """Places a run folder's graph, with the spikes of its simulation where there is one.

    Raises:
        SpikescrError: the graph cannot be read or run or is of another network than the folder's, or the simulation's
            file is damaged.
    """
    audit = None
    with run.reading():
        graph = current_graph(run)
        if run.audit.exists():
            audit = Audit.load(run.audit)
            if audit.about.get("files", {}).get(run.graph.name) != sha256(graph):
                again = f"{run.make_command(run.audit)} again"
                notify(f"{run.audit} is of another graph; spikes are an upper bound: {again}")
                audit = None
        return fit(graph, chip, bits=bits, audit=audit, notify=notify)
