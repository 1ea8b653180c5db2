"""`spikescr export`: a trained network as a NIR graph, batch normalisation folded away; NIR graphs for lava-dl."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table

from spikescr.cli.console import notify, output
from spikescr.cli.text import wide_console
from spikescr.errors import UsageError
from spikescr.runs import DEFAULT_RUN, RunFolder

if TYPE_CHECKING:
    from spikescr.export.to_netx import QuantizedLayer

EPILOG = """\b
Example: export, then look at the file with nothing but the nir package.
  spikescr export --to nir
  python -c "import nir; print(len(nir.read('runs/latest/model.nir').nodes))"
Reads model.safetensors of the run folder, writes model.nir beside it.
\b
  spikescr export --to netx --graph FILE.nir --out FILE.net
Writes a chain of spiking layers as lava-dl's network description, quantized for Loihi.
Without --graph it reads model.nir of the run folder and writes model.net beside it.
"""


@click.command(epilog=EPILOG)
@click.option("--to", "target", type=click.Choice(["nir", "netx"]), default="nir", show_default=True)
@click.option("--run", "folder", type=click.Path(path_type=Path), help=f"Run folder.  [default: {DEFAULT_RUN}]")
@click.option("--graph", "graph_path", type=click.Path(path_type=Path), help="NIR file to convert (netx).")
@click.option("--out", "out_path", type=click.Path(path_type=Path), help="File to write (netx).")
@click.option(
    "--dt", type=click.FloatRange(min=0, min_open=True), help="Seconds per step, if the file has none (netx)."
)
def command(target: str, folder: Path | None, graph_path: Path | None, out_path: Path | None, dt: float | None) -> None:
    """Export the trained network of a run, exactly, as a NIR graph; or a NIR graph, quantized, to lava-dl's netx."""
    if target == "netx":
        if folder is not None and graph_path is not None:
            raise UsageError("give --graph or --run, not both")
        _to_netx(RunFolder(folder or DEFAULT_RUN), graph_path, out_path, dt)
    elif graph_path is not None or out_path is not None or dt is not None:
        raise UsageError("--graph, --out and --dt belong to --to netx; --to nir works on a run folder")
    else:
        _to_nir(RunFolder(folder or DEFAULT_RUN))


def _to_nir(run: RunFolder) -> None:
    from spikescr import dialect
    from spikescr.files import sha256
    from spikescr.workflows.export import export_run

    graph = export_run(run)
    kinds = Counter(node.metadata.get(dialect.OP) or type(node).__name__ for node in graph.nodes.values())
    table = Table(title="Exported to NIR", box=SIMPLE_HEAD)
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


def _to_netx(run: RunFolder, graph_path: Path | None, out_path: Path | None, dt: float | None) -> None:
    from spikescr.files import sha256
    from spikescr.workflows.export import export_netx

    path = run.require(run.graph) if graph_path is None else graph_path
    out = out_path or path.with_suffix(".net")
    notes: list[str] = []
    layers = export_netx(path, out, dt=dt, notify=notes.append)
    _print_layers(layers)
    for note in notes:
        notify(note)
    output().print(f"wrote {out} ({len(layers)} layers, latency {len(layers)} steps, sha256 {sha256(out)[:16]})")


def _print_layers(layers: tuple[QuantizedLayer, ...]) -> None:
    table = Table(title="Quantized for Loihi", box=SIMPLE_HEAD)
    table.add_column("layer")
    table.add_column("type")
    headings = ("shape", "units", "weights", "exponent", "threshold", "iDecay", "vDecay", "bias", "to zero")
    for name in (*headings, "rounding", "latency"):
        table.add_column(name, justify="right", no_wrap=True)
    for number, q in enumerate(layers, start=1):
        kind = "conv" if q.layer.convolution else "dense" if q.layer.delay is None else "dense, delays"
        table.add_row(
            q.layer.name,
            kind,
            "x".join(map(str, q.layer.shape)),
            str(q.units),
            f"{q.weight.min()}..{q.weight.max()}",
            str(q.exponent),
            str(q.threshold),
            str(q.current_decay),
            str(q.voltage_decay),
            f"{q.bias.min()}..{q.bias.max()}" if q.bias.any() else "",
            str(q.zeroed),
            f"{q.error:.1e}",
            str(number),
        )
    console = wide_console()
    console.print(table)
    console.print(
        "units: of the weights per threshold, chosen so that all fits. Notes say what the registers do not hold."
    )
    console.print(
        "rounding: largest error of a weight, in thresholds. exponent: netx derives it when it loads the file."
    )
