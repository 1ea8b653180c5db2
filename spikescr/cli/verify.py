"""`spikescr verify`: the folded PyTorch model against Lava, every layer, step, neuron and recording."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table

from spikescr.cli.module_options import module_option
from spikescr.cli.options import max_memory
from spikescr.cli.text import percent, wide_console
from spikescr.errors import SpikescrError, UsageError
from spikescr.runs import DEFAULT_RUN, LOIHI2, RunFolder

if TYPE_CHECKING:
    from rich.console import Console

    from spikescr.workflows.verification import Verification

EPILOG = """\b
Example: verify the exported graph on the test recordings, then on eight of them.
  spikescr verify
  spikescr verify --limit 8
  spikescr verify --precision loihi2
\b
  spikescr verify --module net.py:make --weights net.pt NET.nir --input x.npy
The graph of a module of your own against it, on an input as it takes it.
\b
Exit status 1 when a single spike or prediction differs. Writes verify.json in the run folder;
of a module beside the graph (NET.verify.json).
"""


@click.command(epilog=EPILOG)
@click.argument("graph", required=False, type=click.Path(path_type=Path), metavar="[NET.nir]")
@click.option("--run", "folder", type=click.Path(path_type=Path), help=f"Run folder.  [default: {DEFAULT_RUN}]")
@click.option(
    "--precision",
    type=click.Choice(["float64", LOIHI2]),
    default="float64",
    show_default=True,
    help="The exported network, or the one in integers (spikescr quantize).",
)
@click.option("--data", help="Data set instead of the one trained on, named as for train.")
@click.option("--split", type=click.Choice(["train", "valid", "test"]), default="test", show_default=True)
@click.option("--limit", type=click.IntRange(1), help="Only the first so many recordings.")
@click.option("--recording", help="Only the recording of this name.")
@module_option
@click.option("--input", "data_path", type=click.Path(path_type=Path), metavar="X.npy", help="Input of a module.")
@click.option("--backend", type=click.Choice(["fast", "lava"]), default="lava", show_default=True, help="Of a module.")
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True)
@click.option("--stall-seconds", type=click.FloatRange(1), default=60, show_default=True, help="Watchdog.")
@max_memory
def command(
    graph: Path | None,
    folder: Path | None,
    precision: str,
    data: str | None,
    split: str,
    limit: int | None,
    recording: str | None,
    module_spec: str | None,
    weights: Path | None,
    data_path: Path | None,
    backend: str,
    batch_size: int,
    stall_seconds: float,
) -> None:
    """Compare every spike of Lava's execution with PyTorch in float64: of a run, folded, or of any module."""
    if module_spec is not None:
        if graph is None or data_path is None:
            raise UsageError("--module wants its graph, NET.nir, and an --input x.npy")
        if folder is not None or data is not None or recording is not None or limit is not None:
            raise UsageError("--run, --data, --limit and --recording are for run folders, not for a --module")
        _module(module_spec, weights, graph, data_path, backend, batch_size)
        return
    if graph is not None or data_path is not None or weights is not None:
        raise UsageError("NET.nir, --input and --weights belong to --module; a run folder is given by --run")
    from spikescr.workflows.verify import verify_run

    run = RunFolder(folder or Path(DEFAULT_RUN)).of_precision(precision)
    verification = verify_run(
        run,
        data=data,
        split=split,
        limit=limit,
        recording=recording,
        batch_size=batch_size,
        stall_seconds=stall_seconds,
    )
    _show(wide_console(), verification, run.verification, "recordings")
    _judge(verification, run.graph, run.verification)


def _module(spec: str, weights: Path | None, graph: Path, data: Path, backend: str, batch_size: int) -> None:
    from spikescr.workflows.verify import verify_module_file

    verification, written = verify_module_file(spec, weights, graph, data, backend=backend, batch_size=batch_size)
    _show(wide_console(), verification, written, "samples")
    _judge(verification, graph, written)


def _judge(verification: Verification, graph: Path, written: Path) -> None:
    if not verification.passed:
        raise SpikescrError(
            f"{graph}: {verification.differing} spikes and {verification.differing_predictions} predictions differ "
            f"from PyTorch's, logits by up to {verification.logit_error:.1e}; see {written}"
        )


def _show(console: Console, verification: Verification, written: Path, what: str) -> None:
    """Prints the comparison of every layer and the first divergence."""
    backend = verification.backend.capitalize()
    table = Table(title=f"{backend} against PyTorch ({verification.reference})", box=SIMPLE_HEAD)
    table.add_column("layer", no_wrap=True)
    for column in ("neuron-steps", "spikes", "firing rate", "differing"):
        table.add_column(column, justify="right")
    for layer in verification.layers:
        rate = "silent: proves nothing" if layer.silent else percent(layer.firing_rate)
        table.add_row(layer.layer, f"{layer.compared:,}", f"{layer.spikes:,}", rate, f"{layer.differing:,}")
    console.print(table)
    if verification.first is not None:
        console.print(verification.first)
    explained = f" ({verification.explained:,} explained)" if verification.explained else ""
    console.print(
        f"{len(verification.samples)} {what}: {verification.differing:,} differing spikes{explained}, "
        f"{verification.differing_predictions} differing predictions, "
        f"largest difference of logits {verification.logit_error:.1e}"
    )
    console.print(f"wrote {written}")
