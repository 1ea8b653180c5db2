"""`spikescr check`: what of a user's own module goes through, what does not and why, who mixes samples or steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spikescr.cli.module_options import example_options
from spikescr.cli.options import max_memory
from spikescr.cli.problems import problem_table
from spikescr.cli.text import wide_console
from spikescr.errors import SpikescrError

if TYPE_CHECKING:
    from rich.console import Console

    from spikescr.export.record.step import Axes, Time
    from spikescr.workflows.check import Check

EPILOG = """\b
Examples:
  spikescr check net.py:make --shape 4,2,3,32,32
  spikescr check net.py:make --shape 2,1,28,28 --time held     # an image, which the module repeats over its steps
  spikescr check net.py:make --shape 101,2,3,40 --axes 2 0     # a module that takes (B, C, T, F)
  spikescr check package.networks:csnn --example x.npy --weights csnn.safetensors --json check.json
SPEC names a function without arguments that gives the module; naming it runs its code.
The exit status is 1 where something is refused, or samples or steps change one another.
"""


@click.command(epilog=EPILOG)
@click.argument("spec", metavar="FILE.py:factory|package.module:factory")
@click.option(
    "--weights", type=click.Path(path_type=Path), help="Its state_dict: .safetensors, or .pt of tensors alone."
)
@example_options
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write everything to this file.")
@max_memory
def command(
    spec: str,
    weights: Path | None,
    shape: str | None,
    example: Path | None,
    time: Time,
    axes: Axes,
    json_path: Path | None,
) -> None:
    """See whether a network of yours can be exported, and whether its samples and steps keep apart.

    The module runs on an input of that shape, in eval mode, some times: as it is, and with its batch in another order,
    cut, beside other samples, and with steps behind it.
    """
    from spikescr.files import write_text
    from spikescr.workflows.check import check
    from spikescr.workflows.modules import example_input, load_module

    x = example_input(shape, example)
    found = check(load_module(spec, weights), x, time, axes)
    console = wide_console()
    _show(console, found)
    if json_path is not None:
        write_text(json_path, json.dumps({"module": spec, **found.as_json()}, indent=1) + "\n")
        console.print(f"wrote {json_path}")
    if not found.passes:
        reasons = [f"{len(found.problems)} refused"] * bool(found.problems)
        reasons += ["samples or steps change one another"] * found.mixes
        raise SpikescrError(f"{spec}: {', '.join(reasons)}")


def _show(console: Console, found: Check) -> None:
    if found.problems:
        console.print(problem_table(found.problems))
    else:
        counts = ", ".join(f"{count} {name}" for name, count in found.operations.items())
        console.print(f"everything goes through: {counts}")
        console.print(
            f"{found.neurons:,} neurons, {found.synapses:,} synapses, {found.nodes:,} nodes, {found.steps} steps"
        )
    trials = found.trials
    for mixed in trials.mixed:
        where = f"{mixed.path} ({mixed.owner})" if mixed.path else mixed.owner
        console.print(
            f"mixed: {mixed.trial}: the first module that differs is {where}, by up to {mixed.difference:.3g}"
        )
    for name, reason in trials.left_out.items():
        console.print(f"not tried: {name}: {reason}")
    if not trials.mixed:
        console.print(f"the same with {', with '.join(trials.done)}")
    if trials.silent:
        console.print(
            f"{len(trials.silent)} of {trials.neurons} layers of neurons never fired on this input, so that running "
            f"shows nothing about what follows them: {', '.join(trials.silent[:5])}"
            f"{', ...' if len(trials.silent) > 5 else ''}"
        )
