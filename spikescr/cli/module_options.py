"""Options with which commands take a user's own module instead of a run folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

TIMES = ("steps", "loop", "held")


def module_option(command: F) -> F:
    """Adds --module and --weights; a command gets `module_spec` and `weights`."""
    command = click.option(
        "--weights",
        type=click.Path(path_type=Path),
        help="Its state_dict: .safetensors, or .pt of tensors alone.",
    )(command)
    return click.option(
        "--module",
        "module_spec",
        metavar="SPEC",
        help="FILE.py:factory or package.module:factory, a function without arguments that gives the module. Naming "
        "it runs its code.",
    )(command)


def example_options(command: F) -> F:
    """Adds --shape, --example, --time and --axes; a command gets `shape`, `example`, `time` and `axes`."""
    command = click.option(
        "--axes",
        type=(click.IntRange(0), click.IntRange(0)),
        default=(0, 1),
        show_default=True,
        metavar="STEPS SAMPLES",
        help="Where the module wants its axes of steps and of samples; arrays are (T, B, ...) all the same.",
    )(command)
    command = click.option(
        "--time",
        type=click.Choice(TIMES),
        default="steps",
        show_default=True,
        help="How steps reach the module: all in one call; a call for each; or its input has none and is held.",
    )(command)
    command = click.option(
        "--example", type=click.Path(path_type=Path), metavar="X.npy", help="An input as the module takes it."
    )(command)
    return click.option(
        "--shape", metavar="T,B,...", help="Shape of its input instead, such as 4,1,3,32,32; without T where held."
    )(command)
