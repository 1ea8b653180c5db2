"""`spikescr fit`: whether a graph fits a neuromorphic chip, layer by layer, and what a run would take there."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table

from spikescr.cli.console import notify
from spikescr.cli.text import percent, si, wide_console
from spikescr.errors import GraphError, SpikescrError, UsageError
from spikescr.runs import DEFAULT_RUN, RunFolder

if TYPE_CHECKING:
    import nir
    from rich.console import Console

    from spikescr.sim.chip.mapper import Placement
    from spikescr.sim.chip.rules import Violation
    from spikescr.sim.chip.traffic import Activity, Estimate
    from spikescr.sim.program import Program

COST = "loihi2018"

EPILOG = """\b
Examples:
  spikescr fit                              # model.nir of runs/latest, in integers if there is loihi2/model.nir
  spikescr fit other.nir --chip loihi1 --bits 4 --csv layers.csv
  spikescr fit --strict && echo it fits
The exit status is 0 whether or not the network fits; with --strict it is 1 where a limit is exceeded.
Limits and their sources, and what is assumed where none is public: docs/chip.md, --json.
"""


@click.command(epilog=EPILOG)
@click.argument("file", required=False, type=click.Path(path_type=Path), metavar="[GRAPH.nir]")
@click.option("--run", "folder", type=click.Path(path_type=Path), help="Take the graph of a run folder.")
@click.option("--chip", "chip_name", default="loihi2", show_default=True, help="loihi2 or loihi1.")
@click.option("--bits", type=click.IntRange(1, 32), help="Of a weight; 8 where the graph does not tell.")
@click.option("--strict", is_flag=True, help="Exit with status 1 where a limit is exceeded.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write everything to this file.")
@click.option("--csv", "csv_path", type=click.Path(path_type=Path), help="Write the table of layers to this file.")
def command(
    file: Path | None,
    folder: Path | None,
    chip_name: str,
    bits: int | None,
    strict: bool,
    json_path: Path | None,
    csv_path: Path | None,
) -> None:
    """Place a graph on the cores of a neuromorphic chip: cores, memory, spikes between them, limits exceeded."""
    from spikescr.files import write_text
    from spikescr.sim.chip.limits import chip_named

    if file is not None and folder is not None:
        raise UsageError("give a GRAPH or --run, not both")
    chip_named(chip_name)
    run = None if file is not None else RunFolder(folder or DEFAULT_RUN)
    if run is not None:
        integers = run.in_integers
        run = integers if integers.graph.exists() else run
        file = run.require(run.graph)
    assert file is not None
    fit = fit_graph(file, run, chip_name, bits)
    console = wide_console()
    _show(console, file, fit)
    rows = layer_rows(fit)
    if json_path is not None:
        write_text(json_path, json.dumps({"graph": str(file), **as_json(fit, rows)}, indent=1) + "\n")
        console.print(f"wrote {json_path}")
    if csv_path is not None:
        text = io.StringIO()
        table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        write_text(csv_path, text.getvalue())
        console.print(f"wrote {csv_path}")
    if strict and any(not v.mended for v in fit.violations):
        raise SpikescrError(f"{file} does not fit {fit.placement.chip.title}")


@dataclass(frozen=True)
class Fit:
    """A graph on a chip. spikes: between cores per step by layer. estimate: where a run of this graph was counted."""

    placement: Placement
    violations: tuple[Violation, ...]
    spikes: dict[str, float]
    estimate: Estimate | None


def fit_graph(file: Path, run: RunFolder | None, chip_name: str, bits: int | None) -> Fit:
    """Places a graph on a chip.

    Args:
        file: of the graph.
        run: its run folder, whose simulation tells how often neurons fire; None for an upper bound.
        chip_name: of `sim.chip.limits`.
        bits: of all weights; None for what the graph tells, else 8.

    Raises:
        SpikescrError: the graph cannot be read or run, or the simulation's file is damaged.
    """
    from spikescr.sim.chip.bits import layer_bits
    from spikescr.sim.chip.limits import chip_named
    from spikescr.sim.chip.mapper import WEIGHT_BITS, place
    from spikescr.sim.chip.rules import check
    from spikescr.sim.chip.traffic import between_cores, channel_rates, estimate
    from spikescr.sim.counting.energy import CONSTANTS
    from spikescr.sim.lowering.graph_file import read_graph

    graph = read_graph(file, type_check=False)  # nir refuses grouped convolutions; lowering checks shapes
    try:
        program = _lowered(graph)
        told = layer_bits(graph, program) if bits is None else {}
    except GraphError as error:
        raise GraphError(f"{file}: {error}") from error
    placement = place(program, chip_name, chip_named(chip_name), told, bits or WEIGHT_BITS)
    if not placement.layers:
        raise GraphError(f"{file}: has no neurons and no synapses to be placed")
    activity = None if run is None else _activity(run)
    rates = channel_rates(program, None if activity is None else activity.fired)
    return Fit(
        placement,
        check(placement),
        {layer.name: between_cores(layer, rates) for layer in placement.layers},
        None if activity is None else estimate(placement, program, activity, CONSTANTS.costs[COST]),
    )


def _lowered(graph: nir.NIRGraph) -> Program:
    from spikescr.sim.lowering.lower import lower
    from spikescr.sim.lowering.nodes import FOREIGN_DT, has_clock

    told = any(key in graph.metadata for key in ("spikescr.dt", FOREIGN_DT))
    if not told:
        notify("the graph has no seconds per step; its delays are taken as steps of 1 s")
    # A graph without a clock runs as long as its input; nothing that a core holds depends on that.
    steps = None if has_clock(graph) else 1
    return lower(graph, dt=None if told else 1.0, steps=steps, round_delays=not told)


def _activity(run: RunFolder) -> Activity | None:
    """What the simulation of a run counted; None where there is none of this graph."""
    from spikescr.cli.energy import read_audit
    from spikescr.files import sha256
    from spikescr.sim.chip.traffic import Activity

    if not run.audit.exists():
        return None
    audit = read_audit(run)
    if audit.about.get("files", {}).get(run.graph.name) != sha256(run.graph):
        notify(f"{run.audit} is of another graph; spikes are an upper bound: {run.make_command(run.audit)} again")
        return None

    def mean(*columns: str) -> dict[str, float]:
        sums = sum(audit.counts(column).sum(axis=1) for column in columns)
        return dict(zip(audit.operations, (sums / (audit.samples * audit.period)).tolist(), strict=True))

    return Activity(mean("fired"), mean("ac", "mac", "bias"), audit.period)


def layer_rows(fit: Fit) -> list[dict[str, Any]]:
    """The table of layers, numbers as such; shares are of all that the layer's cores have."""
    chip, rows = fit.placement.chip, []
    for layer in fit.placement.layers:
        count = len(layer.cores)
        rows.append(
            {
                "layer": layer.name,
                "neurons": layer.demand.neurons,
                "bits": layer.demand.weight_bits,
                "cores": count,
                "memory_bytes": layer.memory,
                "memory_used": layer.memory / (count * chip.memory.value),
                "neurons_used": layer.demand.neurons / (count * chip.neurons.value),
                "input_axons": max(core.input_axons for core in layer.cores),
                "output_axons": max(core.output_axons for core in layer.cores),
                "state_bytes": layer.state,
                "spikes_between_cores": fit.spikes[layer.name],
            }
        )
    return rows


def as_json(fit: Fit, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What `--json` writes but for the graph's name."""
    from spikescr.sim.chip.limits import sources
    from spikescr.sim.counting.energy import CONSTANTS

    placement = fit.placement
    return {
        "chip": placement.chip_name,
        "limits": {name: limit.model_dump(exclude_none=True) for name, limit in placement.chip.limits.items()},
        "sources": {name: source.model_dump() for name, source in sources().items()},
        "layers": rows,
        "total": totals(fit),
        "violations": [asdict(violation) for violation in fit.violations],
        "fits": all(violation.mended for violation in fit.violations),
        "spikes_measured": fit.estimate is not None,
        "estimate": None if fit.estimate is None else asdict(fit.estimate),
        "estimate_constants": CONSTANTS.costs[COST].model_dump(),
    }


def totals(fit: Fit) -> dict[str, Any]:
    """Sums and shares over all layers."""
    placement = fit.placement
    return {
        "neurons": placement.neurons,
        "cores": placement.cores,
        "chips": placement.chips,
        "memory_bytes": placement.memory,
        "memory_used": placement.memory / (placement.cores * placement.chip.memory.value),
        "neurons_used": placement.neurons / (placement.cores * placement.chip.neurons.value),
        "spikes_between_cores": sum(fit.spikes.values()),
    }


def _show(console: Console, file: Path, fit: Fit) -> None:
    chip, total = fit.placement.chip, totals(fit)
    table = Table(title=f"{file.name} on {chip.title}", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("layer", no_wrap=True)
    for name in (
        "neurons",
        "bits",
        "cores",
        "memory",
        "of cores",
        "neurons of cores",
        "axons in",
        "out",
        "spikes/step",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for row in layer_rows(fit):
        table.add_row(
            row["layer"], f"{row['neurons']:,}", str(row["bits"]), str(row["cores"]), si(row["memory_bytes"], "B"),
            percent(row["memory_used"]), percent(row["neurons_used"]), f"{row['input_axons']:,}",
            f"{row['output_axons']:,}", si(row["spikes_between_cores"]),
        )  # fmt: skip
    table.add_section()
    table.add_row(
        "total", f"{total['neurons']:,}", "", str(total["cores"]), si(total["memory_bytes"], "B"),
        percent(total["memory_used"]), percent(total["neurons_used"]), "", "", si(total["spikes_between_cores"]),
    )  # fmt: skip
    console.print(table)
    measured = "as simulated, mean" if fit.estimate is not None else "every neuron fires, an upper bound"
    console.print(f"axons: of the fullest core. spikes/step: sent to other cores ({measured})")
    cores, chips = chip.whole("cores"), total["chips"]
    console.print(f"{total['cores']} of {cores} cores, {chips} {'chip' if chips == 1 else 'chips'}")
    for violation in fit.violations:
        console.print(f"{'noted' if violation.mended else 'exceeded'}: {violation.line}", soft_wrap=True)
    over = sum(not violation.mended for violation in fit.violations)
    assumed = [name.replace("_", " ") for name, limit in chip.limits.items() if limit.assumed is not None]
    verdict = f"does not fit: {over} {'limit' if over == 1 else 'limits'} exceeded" if over else "fits"
    console.print(f"{verdict} (assumed: {', '.join(assumed)})")
    if fit.estimate is not None:
        _show_estimate(console, fit, fit.estimate)


def _show_estimate(console: Console, fit: Fit, found: Estimate) -> None:
    low, high = (si(joules, "J") for joules in found.joules)
    title = fit.placement.chip.title
    other = "" if title == "Loihi" else f"; of {title} no energies of operations are published"
    console.print(
        f"estimate, one recording: {low} to {high} by Loihi's published energies ({COST}){other}; "
        f"{si(found.synaptic)} synaptic operations, {si(found.updates)} neuron updates, "
        f"{si(found.messages)} spikes between cores",
        soft_wrap=True,
    )
    console.print(
        f"estimate, time by {title}'s published figures: {si(found.step_seconds, 's')} per step, "
        f"{si(found.seconds, 's')} per recording; the busiest core is of {found.layer}",
        soft_wrap=True,
    )
    console.print("beside the 45 nm figure of spikescr energy, never to be added to it", soft_wrap=True)
