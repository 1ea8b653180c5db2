"""spikescr train."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, get_args

import click
from pydantic import BaseModel, ValidationError

from spikescr.cli.console import notices, notify, output
from spikescr.errors import UsageError
from spikescr.model.config import FAMILIES, DelaysConfig, ModelConfig, NeuronKind, Position
from spikescr.runs import DEFAULT_RUN, RunFolder
from spikescr.training.config import Augmentation, TrainConfig, faults

if TYPE_CHECKING:
    from spikescr.training.loop import TrainResult

EPILOG = """
\b
Examples:
  spikescr train
      the embedded spoken digits, 40 steps per second, model 1L-8-128
  spikescr train --data folder:speech_commands --steps 100 --mlp-ratio 4 --run runs/gsc
      recordings in the layout of Google Speech Commands
  spikescr export --to nir --run runs/gsc
      what to do next

\b
Written to the run folder:
  model.safetensors   the epoch that did best on the validation split
  metrics.csv         one row per epoch
  config.json         this training's configuration

Ctrl-C ends a training early; what is done is saved.
"""

POSITIONS = click.Choice(get_args(Position))
NEURONS = click.Choice(get_args(NeuronKind))

# flag, field of the configuration, type, help; the defaults are the configuration's, a model's those of its family
OPTIONS: tuple[tuple[str, str, Any, str], ...] = (
    (
        "--data",
        "data",
        str,
        "'digits' (embedded), 'shd:PATH', 'ssc:PATH', 'gsc:PATH' (spikescr data get), or 'folder:PATH', like gsc.",
    ),
    ("--steps", "steps", int, "Time steps per second."),
    (
        "--window",
        "window_s",
        float,
        "Seconds that the network sees; of longer recordings the loudest stretch (SHD: up to 1.4).",
    ),
    ("--epochs", "epochs", int, "Passes over the training split."),
    ("--batch-size", "batch_size", int, "Recordings per optimisation step, at most."),
    ("--lr", "lr", float, "Highest learning rate."),
    ("--warmup", "warmup_epochs", float, "Epochs of linear rise to it."),
    ("--weight-decay", "weight_decay", float, "Weight decay of AdamW."),
    ("--seed", "seed", int, "Seed of everything random."),
    ("--family", "model.family", click.Choice(FAMILIES), "SpikeSCR, or a baseline: learnable delays, recurrent LIFs."),
    ("--layers", "model.layers", int, "Blocks; hidden layers of a baseline."),
    ("--heads", "model.heads", int, "Attention heads."),
    ("--width", "model.width", int, "Channels."),
    ("--mlp-ratio", "model.mlp_ratio", int, "Hidden width of the MLPs over the width."),
    ("--position", "model.position", POSITIONS, "Position encoding of SpikeSCR."),
    ("--gating-unit", "model.gating_unit", bool, "False: blocks without SGU."),
    ("--separable-convolution", "model.separable_convolution", bool, "False: blocks without SGC, hence without SGU."),
    ("--taps", "model.taps", int, "Of dcls: longest delay + 1, odd."),
    ("--neuron", "model.neuron", NEURONS, "LIF, or LIF with a learnt membrane constant per layer."),
    ("--dropout", "model.dropout", float, "After each LIF."),
    ("--shift", "augmentation.shift", int, "Mel bands by which training input is shifted at most; the paper: 0."),
    ("--threads", "threads", int, "Threads of torch. Default: as torch chooses."),
)
OWNERS: dict[str, type[BaseModel]] = {"": TrainConfig, "model": ModelConfig, "augmentation": Augmentation}


def _configured(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds OPTIONS to the function of a command."""
    for flag, field, kind, text in reversed(OPTIONS):
        owner, _, name = field.rpartition(".")
        fields = OWNERS[owner].model_fields
        default = (fields if name in fields else DelaysConfig.model_fields)[name].default
        settings: dict[str, Any] = {"default": default, "show_default": True}
        if owner == "model":  # only what is given is asked for; the rest is the family's own default
            settings = {"default": None, "show_default": str(default)}
        function = click.option(flag, field.replace(".", "__"), type=kind, help=text, **settings)(function)
    return function


@click.command(epilog=EPILOG)
@click.option(
    "--run",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_RUN,
    show_default=True,
    help="Run folder; an earlier run in it is replaced after the first epoch.",
)
@_configured
@click.option("--augment/--no-augment", default=True, show_default=True, help="Shift and mask training input.")
def command(folder: Path, augment: bool, **options: Any) -> None:
    """Train SpikeSCR, or a baseline, on recordings of words."""
    config = _config(options, augment)
    with notices().status("Loading torch and SpikingJelly"):
        from spikescr.data import open_data
        from spikescr.training.loop import train

    run = RunFolder(folder)
    dataset = open_data(config.data, seed=config.seed)
    run.create()
    with run.locked(), _stopping_on_interrupt() as (arm, stopped), _progress(config.epochs) as (on_step, on_epoch):

        def after_step(progress: Any) -> None:
            arm()
            on_step(progress)

        result = train(config, dataset, run, on_step=after_step, on_epoch=on_epoch, stop=stopped)
    if result.interrupted:
        notify(f"stopped early, after epoch {len(result.epochs)} of {config.epochs}; what is done is saved")
    _summary(result, run)


def _config(options: dict[str, Any], augment: bool) -> TrainConfig:
    """The configuration that the options ask for; faults are told by the options' names."""
    content: dict[str, Any] = {"model": {}, "augmentation": {}}
    for field, value in options.items():
        owner, _, name = field.rpartition("__")
        if value is not None or owner != "model":
            (content[owner] if owner else content)[name] = value
    if not augment:
        content["augmentation"] = None
    try:
        return TrainConfig.model_validate(content)
    except ValidationError as error:
        message = faults(error)
        for flag, field, _, _ in OPTIONS:
            message = message.replace(f"{field}: ", f"{flag}: ")
        raise UsageError(message) from error


@contextmanager
def _stopping_on_interrupt() -> Iterator[tuple[Callable[[], None], Callable[[], bool]]]:
    """Gives `arm` and `stopped`: once armed, the first Ctrl-C makes `stopped()` true, the second ends at once.

    Unarmed, while nothing could be saved yet, Ctrl-C does what it always does.
    """
    before = signal.getsignal(signal.SIGINT)
    armed = requested = False

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal requested
        requested = True
        signal.signal(signal.SIGINT, before)
        notify("finishing the current step; Ctrl-C again ends at once")

    def arm() -> None:
        nonlocal armed
        if not armed:
            armed = True
            signal.signal(signal.SIGINT, handle)

    try:
        yield arm, lambda: requested
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _progress(epochs: int) -> Iterator[tuple[Callable[[Any], None], Callable[[Any], None]]]:
    """A progress bar on standard error, none where that is no terminal; gives what to call per step and per epoch."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = notices()
    columns = (
        TextColumn("epoch {task.fields[epoch]}/" + str(epochs)),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  accuracy {task.fields[accuracy]:.1%}{task.fields[valid]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=None, visible=False, epoch=1, loss=0.0, accuracy=0.0, valid="")

        def on_step(now: Any) -> None:
            bar.update(
                task,
                total=epochs * now.steps,
                completed=(now.epoch - 1) * now.steps + now.step,
                visible=True,
                epoch=now.epoch,
                loss=now.loss,
                accuracy=now.accuracy,
            )

        def on_epoch(done: Any) -> None:
            bar.update(task, valid=f"  validation {done.valid_accuracy:.1%}")

        yield on_step, on_epoch


def _summary(result: TrainResult, run: RunFolder) -> None:
    from rich.table import Table

    best, config = result.best, result.config
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
        "training time": f"{result.epochs[-1].seconds:.0f} s",
        "written": "\n".join(map(str, (run.checkpoint, run.metrics, run.config))),
    }
    for row in rows.items():
        table.add_row(*row)
    output().print(table)
