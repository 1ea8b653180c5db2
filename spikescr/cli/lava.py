"""`spikescr lava`: whether Lava is installed and runs, and what installs it."""

from __future__ import annotations

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table

from spikescr.cli.console import output
from spikescr.errors import SpikescrError
from spikescr.extras import remedy

EPILOG = """\b
Example: check; install what is missing, then check again.
  spikescr lava
Lava is archived, and its metadata refuse the Pythons and NumPys of today, on which it runs: pip is told to overlook
that. Only the backends lava and both, and `spikescr verify`, need it. Exit status 1 where Lava does not run.
"""

_SIGNS = {True: "ok", False: "wrong", None: ""}


@click.command(epilog=EPILOG)
def command() -> None:
    """Check whether Lava is installed and runs here, and say which line installs it."""
    from spikescr.workflows.lava import check_lava

    findings = list(check_lava())
    table = Table(box=SIMPLE_HEAD)
    for column in ("", "found", ""):
        table.add_column(column, overflow="fold")
    for finding in findings:
        table.add_row(finding.what, finding.found, _SIGNS[finding.good])
    output().print(table)
    for what, extra in (("Lava", "lava"), ("Lava and lava-dl", "netx")):
        output().print(f"to install {what}: {remedy(extra)}", soft_wrap=True)
    wrong = [finding.what for finding in findings if finding.good is False]
    if wrong:
        raise SpikescrError(f"Lava does not run here: {', '.join(wrong)}")
