"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from spikescr.errors import UsageError
from spikescr.sizes import SHARE, VARIABLE, memory_limited, parse_bytes

F = TypeVar("F", bound=Callable[..., Any])


def max_memory(command: F) -> F:
    """Give a command the option --max-memory, which holds until the command ends, in its worker processes too."""
    return click.option(
        "--max-memory",
        metavar="SIZE",
        expose_value=False,
        callback=_limit,
        help=f"Refuse what would take more, like 8G. Default: {VARIABLE}, else {SHARE:.0%} of the machine's memory.",
    )(command)


def _limit(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        try:
            size = parse_bytes(value)
        except ValueError as error:
            raise UsageError(f"--max-memory: {error}") from error
        ctx.with_resource(memory_limited(size))
