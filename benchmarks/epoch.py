"""Seconds per epoch of the recipe shd-100 on recordings that are generated, in files laid out as SHD.

    python benchmarks/epoch.py [--recordings N] [--epochs N] [--quick] [--json FILE] [KEY=VALUE]...

Trains as `spikescr train shd-100` does, augmentation, validation and state on disk included, on a GPU where there is
one. The first epoch also compiles what is compiled; binning is timed apart. A class is a sweep over the units at a
slope of its own; recordings last as long and have as many spikes as in SHD.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from pathlib import Path

# Before torch, see there.
import spikescr  # noqa: F401  # isort: skip
import click
import h5py
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from spikescr.data import open_data
from spikescr.files import write_text
from spikescr.provenance import versions
from spikescr.runs import RunFolder
from spikescr.training.config import TrainConfig
from spikescr.training.loop import train
from spikescr.training.metrics import EpochMetrics
from spikescr.training.recipes import read_recipe, resolve

CLASSES, SPEAKERS, UNITS = 20, 10, 700
SPIKES, SECONDS = (2_000, 15_000), (0.3, 1.3)


def write_recordings(path: Path, count: int, seed: int) -> None:
    """A file as SHD's: classes and speakers go round."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    with h5py.File(path, "w") as file:
        times = file.create_dataset("spikes/times", (count,), h5py.vlen_dtype(np.float16))
        units = file.create_dataset("spikes/units", (count,), h5py.vlen_dtype(np.uint16))
        for i, label in enumerate(labels):
            seconds, spikes = rng.uniform(*SECONDS), int(rng.integers(*SPIKES))
            t = np.sort(rng.uniform(0, seconds, spikes))
            place = UNITS / 2 + 500 * (label / (CLASSES - 1) - 0.5) * (2 * t / seconds - 1)
            times[i] = t.astype(np.float16)
            units[i] = np.clip(place + 60 * rng.normal(size=spikes), 0, UNITS - 1).astype(np.uint16)
        file["labels"] = labels.astype(np.uint16)
        file["extra/keys"] = np.array([f"word {i}".encode() for i in range(CLASSES)])
        file["extra/speaker"] = (np.arange(count) // CLASSES % SPEAKERS).astype(np.uint16)


@click.command()
@click.option("--recordings", type=int, default=10_000, show_default=True, help="A fifth of them is held out.")
@click.option("--epochs", type=int, default=3, show_default=True)
@click.option("--quick", is_flag=True, help="500 recordings, 2 epochs.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures to this file.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.argument("changes", nargs=-1)
def main(recordings: int, epochs: int, quick: bool, file: Path | None, seed: int, changes: tuple[str, ...]) -> None:
    """Measure the epochs of a training."""
    if quick:
        recordings, epochs = 500, 2
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_recordings(root / "shd_train.h5", recordings, seed)
        options = {"epochs": epochs, "seed": seed}
        recipe = read_recipe("train", "shd-100")
        config = resolve(recipe, TrainConfig, changes, options=options, data=f"shd:{root}")
        begin = time.perf_counter()
        ended: list[tuple[EpochMetrics, float]] = []
        result = train(
            config,
            open_data(config.data, cache=root / "cache"),
            RunFolder(root / "run"),
            on_epoch=lambda metrics: ended.append((metrics, time.perf_counter())),
        )
    total = time.perf_counter() - begin
    ends = [end for _, end in ended]
    seconds = [result.seconds - (ends[-1] - ends[0]), *np.diff(ends).tolist()]
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} threads"
    table = Table(title=f"shd-100, {recordings:,} generated recordings, batch {config.batch_size}, {where}")
    for column in ("epoch", "s", "loss", "valid. accuracy", "firing rate"):
        table.add_column(column, justify="right")
    for (metrics, _), spent in zip(ended, seconds, strict=True):
        rates = f"{metrics.train_loss:.3f}", f"{metrics.valid_accuracy:.1%}", f"{metrics.firing_rate:.1%}"
        table.add_row(str(metrics.epoch), f"{spent:.2f}", *rates)
    console = Console(width=100)
    console.print(table, f"reading, binning and the rest: {total - result.seconds:.1f} s")
    if file is not None:
        later = statistics.median(seconds[1:] or seconds)
        figures = {"recordings": recordings, "epoch_s": later, "epochs_s": seconds, "device": where, "seed": seed}
        figures |= {"load": os.getloadavg()[0], "versions": versions("spikescr", "torch", "spikingjelly", "numba")}
        write_text(file, json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
