"""How much the PyTorch model's answers depend on batch size and padding, in float32 and float64.

    python benchmarks/batch_invariance.py [--run DIR] [--quick] [--json FILE]

By design nothing depends on them; in float32 matrix products of another shape may round differently, and a membrane
close to its threshold may then fire or not. With --run the trained network of a run folder and the test recordings of
its data set are used, else an untrained network with calibrated batch normalisation and generated input.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import torch
from networks import firing_network
from rich.console import Console
from rich.table import Table

from spikescr.checkpoint import load_checkpoint
from spikescr.data import load, open_data
from spikescr.export.reference import Trace, trace
from spikescr.files import write_text
from spikescr.model import ModelConfig, SpikeSCR
from spikescr.provenance import versions
from spikescr.runs import RunFolder
from spikescr.sim.recording import softmax_sum

BATCHES = (1, 7, 64, 256)
REFERENCE = 64
PADDING = 25  # steps


def generated(samples: int) -> tuple[SpikeSCR, np.ndarray, np.ndarray]:
    """An untrained 1L-8-128 that fires, and input: values (B, T, C), valid steps (B,)."""
    network = firing_network(ModelConfig(dropout=0.0), steps=40, samples=samples, seed=0)
    return network.model, network.values, network.valid.numpy()


def trained(run: Path, samples: int | None) -> tuple[SpikeSCR, np.ndarray, np.ndarray]:
    """The network of a run folder and its test recordings."""
    model, info = load_checkpoint(RunFolder(run).checkpoint)
    items = open_data(info.training.data, seed=info.training.seed).split("test")
    features = load(items[:samples], info.preprocessing)
    return model, features.values, features.steps


def traces(model: SpikeSCR, values: np.ndarray, valid: np.ndarray, batch: int) -> list[Trace]:
    """The model's traces, batch by batch."""
    cuts = range(0, len(values), batch)
    return [trace(model, values[start : start + batch], valid[start : start + batch]) for start in cuts]


def spikes(parts: list[Trace], window: int) -> dict[str, np.ndarray]:
    """Spikes of all samples by layer (T, n, N), the window's steps."""
    return {name: np.concatenate([p.spikes[name][:window] for p in parts], axis=1) for name in parts[0].spikes}


def answers(parts: list[Trace], valid: np.ndarray, window: int) -> np.ndarray:
    """Readout of all samples (n, K)."""
    return softmax_sum(np.concatenate([p.logits[:window] for p in parts], axis=1), valid)


@click.command()
@click.option("--run", type=click.Path(path_type=Path), help="Run folder of a trained network.")
@click.option("--quick", is_flag=True, help="Fewer samples.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures to this file.")
def main(run: Path | None, quick: bool, file: Path | None) -> None:
    """Count the spikes and predictions that change with batch size and padding."""
    samples = 128 if quick else 720
    model, values, valid = trained(run, 128 if quick else None) if run else generated(samples)
    padded = np.pad(values, ((0, 0), (0, PADDING), (0, 0)))
    table = Table(title=f"Changes against batch {REFERENCE}, {len(values)} samples, {model.config.name}")
    for column in ("precision", "batch", "padding", "spikes", "changed", "predictions changed", "largest change of y"):
        table.add_column(column, justify="right")
    rows = []
    for precision in ("float32", "float64"):
        network = model.to(getattr(torch, precision))
        window = values.shape[1]
        reference = traces(network, values, valid, REFERENCE)
        expected, y = spikes(reference, window), answers(reference, valid, window)
        cases = [(batch, 0, values) for batch in BATCHES if batch != REFERENCE] + [(REFERENCE, PADDING, padded)]
        for batch, padding, inputs in cases:
            found = traces(network, inputs, valid, batch)
            now, other = spikes(found, window), answers(found, valid, window)
            row = {
                "precision": precision,
                "batch": batch,
                "padding": padding,
                "spikes": sum(int(s.sum()) for s in expected.values()),
                "changed_spikes": sum(int(np.count_nonzero(expected[name] != now[name])) for name in expected),
                "changed_predictions": int(np.count_nonzero(y.argmax(axis=1) != other.argmax(axis=1))),
                "largest_change": float(abs(y - other).max()),
            }
            rows.append(row)
            table.add_row(*(f"{v:.1e}" if isinstance(v, float) else str(v) for v in row.values()))
    Console().print(table)
    if file is not None:
        result = {"rows": rows, "samples": len(values), "versions": versions("spikescr", "torch", "numpy")}
        write_text(file, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
