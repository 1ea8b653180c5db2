"""The command line. Commands are imported when they run: help needs neither torch nor Lava."""

from __future__ import annotations

import _thread
import errno
import signal
import sys
import threading
import traceback
from importlib import import_module
from typing import Any

import click

from spikescr import __version__
from spikescr.cli.console import bars, report_error, reporting, standard_streams
from spikescr.errors import SpikescrError, UsageError
from spikescr.extras import named

# name -> module with its `command`, what it does
COMMANDS = {
    "data": ("spikescr.cli.data", "Fetch the published data sets, check a copy, draw a recording."),
    "train": ("spikescr.cli.train", "Train SpikeSCR on recordings of words."),
    "distill": (
        "spikescr.cli.distill",
        "Train through a curriculum of time scales, each network the next one's teacher.",
    ),
    "reproduce": ("spikescr.cli.reproduce", "Train the tables of a paper again, beside what is printed."),
    "curves": ("spikescr.cli.curves", "Draw the learning curves of runs."),
    "evaluate": ("spikescr.cli.evaluate", "Accuracy, confusion and confidence of the trained network on a split."),
    "check": ("spikescr.cli.check", "See whether a network of your own can be exported, and what it mixes."),
    "export": ("spikescr.cli.export", "Write the trained network as a NIR graph."),
    "quantize": ("spikescr.cli.quantize", "Make the trained network one in integers, as Loihi 2 computes."),
    "inspect": ("spikescr.cli.inspect", "List and draw what a NIR file consists of, whoever wrote it."),
    "fit": (
        "spikescr.cli.fit",
        "Place the graph on a neuromorphic chip: cores, memory, limits exceeded.",
    ),
    "simulate": ("spikescr.cli.simulate", "Execute the graph on recordings and count its operations."),
    "early-exit": (
        "spikescr.cli.early_exit",
        "Learn from validation recordings when an answer is settled, so that simulating may end there.",
    ),
    "listen": ("spikescr.cli.listen", "Tell the words in a recording, a pipe, or what the microphone hears."),
    "energy": ("spikescr.cli.energy", "Audit a simulation's energy: what was executed, what conventions say."),
    "report": ("spikescr.cli.report", "Write a page about a run, and the same as Markdown."),
    "verify": ("spikescr.cli.verify", "Compare every spike of the graph with the trained network's."),
    "lava": ("spikescr.cli.lava", "Check whether Lava is installed and runs; say what installs it."),
}

EPILOG = """
\b
A whole session:
  spikescr train
  spikescr export --to nir
  spikescr simulate --steps 40
  spikescr verify
"""


class CommandTable(click.Group):
    """A group whose commands are in COMMANDS; turns exceptions into one line and an exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order in which one uses them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports a command."""
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        try:
            command = import_module(module).command
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            raise UsageError(f"this version of spikescr has no command '{cmd_name}' yet") from error
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs as a process of its own: Ctrl-C is not lost, and once it is done does not disturb how it ends."""
        sys.unraisablehook = _unraisable
        try:
            return self.main(*args, **kwargs)
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Runs with standard output and error that can be written to, or says in one line why not."""
        try:
            with standard_streams():
                return super().main(*args, **kwargs)
        except OSError as error:
            if error.errno != errno.EPIPE:  # of whom nobody listens to, nothing is to be told
                report_error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command; what goes wrong is told in one line."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            report_error("interrupted")
            ctx.exit(130)
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # click ends quietly when the reader of a pipe has gone
            if isinstance(error, ModuleNotFoundError):
                error = named(error, f"spikescr {ctx.invoked_subcommand}")
            if ctx.params["debug"]:
                traceback.print_exception(error)
            else:
                report_error(_one_line(error, ctx))
            ctx.exit(error.exit_status if isinstance(error, SpikescrError) else 1)


def _unraisable(what: sys.UnraisableHookArgs) -> None:
    """Python drops an exception in a destructor or a callback; Ctrl-C that falls into one comes again."""
    if isinstance(what.exc_value, KeyboardInterrupt):
        threading.Timer(0.05, _thread.interrupt_main).start()
    else:
        sys.__unraisablehook__(what)


def _one_line(error: Exception, ctx: click.Context) -> str:
    if isinstance(error, SpikescrError):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if _is_memory(error):
        return f"out of memory{_memory_story(error)}; {_less_memory(ctx)}"
    again = f"spikescr --debug {ctx.invoked_subcommand}"
    return f"{type(error).__name__}: {error}; run again with --debug for the whole story: {again} ..."


def _is_memory(error: Exception) -> bool:
    """Whether memory was refused: by Python and NumPy, or by torch, which has a RuntimeError for it."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and any(text in str(error) for text in ("not enough memory", "can't allocate memory", "out of memory"))
    )


def _memory_story(error: Exception) -> str:
    first = " ".join(str(error).splitlines()[:1])
    return f" ({first})" if first else ""


def _less_memory(ctx: click.Context) -> str:
    """What the command that runs can be told to take less."""
    if ctx.invoked_subcommand in ("train", "distill"):
        return "choose a smaller batch_size or model.width, or fewer steps"
    command = COMMANDS.get(ctx.invoked_subcommand or "")
    known = {option for each in import_module(command[0]).command.params for option in each.opts} if command else set()
    less = [option for option in ("--batch-size", "--workers", "--chunk-size", "--limit", "--steps") if option in known]
    return f"give less of {', '.join(less)}" if less else "take a smaller file, or a machine with more memory"


@click.group(cls=CommandTable, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback when something goes wrong.")
@click.version_option(__version__, prog_name="spikescr")
@click.pass_context
def main(ctx: click.Context, debug: bool) -> None:
    """Neuromorphic speech-command recognition: train, export to NIR, execute, count.

    Each command works on a run folder, runs/latest unless --run names another, and finds there what the commands
    before it have made.
    """
    ctx.with_resource(reporting(debug))
    ctx.with_resource(bars())
