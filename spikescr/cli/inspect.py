"""`spikescr inspect`: what a NIR file consists of, node by node."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from spikescr.cli.console import notify, output
from spikescr.cli.text import si
from spikescr.errors import UsageError
from spikescr.runs import DEFAULT_RUN, RunFolder

if TYPE_CHECKING:
    import nir

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
def command(
    file: Path | None, folder: Path | None, json_path: Path | None, svg_path: Path | None, values: bool
) -> None:
    """List the nodes of a NIR file: shapes, parameters, synapses, latency, state, operations per step."""
    from spikescr.files import write_text
    from spikescr.sim.inspection.inspection import inspect
    from spikescr.sim.lowering.graph_file import describe_graph, refused_by_nir

    if file is not None and folder is not None:
        raise UsageError("give a FILE or --run, not both")
    if file is None:
        run = RunFolder(folder or DEFAULT_RUN)
        file = run.require(run.graph)
    graph, problems = describe_graph(file)
    report = inspect(graph)
    if values:
        _print_values(graph)
    else:
        _print_report(file, report)
    # It is what reading found where that is why it cannot be run.
    warnings = [*problems, *report.warnings]
    if not problems and (refused := refused_by_nir(graph)):
        warnings.insert(0, f"nir does not infer its shapes: {refused}")
    for warning in warnings:
        notify(warning)
    if json_path is not None:
        write_text(json_path, json.dumps(_as_json(file, report, warnings), indent=1, allow_nan=False) + "\n")
        output().print(f"wrote {json_path}")
    if svg_path is not None:
        from spikescr.sim.inspection.drawing import draw

        write_text(svg_path, draw(report, title=file.name))
        output().print(f"wrote {svg_path}")


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
    into, out = (_shape(s) for s in (node.input_shape, node.output_shape))
    return into if into == out else f"{into} > {out}"


def _shape(shape: tuple[int, ...] | None) -> str:
    return "?" if shape is None else "x".join(map(str, shape)) or "scalar"


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


def _as_json(path: Path, report: GraphReport, warnings: list[str]) -> dict[str, Any]:
    from spikescr.sim.inspection.inspection import total

    return {
        "file": str(path),
        "nodes": [asdict(node) for node in report.nodes],
        "edges": report.edges,
        "totals": {name: asdict(total(nodes)) for name, nodes in report.groups.items()},
        "metadata": {key: _plain(value) for key, value in report.metadata.items()},
        "warnings": warnings,
    }


def _plain(value: Any) -> Any:
    """A value of NIR's metadata as JSON has it."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray):
        return [_plain(inner) for inner in value.tolist()]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def _print_values(graph: nir.NIRGraph) -> None:
    """Every node: name, type, shapes, what it feeds, its fields in full where they are small, its metadata."""
    import nir

    from spikescr.sim.lowering.flat import FlatGraph
    from spikescr.sim.lowering.primitives import kind_name

    flat = FlatGraph(graph)
    hidden = ("input_type", "output_type", "metadata")
    lines = []
    for name in flat.order:
        node, into, out = flat.nodes[name], _shape(flat.reads[name]), _shape(flat.shape.get(name))
        lines.append(f"{name}: {kind_name(node)} {into} > {out}, feeds {', '.join(flat.after[name]) or 'nothing'}")
        if isinstance(node, nir.NIRGraph):
            lines += [f"    {inner}: {_inner(part)}" for inner, part in node.nodes.items()]
        else:
            lines += [f"    {f.name} = {_array(getattr(node, f.name))}" for f in fields(node) if f.name not in hidden]
        lines += [f"    [{key}] {_array(value)}" for key, value in node.metadata.items()]
    lines += ["graph:", *(f"    [{key}] {_array(value)}" for key, value in graph.metadata.items())]
    for line in lines:
        output().print(line, soft_wrap=True)


def _inner(node: nir.NIRNode) -> str:
    """A node of a packed operation's body, which is NaN where it is as it should be."""
    kind, into, out = type(node).__name__, node.input_type, node.output_type
    nan = " of NaN" if np.all(np.isnan(getattr(node, "weight", 0.0))) else ""
    return f"{kind} {_declared(into)} > {_declared(out)}{nan}"


def _declared(types: dict[str, Any] | None) -> str:
    """A shape as a node has it."""
    sizes = next(iter((types or {}).values()), None)
    return _shape(None if sizes is None else tuple(int(n) for n in np.atleast_1d(sizes)))


def _array(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return str(value)
    text = np.array2string(
        value, separator=", ", max_line_width=10**6, threshold=60, formatter={"float_kind": str, "int_kind": str}
    )
    return " ".join(text.split())
