"""`spikescr export`: a trained network as a NIR graph, batch normalisation folded away; NIR graphs for lava-dl."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table

from spikescr.cli.console import notify, output
from spikescr.cli.module_options import example_options, module_option
from spikescr.cli.options import max_memory
from spikescr.cli.problems import problem_table
from spikescr.cli.text import wide_console
from spikescr.errors import ExportError, UsageError
from spikescr.runs import DEFAULT_RUN, RunFolder

if TYPE_CHECKING:
    import nir

    from spikescr.export.record.step import Axes, Time
    from spikescr.export.to_netx import QuantizedLayer

EPILOG = """\b
Example: export, then look at the file with nothing but the nir package.
  spikescr export --to nir
  python -c "import nir; print(len(nir.read('runs/latest/model.nir').nodes))"
Reads model.safetensors of the run folder, writes model.nir beside it.
\b
  spikescr export --to nir --module net.py:make --weights net.pt --shape 4,1,3,32,32 --dt 0.001 --out NET.nir
Records any module of PyTorch's and SpikingJelly's layers on an input of that shape, and writes its graph.
\b
  spikescr export --to netx --graph FILE.nir --out FILE.net
Writes a chain of spiking layers as lava-dl's network description, quantized for Loihi.
Without --graph it reads model.nir of the run folder and writes model.net beside it.
\b
  spikescr export --to sanafe --graph FILE.nir --example spikes.npy --out FOLDER
Writes chip, network and mapping for SANA-FE, a simulator of spiking chips: arch.yaml and network.yaml.
"""


@click.command(epilog=EPILOG)
@click.option("--to", "target", type=click.Choice(["nir", "netx", "sanafe"]), default="nir", show_default=True)
@click.option("--run", "folder", type=click.Path(path_type=Path), help=f"Run folder.  [default: {DEFAULT_RUN}]")
@click.option("--graph", "graph_path", type=click.Path(path_type=Path), help="NIR file to convert (netx, sanafe).")
@module_option
@example_options
@click.option(
    "--out",
    "out_path",
    type=click.Path(path_type=Path),
    help="File to write (netx, of a module), or folder (sanafe).",
)
@click.option(
    "--dt",
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds per step: of a module, or of a file that has none (netx, sanafe).",
)
@max_memory
def command(
    target: str,
    folder: Path | None,
    graph_path: Path | None,
    module_spec: str | None,
    weights: Path | None,
    shape: str | None,
    example: Path | None,
    time: Time,
    axes: Axes,
    out_path: Path | None,
    dt: float | None,
) -> None:
    """Export a network, exactly, as NIR: a run's, or any module; or a NIR graph to lava-dl's netx or to SANA-FE."""
    if module_spec is not None:
        if target != "nir" or folder is not None or graph_path is not None:
            raise UsageError("--module goes --to nir, without --run and --graph; export its file afterwards")
        if out_path is None or dt is None:
            raise UsageError("--module wants --out NET.nir and --dt, seconds per step (0.001)")
        _module_to_nir(module_spec, weights, shape, example, (time, axes), out_path, dt)
    elif target == "sanafe":
        if folder is not None and graph_path is not None:
            raise UsageError("give --graph or --run, not both")
        if example is None or out_path is None or weights is not None or shape is not None:
            raise UsageError("--to sanafe wants --example SPIKES.npy and --out FOLDER, and no --weights or --shape")
        _to_sanafe(RunFolder(folder or DEFAULT_RUN), graph_path, example, out_path, dt)
    elif weights is not None or shape is not None or example is not None:
        raise UsageError("--weights, --shape and --example belong to --module")
    elif target == "netx":
        if folder is not None and graph_path is not None:
            raise UsageError("give --graph or --run, not both")
        _to_netx(RunFolder(folder or DEFAULT_RUN), graph_path, out_path, dt)
    elif graph_path is not None or out_path is not None or dt is not None:
        raise UsageError("--graph, --out and --dt belong to --to netx and to --module; --to nir works on a run folder")
    else:
        _to_nir(RunFolder(folder or DEFAULT_RUN))


def _module_to_nir(
    spec: str,
    weights: Path | None,
    shape: str | None,
    example: Path | None,
    reached: tuple[Time, Axes],
    out: Path,
    dt: float,
) -> None:
    from spikescr.export.record import RefusedModuleError
    from spikescr.workflows.export import export_module_file

    time, axes = reached
    try:
        exported = export_module_file(spec, weights, shape, example, time=time, axes=axes, dt=dt, out=out)
    except RefusedModuleError as error:
        if len(error.problems) == 1:
            raise
        wide_console().print(problem_table(error.problems))
        raise ExportError(f"{spec}: {len(error.problems)} refused") from error
    _print_graph(exported.graph, out)
    table = Table(title="Folded against unfolded, on the example", box=SIMPLE_HEAD)
    table.add_column("neurons", no_wrap=True)
    for heading in ("largest difference of a current", "differing spikes"):
        table.add_column(heading, justify="right")
    for layer in exported.folding:
        table.add_row(layer.layer, f"{layer.largest:.1e}", f"{layer.differing:,}")
    output().print(table)


def _to_nir(run: RunFolder) -> None:
    from spikescr.workflows.export import export_run

    _print_graph(export_run(run), run.graph)


def _print_graph(graph: nir.NIRGraph, path: Path) -> None:
    from spikescr import dialect
    from spikescr.files import sha256

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
    console.print(f"wrote {path} ({path.stat().st_size / 1e6:.2f} MB, sha256 {sha256(path)[:16]})")


def _held(run: RunFolder, graph: Path | None, out: Path | None) -> AbstractContextManager[None]:
    """Holds the run folder, where its graph is converted: with nothing said of `out` it is written there, too."""
    if graph is not None:
        return nullcontext()
    return run.locked() if out is None else run.reading()


def _to_netx(run: RunFolder, graph_path: Path | None, out_path: Path | None, dt: float | None) -> None:
    from spikescr.files import sha256
    from spikescr.workflows.deployed import current_graph
    from spikescr.workflows.export import export_netx

    notes: list[str] = []
    with _held(run, graph_path, out_path):
        path = current_graph(run) if graph_path is None else graph_path
        out = out_path or path.with_suffix(".net")
        layers = export_netx(path, out, dt=dt, notify=notes.append)
    _print_layers(layers)
    for note in notes:
        notify(note)
    output().print(f"wrote {out} ({len(layers)} layers, latency {len(layers)} steps, sha256 {sha256(out)[:16]})")


def _to_sanafe(run: RunFolder, graph_path: Path | None, example: Path, out: Path, dt: float | None) -> None:
    from spikescr.workflows.deployed import current_graph
    from spikescr.workflows.sanafe import export_sanafe

    with _held(run, graph_path, out):
        path = current_graph(run) if graph_path is None else graph_path
        made = export_sanafe(path, example, out, dt=dt, notify=notify)
    table = Table(title="For SANA-FE", box=SIMPLE_HEAD)
    table.add_column("group", no_wrap=True)
    table.add_column("layer", justify="right")
    for name, depth in made.depth.items():
        table.add_row(name, str(depth))
    console = output()
    console.print(table)
    console.print("a group of layer n shows step t of the spikes at SANA-FE's step t + n", soft_wrap=True)
    console.print(f"wrote {out}/arch.yaml and {out}/network.yaml; simulate {made.steps} steps", soft_wrap=True)


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
