"""Every network that SpikingJelly ships, from PyTorch to executed operations: exported, verified, counted, timed.

    python benchmarks/zoo.py [--only NAME]... [--variants] [--no-lava] [--no-speed] [--quick] [--json FILE]

29 networks, 24 of SpikingJelly's models and 5 of its examples, at sizes that keep their structure, with random weights
and batch statistics under which every neuron layer fires (zoo_calibration.py). Each is exported, executed and compared
with PyTorch in float64, spike for spike, and the two backends with each other. The command fails where a spike differs,
a layer is silent, or something is refused that should not be. AC, MAC and joules are means of a sample.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from statistics import median

import click
import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from zoo_measure import Row, measure
from zoo_networks import NETWORKS, VARIANTS, Entry, chosen, stand_ins

from spikescr.files import write_text
from spikescr.provenance import versions
from spikescr.quantities import si

SAMPLES = 2
QUICK = ("CSNN", "rsnn PlainNet", "rsnn StatefulSynapseNet", "rsnn FeedBackNet", "MNISTNet", "att_ms_resnet18")


def comparison(rows: list[Row]) -> Table:
    """What was exported, and whether it fires the same."""
    table = Table(title="Exported and compared with PyTorch in float64", box=SIMPLE_HEAD)
    table.add_column("network", no_wrap=True)
    for column in ("operations", "neurons", "layers", "lowest rate", "neuron-steps", "spikes", "differing",
                   "fast / Lava", "seconds"):  # fmt: skip
        table.add_column(column, justify="right")
    table.add_column("refused for, cause, note", overflow="fold")
    for row in rows:
        lowest = f"{100 * row.lowest[1]:.1f} %" if row.neuron_layers else ""
        name = row.name if row.passed else f"{row.name} [red]x[/]"
        if not row.exported:
            table.add_row(name, *[""] * 2, str(row.neuron_layers), lowest, *[""] * 5, reasons(row.refused))
            continue
        moved = f"thresholds moved: {len(row.thresholds)}" if row.thresholds else ""
        table.add_row(
            name,
            str(row.operations),
            si(row.neurons),
            str(row.neuron_layers),
            lowest,
            si(row.neuron_steps),
            si(row.spikes),
            f"{row.differing:,}" + (f", {row.explained:,} explained" if row.explained else ""),
            "" if row.backends is None else f"{sum(row.backends):,}",
            f"{sum(row.seconds.values()):.0f}",
            "; ".join(filter(None, (row.cause, row.note, moved))),
        )
    return table


def reasons(refused: str) -> str:
    """Each reason once, with the first module that it is of."""
    first: dict[str, str] = {}
    for told in refused.split("; "):
        path, _, reason = told.partition(": ")
        first.setdefault(reason, path)
    return "; ".join(f"{reason} ({path})" for reason, path in first.items())


def charges(rows: list[Row]) -> Table:
    """What conventions of counting say of a sample, and how fast it runs."""
    table = Table(title="AC / MAC of a sample by convention; energy by papers; samples/s", box=SIMPLE_HEAD)
    table.add_column("network", no_wrap=True)
    names = ("executed", "spikingjelly", "neurobench", "syops")
    for column in (*names, "executed J", "its paper's J", "formula's J", "fast f64", "SpikingJelly f32", "ratio"):
        table.add_column(column, justify="right")
    for row in filter(lambda row: row.exported, rows):
        counts = [row.charged.get(name) for name in names]
        fast, peer = row.speed.get("fast_float64"), row.speed.get("spikingjelly_float32")
        joules = [row.charged.get(name, {}).get("joules") for name in ("executed", "paper")]
        table.add_row(
            row.name,
            *("" if c is None else f"{si(c['ac'])} / {si(c['mac'])}" for c in counts),
            *("" if j is None else si(j, "J") for j in (joules[0], row.paper, joules[1])),
            *("" if rate is None else f"{rate:.1f}" for rate in (fast, peer)),
            f"{fast / peer:.2f}" if fast and peer else "",
        )
    return table


def entries(only: tuple[str, ...], variants: bool, quick: bool) -> list[Entry]:
    """What is to be run.

    Raises:
        UsageError: there is no network of a name.
    """
    try:
        if only:
            return chosen(only)
    except KeyError as error:
        raise click.UsageError(f"no network {error}; there are: {', '.join(e.name for e in NETWORKS)}") from error
    every = chosen(QUICK) if quick else list(NETWORKS)
    return [*every, *VARIANTS] if variants else every


@click.command(help=__doc__)
@click.option("--only", multiple=True, help="Only the network of this name; may be given again.")
@click.option("--variants", is_flag=True, help="Also options of the same classes that need other operations.")
@click.option("--lava/--no-lava", default=True, help="Execute in Lava too.")
@click.option("--speed/--no-speed", default=True, help="Time them.")
@click.option("--quick", is_flag=True, help=f"{len(QUICK)} small ones, not timed.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write all to this file.")
def main(only: tuple[str, ...], variants: bool, lava: bool, speed: bool, quick: bool, file: Path | None) -> None:
    """Run and print."""
    torch.set_num_threads(1)
    console = Console(width=None if os.isatty(1) else 240)
    for name in stand_ins():
        console.print(
            f"{name} cannot be imported here: an empty module stands in its place, for SpikingJelly's imports"
        )
    rows: list[Row] = []
    for entry in entries(only, variants, quick):
        try:
            row = measure(entry, SAMPLES, lava=lava, speed=speed and not quick)
        except Exception as error:  # a fault on one network is told with the others' figures; the command fails
            row = Row(entry.name, entry.origin, refused=f"failed: {type(error).__name__}: {error}")
        rows.append(row)
        told = f"{row.differing} of {row.spikes:,} spikes differ" if row.exported else "refused"
        console.print(f"{row.name}: {told}, {sum(row.seconds.values()):.0f} s", highlight=False)
    console.print(comparison(rows))
    console.print(charges(rows))
    totals = {
        "networks": len(rows),
        "exported": sum(row.exported for row in rows),
        "refused": sum(not row.exported for row in rows),
        "neuron_steps": sum(row.neuron_steps for row in rows),
        "differing_spikes": sum(row.differing for row in rows),
        "explained": sum(row.explained for row in rows),
        "silent_layers": sum(len(row.silent) for row in rows if not row.expected),
    }
    console.print(
        f"{totals['exported']} of {totals['networks']} exported, {totals['refused']} refused; "
        f"{totals['neuron_steps']:,} neuron-steps, {totals['differing_spikes']:,} differing spikes, "
        f"{totals['explained']:,} of them explained; {totals['silent_layers']} silent layers"
    )
    ratios = [row.speed["fast_float64"] / row.speed["spikingjelly_float32"] for row in rows if row.speed]
    if ratios:
        held = sum(ratio >= 1 for ratio in ratios)
        console.print(
            f"fast in float64 against SpikingJelly in float32: median {median(ratios):.2f} times its samples/s, not "
            f"slower in {held} of {len(ratios)}"
        )
    if file is not None:
        packages = versions("spikescr", "spikingjelly", "torch", "numpy", "nir", "lava-nc")
        content = {**totals, "stand_ins": stand_ins(), "rows": [asdict(row) for row in rows], "versions": packages}
        write_text(file, json.dumps(content, indent=1) + "\n")
    if not all(row.passed for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
