"""Whether the paper's networks fit neuromorphic chips: cores, chips, memory, limits exceeded.

    python benchmarks/fit.py [--quick] [--json FILE]

Untrained networks with 8-bit weights: what a core holds depends on sizes and not on weights, as long as few are 0.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click
import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

import spikescr
from spikescr.files import write_text
from spikescr.model import ModelConfig, SpikeSCR
from spikescr.provenance import versions
from spikescr.quantities import percent, si
from spikescr.sim.chip.limits import chips

NETWORKS = {
    "1L-8-128": ModelConfig(layers=1, heads=8, width=128, mlp_ratio=1, classes=20),
    "1L-16-256": ModelConfig(layers=1, heads=16, width=256, mlp_ratio=4, classes=35),
    "2L-16-256": ModelConfig(layers=2, heads=16, width=256, mlp_ratio=4, classes=35),
}


def measure(name: str, steps: int) -> list[dict[str, Any]]:
    """The placement of one network at a window of so many steps, on every chip."""
    torch.manual_seed(0)
    graph = spikescr.to_nir(SpikeSCR(NETWORKS[name]).eval(), steps=steps, dt=1 / steps)
    rows = []
    for chip in chips():
        found = spikescr.fit(graph, chip, bits=8)
        total = found.totals()
        rows.append(
            {
                "network": name,
                "steps": steps,
                "chip": chip,
                **{key: total[key] for key in ("neurons", "cores", "chips", "memory_bytes", "memory_used")},
                "layers": {row["layer"]: row["cores"] for row in found.rows()},
                "violations": [violation.line for violation in found.violations if not violation.mended],
                "noted": [violation.line for violation in found.violations if violation.mended],
            }
        )
    return rows


@click.command()
@click.option("--quick", is_flag=True, help="Windows of 40 steps only.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the rows to this file.")
def main(quick: bool, file: Path | None) -> None:
    """Print what the paper's networks take of each chip."""
    rows = [row for name in NETWORKS for steps in ((40,) if quick else (40, 100)) for row in measure(name, steps)]
    table = Table(title="SpikeSCR on neuromorphic cores, 8-bit weights", box=SIMPLE_HEAD)
    for column in ("network", "steps", "chip", "neurons", "cores", "chips", "memory", "of cores", "limits exceeded"):
        table.add_column(column, justify="left" if column in ("network", "chip") else "right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["network"], str(row["steps"]), row["chip"], f"{row['neurons']:,}", str(row["cores"]),
            str(row["chips"]), si(row["memory_bytes"], "B"), percent(row["memory_used"]), str(len(row["violations"])),
        )  # fmt: skip
    console = Console(width=None if os.isatty(1) else 120, highlight=False, markup=False)
    console.print(table)
    for line in dict.fromkeys(f"{row['network']}, {row['chip']}: {line}" for row in rows for line in row["violations"]):
        console.print(line, soft_wrap=True)
    if file is not None:
        found = {"rows": rows, "versions": versions("spikescr", "numpy", "torch")}
        write_text(file, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
