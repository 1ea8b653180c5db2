"""spikescr train."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spikescr.cli.console import notices, notify, output
from spikescr.cli.options import max_memory
from spikescr.cli.training import (
    DATA,
    METAVAR,
    Attended,
    choose_recipe,
    dry_run,
    list_recipes,
    split_words,
)
from spikescr.runs import DEFAULT_RUN, RunFolder
from spikescr.training.config import TrainConfig
from spikescr.training.recipes import resolve

if TYPE_CHECKING:
    from spikescr.training.metrics import EpochMetrics
    from spikescr.training.running import TrainResult

EPILOG = """
\b
Examples:
  spikescr train
      the embedded spoken digits, 40 steps per second, model 1L-8-128
  spikescr train --data folder:speech_commands steps=100 model.mlp_ratio=4 --run runs/words
      recordings in the layout of Google Speech Commands
  spikescr train ssc-100 --data ssc:ssc --run runs/ssc
      as published; spikescr train --list shows all recipes
  spikescr train ssc-100 model.position=none augmentation=none --dry-run
      every key and its value, memory and time that it will take

RECIPE is a name from --list or a .toml file of your own; without it, digits. KEY=VALUE changes the recipe; --dry-run
shows all keys.

\b
Written to the run folder:
  model.safetensors   the epoch that did best on the validation split
  metrics.csv         one row per epoch; times.csv: when it ended
  config.json         this training's configuration
  left-out.csv        recordings that cannot be read, where there are some; the others are trained on
  checkpoints/        the state after the last epochs

Ctrl-C and SIGTERM save the state and end; so --resume continues, on a CPU to the same bytes as undisturbed:
  spikescr train --resume --run runs/ssc

\b
Several processes share each batch, one per GPU, or on a machine without GPUs all on the CPU:
  accelerate launch --multi_gpu --num_processes 2 -m spikescr train ssc-100 --data ssc:ssc --run runs/ssc
"""


@click.command(epilog=EPILOG)
@click.argument("words", nargs=-1, metavar=METAVAR)
@click.option("--data", help=DATA)
@click.option("--seed", type=click.IntRange(min=0), help="Seed of everything random. Default: the recipe's, else 0.")
@click.option(
    "--run",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_RUN,
    show_default=True,
    help="Run folder; an earlier run in it is replaced after the first epoch.",
)
@click.option("--resume", is_flag=True, help="Continue the training in the run folder; the rest may be left out.")
@click.option(
    "--keep", type=click.IntRange(min=1), default=2, show_default=True, help="States to keep, of the last epochs."
)
@click.option("--tensorboard", is_flag=True, help="Write the metrics for TensorBoard too.")
@click.option("--list", "listing", is_flag=True, help="Show the recipes.")
@click.option("--dry-run", "dry", is_flag=True, help="Show configuration, memory and time; train nothing.")
@click.pass_context
@max_memory
def command(
    ctx: click.Context,
    words: tuple[str, ...],
    data: str | None,
    seed: int | None,
    folder: Path,
    resume: bool,
    keep: int,
    tensorboard: bool,
    listing: bool,
    dry: bool,
) -> None:
    """Train SpikeSCR, or a baseline, on recordings of words."""
    if listing:
        list_recipes("train")
        return
    run = RunFolder(folder)
    name, changes = split_words(words)
    options = {} if seed is None else {"seed": seed}
    begun = _begun(run) if resume else None
    bare = not (words or data or options)
    recipe = choose_recipe("train", name, begun, resume=str(folder) if resume else None, bare=bare)
    config = resolve(recipe, TrainConfig, changes, options=options, data=data, need_data=not dry)
    if dry:
        dry_run(config, [config])
        return
    with notices().status("Loading torch and SpikingJelly"):
        from spikescr.data import open_data
        from spikescr.training.devices import Devices
        from spikescr.training.loop import train
        from spikescr.training.tensorboard import writing as tensorboard_log

    devices = Devices()
    board = tensorboard_log(run.path / "tensorboard") if tensorboard and devices.is_main else nullcontext()
    dataset = open_data(config.data, seed=config.seed)
    alone = run.locked() if devices.is_main else nullcontext()
    with alone, board as log, Attended(shown=devices.is_main) as attended:
        attended.begin(config.epochs)

        def on_epoch(metrics: EpochMetrics) -> None:
            attended.on_epoch(metrics)
            if log is not None:
                log(metrics)

        result = train(
            config,
            dataset,
            run,
            resume=resume,
            keep=keep,
            devices=devices,
            on_step=attended.on_step,
            on_epoch=on_epoch,
            stop=attended.stop,
        )
    if devices.is_main:
        if result.best is not None:
            _summary(result, result.best, run)
        if result.interrupted:
            notify(
                f"stopped after epoch {len(result.epochs)} of {config.epochs}, step {result.step} of the next; "
                f"continue with: {run.make_command(run.checkpoint)} --resume"
            )
    if result.interrupted:
        attended.exit(ctx)


def _begun(run: RunFolder) -> TrainConfig | None:
    """The configuration of the newest state in a run folder, None where there is none."""
    from spikescr.training.state import Checkpoints, load_state

    latest = Checkpoints(run.checkpoints).latest()
    return None if latest is None else load_state(latest).setting.config


def _summary(result: TrainResult, best: EpochMetrics, run: RunFolder) -> None:
    from rich.table import Table

    config = result.config
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    rows = {
        "data": f"{config.data}, {config.model.classes} classes, {config.steps} steps per second",
        "model": f"{config.model.name}, {result.parameters:,} parameters "
        f"({result.parameters / 2**20:.2f} in the paper's unit of 2^20)",
        "best epoch": f"{best.epoch} of {len(result.epochs)}",
        "validation accuracy": f"{best.valid_accuracy:.2%}",
        "firing rate": f"{best.firing_rate:.1%} of neurons per step",
        "training time": f"{result.seconds:.0f} s",
    }
    written = [run.checkpoint, run.metrics, run.times, run.config]
    if result.drift:
        shares = ", ".join(f"{drift.rate:.2%} at the {when}" for when, drift in result.drift.items())
        rows["bf16 changes"] = f"of neuron-steps {shares}; limit {config.precision_limit:.2%}"
        written.append(run.precision)
    if run.left_out.exists():
        written.append(run.left_out)
    rows["written"] = "\n".join(map(str, written))
    for row in rows.items():
        table.add_row(*row)
    output().print(table)
