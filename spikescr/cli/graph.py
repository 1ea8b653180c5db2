"""`spikescr simulate FILE.nir`: any NIR graph on inputs from a file, executed and counted."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from spikescr.cli.console import notify
from spikescr.cli.text import percent, si, wide_console
from spikescr.errors import GraphError, SpikescrError, UsageError
from spikescr.progress import advancing

if TYPE_CHECKING:
    import numpy as np

    from spikescr.sim.lowering.neurons import Integration
    from spikescr.sim.program import FloatArray, Program
    from spikescr.sim.run import GraphRun

RECORDED = ("spikes", "v")
_MEMORY = 2**28  # bytes of all signals of a batch, about
_COLUMNS = {"spikes": "events", "ac": "AC", "mac": "MAC", "bias": "bias", "neuron": "neuron"}


@dataclass(frozen=True)
class Request:
    """What a user asks of a graph.

    graph, data: files. out: folder for the results. steps: how many to run, None for as many as the input has. dt:
    seconds per step, None for the graph's own. record: of RECORDED. The rest as in `sim.lower` and `cli.jobs.Job`.
    """

    graph: Path
    data: Path
    out: Path
    steps: int | None
    dt: float | None
    record: tuple[str, ...]
    integration: Integration
    input_signal: str | None
    round_delays: bool
    backend: str
    batch_size: int | None
    precision: str
    stall_seconds: float


def parse_record(text: str | None) -> tuple[str, ...]:
    """The names of `--record`, separated by commas.

    Raises:
        UsageError: one of them is not known.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(","))) if text else ()
    for name in names:
        if name not in RECORDED:
            raise UsageError(f"--record {name}: only {' and '.join(RECORDED)} can be recorded")
    return names


def simulate(request: Request) -> None:
    """Runs the graph, writes what it gave to the folder and prints the counts.

    Raises:
        SpikescrError: the graph or its input cannot be run, or two backends differ.
    """
    program, inputs = _prepare(request)
    for note in program.notes:
        notify(note)
    samples = next(iter(inputs.values())).shape[1]
    batch = min(samples, request.batch_size or _batch_size(program))
    begin = time.perf_counter()
    run, compared, differing = _run(request, program, inputs, batch)
    seconds = time.perf_counter() - begin
    differing_counts = {"compared": _named(compared), "differing": _named(differing)}
    _write(request, run, {"batch_size": batch, "elapsed_seconds": seconds, **differing_counts})
    _show(wide_console(), request, run, differing_counts)
    if differing.any():
        raise SpikescrError(f"{request.graph}: fast and Lava differ in {differing.tolist()} spikes and counts")


def _prepare(request: Request) -> tuple[Program, dict[str, FloatArray]]:
    """The Program, and the inputs of all its sources over all its steps."""
    from spikescr.sim.inputs import read_inputs
    from spikescr.sim.lowering.graph_file import read_graph
    from spikescr.sim.lowering.graph_time import has_clock, step_length
    from spikescr.sim.lowering.lower import lower
    from spikescr.sim.program import Signal
    from spikescr.sim.run import fit

    graph = read_graph(request.graph, type_check=False)  # nir refuses grouped convolutions; lowering checks shapes
    signal = None if request.input_signal is None else Signal(request.input_signal)
    try:
        dt = step_length(graph) if request.dt is None else request.dt
        given = read_inputs(request.data, graph, dt)
        inputs = {name: array[: request.steps] for name, array in given.items()}
        # A graph with a clock has a window of its own, which its attention needs.
        steps = None if has_clock(graph) else request.steps or len(next(iter(inputs.values())))
        program = lower(
            graph,
            dt=dt,
            steps=steps,
            integration=request.integration,
            input_signal=signal,
            round_delays=request.round_delays,
        )
    except GraphError as error:
        raise GraphError(f"{request.graph}: {error}") from error
    return program, fit(program, inputs, str(request.data))


def _run(
    request: Request, program: Program, inputs: dict[str, FloatArray], batch: int
) -> tuple[GraphRun, np.ndarray, np.ndarray]:
    """The run, and what was compared and differed where two backends ran, (2,) each."""
    import threadpoolctl

    from spikescr.sim.backends import Options, build, compared
    from spikescr.sim.run import run_graph

    options = Options(
        batch,
        spikes="spikes" in request.record,
        membranes="v" in request.record,
        dtype=request.precision,
        stall_seconds=request.stall_seconds,
    )
    samples = next(iter(inputs.values())).shape[1]
    with (
        threadpoolctl.threadpool_limits(1),
        build(request.backend, program, options) as backend,
        advancing("Simulating", samples) as advance,
    ):
        run = run_graph(program, backend, inputs, record=request.record, advance=advance)
        return run, *compared(backend)


def _batch_size(program: Program) -> int:
    """Samples at once: as many as keep all signals in memory of a reasonable size, 64 at most."""
    values = program.period * sum(operation.width for operation in program.operations)
    return max(1, min(64, _MEMORY // (8 * values)))


def _write(request: Request, run: GraphRun, about: dict[str, Any]) -> None:
    from spikescr.files import replacing, write_csv, write_text
    from spikescr.sim.run import COUNT_FIELDS, write_arrays

    out = request.out
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpikescrError(f"{out} cannot be made a folder of results: {error.strerror}") from error
    with replacing(out / "outputs.npz") as temporary:
        write_arrays(temporary, run.outputs)
    for observable in RECORDED:
        path = out / f"{observable}.h5"
        path.unlink(missing_ok=True)  # of an earlier run
        if observable in request.record:
            with replacing(path) as temporary:
                run.write_data(temporary, observable)
    write_csv(out / "counts.csv", COUNT_FIELDS, run.rows())
    write_text(out / "summary.json", json.dumps(_summary(request, run) | about, indent=1) + "\n")


def _summary(request: Request, run: GraphRun) -> dict[str, Any]:
    from spikescr.files import sha256
    from spikescr.provenance import versions
    from spikescr.sim.counting.energy import HOROWITZ_45NM as COST

    totals = run.totals()
    return {
        "samples": run.samples,
        "steps": run.program.steps,
        "executed_steps": run.program.period,
        "dt": run.program.dt,
        "integration": request.integration,
        "inputs": {o.name: o.signal.value for o in run.program.operations if not o.ports},
        "notes": list(run.program.notes),
        "totals": totals,
        "energy": {
            "cost": {"name": COST.name, "ac_pj": COST.ac_pj, "mac_pj": COST.mac_pj, "source": COST.source},
            "events_j": COST.joules(totals["ac"], totals["mac"]),
            "apart": {"bias": totals["bias"], "neuron": totals["neuron"]},
        },
        "operations": run.operations(COST),
        "backend": request.backend,
        "precision": request.precision,
        "versions": versions("spikescr", "lava-nc", "nir", "numpy"),
        "files": {request.graph.name: sha256(request.graph), request.data.name: sha256(request.data)},
    }


def _show(console: Console, request: Request, run: GraphRun, compared: dict[str, dict[str, int]]) -> None:
    from spikescr.sim.counting.energy import HOROWITZ_45NM as COST

    samples, totals = run.samples, run.totals()
    many = f"mean of {samples} samples" if samples > 1 else "one sample"
    title = f"Executed ({request.backend}): {many}, {run.program.steps} steps of {si(run.program.dt, 's')}"
    table = Table(title=title, caption=f"energy: {COST.name}", box=SIMPLE_HEAD)
    table.add_column("operation", no_wrap=True)
    for column in ("type", "rate", *_COLUMNS.values(), "energy"):
        table.add_column(column, justify="left" if column == "type" else "right", no_wrap=True)
    joules = COST.joules(totals["ac"], totals["mac"])
    for row in (*run.operations(COST), {"operation": "total", "type": "", **totals, "events_j": joules}):
        if row["operation"] == "total" and not row["type"]:
            table.add_section()
        table.add_row(
            row["operation"],
            row["type"],
            percent(row.get("firing_rate")),
            *(si(row[kind] / samples) if row[kind] else "" for kind in _COLUMNS),
            si(row["events_j"] / samples, "J") if row["events_j"] else "",
        )
    console.print(table)
    console.print(
        f"{si(joules / samples, 'J')} per sample executed; apart: {si(totals['bias'] / samples)} bias additions, "
        f"{si(totals['neuron'] / samples)} membrane updates"
    )
    if run.program.fixed:
        console.print(f"saturated, in fixed point: {totals['saturated']:,} inputs, currents and membranes")
    if request.backend == "both":
        told = (f"{compared['differing'][k]:,} of {compared['compared'][k]:,} {k}" for k in ("spikes", "counts"))
        console.print(f"fast and Lava: {' and '.join(told)} differ")
    files = ["outputs.npz", *(f"{name}.h5" for name in request.record), "counts.csv", "summary.json"]
    console.print(f"wrote {request.out}/{', '.join(files)}")


def _named(pair: np.ndarray) -> dict[str, int]:
    return dict(zip(("spikes", "counts"), pair.tolist(), strict=True))
