"""`spikescr verify`: the folded PyTorch model against Lava, every layer, step, neuron and recording."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table

from spikescr.cli.options import max_memory
from spikescr.cli.text import percent, wide_console
from spikescr.errors import SpikescrError
from spikescr.runs import DEFAULT_RUN, LOIHI2, RunFolder

if TYPE_CHECKING:
    from rich.console import Console

    from spikescr.workflows.verify import Verification

EPILOG = """\b
Example: verify the exported graph on the test recordings, then on eight of them.
  spikescr verify
  spikescr verify --limit 8
  spikescr verify --precision loihi2
Exit status 1 when a single spike or prediction differs. Writes verify.json in the run folder.
"""


@click.command(epilog=EPILOG)
@click.option("--run", "folder", type=click.Path(path_type=Path), default=DEFAULT_RUN, show_default=True)
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
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True)
@click.option("--stall-seconds", type=click.FloatRange(1), default=60, show_default=True, help="Watchdog.")
@max_memory
def command(
    folder: Path,
    precision: str,
    data: str | None,
    split: str,
    limit: int | None,
    recording: str | None,
    batch_size: int,
    stall_seconds: float,
) -> None:
    """Compare every spike of Lava's execution with the folded PyTorch model in float64, or with that in integers."""
    from spikescr.workflows.verify import verify_run

    run = RunFolder(folder).of_precision(precision)
    verification = verify_run(
        run,
        data=data,
        split=split,
        limit=limit,
        recording=recording,
        batch_size=batch_size,
        stall_seconds=stall_seconds,
    )
    _show(wide_console(), verification, run)
    if not verification.passed:
        raise SpikescrError(
            f"{run.graph}: {verification.differing} spikes and {verification.differing_predictions} predictions differ "
            f"from PyTorch's, logits by up to {verification.logit_error:.1e}; see {run.verification}"
        )


def _show(console: Console, verification: Verification, run: RunFolder) -> None:
    """Prints the comparison of every layer and the first divergence."""
    table = Table(title=f"Lava against PyTorch ({verification.reference})", box=SIMPLE_HEAD)
    table.add_column("layer", no_wrap=True)
    for column in ("neuron-steps", "spikes", "firing rate", "differing"):
        table.add_column(column, justify="right")
    for layer in verification.layers:
        rate = "silent: proves nothing" if layer.silent else percent(layer.firing_rate)
        table.add_row(layer.layer, f"{layer.compared:,}", f"{layer.spikes:,}", rate, f"{layer.differing:,}")
    console.print(table)
    if verification.first is not None:
        console.print(verification.first)
    console.print(
        f"{len(verification.samples)} recordings: {verification.differing:,} differing spikes, "
        f"{verification.differing_predictions} differing predictions, "
        f"largest difference of logits {verification.logit_error:.1e}"
    )
    console.print(f"wrote {run.verification}")
