"""Simulating any NIR graph on arrays or on a file of inputs: in Python, or with all results in a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikescr.errors import BackendError, GraphError, UsageError
from spikescr.files import replacing, replacing_together, sha256, write_csv, write_text
from spikescr.progress import Notify, advancing, silent
from spikescr.runs import RunFolder
from spikescr.workflows.execution import count_table, prediction_table

if TYPE_CHECKING:
    import nir
    import numpy as np
    from numpy.typing import ArrayLike

    from spikescr.sim.counting.saved import Audit
    from spikescr.sim.lowering.neurons import Integration, Reset
    from spikescr.sim.program import FloatArray, IntArray, Program
    from spikescr.sim.run import Run

RECORDED = ("spikes", "v")
"""What can be recorded: spikes of every neuron, and membranes before their reset."""

OPTIONS = ("dt", "steps", "integration", "input_signal", "reset", "backend", "precision", "labels", "readout")
"""What an audit says of how a graph was run, by the names of the options of the command line."""

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


def simulate(
    graph: nir.NIRGraph | Path | str,
    x: ArrayLike | Mapping[str, ArrayLike],
    *,
    steps: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    readout: str | None = None,
    backend: str = "fast",
    record: Collection[str] = ("spikes",),
    dt: float | None = None,
    input_signal: str | None = None,
    integration: Integration = "euler",
    round_delays: bool = False,
    batch_size: int | None = None,
    precision: str = "float64",
    stall_seconds: float = 60.0,
    reset: Reset | None = None,
    notify: Notify = silent,
) -> Run:
    """Executes a NIR graph on some samples and counts every operation of it.

    Everything that the graph's metadata tell is optional. The clock of a graph that has one is made here. Neurons are
    forward Euler, update, compare, reset (Pedersen et al., Neuromorphic intermediate representation, 2024); what is
    counted is told in docs/energy.md.

    Args:
        graph: the graph, or the path of a NIR file.
        x: of the only input (T, B, ...), or input -> (T, B, ...); `...` is the shape of the Input, or flat. One
            sample may come without its axis, (T, ...).
        steps: valid steps of each sample (B,), at most T; None for all. What x holds beyond them is not fed.
        labels: class of each sample (B,), a channel of the output each; then `accuracy` is there.
        readout: how the output over the steps becomes an answer, of "softmax_sum", "sum", "mean", "last" and "votes";
            None for that of the metadata.
        backend: "fast", "lava", or "both", compared.
        record: of "spikes" and "v" (membranes before their reset), what to keep.
        dt: seconds per step.
        input_signal: what the inputs carry, "spikes" (whole numbers, accumulated) or "values" (multiplied).
        integration: of the neurons' equations, "euler" or "exponential" (exact decay).
        round_delays: take the nearest whole step for delays that are none.
        batch_size: samples at once.
        precision: "float64", or "float32" of the fast backend.
        stall_seconds: watchdog of Lava.
        reset: of neurons of which the graph does not say it, "subtract" (v - v_threshold) or "zero"; to v_reset where
            None. docs/nir.md tells whose files need it.
        notify: called with what lowering decided and the graph does not say, a line each.

    Returns:
        A Run: outputs and spikes (T, B, N) at the samples' own steps, counts, energy in joules.

    Raises:
        GraphError: the graph cannot be read or run; the message names node, field and value.
        DataError: x does not fit the graph.
        UsageError: there is no such backend, or nothing of that name can be recorded.
        BackendError: the simulation failed while it ran.

    Example:
        >>> import nir, numpy as np, spikescr
        >>> lif = nir.LIF(tau=np.full(2, 2e-3), r=np.full(2, 2.0), v_leak=np.zeros(2), v_threshold=np.ones(2))
        >>> nodes = {"input": nir.Input(np.array([3])), "fc": nir.Linear(np.ones((2, 3))), "lif": lif,
        ...          "output": nir.Output(np.array([2]))}
        >>> graph = nir.NIRGraph(nodes, [("input", "fc"), ("fc", "lif"), ("lif", "output")])
        >>> x = np.zeros((4, 1, 3))
        >>> x[1] = 1  # three spikes at step 1: both neurons get 3
        >>> run = spikescr.simulate(graph, x, dt=1e-3, input_signal="spikes")
        >>> run.spikes["lif"][:, 0].tolist()
        [[False, False], [True, True], [False, False], [False, False]]
        >>> run.counts["ac"].sum()  # 3 spikes, 2 synapses each
        6
        >>> run.energy("executed")  # 0.9 pJ each
        array([5.4e-12])
    """
    options = Options(
        dt=dt,
        integration=integration,
        input_signal=input_signal,
        round_delays=round_delays,
        backend=backend,
        record=tuple(record),
        batch_size=batch_size,
        precision=precision,
        stall_seconds=stall_seconds,
        reset=reset,
        readout=readout,
    )

    def given(graph: nir.NIRGraph, dt: float) -> dict[str, FloatArray]:
        from spikescr.sim.inputs import shape_inputs

        return shape_inputs(x, graph, "x")

    path = Path(graph) if isinstance(graph, str | Path) else None
    node = graph if path is None else _read(path)
    return _run(node, path, given, "x", options, steps, notify=notify, labels=labels)


def audit(path: Path | str) -> Audit:
    """Reads what a simulation counted, without the graph and without running it.

    Args:
        path: an audit.npz, the folder of a simulation that holds one, or a run folder.

    Returns:
        An Audit: `energy` and `why` by any convention (docs/energy.md), `counts` by operation and step.

    Raises:
        SpikescrError: there is none, it is damaged, or a later version wrote it.

    Example:
        >>> import nir, numpy as np, spikescr
        >>> nodes = {"input": nir.Input(np.array([1])), "fc": nir.Linear(np.ones((5, 1))),
        ...          "output": nir.Output(np.array([5]))}
        >>> graph = nir.NIRGraph(nodes, [("input", "fc"), ("fc", "output")])
        >>> run = spikescr.simulate(graph, np.array([[0.5], [0.0]]), dt=1e-3)
        >>> run.save("audit.npz")
        >>> audit = spikescr.audit("audit.npz")
        >>> audit.energy("executed")  # 5 MAC of 4.6 pJ
        array([2.3e-11])
        >>> audit.why("paper", "executed")  # the step with 0 is charged by the formula
        {'zero_input': array([-2.3e-11])}
    """
    from spikescr.workflows.energy import open_audit

    return open_audit(Path(path))


def simulate_file(
    graph: Path, data: Path, out: Path, options: Options, notify: Notify, labels: Path | None = None
) -> Run:
    """Runs a NIR file on a file of inputs and writes all that it gave to a folder.

    outputs.npz (Output: steps, samples, channels), counts.csv, summary.json, audit.npz, and what is recorded as
    spikes.h5 and v.h5 (`nir.read_data`), at executed steps; with labels predictions.csv.

    Args:
        graph: the NIR file.
        data: see `sim.inputs.read_inputs`.
        out: folder for the results, made where it is not there.
        options: how to run it.
        notify: told what lowering decided and the graph does not say.
        labels: .npy, class of each sample.

    Raises:
        SpikescrError: the graph or its input cannot be run, or the folder cannot be written.
    """

    def given(node: nir.NIRGraph, dt: float) -> dict[str, FloatArray]:
        from spikescr.sim.inputs import read_inputs

        return read_inputs(data, node, dt)

    with RunFolder(out).locked():
        run = _run(_read(graph), graph, given, str(data), options, None, data, notify, labels)
        _write(out, run, options)
    return run


def run_again(audit: Audit, sample: int) -> tuple[Run, dict[str, FloatArray]] | None:
    """Runs one sample of a simulated graph again, and gives its inputs (T, 1, N), the clock aside.

    Args:
        audit: of `simulate_file`.
        sample: its number.

    Returns:
        None where the graph or the file of inputs is not where it was, or is another by its hash.
    """
    from spikescr.sim.inputs import read_inputs

    about = audit.about
    if not about.get("graph") or not about.get("data"):
        return None
    graph, data = Path(about["graph"]), Path(about["data"])
    if any(not file.is_file() or sha256(file) != about["files"][file.name] for file in (graph, data)):
        return None
    options = Options(
        dt=about["dt"],
        window=about["steps"],
        integration=about["integration"],
        input_signal=about["input_signal"],
        round_delays=about["round_delays"],
        reset=about.get("reset"),
        precision=about["precision"],
    )

    def given(node: nir.NIRGraph, dt: float) -> dict[str, FloatArray]:
        return {name: array[:, [sample]] for name, array in read_inputs(data, node, dt).items()}

    node = _read(graph)
    run = _run(node, graph, given, str(data), options, None)
    signals = about["inputs"]
    return run, {name: x for name, x in given(node, run.program.dt).items() if signals[name] != "clock"}


def _read(path: Path) -> nir.NIRGraph:
    from spikescr.sim.lowering.graph_file import read_graph

    return read_graph(path, type_check=False)  # nir refuses grouped convolutions; lowering checks shapes


def _run(
    graph: nir.NIRGraph,
    path: Path | None,
    given: Callable[[nir.NIRGraph, float], dict[str, FloatArray]],
    where: str,
    options: Options,
    valid: ArrayLike | None,
    data: Path | None = None,
    notify: Notify = silent,
    labels: ArrayLike | Path | None = None,
) -> Run:
    import threadpoolctl

    from spikescr.sim import backends
    from spikescr.sim.labels import find_readout, require_readout, take_labels
    from spikescr.sim.lowering.graph_file import reset_note
    from spikescr.sim.run import run_graph

    for name in options.record:
        if name not in RECORDED:
            raise UsageError(f"record (--record) {name}: only {' and '.join(RECORDED)} can be recorded")
    program, inputs, steps = _prepare(graph, path, given, where, options, valid)
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
    about = _about(program, inputs, options, path, data, labels if isinstance(labels, Path) else None)
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
) -> dict[str, Any]:
    """What the audit says of a run; `input`: a hash of all that was fed."""
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
        "files": {file.name: sha256(file) for file in (path, data, labels) if file is not None},
        **before.told(program.metadata),
    }


def _write(out: Path, run: Run, options: Options) -> None:
    """Writes all that a run gave, as one; recordings and the report of an earlier run go."""
    from spikescr.sim.run import write_arrays, write_data

    recorded = {name: f"{name}.h5" for name in RECORDED}
    names = ("outputs.npz", *recorded.values(), "counts.csv", "predictions.csv", "summary.json", "audit.npz",
             "report.html", "report.md")  # fmt: skip
    with replacing_together(out, names) as stage:
        with replacing(stage / "outputs.npz") as temporary:
            write_arrays(temporary, run.outputs)
        for name, kept in run.executed.items():
            with replacing(stage / recorded[name]) as temporary:
                write_data(temporary, name, kept, run.program)
        write_csv(stage / "counts.csv", *count_table(run.audit))
        if run.audit.labels:
            write_csv(stage / "predictions.csv", *prediction_table(run.audit))
        write_text(stage / "summary.json", json.dumps(_summary(run, options), indent=1) + "\n")
        run.save(stage / "audit.npz")


def _summary(run: Run, options: Options) -> dict[str, Any]:
    from spikescr.sim.counting import before
    from spikescr.sim.counting.energy import HOROWITZ_45NM
    from spikescr.sim.counting.results import energy, operations

    audit, program = run.audit, run.program
    return {
        "samples": audit.samples,
        "steps": program.steps,
        "valid_steps": int(audit.valid.sum()),
        "executed_steps": program.period,
        "accuracy": run.accuracy,
        "dt": program.dt,
        "integration": options.integration,
        "inputs": audit.about["inputs"],
        "notes": list(program.notes),
        "totals": audit.counts.totals(),
        "energy": energy(audit, HOROWITZ_45NM),
        "before_network": before.figures(audit, HOROWITZ_45NM),
        "operations": operations(audit, HOROWITZ_45NM),
        "backend": options.backend,
        "precision": options.precision,
        "versions": audit.about["versions"],
        "files": audit.about["files"],
        "batch_size": run.batch,
        "elapsed_seconds": run.seconds,
        "compared": named(run.compared),
        "differing": named(run.differing),
    }


def named(pair: np.ndarray) -> dict[str, int]:
    """What CrossCheck found, by name."""
    return dict(zip(("spikes", "counts"), pair.tolist(), strict=True))
