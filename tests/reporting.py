"""What tests of the report share."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from spikescr.cli import main

# A name of a word that would break a page or a table that took it for markup.
HOSTILE = """low"><img src=x onerror="alert(1)"> '&|*_`#<b>"""


def command(*arguments: str | Path) -> Result:
    """Runs `spikescr`, in this process."""
    return CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
