"""A NIR graph as SANA-FE's files: its chip, its network on the cores, and the spikes that go in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spikescr.errors import ExportError, GraphError, UsageError
from spikescr.progress import Notify, silent
from spikescr.sim.chip.clocked import with_clocked_biases
from spikescr.sim.chip.limits import chip_named
from spikescr.sim.chip.mapper import place
from spikescr.sim.chip.rules import check
from spikescr.sim.chip.sanafe import SanaFile, write_sanafe
from spikescr.sim.inputs import read_array
from spikescr.sim.lowering.graph_file import read_graph
from spikescr.sim.lowering.graph_time import has_clock
from spikescr.sim.lowering.lower import lower
from spikescr.sim.program import Signal, Source

CHIP = "loihi1"  # whose cores hold what SANA-FE's Loihi holds


def export_sanafe(
    path: Path, example: Path, out: Path, *, dt: float | None = None, notify: Notify = silent
) -> SanaFile:
    """Writes arch.yaml and network.yaml, for `sanafe.load_arch` and `sanafe.load_net` of SANA-FE 2.2.9.

    Args:
        path: of a NIR file.
        example: of a .npy file, (T, ...) or (T, B, ...), of which the first sample is taken: spikes, 0 and 1.
        out: folder to write to.
        dt: seconds per step, of a file that has none.
        notify: called with what a user of the files should know.

    Returns:
        How many steps to simulate, and in which layer each group is: layer n shows step t at its step t + n.

    Raises:
        UsageError: the example does not fit the graph.
        GraphError: the graph cannot be read or run.
        ExportError: SANA-FE cannot say what an operation does.
    """
    graph = read_graph(path, type_check=False)
    spikes = read_array(example)
    try:
        program = with_clocked_biases(lower(graph, dt=dt, steps=None if has_clock(graph) else len(spikes)))
        hosts = [o for o in program.of_type(Source) if o.signal is not Signal.CLOCK]
        if len(hosts) != 1:
            raise UsageError(f"{path}: has {len(hosts)} inputs; one can be written for SANA-FE")
        train = _first_sample(spikes, hosts[0].width, example)
        placement = place(program, CHIP, chip_named(CHIP), {})
        for violation in check(placement):
            if violation.limit != "payload_bits":  # binary spikes are what is written
                notify(f"beyond the limits of Loihi: {violation.line}")
        return write_sanafe(out, program, placement, {hosts[0].name: train})
    except GraphError as error:
        raise GraphError(f"{path}: {error}") from error
    except ExportError as error:
        raise ExportError(f"{path}: {error}") from error


def _first_sample(spikes: NDArray[np.generic], width: int, path: Path) -> NDArray[np.bool_]:
    """Spikes (T, width) of an example."""
    each = spikes.reshape(len(spikes), -1) if spikes.ndim > 1 else np.empty((0, 0))
    if each.shape[1:] != (width,) and spikes.ndim > 2:
        each = spikes[:, 0].reshape(len(spikes), -1)
    if not len(each) or each.shape[1] != width:
        raise UsageError(
            f"example (--example) {path}: of shape {spikes.shape}; give (T, ...) with {width} channels a step"
        )
    if not np.isin(each, (0, 1)).all():
        raise UsageError(f"example (--example) {path}: SANA-FE's inputs are spikes; give 0 and 1 alone")
    return each.astype(np.bool_)
