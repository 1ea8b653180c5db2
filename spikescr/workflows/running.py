"""Running any NIR graph on arrays: how it is to be run, what it is run on, and what an audit says of that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikescr.errors import BackendError, GraphError, UsageError
from spikescr.files import unchanged
from spikescr.progress import Notify, advancing, silent

if TYPE_CHECKING:
    import nir
    from numpy.typing import ArrayLike

    from spikescr.sim.lowering.neurons import Integration, Reset
    from spikescr.sim.program import FloatArray, IntArray, Program
    from spikescr.sim.run import Run

RECORDED = ("spikes", "v")
"""What can be recorded: spikes of every neuron, and membranes before their reset."""

_MEMORY = 2**28  # bytes of all signals of a batch, about


@dataclass(frozen=True)
class Options:
    """How a graph is to be run; what its metadata tell may be left out.

    Attributes:
        dt: seconds per step; None for those of the metadata.
        window: how many steps to run; None for the window that the metadata tell, else for as many as the input has. A
            graph with a clock has its window.
        integration: of the neurons' equations, "euler" or "exponential".
        input_signal: what the inputs carry, "spikes" or "values"; None for the metadata, else values.
        round_delays: take the nearest whole step for delays that are none.
        backend: of `sim.backends.NAMES`.
        record: of RECORDED.
        batch_size: samples at once; None for as many as memory of a reasonable size holds.
        precision: float64, or float32 of the fast backend.
        stall_seconds: watchdog of Lava.
        reset: of neurons of which the graph does not say it, "subtract" or "zero"; None for their v_reset.
        readout: of `spikescr.readouts`; None for that of the metadata.
    """

    dt: float | None = None
    window: int | None = None
    integration: Integration = "euler"
    input_signal: str | None = None
    round_delays: bool = False
    backend: str = "fast"
    record: tuple[str, ...] = ("spikes",)
    batch_size: int | None = None
    precision: str = "float64"
    stall_seconds: float = 60.0
    reset: Reset | None = None
    readout: str | None = None


def _read(path: Path) -> nir.NIRGraph:
    from spikescr.sim.lowering.graph_file import read_graph

    return read_graph(path, type_check=False)  # nir refuses grouped convolutions; lowering checks shapes


def run_on(
    graph: nir.NIRGraph | Path,
    given: Callable[[nir.NIRGraph, float], dict[str, FloatArray]],
    where: str,
    options: Options,
    valid: ArrayLike | None,
    data: Path | None = None,
    notify: Notify = silent,
    labels: ArrayLike | Path | None = None,
) -> Run:
    """Runs a graph on what is given.

    Args:
        graph: it, or its NIR file, which messages and the audit name.
        given: gives the inputs (T, B, N) by name, of the graph and its seconds per step.
        where: what messages call the inputs.
        options: how to run it.
        valid: steps of each sample (B,), None for all.
        data: file of the inputs, for the audit.
        notify: told what lowering decided and the graph does not say.
        labels: class of each sample (B,), or their .npy file.

    Raises:
        SpikescrError: the graph or its input cannot be run, or a file of them was changed while it was read.
    """
    import threadpoolctl

    from spikescr.sim import backends
    from spikescr.sim.labels import find_readout, require_readout, take_labels
    from spikescr.sim.lowering.graph_file import reset_note
    from spikescr.sim.run import run_graph

    for name in options.record:
        if name not in RECORDED:
            raise UsageError(f"record (--record) {name}: only {' and '.join(RECORDED)} can be recorded")
    path = graph if isinstance(graph, Path) else None
    listed = labels if isinstance(labels, Path) else None
    with unchanged(*(file for file in (path, data, listed) if file is not None)) as digests:
        node = _read(graph) if isinstance(graph, Path) else graph
        program, inputs, steps = _prepare(node, path, given, where, options, valid)
        if path is not None and options.reset is None and (told := reset_note(path)):
            notify(told)
        for note in program.notes:
            notify(note)
        readout, classes = find_readout(program, options.readout), None
        if labels is not None:
            readout = require_readout(program, options.readout)
            classes = take_labels(labels, len(steps), len(readout.classes))
    build = backends.Options(
        batch=min(len(steps), options.batch_size or _batch_size(program)),
        spikes="spikes" in options.record,
        membranes="v" in options.record,
        dtype=options.precision,
        stall_seconds=options.stall_seconds,
    )
    about = _about(program, inputs, options, path, data, listed, digests)
    try:
        with (
            threadpoolctl.threadpool_limits(1),
            advancing("Simulating", len(steps)) as advance,
            backends.build(options.backend, program, build) as backend,
        ):
            return run_graph(
                program,
                backend,
                inputs,
                steps,
                record=options.record,
                advance=advance,
                about=about,
                readout=readout,
                labels=classes,
            )
    except BackendError as error:
        raise error if path is None else BackendError(f"{path} on {where}: {error}") from error


def _prepare(
    graph: nir.NIRGraph,
    path: Path | None,
    given: Callable[[nir.NIRGraph, float], dict[str, FloatArray]],
    where: str,
    options: Options,
    valid: ArrayLike | None,
) -> tuple[Program, dict[str, FloatArray], IntArray]:
    """The Program, the inputs of all its sources over all its steps, and the valid steps of each sample."""
    from spikescr import dialect
    from spikescr.sim.feed import fit
    from spikescr.sim.lowering.graph_time import has_clock, step_length
    from spikescr.sim.lowering.lower import lower
    from spikescr.sim.program import Signal

    signal = None if options.input_signal is None else Signal(options.input_signal)
    try:
        dt = step_length(graph) if options.dt is None else options.dt
        inputs = {name: array[: options.window] for name, array in given(graph, dt).items()}
        # A graph with a clock has a window of its own, which its attention needs; one that says its window, too, unless
        # other steps are asked for: then all that is late still falls into the run.
        own = has_clock(graph) or (options.window is None and dialect.STEPS in graph.metadata)
        steps = None if own else options.window or len(next(iter(inputs.values())))
        program = lower(
            graph,
            dt=dt,
            steps=steps,
            integration=options.integration,
            input_signal=signal,
            round_delays=options.round_delays,
            reset=options.reset,
        )
    except GraphError as error:
        raise error if path is None else GraphError(f"{path}: {error}") from error
    return program, *fit(program, inputs, where, valid)


def _batch_size(program: Program) -> int:
    """Samples at once: as many as keep all signals in memory of a reasonable size, 64 at most."""
    values = program.period * sum(operation.width for operation in program.operations)
    return max(1, min(64, _MEMORY // (8 * values)))


def _about(
    program: Program,
    inputs: dict[str, FloatArray],
    options: Options,
    path: Path | None,
    data: Path | None,
    labels: Path | None,
    files: dict[str, str],
) -> dict[str, Any]:
    """What the audit says of a run; files: their hashes; `input`: a hash of all that was fed."""
    import hashlib

    from spikescr.provenance import versions
    from spikescr.sim.counting import before

    digest = hashlib.sha256()
    for name, array in sorted(inputs.items()):
        digest.update(name.encode())
        digest.update(array.tobytes())
    return {
        "graph": None if path is None else str(path),
        "data": None if data is None else str(data),
        "labels": None if labels is None else str(labels),
        "dt": options.dt,
        "steps": options.window,
        "integration": options.integration,
        "input_signal": options.input_signal,
        "round_delays": options.round_delays,
        "reset": options.reset,
        "readout": options.readout,
        "backend": options.backend,
        "precision": options.precision,
        "inputs": {o.name: o.signal.value for o in program.operations if not o.ports},
        "input": digest.hexdigest(),
        "versions": versions("spikescr", "lava-nc", "nir", "numpy"),
        "files": files,
        **before.told(program.metadata),
    }
