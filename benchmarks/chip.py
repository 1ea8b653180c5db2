"""What a chip would take: estimates by both sets of constants, and SANA-FE on the same spikes where it can run.

    python benchmarks/chip.py [--quick] [--json FILE]

The paper's three networks with random weights under which every layer fires, and networks that SpikingJelly ships
(zoo_networks.py): energy and time of a recording by published figures and by costs fitted on a Loihi, the term that
decides a step, the imbalance of cores. Then networks of dense, convolutional and LIF layers, placed on Loihi and
written for SANA-FE 2.2.9: differing spikes, synaptic events and messages, energy and time over its own. The command
fails where a spike, an event or a message differs, energy by more than 1 %, or time by more than 25 %.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import nir
import numpy as np
import torch
from networks import firing_network
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from zoo_calibration import calibrated
from zoo_measure import DT
from zoo_networks import NETWORKS as ZOO

sys.path.append(str(Path(__file__).parents[1] / "tests/peers"))
from sanafe_peer import Compared, compare

import spikescr
from spikescr.files import write_text
from spikescr.model import ModelConfig
from spikescr.provenance import versions
from spikescr.quantities import si

PAPER = {
    "1L-8-128": ModelConfig(layers=1, heads=8, width=128, mlp_ratio=1, classes=20, dropout=0),
    "1L-16-256": ModelConfig(layers=1, heads=16, width=256, mlp_ratio=4, classes=35, dropout=0),
    "2L-16-256": ModelConfig(layers=2, heads=16, width=256, mlp_ratio=4, classes=35, dropout=0),
}
STEPS = 40
IMAGES = ("CSNN", "MNISTNet", "sew_resnet18", "qkformer_10_384")
PEERS = ("CSNN", "rsnn PlainNet", "MNISTNet")
RATE = 0.3  # of the spikes that are fed in SANA-FE's comparison
ENERGY, TIME = 0.01, 0.25  # what may differ, of SANA-FE's


def of_paper(name: str) -> tuple[nir.NIRGraph, np.ndarray]:
    """A network of the paper, and recordings (T, B, C)."""
    made = firing_network(PAPER[name], steps=STEPS, samples=4, seed=0, shortest=STEPS)
    return spikescr.to_nir(made.model, steps=STEPS, dt=1 / STEPS), made.x.numpy()


def of_zoo(name: str) -> tuple[nir.NIRGraph, np.ndarray]:
    """A network of the zoo, and its input."""
    (entry,) = (each for each in ZOO if each.name == name)
    made = calibrated(entry, 2)
    net, x = made.net.double(), made.x.double()
    return spikescr.to_nir(net, x, time=entry.time, dt=DT), x.numpy()


def estimated(name: str, graph: nir.NIRGraph, x: np.ndarray) -> dict[str, Any]:
    """Both estimates of one network, placed on Loihi 2, and its 45 nm figure."""
    run = spikescr.simulate(graph, x)
    found = spikescr.fit(graph, audit=run.audit)
    assert found.estimate is not None
    assert found.fitted is not None
    published = {"joules": found.estimate.joules, "seconds": found.estimate.seconds, "layer": found.estimate.layer}
    return {
        "network": name,
        "neurons": found.placement.neurons,
        "cores": found.cores,
        "joules_45nm": float(run.energy("executed").mean()),
        "published": published,
        "fitted": asdict(found.fitted),
    }


def beside(name: str) -> dict[str, Any]:
    """A network here and in SANA-FE, on random spikes."""
    graph, _ = of_zoo(name)
    steps = next(each.steps for each in ZOO if each.name == name)
    width = int(np.prod(graph.nodes["input"].input_type["input"]))
    found: Compared = compare(graph, np.random.default_rng(0).random((steps, width)) < RATE)
    ours, theirs = found.energy["total"]
    return {
        "network": name,
        **{key: value for key, value in asdict(found).items() if key != "fitted"},
        "deciding": found.fitted.deciding,
        "events_differ": abs(found.events[0] - found.events[1]) + abs(found.messages[0] - found.messages[1]),
        "energy_ratio": ours / theirs,
        "time_ratio": found.seconds["estimate"] / found.seconds["detailed"],
    }


def show_estimates(console: Console, rows: list[dict[str, Any]]) -> None:
    """The first table."""
    table = Table(title="A recording on Loihi 2 by two sets of constants: estimates", box=SIMPLE_HEAD)
    table.add_column("network", no_wrap=True)
    for column in ("neurons", "cores", "45 nm", "published", "fitted", "time published", "time fitted",
                   "decides a step", "imbalance"):  # fmt: skip
        table.add_column(column, justify="right")
    for row in rows:
        fitted, published = row["fitted"], row["published"]
        energies = ["{} to {}".format(*(si(j, "J") for j in each["joules"])) for each in (published, fitted)]
        table.add_row(
            row["network"], f"{row['neurons']:,}", str(row["cores"]), si(row["joules_45nm"], "J"), *energies,
            si(published["seconds"], "s"), si(fitted["seconds"], "s"), fitted["deciding"], f"{fitted['imbalance']:.1f}",
        )  # fmt: skip
    console.print(table)


def show_peers(console: Console, rows: list[dict[str, Any]]) -> None:
    """The second table."""
    table = Table(title="Beside SANA-FE 2.2.9 on the same spikes; ours over its own", box=SIMPLE_HEAD)
    table.add_column("network", no_wrap=True)
    for column in ("cores", "spikes", "differing", "events", "messages", "they differ by", "energy", "synapse", "soma",
                   "network", "time", "simple timing"):  # fmt: skip
        table.add_column(column, justify="right")
    for row in rows:
        parts = [row["energy"][part] for part in ("synapse", "soma", "network")]
        simple = row["seconds"]["estimate"] / row["seconds"]["simple"]
        table.add_row(
            row["network"], str(row["cores"]), f"{row['spikes']:,}", str(row["differing"]), f"{row['events'][1]:,}",
            f"{row['messages'][1]:,}", str(row["events_differ"]), f"{row['energy_ratio']:.4f}",
            *(f"{ours / theirs:.4f}" for ours, theirs in parts), f"{row['time_ratio']:.3f}", f"{simple:.3f}",
        )  # fmt: skip
    console.print(table)


@click.command()
@click.option("--quick", is_flag=True, help="One network of each kind.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the rows to this file.")
def main(quick: bool, file: Path | None) -> None:
    """Print what recordings take by both sets of constants, and what SANA-FE says to the same spikes."""
    torch.set_num_threads(1)
    console = Console(width=None if os.isatty(1) else 170, highlight=False, markup=False)
    estimates = [estimated(name, *of_paper(name)) for name in (list(PAPER)[:1] if quick else PAPER)]
    estimates += [estimated(name, *of_zoo(name)) for name in (IMAGES[:1] if quick else IMAGES)]
    show_estimates(console, estimates)
    peers = [beside(name) for name in (PEERS[:2] if quick else PEERS)]
    show_peers(console, peers)
    if file is not None:
        found = {
            "networks": estimates,
            "beside": peers,
            "events_differ": max(row["events_differ"] for row in peers),
            "energy_ratio": {row["network"]: row["energy_ratio"] for row in peers},
            "time_ratio": {row["network"]: row["time_ratio"] for row in peers},
            "versions": versions("spikescr", "numpy", "sanafe"),
        }
        write_text(file, json.dumps(found, indent=1) + "\n")
    bad = [
        row["network"]
        for row in peers
        if row["differing"] or row["events_differ"] or abs(row["energy_ratio"] - 1) > ENERGY
        or abs(row["time_ratio"] - 1) > TIME
    ]  # fmt: skip
    if bad:
        raise SystemExit(f"not as SANA-FE has it: {', '.join(bad)}")


if __name__ == "__main__":
    main()
