"""What commands that train share: recipes on the command line, the dry run, a training's progress and its signals."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING, Self

import click

from spikescr.cli.console import notices, notify, output
from spikescr.cli.text import si
from spikescr.errors import UsageError
from spikescr.progress import tell
from spikescr.training.config import CurriculumConfig, TrainConfig
from spikescr.training.recipes import (
    CHANGE,
    DEFAULT_RECIPE,
    Command,
    Recipe,
    read_recipe,
    recipe_names,
    recipe_of,
    shown,
)

if TYPE_CHECKING:
    from spikescr.training.estimate import Estimate
    from spikescr.training.metrics import EpochMetrics
    from spikescr.training.running import Progress

DATA = "Data set: 'digits' (embedded), 'shd:PATH', 'ssc:PATH', 'gsc:PATH', or 'folder:PATH' laid out like gsc."
METAVAR = "[RECIPE] [KEY=VALUE]..."


def split_words(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """The recipe's name, None where none is given, and the changes.

    Raises:
        UsageError: there are two names.
    """
    changes = [word for word in words if CHANGE.fullmatch(word)]
    names = [word for word in words if word not in changes]
    if len(names) > 1:
        raise UsageError(f"one recipe, then KEY=VALUE: what are {' and '.join(map(repr, names[1:]))}?")
    return (names[0] if names else None), changes


def choose_recipe(
    command: Command, name: str | None, begun: TrainConfig | CurriculumConfig | None, *, resume: str | None, bare: bool
) -> Recipe:
    """The recipe from which a configuration is made.

    Args:
        command: whose.
        name: given on the command line; None: what was begun, where that is resumed, else the default.
        begun: configuration of what is in the folder, None where there is nothing.
        resume: the folder, where that is to be resumed.
        bare: whether the command line says nothing else.

    Raises:
        UsageError: there is no such recipe, or nothing to resume and nothing to begin with.
    """
    if resume is not None and begun is None:
        if bare:
            raise UsageError(f"nothing to resume in {resume}; say what to begin with: spikescr {command} --list")
        notify(f"nothing to resume in {resume}; starting from the beginning")
    if name is None and begun is not None:
        return recipe_of(begun, f"what was begun in {resume}")
    return read_recipe(command, name or DEFAULT_RECIPE)


def list_recipes(command: Command) -> None:
    """Prints the recipes of a command."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = ("recipe", "data", "curriculum" if command == "distill" else "steps", "model", "epochs", "about")
    for column in columns:
        table.add_column(column, no_wrap=column != "about")
    for name in recipe_names(command):
        recipe = read_recipe(command, name)
        content = recipe.content
        model = content["model"]
        steps, epochs = str(content["steps"]), str(content["epochs"])
        if command == "distill":
            steps = ",".join(map(str, content["curriculum"]))
            epochs = f"{epochs}, {content['student']['epochs']}"
        size = f"{model['layers']}L-{model['heads']}-{model['width']}"
        table.add_row(name, " or ".join(recipe.kinds), steps, size, epochs, recipe.about)
    output().print(table)


def dry_run(config: TrainConfig | CurriculumConfig, stages: Sequence[TrainConfig]) -> None:
    """Prints a configuration, and what each training in it will take."""
    from rich.table import Table

    from spikescr.training.estimate import count_recordings, estimate

    console = output()
    for key, value in shown(config):
        console.print(f"{key}={value}", soft_wrap=True)
    recordings = count_recordings(config.data, config.seed)
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = ("steps", "epochs", "parameters", "batch, for backward", "weights, optimiser", "data", "memory", "time")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    estimates: list[Estimate] = []
    for stage in stages:
        with notices().status(f"Measuring at {stage.steps} steps per second"):
            estimates.append(estimate(stage, recordings))
        sizes = (
            si(n, "B")
            for n in (estimates[-1].activations, estimates[-1].weights, estimates[-1].data, estimates[-1].memory)
        )
        time = duration(estimates[-1].seconds)
        table.add_row(str(stage.steps), str(stage.epochs), f"{estimates[-1].parameters:,}", *sizes, time)
    parameters, together = estimates[0].parameters, sum(part.seconds for part in estimates)
    console.print()
    console.print(
        f"{config.model.name}, {parameters:,} parameters ({parameters / 2**20:.2f} in the paper's unit of 2^20); "
        f"{recordings.train} recordings to train on, {recordings.valid} to validate, {recordings.classes} classes"
    )
    console.print(table)
    console.print(
        f"together {duration(together)}; an estimate: a few steps on made-up input were timed on this machine now, "
        "and recordings taken to fill the window"
    )


def duration(seconds: float) -> str:
    """Seconds as people read them."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"


class Attended:
    """Trainings that someone attends: a bar tells how far they are, SIGINT or SIGTERM ends them in good order.

    `on_step`, `on_epoch` and `stop` are the callbacks of `training.loop.train`. A signal does what it always does until
    a first step is done, for nothing could be saved, after the first one, and after the block. Not `shown`: no bar.
    """

    def __init__(self, *, shown: bool = True) -> None:
        self.signal: int | None = None
        self._shown = shown
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self._armed = False
        self._epochs, self._name, self._valid = 1, "", ""

    def begin(self, epochs: int, name: str = "Training") -> None:
        """To be called before each training."""
        self._epochs, self._name, self._valid = epochs, name, ""

    def on_step(self, now: Progress) -> None:
        """To be called after every optimisation step."""
        if not self._armed:
            self._armed = True
            for number in self._before:
                signal.signal(number, self._handle)
        if self._shown:
            detail = f"epoch {now.epoch}/{self._epochs}  loss {now.loss:.3f}  accuracy {now.accuracy:.1%}{self._valid}"
            tell(self._name, (now.epoch - 1) * now.steps + now.step, self._epochs * now.steps, detail)

    def on_epoch(self, done: EpochMetrics) -> None:
        """To be called after every epoch."""
        self._valid = f"  validation {done.valid_accuracy:.1%}"

    def stop(self) -> bool:
        """Whether a signal asked for it."""
        return self.signal is not None

    def exit(self, ctx: click.Context) -> None:
        """Ends a command whose training was interrupted, if by a signal with that one's status."""
        if self.signal is not None:
            ctx.exit(128 + self.signal)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.signal = number
        self._restore()
        notify("finishing the current step; once more ends at once")
