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
    from spikescr.export.to_netx import QuantisedLayer

EPILOG = """\b
Example: export, then look at the file with nothing but the nir package.
  spikescr export --to nir
  python -c "import nir; print(len(nir.read('runs/latest/model.nir').nodes))"
Reads model.safetensors of the run folder, writes model.nir beside it.
\b
  spikescr export --to netx --graph FILE.nir --out FILE.net
Writes a chain of spiking layers as lava-dl's network description, quantised for Loihi.
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
    """Export the trained network of a run, exactly, as a NIR graph; or a NIR graph, quantised, to lava-dl's netx."""
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
    from spikescr.export.deploy import deploy, deploy_quantized, packed
    from spikescr.files import replacing_together, sha256, write_bytes

    run.require(run.checkpoint)
    with run.locked():
        graph = (deploy_quantized if run.is_in_integers else deploy)(run.checkpoint)
        content = packed(graph)
        if not run.graph.exists() or run.graph.read_bytes() != content:
            with replacing_together(run.path, [run.graph.name, *run.results]) as stage:
                write_bytes(stage / run.graph.name, content)
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
    import json

    from spikescr import dialect
    from spikescr.errors import ExportError, GraphError
    from spikescr.export.chain import read_chain
    from spikescr.export.to_netx import quantise, write_netx
    from spikescr.files import sha256
    from spikescr.provenance import versions
    from spikescr.sim.lowering.graph_file import read_graph
    from spikescr.sim.lowering.graph_time import FOREIGN_DT, step_length

    path = run.require(run.graph) if graph_path is None else graph_path
    out = out_path or path.with_suffix(".net")
    graph = read_graph(path, type_check=False)  # as simulate: shapes follow from the input and the weights
    key = next((key for key in (dialect.DT, FOREIGN_DT) if key in graph.metadata), None)
    try:
        step = dt if key is None else step_length(graph)
        if step is None:
            raise UsageError(f"{path}: its metadata has no {dialect.DT}; give the seconds per step with --dt")
        if dt not in (None, step):
            raise UsageError(f"{path}: its metadata has {key} {step}, not {dt}")
        chain = read_chain(graph, step)
        layers = tuple(quantise(layer) for layer in chain.layers)
    except GraphError as error:
        raise GraphError(f"{path}: {error}") from error
    except ExportError as error:
        raise ExportError(f"{path}: {error}") from error
    made = {
        "source": path.name,
        "source_sha256": sha256(path),
        "versions": json.dumps(versions("spikescr", "nir", "h5py")),
    }
    write_netx(out, chain, layers, made)
    _print_layers(layers)
    for quantised in layers:
        if losses := quantised.losses():
            notify(f"{quantised.layer.name}: {'; '.join(losses)} (in thresholds)")
    if chain.clocked:
        notify(
            "netx has no clock: biases act at every step; give Network reset_interval=WINDOW and reset_offset=1, and "
            "every layer begins each window from rest with its first input"
        )
    output().print(f"wrote {out} ({len(layers)} layers, latency {len(layers)} steps, sha256 {sha256(out)[:16]})")


def _print_layers(layers: tuple[QuantisedLayer, ...]) -> None:
    table = Table(title="Quantised for Loihi", box=SIMPLE_HEAD)
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
