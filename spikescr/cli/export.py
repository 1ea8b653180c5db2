"""`spikescr export`: a trained network as a NIR graph, batch normalisation folded away."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table

from spikescr.cli.console import output
from spikescr.runs import DEFAULT_RUN, RunFolder

EPILOG = """\b
Example: export, then look at the file with nothing but the nir package.
  spikescr export --to nir
  python -c "import nir; print(len(nir.read('runs/latest/model.nir').nodes))"
Reads model.safetensors of the run folder, writes model.nir beside it.
"""


@click.command(epilog=EPILOG)
@click.option("--to", "target", type=click.Choice(["nir"]), default="nir", show_default=True)
@click.option("--run", "folder", type=click.Path(path_type=Path), default=DEFAULT_RUN, show_default=True)
def command(target: str, folder: Path) -> None:
    """Export the trained network of a run, exactly: one NIR graph with attention, biases and gates."""
    from spikescr.export import dialect
    from spikescr.export.deploy import deploy, write_graph
    from spikescr.files import sha256

    run = RunFolder(folder)
    run.require(run.checkpoint)
    with run.locked():
        graph = deploy(run.checkpoint)
        before = sha256(run.graph) if run.graph.exists() else None
        write_graph(run.graph, graph)
        if sha256(run.graph) != before:
            run.discard_results()
    kinds = Counter(node.metadata.get(dialect.OP) or type(node).__name__ for node in graph.nodes.values())
    table = Table(title=f"Exported to {target.upper()}", box=SIMPLE_HEAD)
    table.add_column("nodes")
    table.add_column("", justify="right")
    for kind, count in sorted(kinds.items()):
        table.add_row(kind, str(count))
    table.add_section()
    table.add_row("all nodes", str(len(graph.nodes)))
    table.add_row("edges", str(len(graph.edges)))
    table.add_row("window, steps", str(graph.metadata[dialect.STEPS]))
    table.add_row("latency, steps", str(graph.nodes["output"].metadata[dialect.LATENCY]))
    console = output()
    console.print(table)
    console.print(f"wrote {run.graph} ({run.graph.stat().st_size / 1e6:.2f} MB, sha256 {sha256(run.graph)[:16]})")
