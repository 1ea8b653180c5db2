"""`spikescr quantize`: a trained network in integers, its scales chosen on recordings, fine-tuned where asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table

from spikescr.cli.console import notify, output
from spikescr.cli.options import max_memory
from spikescr.cli.text import percent, wide_console
from spikescr.cli.training import Attended
from spikescr.errors import UsageError
from spikescr.runs import DEFAULT_RUN, RunFolder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spikescr.workflows.quantize import Quantization

Criterion = Literal["best", "range", "error"]

EPILOG = """\b
Example: 8 bits, scales from recordings alone; then 4 bits with the head at 8, fine-tuned for ten epochs.
  spikescr quantize
  spikescr simulate --precision loihi2
  spikescr verify --precision loihi2
  spikescr quantize --bits 4 --layer-bits head=8 --finetune 10
Writes, in the run folder's loihi2/, itself a run folder: model.safetensors (levels), model.nir (the graph in integers),
quantization.json (scales, rounding, clipping, saturation, accuracy on the validation split).
Ctrl-C and SIGTERM save the state of fine-tuning and end; --resume continues.
"""


@click.command(epilog=EPILOG)
@click.option("--run", "folder", type=click.Path(path_type=Path), default=DEFAULT_RUN, show_default=True)
@click.option("--bits", type=click.IntRange(4, 8), default=8, show_default=True, help="Of weights.")
@click.option(
    "--layer-bits", multiple=True, metavar="NAME=BITS", help="Of the layers with this name; * stands for anything."
)
@click.option(
    "--criterion",
    type=click.Choice(["best", "range", "error"]),
    default="best",
    show_default=True,
    help="Scales from the largest weight, from the least error of currents, or from whichever is better in validation.",
)
@click.option("--recordings", type=click.IntRange(1), default=128, show_default=True, help="To calibrate with.")
@click.option("--finetune", "epochs", type=click.IntRange(0), default=0, show_default=True, help="Epochs.")
@click.option("--lr", type=click.FloatRange(0, min_open=True), default=5e-4, show_default=True, help="Of fine-tuning.")
@click.option("--resume", is_flag=True, help="Continue the fine-tuning that was interrupted; the rest as it was given.")
@max_memory
@click.pass_context
def command(
    ctx: click.Context,
    folder: Path,
    bits: int,
    layer_bits: tuple[str, ...],
    criterion: Criterion,
    recordings: int,
    epochs: int,
    lr: float,
    resume: bool,
) -> None:
    """Quantize the trained network to integers, exactly as Loihi 2's fixed point computes."""
    layers = _parsed(layer_bits)  # a slip is told before the seconds that importing torch takes
    from spikescr.workflows.quantize import quantize_run

    run = RunFolder(folder)
    with Attended() as attended:
        attended.begin(epochs, "Fine-tuning")
        quantization = quantize_run(
            run,
            bits=bits,
            layer_bits=layers,
            criterion=criterion,
            recordings=recordings,
            epochs=epochs,
            lr=lr,
            resume=resume,
            on_step=attended.on_step,
            stop=attended.stop,
        )
    if quantization is None:
        notify("fine-tuning stopped, its state is kept; continue with the same command and --resume")
        attended.exit(ctx)
        ctx.exit(1)
    made = run.in_integers
    _show(quantization)
    output().print(
        f"wrote {made.checkpoint} ({made.checkpoint.stat().st_size / 1e3:.0f} kB), {made.graph.name}, "
        f"{made.quantization.name}"
    )


def _parsed(layer_bits: Sequence[str]) -> dict[str, int]:
    bits = {}
    for item in layer_bits:
        name, _, number = item.partition("=")
        if not number.isdigit() or not 4 <= int(number) <= 8:
            raise UsageError(f"--layer-bits {item}: give NAME=BITS with 4 to 8 bits, as in head=8")
        bits[name] = int(number)
    return bits


def _show(quantization: Quantization) -> None:
    """Prints layers and accuracy."""
    table = Table(title="Weights in integers", box=SIMPLE_HEAD)
    table.add_column("layer", no_wrap=True)
    for heading in ("weights", "bits", "exponent", "units / threshold", "clipped", "to zero", "rms error"):
        table.add_column(heading, justify="right")
    for layer in quantization.layers:
        theta = "" if layer.theta is None else f"{layer.theta:,}"
        table.add_row(
            layer.layer, f"{layer.weights:,}", str(layer.bits), str(layer.exponent), theta, f"{layer.clipped:,}",
            f"{layer.zeroed:,}", percent(layer.error),
        )  # fmt: skip
    console = wide_console()
    console.print(table)
    for name, result in quantization.valid.items():
        chosen = " (chosen)" if name == quantization.criterion else ""
        console.print(f"validation, {name}{chosen}: {percent(result.accuracy)}, loss {result.loss:.4f}")
    best = quantization.best
    if best is not None:
        console.print(
            f"validation, fine-tuned (epoch {best.epoch} of {len(quantization.tuned) - 1}): "
            f"{percent(best.valid.accuracy)}, loss {best.valid.loss:.4f}"
        )
    if quantization.attention_error:
        notify(
            f"heads of {quantization.head_width} channels: the scale of attention is no power of two; "
            f"its threshold is off by {percent(quantization.attention_error)}"
        )
    full = {name: count for name, count in quantization.saturated.items() if count}
    console.print(f"saturated on the validation split: {sum(quantization.saturated.values()):,} currents and membranes")
    for name, count in full.items():
        console.print(f"  {name}: {count:,}")
