"""spikescr curves."""

from __future__ import annotations

from pathlib import Path

import click

from spikescr.runs import RunFolder

EPILOG = """
\b
Example:
  spikescr curves runs/shd-40 runs/shd-100 --out curves.png
"""


@click.command(epilog=EPILOG)
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--out", "file", required=True, type=click.Path(path_type=Path, dir_okay=False), help="PNG, SVG or PDF to write."
)
def command(runs: tuple[Path, ...], file: Path) -> None:
    """Draw the learning curves of runs, one colour each; training dashed, validation solid."""
    from spikescr.workflows.curves import draw_curves

    draw_curves([RunFolder(run) for run in runs], file)
