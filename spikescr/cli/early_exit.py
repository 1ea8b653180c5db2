"""`spikescr early-exit`: when an answer is settled, learnt from validation recordings."""

from __future__ import annotations

from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table

from spikescr.cli.options import max_memory
from spikescr.cli.text import percent, si, wide_console
from spikescr.runs import DEFAULT_RUN, LOIHI2, RunFolder

SHOWN = 12
"""Points of the curve that the terminal shows."""

EPILOG = """\b
Examples:
  spikescr early-exit                # no answer lost on the validation recordings; writes runs/latest/early-exit.json
  spikescr early-exit --loss 1       # one more of a hundred may be wrong
  spikescr simulate --until-sure     # the test recordings, each until its answer is settled
An answer is settled when the running readout has named the same class for some steps, by a lead in each of them.
"""


@click.command(epilog=EPILOG)
@click.option("--run", "folder", type=click.Path(path_type=Path), default=DEFAULT_RUN, show_default=True)
@click.option(
    "--loss",
    type=click.FloatRange(0, 100, max_open=True),
    default=0.0,
    show_default=True,
    help="Points of accuracy (%) that may be lost on the recordings.",
)
@click.option("--data", help="Data set instead of the one trained on, named as for train.")
@click.option("--split", type=click.Choice(["train", "valid", "test", "all"]), default="valid", show_default=True)
@click.option("--limit", type=click.IntRange(1), help="Only the first so many recordings.")
@click.option("--precision", type=click.Choice(["float64", LOIHI2]), default="float64", help="Of the network.")
@max_memory
def command(folder: Path, loss: float, data: str | None, split: str, limit: int | None, precision: str) -> None:
    """Learn from validation recordings when an answer is settled, so that simulating may end there."""
    from spikescr.workflows.early_exit import fit_early_exit

    run = RunFolder(folder).of_precision(precision)
    fitted = fit_early_exit(run, loss=loss / 100, data=data, split=split, limit=limit)
    console = wide_console()
    table = Table(
        title=f"Accuracy and executed energy of {fitted.recordings} recordings ({fitted.split} of {fitted.data})",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in ("", "lead", "steps in a row", "accuracy", "as at the end", "settled", "ended after", "executed"):
        table.add_column(column, justify="right" if column else "left")
    curve = fitted.curve[:: max(1, len(fitted.curve) // SHOWN)]
    for name, each in (*(("", one) for one in curve), ("to the end", fitted.whole), ("chosen", fitted.chosen)):
        if name == "to the end":
            table.add_section()
        ends = name != "to the end"
        table.add_row(
            name, f"{each.rule.lead:.3g}" if ends else "", str(each.rule.hold) if ends else "",
            percent(each.accuracy, 2), percent(each.agreement, 2), percent(each.settled),
            f"{each.step:.1f} steps", si(each.joules, "J"),
        )  # fmt: skip
    console.print(table)
    console.print(f"wrote {run.early_exit}; spikescr simulate --until-sure ends recordings by it")
