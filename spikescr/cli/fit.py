"""`spikescr fit`: whether a graph fits a neuromorphic chip, layer by layer, and what a run would take there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table

from spikescr.cli.console import notify
from spikescr.cli.options import max_memory
from spikescr.cli.text import percent, si, wide_console
from spikescr.errors import SpikescrError, UsageError
from spikescr.runs import DEFAULT_RUN, RunFolder

if TYPE_CHECKING:
    from rich.console import Console

    from spikescr.sim.chip.fit import Fit
    from spikescr.sim.chip.fitted import FittedEstimate
    from spikescr.sim.chip.traffic import Estimate

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
@max_memory
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
    from spikescr.files import as_csv, write_texts
    from spikescr.sim.chip.limits import chip_named
    from spikescr.workflows.fit import fit as place
    from spikescr.workflows.fit import fit_run

    chip_named(chip_name)  # before a run is looked for
    if file is not None and folder is not None:
        raise UsageError("give a GRAPH or --run, not both")
    run = None if file is not None else RunFolder(folder or DEFAULT_RUN)
    if run is not None:
        integers = run.in_integers
        run = integers if integers.graph.exists() else run
        file = run.require(run.graph)
    assert file is not None
    fit = (
        place(file, chip_name, bits=bits, notify=notify)
        if run is None
        else fit_run(run, chip_name, bits=bits, notify=notify)
    )
    console = wide_console()
    _show(console, file, fit)
    files: dict[Path, str] = {}
    if json_path is not None:
        files[json_path] = json.dumps({"graph": str(file), **fit.as_json()}, indent=1) + "\n"
    if csv_path is not None:
        rows = fit.rows()
        files[csv_path] = as_csv(list(rows[0]), (row.values() for row in rows))
    write_texts(files)
    for path in files:
        console.print(f"wrote {path}")
    if strict and not fit.fits:
        raise SpikescrError(f"{file} does not fit {fit.placement.chip.title}")


def _show(console: Console, file: Path, fit: Fit) -> None:
    chip, total = fit.placement.chip, fit.totals()
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
    for row in fit.rows():
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
    if fit.fitted is not None:
        _show_fitted(console, fit.fitted)
        console.print("beside the 45 nm figure of spikescr energy, never to be added to it", soft_wrap=True)


def _show_estimate(console: Console, fit: Fit, estimate: Estimate) -> None:
    from spikescr.sim.chip.fit import COST

    low, high = (si(joules, "J") for joules in estimate.joules)
    title = fit.placement.chip.title
    other = "" if title == "Loihi" else f"; of {title} no energies of operations are published"
    console.print(
        f"estimate, one recording: {low} to {high} by Loihi's published energies ({COST}){other}; "
        f"{si(estimate.synaptic)} synaptic operations, {si(estimate.updates)} neuron updates, "
        f"{si(estimate.messages)} spikes between cores",
        soft_wrap=True,
    )
    console.print(
        f"estimate, time by {title}'s published figures: {si(estimate.step_seconds, 's')} per step, "
        f"{si(estimate.seconds, 's')} per recording; the busiest core is of {estimate.layer}",
        soft_wrap=True,
    )


def _show_fitted(console: Console, fitted: FittedEstimate) -> None:
    from spikescr.sim.chip.costs import chip_costs

    cost = chip_costs()[fitted.constants]
    low, high = (si(joules, "J") for joules in fitted.joules)
    terms = ", ".join(
        f"{name.replace('_', ' ')} {si(amount.joules, 'J')}" for name, amount in fitted.terms.items() if amount.joules
    )
    times = ", ".join(f"{name} {si(seconds, 's')}" for name, seconds in fitted.times.items() if seconds)
    console.print(
        f"estimate, one recording: {low} to {high} by costs fitted on a Loihi ({fitted.constants}; its authors state "
        f"{cost.states}): {terms}",
        soft_wrap=True,
    )
    console.print(
        f"estimate, time likewise: {si(fitted.step_seconds, 's')} per step, {si(fitted.seconds, 's')} per recording; "
        f"decided by the {fitted.deciding} ({times}); busiest core {fitted.imbalance:.1f} times the mean",
        soft_wrap=True,
    )
