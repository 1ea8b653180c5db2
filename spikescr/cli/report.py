"""`spikescr report`: a run as one page to look at, and as Markdown."""

from __future__ import annotations

from pathlib import Path

import click

from spikescr.cli.console import output
from spikescr.cli.energy import DEFAULT_COST
from spikescr.cli.text import si
from spikescr.errors import UsageError
from spikescr.runs import DEFAULT_RUN

EPILOG = """\b
Example: one run; two runs side by side, the page about the first.
  spikescr report
  spikescr report runs/steps40 runs/steps100 --out reports
  spikescr report network-simulation          # of any graph
Reads simulation/audit.npz of each run, or audit.npz of each folder that `spikescr simulate GRAPH` wrote, and executes
one recording or sample again to draw its spikes. Writes report.html, which opens from disk and loads nothing, and
report.md with the same numbers.
"""


@click.command(epilog=EPILOG)
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path), metavar="[RUN]...")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder to write to. Default: the run.")
@click.option("--recording", help="Recording to draw (see predictions.csv). Default: the simulation's first.")
@click.option("--no-recording", is_flag=True, help="Draw none; then neither graph nor recordings are needed.")
@click.option("--cost", default=DEFAULT_COST, show_default=True, help="Constants of the energy figures.")
@click.option("--constants", type=click.Path(path_type=Path), help="TOML file with more constants.")
def command(
    runs: tuple[Path, ...],
    out: Path | None,
    recording: str | None,
    no_recording: bool,
    cost: str,
    constants: Path | None,
) -> None:
    """Write a page about a run: what it cost, why conventions differ, what its layers do, where it comes from."""
    from spikescr.workflows.energy import known_constants
    from spikescr.workflows.report import write_report

    if recording is not None and no_recording:
        raise UsageError("--recording and --no-recording exclude each other")
    known = known_constants(constants, cost)
    for path in write_report(runs or (DEFAULT_RUN,), known, cost, out=out, recording=recording, draw=not no_recording):
        output().print(f"wrote {path} ({si(path.stat().st_size, 'B')})")
