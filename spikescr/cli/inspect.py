"""`spikescr inspect`: what a NIR file consists of, node by node."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spikescr.cli.console import notify, output
from spikescr.cli.options import max_memory
from spikescr.cli.text import si
from spikescr.errors import UsageError
from spikescr.runs import DEFAULT_RUN, RunFolder

if TYPE_CHECKING:
    from spikescr.sim.inspection.inspection import GraphReport, NodeReport

TABLE_WIDTH = 170  # narrower output would cut the numbers

EPILOG = """\b
Examples:
  spikescr inspect                          # model.nir of runs/latest
  spikescr inspect other.nir --svg other.svg
Files of any origin can be inspected, also those that `spikescr simulate` cannot run; it says why.
"""


@click.command(epilog=EPILOG)
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--run", "folder", type=click.Path(path_type=Path), help="Inspect model.nir of a run folder.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write all figures to a JSON file.")
@click.option("--svg", "svg_path", type=click.Path(path_type=Path), help="Draw the graph.")
@click.option(
    "--values", is_flag=True, help="Print every node with its edges, fields and metadata instead of the table."
)
@max_memory
def command(
    file: Path | None, folder: Path | None, json_path: Path | None, svg_path: Path | None, values: bool
) -> None:
    """List the nodes of a NIR file: shapes, parameters, synapses, latency, state, operations per step."""
    from spikescr.files import write_texts
    from spikescr.sim.inspection.inspection import inspect
    from spikescr.sim.inspection.listing import as_json
    from spikescr.sim.inspection.listing import values as node_values
    from spikescr.sim.lowering.graph_file import describe_graph, refused_by_nir, reset_note

    if file is not None and folder is not None:
        raise UsageError("give a FILE or --run, not both")
    if file is None:
        run = RunFolder(folder or DEFAULT_RUN)
        file = run.require(run.graph)
    graph, problems = describe_graph(file)
    report = inspect(graph)
    if values:
        for line in node_values(graph):
            output().print(line, soft_wrap=True)
    else:
        _print_report(file, report)
    # It is what reading found where that is why it cannot be run.
    warnings = [*problems, *report.warnings]
    if not problems and (refused := refused_by_nir(graph)):
        warnings.insert(0, f"nir does not infer its shapes: {refused}")
    if note := reset_note(file):
        warnings.append(note)
    for warning in warnings:
        notify(warning)
    files: dict[Path, str] = {}
    if json_path is not None:
        content = {"file": str(file), **as_json(report, warnings)}
        files[json_path] = json.dumps(content, indent=1, allow_nan=False) + "\n"
    if svg_path is not None:
        from spikescr.sim.inspection.drawing import draw

        files[svg_path] = draw(report, title=file.name)
    write_texts(files)
    for path in files:
        output().print(f"wrote {path}")


def _print_report(path: Path, report: GraphReport) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    console = output()
    console.width = max(console.width, TABLE_WIDTH)
    table = Table(title=f"{path.name}: {len(report.nodes)} nodes, {len(report.edges)} edges", box=SIMPLE_HEAD)
    table.add_column("node", no_wrap=True)
    table.add_column("type")
    fixed = any(node.bits is not None for node in report.nodes)
    names = ("shape", "parameters", "memory", "synapses", "neurons", "latency", "per step", "state")
    for name in names + (("bits",) if fixed else ()):
        table.add_column(name, justify="right", no_wrap=True)
    for node in report.nodes:
        table.add_row(
            node.name,
            node.type if node.standard else f"{node.type} *",
            _shapes(node),
            si(node.parameter_count) if node.parameter_count else "",
            si(node.parameter_bytes, "B") if node.parameter_bytes else "",
            si(node.synapses) if node.synapses else "",
            si(node.neurons) if node.neurons else "",
            "" if node.latency is None else str(node.latency),
            _per_step(node),
            "?" if node.state_bytes is None else si(node.state_bytes, "B") if node.state_bytes else "",
            *(("" if node.bits is None else str(node.bits),) if fixed else ()),
        )
    table.add_section()
    for name, kept in report.groups.items():
        if kept:
            table.add_row(*_total(name, kept))
    console.print(table)
    console.print(
        "* not standard NIR, spikescr's by metadata. Per step: every input active, an upper bound: AC, MAC, b"
    )
    console.print("(bias additions), u (membrane updates). State: membranes, delay lines and attention, in float64.")
    if fixed:
        console.print("Bits: of weights in fixed point.")
    for key, value in report.metadata.items():
        console.print(f"{key}: {_one_line(value)}", soft_wrap=True)


def _shapes(node: NodeReport) -> str:
    from spikescr.sim.inspection.listing import shape_text

    into, out = (shape_text(s) for s in (node.input_shape, node.output_shape))
    return into if into == out else f"{into} > {out}"


def _per_step(node: NodeReport) -> str:
    counts = asdict(node.operations)
    units = {"ac": "AC", "mac": "MAC", "bias": "b", "neuron": "u"}
    return " + ".join(f"{si(counts[key])} {unit}" for key, unit in units.items() if counts[key])


def _total(name: str, nodes: Iterable[NodeReport]) -> tuple[str, ...]:
    from spikescr.sim.inspection.inspection import total

    sums = total(nodes)
    operations = sums.operations
    return (
        name,
        f"{sums.nodes} nodes",
        "",
        si(sums.parameters),
        si(sums.parameter_bytes, "B"),
        si(sums.synapses),
        si(sums.neurons),
        "",
        f"{si(operations.ac)} AC + {si(operations.mac)} MAC",
        si(sums.state_bytes, "B"),
    )


def _one_line(value: Any, limit: int = 100) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."
