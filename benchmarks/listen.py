"""A minute of words strung together, by people whom training never heard: found, missed, invented, and what it takes.

    python benchmarks/listen.py RUN [--data folder:PATH] [--seconds N] [--seeds N] [--quick] [--json FILE]

Recordings of the test split in the order of a seed, 0.2 to 1 s apart, with white, pink or brown noise 20 to 50 dB
below each; the threshold is the run's (`spikescr listen RUN --fit`, on validation people). A word is found where one is
told whose sound has its middle in the recording; its begin is compared with the first moment at which 10 ms of the
recording as it is are within 20 dB of its loudest 10 ms. What the network makes of the recordings one by one bounds
what can be found: it is listed beside. Processor time is that of listening, without start and compilation.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from spikescr.data import Item
from spikescr.data.audio import read_recording
from spikescr.data.frontend import FrontEnd
from spikescr.files import write_text
from spikescr.workflows.deployed import Deployed, choose_recordings
from spikescr.workflows.listen import open_listening
from spikescr.workflows.listen_fit import strung
from spikescr.workflows.listener import Listener
from spikescr.workflows.spotting import Rules
from spikescr.workflows.windows import BATCH, Runner

WITHIN_S = 0.1
NEAR_DB = 20.0
FRAME_S = 0.01


def begin_of(item: Item) -> float:
    """When a recording's sound begins, in seconds from its own begin."""
    wave, rate = read_recording(item.path)
    size = round(FRAME_S * rate)
    power = np.mean(wave[: len(wave) // size * size].reshape(-1, size) ** 2, axis=1)
    return float(np.argmax(power >= power.max() * 10 ** (-NEAR_DB / 10))) * FRAME_S


def one_by_one(deployed: Deployed, items: list[Item], backend: str) -> float:
    """Share of the recordings whose word the network tells right, alone."""
    front_end = deployed.preprocessing.front_end
    assert isinstance(front_end, FrontEnd)
    runner, right = Runner(deployed, front_end.sample_rate, backend), 0
    for begin in range(0, len(items), BATCH):
        batch = items[begin : begin + BATCH]
        answers, _ = runner([read_recording(item.path)[0] for item in batch])
        right += int((answers.argmax(axis=1) == [item.label for item in batch]).sum())
    runner.close()
    return right / len(items)


def listen_once(
    deployed: Deployed, rules: Rules, items: tuple[Item, ...], *, seconds: float, seed: int, backend: str
) -> dict[str, Any]:
    """One stream of about so many seconds."""
    front_end = deployed.preprocessing.front_end
    assert isinstance(front_end, FrontEnd)
    order = np.random.default_rng(seed).permutation(len(items))  # as `strung` draws them
    most = max(1, round(seconds / 1.6))
    stream, said = strung(items, front_end, seed=seed, most=most)
    chosen = [items[index] for index in order[:most]]
    rate = front_end.sample_rate
    with Listener(deployed, rules, rate, backend=backend) as listener:
        told = [*listener.push(stream), *listener.finish()]
    summary = listener.summary()
    left, late = list(zip(said, chosen, strict=True)), []
    for word in told:
        middle = (word.onset + word.end) / 2
        own = next(
            (
                (place, item)
                for place, item in left
                if deployed.classes[place.word] == word.word and place.begin <= middle <= place.end
            ),
            None,
        )
        if own is not None:
            left.remove(own)
            late.append(word.onset - own[0].begin - begin_of(own[1]))
    minutes = len(stream) / rate / 60
    return {
        "seed": seed,
        "seconds": len(stream) / rate,
        "words": len(said),
        "found": len(late),
        "missed": len(left),
        "false": len(told) - len(late),
        "false_per_minute": (len(told) - len(late)) / minutes,
        "within_100_ms": sum(bool(abs(each) <= WITHIN_S) for each in late),
        "alone": one_by_one(deployed, chosen, backend),
        "cpu_share": summary.cpu_share,
        "told_after_s": None if summary.told_after_s is None else summary.told_after_s[0],
        "energy_per_second_j": summary.energy_j / summary.seconds,
    }


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", help="Data set instead of the one trained on.")
@click.option("--seconds", type=float, default=60.0, show_default=True, help="Of each stream, about.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--backend", type=click.Choice(["fast", "lava"]), default="fast", show_default=True)
@click.option("--quick", is_flag=True, help="One stream of 20 s.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Also write the figures to this file.")
def main(run: Path, data: str | None, seconds: float, seeds: int, backend: str, quick: bool, file: Path | None) -> None:
    """Listens to streams of test recordings and prints what was found."""
    deployed, rules = open_listening(run, None)
    items = choose_recordings(deployed, data=data, split="test", limit=None, recording=None)
    rows = [
        listen_once(deployed, rules, items, seconds=20.0 if quick else seconds, seed=seed, backend=backend)
        for seed in range(1 if quick else seeds)
    ]
    table = Table(title=f"{run}: words from a confidence of {rules.threshold:.3f} on ({platform.processor() or 'CPU'})")
    for column in rows[0]:
        table.add_column(column.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()))
    Console(width=160).print(table)
    if file is not None:
        write_text(file, json.dumps({"run": str(run), "threshold": rules.threshold, "streams": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
