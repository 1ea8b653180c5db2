"""Binning one recording of spikes: ours against SpikingJelly's own integration into frames of fixed duration.

    python benchmarks/binning.py [--quick] [--json FILE]

Both are given the same recordings, as they come out of an SHD file (float16 seconds, uint16 units), and give counts per
step of 10 ms and unit group: SpikingJelly's frames of 700 units are summed in groups of 5, which its users do next; the
time of that sum is reported apart and is not in `speedup`. The recordings begin at time 0 and have no spike on an edge:
there the rules agree, and equality is checked. (Elsewhere: SpikingJelly counts time from the first spike, computes in
float16, and puts a last spike on an edge into the step before it.)

The spikes are generated: as many, as long and as unevenly distributed as in SHD; --data shd:PATH takes real ones.
SpikingJelly's data sets import torchvision, which their integration does not use; an empty module stands in for it.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from spikescr.data import SpikeBins, open_data
from spikescr.data.binned import recordings
from spikescr.data.heidelberg import opened
from spikescr.files import write_text
from spikescr.provenance import versions

STEP_MS = 10
SHD_SPIKES = (2_000, 15_000)
Recording = tuple[np.ndarray, np.ndarray]


def spikingjelly_integration() -> Callable[[dict[str, np.ndarray], int, int], np.ndarray]:
    """SpikingJelly's function that bins one recording."""

    class Absent(ModuleType):
        def __getattr__(self, name: str) -> type:
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

    names = (
        "torchvision",
        "torchvision.datasets",
        "torchvision.datasets.utils",
        "torchvision.transforms",
        "torchaudio",
    )
    for name in names:
        sys.modules[name] = Absent(name)
    sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]  # type: ignore[attr-defined]
    return importlib.import_module("spikingjelly.datasets.shd")._integrate_events_by_fixed_duration


def generated(count: int, rng: np.random.Generator) -> list[Recording]:
    """Recordings of 0.24 to 1.37 s with some 8,000 ascending spikes, from time 0."""
    found = []
    for _ in range(count):
        spikes = int(rng.integers(*SHD_SPIKES))
        times = np.sort(rng.beta(1.5, 2, spikes) * rng.uniform(0.24, 1.37)).astype(np.float16)
        found.append((times, rng.integers(0, 700, spikes).astype(np.uint16)))
    return found


def comparable(recording: Recording) -> Recording:
    """The recording from its first spike on, without spikes for which the two rules differ."""
    times, units = recording
    times = (times - times[0]).astype(np.float16)
    ours = np.floor(times.astype(np.float64) * (1000 // STEP_MS))
    theirs = (np.float16(1000) * times) // np.float16(STEP_MS)
    keep = (ours == theirs) & ((times.astype(np.float64) * (1000 // STEP_MS) % 1 > 0) | (times == 0))
    return times[keep], units[keep]


def seconds(function: Callable[[Recording], np.ndarray], chosen: list[Recording]) -> float:
    """Time per recording."""
    begin = time.perf_counter()
    for recording in chosen:
        function(recording)
    return (time.perf_counter() - begin) / len(chosen)


@click.command()
@click.option("--quick", is_flag=True, help="Fewer recordings and rounds.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures to this file.")
@click.option("--data", help="Recordings to use instead of generated ones: shd:PATH or ssc:PATH.")
@click.option("--seed", type=int, default=0, show_default=True)
def main(quick: bool, file: Path | None, data: str | None, seed: int) -> None:
    """Measure the rate at which recordings are binned, in turns, on one thread."""
    integrate = spikingjelly_integration()
    bins, count, rounds = SpikeBins(steps=1000 // STEP_MS, window_s=1.4), 50 if quick else 400, 3 if quick else 9
    if data is None:
        chosen = generated(count, np.random.default_rng(seed))
    else:
        with opened(open_data(data).split("train")[0].path) as source:
            chosen = [found for found, _ in zip(recordings(source), range(count), strict=False)]
    chosen = [comparable(recording) for recording in chosen]

    def ours(recording: Recording) -> np.ndarray:
        return bins.count(*recording)

    def theirs(recording: Recording) -> np.ndarray:
        return integrate({"t": recording[0], "x": recording[1]}, STEP_MS, 700)

    def grouped(recording: Recording) -> np.ndarray:
        return theirs(recording).reshape(-1, 140, 5).sum(axis=2)

    for recording in chosen:
        np.testing.assert_array_equal(ours(recording), grouped(recording))
    timed: dict[str, list[float]] = {"ours": [], "SpikingJelly": [], "SpikingJelly, in groups": []}
    for _ in range(rounds):
        for name, function in zip(timed, (ours, theirs, grouped), strict=True):
            timed[name].append(seconds(function, chosen))
    ratios = [b / a for a, b in zip(timed["ours"], timed["SpikingJelly"], strict=True)]
    result = {
        "speedup": statistics.median(ratios),
        "speedup_lowest": min(ratios),
        "speedup_with_groups": statistics.median(
            b / a for a, b in zip(timed["ours"], timed["SpikingJelly, in groups"], strict=True)
        ),
        "recordings_per_s": 1 / statistics.median(timed["ours"]),
        "recordings_per_s_spikingjelly": 1 / statistics.median(timed["SpikingJelly"]),
        "recordings": len(chosen),
        "spikes_per_recording": float(np.mean([len(times) for times, _ in chosen])),
        "step_ms": STEP_MS,
        "rounds": rounds,
        "data": data or "generated",
        "seed": seed,
        "cores": os.cpu_count(),
        "versions": versions("spikescr", "spikingjelly", "numpy"),
    }
    table = Table(title=f"Binning {len(chosen)} recordings at {STEP_MS} ms, {rounds} rounds: medians (lowest, highest)")
    table.add_column("")
    table.add_column("recordings/s", justify="right")
    for name, times in timed.items():
        table.add_row(name, f"{1 / statistics.median(times):,.0f} ({1 / max(times):,.0f}, {1 / min(times):,.0f})")
    table.add_row("ratio", f"{result['speedup']:.1f} ({min(ratios):.1f}, {max(ratios):.1f})")
    console = Console()
    console.print(table)
    console.print(f"results equal; {result['spikes_per_recording']:,.0f} spikes per recording")
    if file is not None:
        write_text(file, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
