"""What the estimates of `spikescr reproduce` and of --dry-run rest on: how a training grows.

    python benchmarks/scale.py [--quick] [--json FILE]

Processor time of one thread, so that what else the machine does matters little. Recordings: the second epoch of real
trainings on generated recordings laid out as SHD, beside what the estimate says of them; binning and the first epoch's
compiling are not in it, validation is. Steps, width, blocks: the estimate itself, per recording and epoch. Workers: the
same estimate in several processes at once.
"""

from __future__ import annotations

import functools
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

# Before torch, see there.
import spikescr  # noqa: F401  # isort: skip
import click
from epoch import write_recordings
from rich.console import Console
from rich.table import Table

from spikescr.data import open_data
from spikescr.files import write_text
from spikescr.provenance import versions
from spikescr.runs import RunFolder
from spikescr.training.config import TrainConfig
from spikescr.training.estimate import Estimate, Recordings, estimate
from spikescr.training.loop import train
from spikescr.training.recipes import read_recipe, resolve
from spikescr.workflows.workers import spread

measure = functools.partial(estimate, clock=time.process_time)
PER = 1000
"""Recordings of the estimates."""


def config(recipe: str, *changes: str) -> TrainConfig:
    """A recipe of `train`, one epoch, one thread."""
    options = {"epochs": 1, "threads": 1}
    return resolve(read_recipe("train", recipe), TrainConfig, changes, options=options, data=None, need_data=False)


def per_recording(found: Estimate) -> float:
    """Seconds of an epoch for each recording."""
    return found.seconds / PER


def epoch_seconds(count: int, folder: Path) -> tuple[float, float]:
    """Processor time of an epoch with so many recordings, as measured and as estimated."""
    root = folder / str(count)
    root.mkdir()
    write_recordings(root / "shd_train.h5", count, seed=0)
    write_recordings(root / "shd_test.h5", 20, seed=1)
    own = config("shd-40", "batch_size=64").model_copy(update={"data": f"shd:{root}", "epochs": 2})
    ends: list[float] = []
    dataset = open_data(own.data)
    train(own, dataset, RunFolder(root / "run"), on_epoch=lambda metrics: ends.append(time.process_time()))
    recordings = Recordings(len(dataset.split("train")), len(dataset.split("valid")), len(dataset.classes))
    return ends[1] - ends[0], measure(own.model_copy(update={"epochs": 1}), recordings).seconds


def networks(quick: bool) -> dict[str, TrainConfig]:
    """What is estimated, by name."""
    steps = (40, 100) if quick else (40, 100, 200, 400)
    found = {f"1L-8-128, {n} steps": config("shd-100", f"steps={n}", "window_s=1.0") for n in steps}
    for width in (64,) if quick else (64, 256):
        found[f"1L-8-{width}, 100 steps"] = config("shd-100", "window_s=1.0", f"model.width={width}")
    if not quick:
        found["2L-8-128, 100 steps"] = config("shd-100", "window_s=1.0", "model.layers=2")
    return found


@click.command()
@click.option("--quick", is_flag=True, help="Fewer of everything.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Also write the figures.")
def main(quick: bool, file: Path | None) -> None:
    """Measures and prints."""
    console = Console()
    told: dict[str, Any] = {
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "versions": versions("spikescr", "torch"),
    }
    table = Table(box=None, pad_edge=False, header_style="bold", title="an epoch of 1L-8-128 at 40 steps, batch 64")
    for column in ("recordings", "measured, s", "estimated, s", "measured / estimated", "ms a recording"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as name:
        for count in (100, 200) if quick else (200, 400, 800):
            measured, estimated = epoch_seconds(count, Path(name))
            told[f"epoch_{count}"] = {"measured_s": measured, "estimated_s": estimated}
            cells = (
                f"{measured:.2f}",
                f"{estimated:.2f}",
                f"{measured / estimated:.2f}",
                f"{1e3 * measured / count:.1f}",
            )
            table.add_row(str(count), *cells)
    console.print(table)
    table = Table(box=None, pad_edge=False, header_style="bold", title="estimated, per recording and epoch")
    for column in ("network", "parameters", "core ms", "over the first"):
        table.add_column(column, justify="left" if column == "network" else "right")
    first = 0.0
    for label, own in networks(quick).items():
        found = measure(own, Recordings(PER, 0, 20))
        first = first or per_recording(found)
        told[label] = {"parameters": found.parameters, "seconds_per_recording": per_recording(found)}
        cost = per_recording(found)
        table.add_row(label, f"{found.parameters:,}", f"{1e3 * cost:.2f}", f"{cost / first:.2f}")
    console.print(table)
    table = Table(box=None, pad_edge=False, header_style="bold", title="1L-8-128 at 100 steps, processes at once")
    for column in ("processes", "core ms a recording", "over one"):
        table.add_column(column, justify="right")
    one = 0.0
    for count in (1, 2) if quick else (1, 2, 4):
        tasks = [(config("shd-100", "window_s=1.0"), Recordings(PER, 0, 20))] * count
        each = [per_recording(found) for found in spread(measure, tasks, workers=count, stall_seconds=600)]
        mean = sum(each) / count
        one = one or mean
        told[f"processes_{count}"] = mean
        table.add_row(str(count), f"{1e3 * mean:.2f}", f"{mean / one:.2f}")
    console.print(table)
    console.print(f"{told['cores']} cores; load at the beginning {told['load']:.1f}; processor time of one thread")
    if file is not None:
        write_text(file, json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
