"""`spikescr simulate`: execute a deployed graph on recordings, or any NIR graph on a file, and count operations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from spikescr.cli.console import notify, output
from spikescr.cli.graph import show as show_graph
from spikescr.cli.options import max_memory
from spikescr.cli.recordings import show as show_recordings
from spikescr.cli.text import wide_console
from spikescr.errors import SpikescrError, UsageError
from spikescr.readouts import READOUTS
from spikescr.runs import DEFAULT_RUN, LOIHI2, RunFolder
from spikescr.sim.backends import NAMES
from spikescr.workflows.execution import Request, simulate_recordings
from spikescr.workflows.running import Options
from spikescr.workflows.simulate_file import simulate_file

if TYPE_CHECKING:
    from spikescr.sim.lowering.neurons import Integration, Reset

EPILOG = """\b
Example: run the test recordings, in Lava, then one of them step by step; then a graph of any origin.
  spikescr simulate --steps 40
  spikescr simulate --steps 40 --backend lava
  spikescr simulate --precision loihi2
  spikescr simulate --until-sure
  spikescr simulate --recording de_acht/belinda-0_nohash_0.wav --per-step
  spikescr simulate network.nir --input spikes.npy --dt 1e-3 --record spikes,v --backend lava
  spikescr simulate network.nir --input images.npy --labels classes.npy
Writes, in the run folder: simulation/counts.csv (operation, step: counts), simulation/predictions.csv (recording),
simulation/summary.json (totals, energy in joules, causes of the difference, seed, versions, hashes),
simulation/audit.npz (all counts, for spikescr energy and spikescr report); with --until-sure simulation/early-exit.csv
(recording: when its answer was settled, what was executed until then; the other files tell of the whole recordings).
With GRAPH, in --out: outputs.npz (Output: steps, samples, channels), counts.csv, summary.json, audit.npz, and what is
recorded as spikes.h5 and v.h5 (nir.read_data; v is the membrane before its reset); with --labels predictions.csv.

\b
FILE of --input: .npy (T, ...) or (T, samples, ...); .npz and .h5 with such an array for each Input by its name; .h5 of
nir.write_data, on a grid or events. `...` is the shape of the Input, or flat.
"""


# Options, by the name of their parameter, that mean nothing to the other kind of run.
ON_RECORDINGS = {
    "folder", "data", "split", "limit", "recording", "chunk_size", "workers", "scheduler", "resume", "per_step",
    "until_sure",
}  # fmt: skip
ON_GRAPHS = {"data_file", "out", "dt", "integration", "input_signal", "round_delays", "reset", "labels", "readout"}


@click.command(epilog=EPILOG)
@click.argument("graph", required=False, type=click.Path(path_type=Path))
@click.option("--run", "folder", type=click.Path(path_type=Path), default=DEFAULT_RUN, show_default=True)
@click.option(
    "--steps",
    type=click.IntRange(1),
    help="Steps per second, those that the graph was made for. With GRAPH: how many steps to run. Default: all.",
)
@click.option(
    "--backend",
    type=click.Choice(NAMES),
    default="fast",
    show_default=True,
    help="Compiled and fast; Lava, process by process; or both, compared.",
)
@click.option("--data", help="Data set instead of the one trained on, named as for train.")
@click.option("--split", type=click.Choice(["train", "valid", "test", "all"]), default="test", show_default=True)
@click.option("--limit", type=click.IntRange(1), help="Only the first so many recordings.")
@click.option("--recording", help="Only the recording of this name (see predictions.csv).")
@click.option("--batch-size", type=click.IntRange(1), help="Samples at once. Default: 64, fewer beyond 100 steps.")
@click.option("--chunk-size", type=click.IntRange(1), default=256, show_default=True, help="Recordings kept as one.")
@click.option(
    "--precision",
    type=click.Choice(["float64", "float32", LOIHI2]),
    default="float64",
    show_default=True,
    help="Of sums; loihi2: the network in integers (spikescr quantize).",
)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes on this machine.")
@click.option("--scheduler", help="Address of a Dask scheduler; its workers read the same files.")
@click.option("--record", help="Keep every spike, in NIR's data format: spikes. With GRAPH also membranes: spikes,v.")
@click.option("--resume", is_flag=True, help="Continue an interrupted simulation.")
@click.option("--stall-seconds", type=click.FloatRange(1), default=60, show_default=True, help="Watchdog of Lava.")
@click.option("--until-sure", is_flag=True, help="End a recording when its answer is settled (spikescr early-exit).")
@click.option("--per-step", is_flag=True, help="Also print a line for each executed step.")
@click.option("--input", "data_file", type=click.Path(path_type=Path), help="With GRAPH: what to feed it with.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="With GRAPH: folder for results. Default: NAME-simulation."
)
@click.option("--dt", type=float, help="With GRAPH: seconds per step. Default: those in its metadata.")
@click.option(
    "--integration",
    type=click.Choice(["euler", "exponential"]),
    default="euler",
    show_default=True,
    help="With GRAPH: forward Euler, or exact decay.",
)
@click.option(
    "--input-signal",
    type=click.Choice(["spikes", "values"]),
    help="With GRAPH: what its inputs carry, which decides between AC and MAC. Default: metadata, else values.",
)
@click.option("--round-delays", is_flag=True, help="With GRAPH: round delays that are no whole steps.")
@click.option(
    "--reset",
    type=click.Choice(["subtract", "zero"]),
    help="With GRAPH: after a spike v - v_threshold, or 0, where the file does not say it. Default: v_reset.",
)
@click.option("--labels", type=click.Path(path_type=Path), help="With GRAPH: .npy, class of each sample of --input.")
@click.option(
    "--readout",
    type=click.Choice(READOUTS),
    help="With GRAPH: how its outputs over the steps become an answer. Default: metadata.",
)
@click.pass_context
@max_memory
def command(
    ctx: click.Context,
    graph: Path | None,
    folder: Path,
    steps: int | None,
    backend: str,
    data: str | None,
    split: str,
    limit: int | None,
    recording: str | None,
    batch_size: int | None,
    chunk_size: int,
    precision: str,
    workers: int,
    scheduler: str | None,
    record: str | None,
    resume: bool,
    stall_seconds: float,
    until_sure: bool,
    per_step: bool,
    data_file: Path | None,
    out: Path | None,
    dt: float | None,
    integration: Integration,
    input_signal: str | None,
    round_delays: bool,
    reset: Reset | None,
    labels: Path | None,
    readout: str | None,
) -> None:
    """Execute a network event by event and count what it does: the exported one on recordings, or GRAPH on --input."""
    _check_options(ctx, graph)
    recorded = tuple(dict.fromkeys(name.strip() for name in record.split(","))) if record else ()
    if backend == "lava" and precision == "float32":
        raise UsageError(f"--precision {precision}: Lava runs in float64; use --backend fast, or both to compare")
    if graph is None:
        if recorded not in ((), ("spikes",)):
            raise UsageError(
                f"--record {record}: of recordings only spikes are recorded; of a GRAPH with --input membranes, v, too"
            )
        request = Request(
            backend, precision, steps, data, split, limit, recording, batch_size, chunk_size, workers, scheduler,
            bool(recorded), resume, stall_seconds, until_sure,
        )  # fmt: skip
        _recordings(RunFolder(folder).of_precision(precision), request, per_step=per_step)
        return
    if precision == LOIHI2:
        raise UsageError(f"--precision {LOIHI2}: {graph} says itself whether it is in fixed point; leave it out")
    if data_file is None:
        raise UsageError(f"{graph}: what it is to be fed with is missing; give --input FILE")
    if dt is not None and not 0 < dt < float("inf"):
        raise UsageError(f"--dt {dt}: must be a number of seconds above 0")
    out = Path(f"{graph.stem}-simulation") if out is None else out
    options = Options(
        dt,
        steps,
        integration,
        input_signal,
        round_delays,
        backend,
        recorded,
        batch_size,
        precision,
        stall_seconds,
        reset,
        readout,
    )
    run = simulate_file(graph, data_file, out, options, notify, labels)
    show_graph(wide_console(), run, backend, out)
    _fail_where_different(graph, run.differing.tolist())


def _recordings(run: RunFolder, request: Request, *, per_step: bool) -> None:
    execution = simulate_recordings(run, request, notify)
    show_recordings(wide_console(), execution, run, per_step=per_step)
    if execution.fresh:
        output().print(f"{execution.fresh / execution.elapsed:.1f} samples/s, reading and building included")
    _fail_where_different(run.graph, execution.differing.tolist())


def _fail_where_different(graph: Path, differing: list[int]) -> None:
    if any(differing):
        raise SpikescrError(f"{graph}: fast and Lava differ in {differing} spikes and counts")


def _check_options(ctx: click.Context, graph: Path | None) -> None:
    """Refuses options of the other kind of run, which would silently do nothing."""
    out_of_place = ON_RECORDINGS if graph is not None else ON_GRAPHS
    for option in ctx.command.params:
        given = ctx.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        if given and option.name in out_of_place:
            told = f"{graph} is run on --input, not on recordings" if graph is not None else "it needs a GRAPH to run"
            raise UsageError(f"{option.opts[0]}: {told}")
