"""spikescr train."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
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
    from spikescr.training.metrics import EpochMetrics

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
  metrics.csv         one row per epoch; times.csv: when it ended
  config.json         this training's configuration
  checkpoints/        the state after the last epochs

Ctrl-C and SIGTERM save the state and end; so --resume continues, on a CPU to the same bytes as undisturbed:
  spikescr train --resume --run runs/gsc
"""

POSITIONS = click.Choice(get_args(Position))
NEURONS = click.Choice(get_args(NeuronKind))

# flag, field of the configuration, type, help; the defaults are the configuration's, a model's those of its family
OPTIONS: tuple[tuple[str, str, Any, str], ...] = (
    ("--data", "data", str, "'digits' (embedded), or 'folder:PATH' in the layout of Google Speech Commands."),
    ("--steps", "steps", int, "Time steps per second."),
    ("--window", "window_s", float, "Seconds that the network sees; of longer recordings the loudest stretch."),
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
@click.option("--resume", is_flag=True, help="Continue the training in the run folder, with the options it began with.")
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="States to keep, of the last epochs.",
)
@click.option("--tensorboard", is_flag=True, help="Write the metrics for TensorBoard too.")
@_configured
@click.option("--augment/--no-augment", default=True, show_default=True, help="Shift and mask training input.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    folder: Path,
    resume: bool,
    keep: int,
    tensorboard: bool,
    augment: bool,
    **options: Any,
) -> None:
    """Train SpikeSCR on recordings of words."""
    config = _config(options, augment)
    with notices().status("Loading torch and SpikingJelly"):
        from spikescr.data import open_data
        from spikescr.training.devices import Devices
        from spikescr.training.loop import train

    run = RunFolder(folder)
    if resume:
        config = _begun_with(ctx, run, config)
    devices = Devices()
    board = _tensorboard(run.path / "tensorboard") if tensorboard and devices.is_main else nullcontext()
    dataset = open_data(config.data, seed=config.seed)
    run.create()
    alone = run.locked() if devices.is_main else nullcontext()
    with (
        alone,
        board as log,
        _stopping_on_signal() as (arm, requested),
        _progress(config.epochs) as (on_step, show_epoch),
    ):

        def after_step(progress: Any) -> None:
            arm()
            on_step(progress)

        def on_epoch(metrics: Any) -> None:
            show_epoch(metrics)
            if log is not None:
                log(metrics)

        result = train(
            config,
            dataset,
            run,
            resume=resume,
            keep=keep,
            devices=devices,
            on_step=after_step if devices.is_main else lambda progress: arm(),
            on_epoch=on_epoch if devices.is_main else lambda metrics: None,
            stop=lambda: requested() is not None,
        )
    if devices.is_main:
        if result.best is not None:
            _summary(result, result.best, run)
        if result.interrupted:
            notify(
                f"stopped after epoch {len(result.epochs)} of {config.epochs}, step {result.step} of the next; "
                f"continue with: {run.make_command(run.checkpoint)} --resume"
            )
    number = requested()
    if result.interrupted and number is not None:
        ctx.exit(128 + number)


@contextmanager
def _tensorboard(folder: Path) -> Iterator[Callable[[Any], None]]:
    """Gives a function that writes an epoch's metrics for TensorBoard."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise UsageError("--tensorboard needs a package: pip install 'spikescr[tensorboard]'") from error

    with SummaryWriter(str(folder)) as writer:

        def log(metrics: Any) -> None:
            for name, value in asdict(metrics).items():
                if name != "epoch":
                    writer.add_scalar(name, value, metrics.epoch)
            writer.flush()

        yield log


def _begun_with(ctx: click.Context, run: RunFolder, config: TrainConfig) -> TrainConfig:
    """The configuration of the newest state in a run folder, where the options that were given agree with it."""
    from spikescr.training.state import Checkpoints, load_state

    latest = Checkpoints(run.checkpoints).latest()
    if latest is None:
        notify(f"nothing to resume in {run.path}; starting from the beginning")
        return config
    begun = load_state(latest).setting.config
    fields = {flag: field for flag, field, _, _ in OPTIONS} | {"--augment/--no-augment": "augmentation"}
    for flag, field in fields.items():
        source = ctx.get_parameter_source("augment" if field == "augmentation" else field.replace(".", "__"))
        given, before = _value(config, field), _value(begun, field)
        if field == "augmentation":
            given, before = given is not None, before is not None
        if source is click.core.ParameterSource.COMMANDLINE and given != before:
            raise UsageError(
                f"{flag}: the training in {run.path} was begun with {before}, not {given}; it resumes with what it was "
                "begun with alone"
            )
    return begun


def _value(config: TrainConfig, field: str) -> Any:
    """A field of the configuration by its dotted name; None within what is switched off."""
    value: Any = config
    for name in field.split("."):
        value = getattr(value, name, None)
    return value


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
def _stopping_on_signal() -> Iterator[tuple[Callable[[], None], Callable[[], int | None]]]:
    """Gives `arm` and `requested`: once armed, the first SIGINT or SIGTERM is what `requested()` gives.

    Unarmed, while nothing could be saved yet, and after the first one, signals do what they always do.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    armed = False
    request: int | None = None

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal request
        request = number
        restore()
        notify("finishing the current step; once more ends at once")

    def arm() -> None:
        nonlocal armed
        if not armed:
            armed = True
            for number in before:
                signal.signal(number, handle)

    try:
        yield arm, lambda: request
    finally:
        restore()


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
        "written": "\n".join(map(str, (run.checkpoint, run.metrics, run.times, run.config))),
    }
    for row in rows.items():
        table.add_row(*row)
    output().print(table)
