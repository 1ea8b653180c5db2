"""Throughput of the Lava backend: 1L-8-128 at 40 steps, batch 64 against batch 1, in one run.

    python benchmarks/lava_throughput.py [--quick] [--json FILE]

The network is untrained; batch normalisation is calibrated on the generated input, so that every layer fires. Both
backends are built first and then take turns, so that a drift of the machine's speed touches both; medians are given.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from pathlib import Path

import click
import numpy as np
from networks import firing_network
from rich.console import Console
from rich.table import Table

from spikescr.files import write_text
from spikescr.model import ModelConfig
from spikescr.provenance import versions
from spikescr.sim.lava.backend import LavaBackend
from spikescr.sim.program import Neuron, Program
from spikescr.sim.run import run_batches

STEPS = 40
BATCH = 64


def seconds(program: Program, backend: LavaBackend, values: np.ndarray, valid: np.ndarray) -> tuple[float, float]:
    """Time to run some samples, and the mean firing rate of all neurons in them."""
    begin = time.perf_counter()
    batches = list(run_batches(program, backend, values, valid))
    took = time.perf_counter() - begin
    fired = sum(batch.recording.counts.total("fired") for batch in batches)
    updates = sum(batch.recording.counts.total("neuron") for batch in batches)
    return took, fired / updates


@click.command()
@click.option("--quick", is_flag=True, help="Fewer rounds.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures to this file.")
@click.option("--seed", type=int, default=0, show_default=True)
def main(quick: bool, file: Path | None, seed: int) -> None:
    """Measure samples per second of the Lava backend at batch 64 and at batch 1."""
    network = firing_network(ModelConfig(dropout=0.0), steps=STEPS, samples=BATCH, seed=seed)
    program, values, valid = network.program(), network.values, network.valid.numpy()
    rounds, singles = (2, 1) if quick else (7, 3)
    builds, many, one = [], [], []
    for _ in range(1 if quick else 3):
        with LavaBackend(program, BATCH) as backend:
            builds.append(backend.build_seconds)
    with LavaBackend(program, BATCH) as wide, LavaBackend(program, 1) as narrow:
        for turn in range(rounds):
            took, rate = seconds(program, wide, values, valid)
            many.append(BATCH / took)
            chosen = slice(turn * singles, (turn + 1) * singles)
            took, _ = seconds(program, narrow, values[chosen], valid[chosen])
            one.append(singles / took)
    result = {
        "samples_per_s": statistics.median(many),
        "samples_per_s_batch_1": statistics.median(one),
        "speedup_over_batch_1": statistics.median(a / b for a, b in zip(many, one, strict=True)),
        "build_s": statistics.median(builds),
        "batch": BATCH,
        "steps": STEPS,
        "executed_steps": program.period,
        "operations": len(program.operations),
        "neurons": len(program.of_type(Neuron)),
        "firing_rate": rate,
        "rounds": rounds,
        "seed": seed,
        "cores": os.cpu_count(),
        "versions": versions("spikescr", "lava-nc", "numpy"),
    }
    table = Table(title=f"Lava, 1L-8-128, {STEPS} steps, {rounds} rounds: medians (lowest to highest)")
    table.add_column("")
    table.add_column("samples/s", justify="right")
    for name, rates in ((f"batch {BATCH}", many), ("batch 1", one)):
        table.add_row(name, f"{statistics.median(rates):.1f} ({min(rates):.1f} to {max(rates):.1f})")
    table.add_row("ratio", f"{result['speedup_over_batch_1']:.1f}")
    console = Console()
    console.print(table)
    console.print(f"build {result['build_s']:.2f} s; {result['operations']} operations, firing rate {rate:.1%}")
    if file is not None:
        write_text(file, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
