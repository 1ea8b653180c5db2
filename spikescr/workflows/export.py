"""Files of graphs: NIR of a trained network, lava-dl's network description of a NIR graph."""

from __future__ import annotations

import json
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING

from spikescr import dialect
from spikescr.errors import ExportError, GraphError, UsageError
from spikescr.export.chain import read_chain
from spikescr.export.to_netx import QuantizedLayer, quantize, write_netx
from spikescr.files import replacing_together, unchanged, write_bytes
from spikescr.progress import Notify, silent
from spikescr.provenance import versions
from spikescr.runs import RunFolder
from spikescr.sim.chip.limits import chip_named
from spikescr.sim.chip.mapper import place
from spikescr.sim.chip.rules import check
from spikescr.sim.lowering.flat import opened
from spikescr.sim.lowering.graph_file import read_graph
from spikescr.sim.lowering.graph_time import FOREIGN_DT, has_clock, step_length
from spikescr.sim.lowering.lower import lower

NETX_CHIP = "loihi2"  # what Lava's compiler makes netx files run on

if TYPE_CHECKING:
    import nir

    from spikescr.export.module.convert import Exported
    from spikescr.export.record.step import Axes, Time


def export_run(run: RunFolder) -> nir.NIRGraph:
    """Writes the graph of a run folder's network, real or in integers; where it is another one, old results go.

    Raises:
        SpikescrError: there is no checkpoint, or it cannot be exported.
    """
    from spikescr.export.deploy import deploy, deploy_quantized, packed

    run.require(run.checkpoint)
    with run.locked():
        graph = (deploy_quantized if run.is_in_integers else deploy)(run.checkpoint)
        content = packed(graph)
        if not run.graph.exists() or run.graph.read_bytes() != content:
            with replacing_together(run.path, [run.graph.name, *run.results]) as stage:
                write_bytes(stage / run.graph.name, content)
    return graph


def export_module_file(
    spec: str,
    weights: Path | None,
    shape: str | None,
    example: Path | None,
    *,
    time: Time,
    axes: Axes = (0, 1),
    dt: float,
    out: Path,
) -> Exported:
    """Writes the graph of a user's module.

    Args:
        spec: see `workflows.modules.load_module`.
        weights: see there.
        shape: see `workflows.modules.example_input`.
        example: see there.
        time: how steps reach the module, see `export.record.step.Time`.
        axes: where it wants steps and samples.
        dt: seconds per step.
        out: the NIR file.

    Raises:
        SpikescrError: the module cannot be made, or something in it has no place in a graph.
    """
    import torch

    from spikescr.export.deploy import write_graph
    from spikescr.export.module.convert import export_module
    from spikescr.workflows.modules import example_input, load_module

    given = torch.from_numpy(example_input(shape, example))
    with unchanged(*([] if weights is None else [weights])) as digests:
        module = load_module(spec, weights)
    said = {} if weights is None else {dialect.CHECKPOINT: digests[weights.name]}
    exported = export_module(module, given, dt=dt, time=time, axes=axes, metadata=said)
    write_graph(out, exported.graph)
    return exported


def export_netx(
    path: Path, out: Path, *, dt: float | None = None, notify: Notify = silent
) -> tuple[QuantizedLayer, ...]:
    """Writes a chain of spiking layers as lava-dl's network description, quantized for Loihi.

    Args:
        path: of a NIR file.
        out: the HDF5 file to write.
        dt: seconds per step; None: those in the file's metadata.
        notify: called with what a user of the file should know.

    Returns:
        The layers as they were quantized.

    Raises:
        UsageError: neither the file nor the caller tells the step, or they differ.
        GraphError: the file cannot be read or is no such chain.
        ExportError: netx cannot say what a layer is, or its cores would hold more than a core of Loihi 2 does.
    """
    with unchanged(path) as digests:
        graph = read_graph(path, type_check=False)  # as simulate: shapes follow from the input and the weights
    key = next((key for key in (dialect.DT, FOREIGN_DT) if key in graph.metadata), None)
    try:
        step = dt if key is None else step_length(graph)
        if step is None:
            raise UsageError(f"{path}: its metadata has no {dialect.DT}; give the seconds per step, dt (--dt)")
        if dt not in (None, step):
            raise UsageError(f"{path}: its metadata has {key} {step}, not {dt}")
        chain = read_chain(opened(graph), step)
        layers = tuple(quantize(layer) for layer in chain.layers)
        _within_limits(graph, None if key is not None else step)
    except GraphError as error:
        raise GraphError(f"{path}: {error}") from error
    except ExportError as error:
        raise ExportError(f"{path}: {error}") from error
    made = {
        "source": path.name,
        "source_sha256": digests[path.name],
        "versions": json.dumps(versions("spikescr", "nir", "h5py")),
    }
    write_netx(out, chain, layers, made)
    for layer in layers:
        if losses := layer.losses():
            notify(f"{layer.layer.name}: {'; '.join(losses)} (in thresholds)")
    if chain.clocked:
        notify(
            "netx has no clock: biases act at every step; give Network reset_interval=WINDOW and reset_offset=1, and "
            "every layer begins each window from rest with its first input"
        )
    return layers


def _within_limits(graph: nir.NIRGraph, dt: float | None) -> None:
    """Holds a graph against the limits of the chip that runs netx files.

    Raises:
        GraphError: it cannot be run.
        ExportError: it exceeds one; the message gives the first, and how many there are.
    """
    timed = copy(graph)
    timed.metadata = {dialect.STEPS: 1, **graph.metadata}  # what a core holds does not depend on the window
    program = lower(timed, dt=dt, steps=None if has_clock(graph) else 1)
    placement = place(program, NETX_CHIP, chip_named(NETX_CHIP), {})
    exceeded = [violation.line for violation in check(placement) if not violation.mended]
    if exceeded:
        more = f" (and {len(exceeded) - 1} more; spikescr fit shows all)" if exceeded[1:] else ""
        raise ExportError(f"does not fit {placement.chip.title}: {exceeded[0]}{more}")
