"""What attention costs in the order Q (K^T V) and in the order (Q K^T) V, measured and predicted, as the window grows.

    python benchmarks/attention_order.py [--quick] [--json FILE]

1L-8-128, untrained, batch normalisation calibrated on the generated input so that every layer fires. Executed is the
linear order; the quadratic one is counted on the same spikes. Predicted are both for spikes that know nothing of each
other, from the firing rates of the run: with rates q, k, v, N channels, D = N / H and T valid steps

    linear     T (k v N D + q N D)         every spike of k meets those of v in its head; every spike of q reads D sums
    quadratic  T^2 (q k N + v N)           coincidences of q and k at all pairs of steps; every spike of v at all steps
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click
from networks import firing_network
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from spikescr.files import write_text
from spikescr.model import ModelConfig
from spikescr.provenance import versions
from spikescr.quantities import si
from spikescr.sim.fast.backend import FastBackend
from spikescr.sim.program import Attention
from spikescr.sim.run import run_batches


def measure(steps: int, samples: int, seed: int) -> dict[str, Any]:
    """Accumulations of attention per sample at a window of so many steps."""
    network = firing_network(ModelConfig(dropout=0.0), steps=steps, samples=samples, seed=seed, shortest=steps)
    program = network.program()
    (attention,) = program.of_type(Attention)
    names = {key: getattr(attention, key).sources[0] for key in ("q", "k", "v")}
    measured, fired = {"ac": 0, "ac_quadratic": 0}, dict.fromkeys(names, 0)
    with FastBackend(program, samples, record_spikes=False) as backend:
        for batch in run_batches(program, backend, network.values, network.valid.numpy()):
            counts = batch.recording.counts
            for kind in measured:
                measured[kind] += int(counts.per_step(attention.name, kind).sum())
            for key, name in names.items():
                fired[key] += int(counts.per_step(name, "fired").sum())
    N, D, T = attention.width, attention.width // attention.heads, steps
    q, k, v = (fired[key] / (samples * T * N) for key in ("q", "k", "v"))
    return {
        "steps": steps,
        "rates": {"q": q, "k": k, "v": v},
        "linear": measured["ac"] / samples,
        "linear_predicted": T * (k * v * N * D + q * N * D),
        "quadratic": measured["ac_quadratic"] / samples,
        "quadratic_predicted": T**2 * (q * k * N + v * N),
    }


@click.command()
@click.option("--quick", is_flag=True, help="Windows of 40 and 100 steps only.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the rows to this file.")
def main(quick: bool, file: Path | None) -> None:
    """Print accumulations of attention in both orders."""
    rows = [measure(steps, samples=4, seed=0) for steps in ((40, 100) if quick else (40, 100, 200, 500))]
    table = Table(title="Accumulations of attention per sample, 1L-8-128", box=SIMPLE_HEAD)
    for column in ("steps", "rates q, k, v", "linear", "predicted", "quadratic", "predicted", "quadratic / linear"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            str(row["steps"]),
            ", ".join(f"{100 * rate:.1f} %" for rate in row["rates"].values()),
            *(si(row[key]) for key in ("linear", "linear_predicted", "quadratic", "quadratic_predicted")),
            f"{row['quadratic'] / row['linear']:.1f}",
        )
    Console(width=None if os.isatty(1) else 120).print(table)
    if file is not None:
        found = {"rows": rows, "versions": versions("spikescr", "numpy", "torch")}
        write_text(file, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
